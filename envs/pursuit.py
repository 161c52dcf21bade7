"""A controller for the point mass: it goes where the weights of the task say, and saves effort.

Made for ``Hindsight/PointMass-v0``, whose rewards weigh position, velocity and effort.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.propensities import clipped_normal

Array = NDArray[Any]

_AHEAD = 0.3
"""Seconds of speed that a unit of force is taken to bring, beside the way it brings."""
_LEAST = 1e-3
"""Added to the price of effort, which may be 0."""


def pursue(
    observation: Any, eagerness: float, noise: float, generator: np.random.Generator
) -> tuple[Array, float]:
    """Return a force for the task of the observation, and how likely it was.

    A force f costs effort by its square and earns in proportion to what it brings, so that it is
    best at what it brings, divided by twice the price. Nothing is pushed against a wall, nor where
    the speed is at its limit.

    Args:
        observation: Holds ``observation`` ``[4]``, position and velocity in [-1, 1], and
            ``desired_goal`` ``[5]``, the weights of both and of the effort.
        eagerness: What a unit of force is taken to bring of the position that the task wants.
        noise: Standard deviation of the force; above 0.
        generator: Draws the noise.

    Returns:
        Force ``[2]`` float32, clipped to [-1, 1], and its log-probability: a mass at the bounds.
    """
    state, weights = np.asarray(observation["observation"]), np.asarray(observation["desired_goal"])
    earned = eagerness * weights[:2] + _AHEAD * weights[2:4]
    force = np.clip(earned / (2.0 * abs(weights[4]) + _LEAST), -1.0, 1.0)
    in_vain = (np.abs(state) >= 1.0) & (np.tile(np.sign(force), 2) == np.sign(state))
    mean = np.where(in_vain.reshape(2, 2).any(0), 0.0, force)
    action = np.clip(mean + generator.normal(0.0, noise, 2), -1.0, 1.0).astype(np.float32)
    said = [
        clipped_normal(float(one), float(middle), noise, -1.0, 1.0)
        for one, middle in zip(action, mean, strict=True)
    ]
    return action, sum(said)


def pursuing(generator: np.random.Generator) -> Callable[[Any], tuple[Array, float]]:
    """Return how one episode is played: more or less eager, with a steadier or shakier hand.

    Args:
        generator: Draws both, and the noise.

    Returns:
        ``observation -> force, log-probability``, see :func:`pursue`.
    """
    eagerness, noise = generator.uniform(0.5, 2.0), generator.uniform(0.05, 0.3)
    return lambda observation: pursue(observation, eagerness, noise, generator)
