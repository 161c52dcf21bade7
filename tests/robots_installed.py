"""Whether the extra ``robots`` is installed, and marks for what needs it."""

from importlib.util import find_spec

import pytest

INSTALLED = all(find_spec(name) is not None for name in ("mujoco", "dm_control"))
needs_robots = pytest.mark.skipif(not INSTALLED, reason="needs the extra 'robots'")

HORIZONS = {
    "Walker": 100,
    "HalfCheetah": 100,
    "Reacher": 1000,
    "Reacher32": 1000,
    "Finger": 1000,
    "Quadruped": 300,
    "QuadrupedDense": 300,
}
NAMES = list(HORIZONS)
"""Robots registered as ``Hindsight/NAME-v0``, and the steps of their episodes."""
