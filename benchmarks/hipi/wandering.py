"""Logs of aimless wandering: in four rooms, and of a point mass."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hindsight_rl.envs.four_rooms import draw_position, step_many
from hindsight_rl.logs.log import Log

Floats = NDArray[np.float32]


def as_log(places: Floats, actions: Floats, achieved: Floats | None = None) -> Log:
    """Return episodes as a log.

    Args:
        places: ``[n, T + 1, O]``.
        actions: ``[n, T, A]``, in [-1, 1].
        achieved: ``[n, T, G]``, what steps achieved; the next place if left out.

    Returns:
        The log.
    """
    count, steps, width = actions.shape
    achieved = places[:, 1:] if achieved is None else achieved
    cut = np.zeros((count, steps), np.bool_)
    cut[:, -1] = True
    columns: dict[Any, Any] = {
        "observation": places[:, :-1].reshape(count * steps, -1),
        "action": actions.reshape(count * steps, width),
        "episode": np.repeat(np.arange(count), steps),
        ("next", "observation"): places[:, 1:].reshape(count * steps, -1),
        ("next", "reward"): np.zeros(count * steps, np.float32),
        ("next", "terminated"): np.zeros(count * steps, np.bool_),
        ("next", "truncated"): cut.ravel(),
        ("next", "achieved_goal"): achieved.reshape(count * steps, -1),
    }
    info = {"source": "wandering", "action": {"low": [-1.0] * width, "high": [1.0] * width}}
    return Log.from_columns({k: torch.as_tensor(v) for k, v in columns.items()}, info)


def held_actions(generator: np.random.Generator, count: int, steps: int) -> Floats:
    """Return actions ``[n, T, 2]`` that change with probability 1/8."""
    action = generator.uniform(-1, 1, (count, 2))
    found = []
    for _ in range(steps):
        change = generator.random(count) < 1 / 8
        action = np.where(change[:, None], generator.uniform(-1, 1, (count, 2)), action)
        found.append(action)
    return np.stack(found, 1).astype(np.float32)


def rooms_log(count: int = 2000, steps: int = 75, seed: int = 0) -> Log:
    """Return wandering in four rooms."""
    generator = np.random.default_rng(seed)
    actions = held_actions(generator, count, steps)
    places = [np.stack([draw_position(generator) for _ in range(count)])]
    for step in range(steps):
        places.append(step_many(places[-1], actions[:, step], generator.standard_normal(count)))
    return as_log(np.stack(places, 1).astype(np.float32), actions)


def mass_step(state: Floats, force: Floats) -> Floats:
    """Return the next states ``[n, 4]`` of point masses, as in ``Hindsight/PointMass-v0``."""
    velocity = np.clip(state[:, 2:] + 0.1 * force, -1, 1)
    free = state[:, :2] + 0.1 * velocity
    place = np.clip(free, -1, 1)
    return np.concatenate([place, np.where(place == free, velocity, 0)], 1).astype(np.float32)


def mass_log(count: int = 500, steps: int = 100, seed: int = 0) -> Log:
    """Return wandering of a point mass; what is achieved are the features."""
    generator = np.random.default_rng(seed)
    actions = held_actions(generator, count, steps)
    start = np.concatenate([generator.uniform(-1, 1, (count, 2)), np.zeros((count, 2))], 1)
    states = [start.astype(np.float32)]
    for step in range(steps):
        states.append(mass_step(states[-1], actions[:, step]))
    places = np.stack(states, 1)
    effort = np.square(actions).sum(-1, keepdims=True)
    return as_log(places, actions, np.concatenate([places[:, 1:], effort], -1))
