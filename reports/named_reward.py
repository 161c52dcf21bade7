"""The reward of a log as weights of features: the task of a policy that was fitted before."""

from typing import Any

import torch

from hindsight_rl.keys import REWARD, TERMINATED, key_name, key_of
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.assembly import Assembly
from hindsight_rl.maths.successors import linear_reward

LEAST = 0.5
"""R^2 below which a policy for the task would chase something else."""


def named_reward(assembly: Assembly, features: str) -> dict[str, Any]:
    """Return the task whose reward is that of a log.

    Args:
        assembly: The log.
        features: Column with the features, as it is printed.

    Returns:
        ``features``, ``task`` (weights), ``constant`` (what every step earns besides) and
        ``explained`` (R^2).

    Raises:
        LogError: There is no such column, it holds no features, or the rows name no task.
    """
    column = assembly.columns.get(key_of(features))
    if column is None or column.ndim != 2:
        known = ", ".join(key_name(key) for key, one in assembly.columns.items() if one.ndim == 2)
        raise LogError("is no column of features", f"Give one of {known}.", column=features)
    ends = bool(assembly.columns[TERMINATED].any())
    reward = torch.as_tensor(assembly.columns[REWARD])
    try:
        found = linear_reward(torch.as_tensor(column), reward, constant=not ends)
    except ValueError as error:
        raise LogError(str(error), "Label other rows.", column=key_name(REWARD)) from None
    return {
        "features": features,
        "task": found.weights.tolist(),
        "constant": float(found.constant),
        "explained": float(found.explained),
    }


def described_reward(found: dict[str, Any]) -> str:
    """Return what :func:`named_reward` found, in one line."""
    task = ", ".join(f"{weight:.4g}" for weight in found["task"])
    text = f"[{task}] of {found['features']}, explains {found['explained']:.0%} (R^2)"
    if found["explained"] < LEAST:
        return f"{text}: too little, a policy for it would chase something else"
    return text
