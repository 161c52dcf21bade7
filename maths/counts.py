"""How often a state was seen, and what being rare is worth.

    MBIE-EB       bonus = 1 / sqrt(N(s, a))
    UCB1          bonus = sqrt(2 log T / N),   T pulls of all arms so far
    optimism      Q(s, a) + scale / sqrt(N(s, a) + 1), for the choice and the target alike

A bonus in the reward alone makes no *untried* action look better than one that was tried, where
values start at 0: its own value never moves. Optimism does, for it is part of the value.

Reference: Strehl and Littman 2008, "An analysis of model-based interval estimation for Markov
decision processes"; hashes: Tang et al. 2017, arXiv 1611.04717; pseudo-counts: Bellemare et al.
2016, arXiv 1606.01868; optimism: Rashid et al. 2020, arXiv 2002.12174.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape


def sign_codes(value: Tensor, directions: Tensor) -> Tensor:
    """Return the bits sign(A x) as one number each (SimHash): near states share theirs.

    Args:
        value: x, ``[..., F]``, standardised.
        directions: A, ``[k, F]``, standard normal, k at most 62.

    Returns:
        ``[...]`` int64 in [0, 2**k); bit i is 1 where row i of A gives more than 0.

    Raises:
        ValueError: There are more bits than an int64 holds.

    Reference:
        Tang et al. 2017, arXiv 1611.04717, eq. 2.
    """
    if len(directions) > 62:
        raise ValueError(f"{len(directions)} directions: a code has at most 62 bits")
    bits = (value @ directions.T > 0).long()
    return (bits << torch.arange(len(directions), device=value.device)).sum(-1)


def cells(value: Tensor, width: Tensor | float) -> Tensor:
    """Return the cell of a grid that each number lies in, ``[..., F]`` int64.

    Args:
        value: ``[..., F]``.
        width: Side of a cell, above 0, a number or ``[F]``, in the unit of ``value``.

    Returns:
        floor(x / width).
    """
    return torch.floor(value.double() / width).long()


def counts_of(codes: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return how many rows have each row's code.

    Args:
        codes: ``[N]`` or ``[N, F]`` int64; rows of all F equal numbers are alike.
        counted: ``[N]`` bool, rows that count; ``None`` for all.

    Returns:
        ``[N]`` int64.
    """
    _, place = torch.unique(codes, dim=0, return_inverse=True)
    flags = torch.ones_like(place) if counted is None else counted.long()
    found: Tensor = torch.zeros_like(place).index_add_(0, place, flags)[place]
    return found


def count_bonus(count: Tensor) -> Tensor:
    """Return 1 / sqrt(N), infinite where N is 0.

    Args:
        count: N, ``[...]``, at least 0; a pseudo-count may be infinite.

    Returns:
        ``[...]``, of ``count``'s type, at least float32.
    """
    count = count if count.is_floating_point() else count.float()
    return count.rsqrt()


def optimistic(value: Tensor, count: Tensor, *, scale: float) -> Tensor:
    """Return Q + scale / sqrt(N + 1): what has not been tried is worth a look.

    Args:
        value: Q, ``[...]``, reward units.
        count: N, ``[...]``, of the same states and actions.
        scale: Reward units, at least 0.

    Returns:
        ``[...]``, reward units.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(value=value, count=count)
    return value + scale * count_bonus(count + 1)


def ucb_bonus(count: Tensor, pulls: Tensor | int) -> Tensor:
    """Return sqrt(2 log T / N), infinite for an arm that was never pulled.

    Args:
        count: N, ``[..., A]``, pulls of each arm.
        pulls: T, of all arms so far, at least 1; not the length of the run.

    Returns:
        ``[..., A]``, reward units, for rewards in [0, 1].

    Reference:
        Auer, Cesa-Bianchi and Fischer 2002, "Finite-time analysis of the multiarmed bandit
        problem", figure 1.
    """
    total = torch.as_tensor(pulls, dtype=torch.float64, device=count.device)
    bonus = torch.sqrt(2.0 * total.log() / count)
    return torch.where(count > 0, bonus, torch.inf)


def pseudo_count(before: Tensor, after: Tensor) -> Tensor:
    """Return the count N that a density model has of a state: p (1 - p') / (p' - p).

    It solves p = N / n and p' = (N + 1) / (n + 1) for a total n, so it is exact for a model that
    counts.

    Args:
        before: p, ``[...]``, in (0, 1), before the model sees the state.
        after: p', ``[...]``, after it saw it once more.

    Returns:
        ``[...]``; infinite where the model does not learn (p' at most p): no bonus.

    Raises:
        ValueError: Shapes differ.

    Reference:
        Bellemare et al. 2016, arXiv 1606.01868, eq. 2.
    """
    same_shape(before=before, after=after)
    gain = after - before
    learns = gain > 0
    found = before * (1.0 - after) / torch.where(learns, gain, 1.0)
    return torch.where(learns, found, torch.inf)


def gain_count(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 / (p' / p - 1), the count by prediction gain log(p' / p): it needs no total.

    It overestimates the pseudo-count, by the factor 1 / (1 - p').

    Args:
        before: p, ``[...]``, in (0, 1).
        after: p', ``[...]``.

    Returns:
        ``[...]``; infinite where the model does not learn.

    Raises:
        ValueError: Shapes differ.

    Reference:
        Bellemare et al. 2016, arXiv 1606.01868, theorem 1.
    """
    same_shape(before=before, after=after)
    gain = after / before - 1.0
    return torch.where(gain > 0, 1.0 / torch.where(gain > 0, gain, 1.0), torch.inf)
