"""Ensembles of critics: minima over some of them, agreement on better actions, rows of each."""

import torch
from torch import Tensor

from hindsight_rl.maths.draws import fork_key, uniforms


def subset_minimum(value: Tensor, lots: Tensor, *, subset: int) -> Tensor:
    """Return the minimum over some of the critics, drawn for each row.

    Those with the largest lots are drawn: any M of E are equally likely where lots are independent.
    All E give the minimum.

    Args:
        value: ``[E, ..., B]``, of every critic, reward units.
        lots: ``[B, E]``, random numbers.
        subset: M, in [1, E].

    Returns:
        ``[..., B]``, reward units.

    Raises:
        ValueError: The shapes do not fit, or ``subset`` is out of range.

    Reference:
        Chen, Wang, Zhou and Ross 2021, "Randomized ensembled double Q-learning", arXiv 2101.05982,
        algorithm 1.
    """
    if (len(value), value.shape[-1]) != lots.shape[::-1]:
        raise ValueError(
            f"shapes differ: value {tuple(value.shape)} must begin and end with those of lots "
            f"{tuple(lots.shape)}, turned round: critics, rows"
        )
    if not 1 <= subset <= len(value):
        raise ValueError(f"subset is {subset}, it must lie in [1, {len(value)}], the critics")
    drawn = lots.topk(subset, dim=-1).indices.movedim(-1, 0)
    drawn = drawn.reshape(subset, *[1] * (value.ndim - 2), -1)
    return value.gather(0, drawn.expand(subset, *value.shape[1:])).amin(0)


def gradient_alignment(gradient: Tensor, *, epsilon: float = 1e-10) -> Tensor:
    """Return how much critics agree on how to better an action: the sum of cosines, by E - 1.

    It is E where all point one way, and least, -E / (E - 1), where the directions cancel. Critics
    that differ in slope cannot all overrate the same action off the log.

    Args:
        gradient: ``[E, ..., A]``, of every critic by the action, E at least 2.
        epsilon: Added to norms, above 0: a flat critic agrees with none.

    Returns:
        ``[...]``, in [-E / (E - 1), E].

    Raises:
        ValueError: There is one critic.

    Reference:
        An, Moon, Kim and Song 2021, "Uncertainty-based offline reinforcement learning with
        diversified Q-ensemble", arXiv 2110.01548, algorithm 1.
    """
    members = len(gradient)
    if members < 2:
        raise ValueError("one critic has no other to differ from: give at least 2")
    # Not of norms themselves: theirs has no gradient at 0.
    square = gradient.square().sum(-1, keepdim=True)
    norm = torch.where(square > 0, square, 1.0).sqrt()
    unit = gradient / (norm + epsilon)
    # Cosines of all pairs, those with themselves taken off again.
    pairs = unit.sum(0).square().sum(-1) - unit.square().sum(-1).sum(0)
    return pairs / (members - 1)


def row_mask(row: Tensor, members: int, *, share: float = 0.5) -> Tensor:
    """Return which members learn from a row, for life: a function of row and member alone.

    Args:
        row: ``[...]`` int64, number of the row.
        members: E, at least 1.
        share: Of the rows, that a member learns from, in (0, 1].

    Returns:
        ``[E, ...]`` bool.

    Raises:
        ValueError: ``share`` is out of range.

    Reference:
        Osband, Blundell, Pritzel and Van Roy 2016, "Deep exploration via bootstrapped DQN", arXiv
        1602.04621, algorithm 1.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share}, it must lie in (0, 1]")
    key = torch.full_like(row, fork_key(0, "rows of a head"))
    counter = torch.stack([key, torch.zeros_like(key), row], dim=-1)
    return (uniforms(counter, members) < share).movedim(-1, 0)


def votes(value: Tensor) -> Tensor:
    """Return how many of the members find each action best, as a share; equals by their mean.

    Args:
        value: ``[..., n, E]``, of every action and member, reward units.

    Returns:
        ``[..., n]``: the share, and less than half a vote more for a larger mean.
    """
    count, members = value.shape[-2:]
    best = torch.nn.functional.one_hot(value.argmax(-2), count)
    share = best.to(value.dtype).mean(-2)
    return share + 0.5 / members * torch.softmax(value.mean(-1), dim=-1)
