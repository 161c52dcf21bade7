"""Who acts while an expert corrects a policy, and what mistakes cost over an episode.

beta_i is the share of round i in which the expert acts; round 0 is that of the first data.

Reference: Ross, Gordon and Bagnell 2011, arXiv 1011.0686, sections 2.1 and 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def listed_share(values: Sequence[float], number: int) -> float:
    """Return beta of a round from a list whose last value holds on: ``[1, 0]`` is 1, 0, 0, ...

    Args:
        values: At least one, in [0, 1].
        number: Of the round, from 0.

    Returns:
        beta_i.
    """
    return float(values[min(number, len(values) - 1)])


def linear_share(rounds: int, number: int) -> float:
    """Return beta_i = max(0, 1 - i / n).

    Args:
        rounds: n, at least 1.
        number: i, from 0.

    Returns:
        beta_i.
    """
    return max(0.0, 1.0 - number / rounds)


def power_share(base: float, number: int) -> float:
    """Return beta_i = p^i, with 0^0 = 1.

    Args:
        base: p, in [0, 1].
        number: i, from 0.

    Returns:
        beta_i.
    """
    return float(base**number)


def cost_without_recovery(error: Tensor, horizon: int) -> Tensor:
    """Return the expected steps off the expert's path of a policy that never comes back to it.

    On the path it errs with probability epsilon at each step, and then stays off: the sum over
    t = 1..T of 1 - (1 - epsilon)^t, at most epsilon T (T + 1) / 2. A policy that knows how to come
    back has epsilon T.

    Args:
        error: epsilon, ``[...]``, in [0, 1].
        horizon: T, in steps.

    Returns:
        ``[...]``, in steps.
    """
    steps = torch.arange(1, horizon + 1, dtype=error.dtype, device=error.device)
    return (1.0 - (1.0 - error.unsqueeze(-1)) ** steps).sum(-1)
