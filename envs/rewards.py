"""Rewards as environments give them: numbers, or arrays of one element."""

from typing import Any

import numpy as np


def single(reward: Any, env: object) -> float:
    """Return the reward of a step as one number.

    Args:
        reward: What the environment gave: a number, or an array of one element of any shape.
        env: The environment or its name, for messages.

    Returns:
        The number.

    Raises:
        ValueError: It is no single number.
    """
    if isinstance(reward, (float, int)):  # np.float64 is a float
        return float(reward)
    try:
        array = np.asarray(reward, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{env}: its reward is {reward!r}, and one number is needed") from error
    if array.size != 1:
        raise ValueError(
            f"{env}: its reward is an array {list(array.shape)}, and one number is needed. "
            "Wrap it in gymnasium.wrappers.TransformReward"
        )
    return float(array.item())
