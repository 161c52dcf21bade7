"""Whether the extra ``robots`` is installed, and marks for what needs its packages."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

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
    "SawyerReach": 150,
    "SawyerReachMargins": 150,
    "JacoReach": 250,
}
NAMES = list(HORIZONS)
"""Robots registered as ``Hindsight/NAME-v0``, and the steps of their episodes."""
_PACKAGES = {"SawyerReach": "metaworld", "SawyerReachMargins": "metaworld"}


def params(names: Iterable[str] = NAMES, form: str = "{}") -> list[Any]:
    """Return robots as parameters that are skipped where their packages are missing."""
    return [
        pytest.param(form.format(name), marks=[needs_robots, needs(_PACKAGES.get(name, "mujoco"))])
        for name in names
    ]


def needs(package: str) -> Any:
    """Return the mark of tests that need one package of the extra."""
    missing = find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}, of the extra 'robots'")
