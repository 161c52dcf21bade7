"""Scores of tree search: which child to follow, and what its visits say of the actions.

Children ``[..., A]``, one per action, with visits N and the sum W of the returns seen through them.
Returns are scaled to [0, 1] before they are compared with a bonus.
"""

import torch
from torch import Tensor


def scaled_returns(returns: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return (returns - low) / (high - low), 0 where the two are equal.

    Args:
        returns: ``[...]``, reward units.
        low: The least return seen so far, broadcast against them.
        high: The largest one.

    Returns:
        ``[...]``, in [0, 1] for returns between the two.

    Reference:
        Schrittwieser et al. 2020, arXiv 1911.08265 (MuZero), equation 5.
    """
    width = high - low
    return torch.where(width > 0, (returns - low) / width, torch.zeros_like(returns))


def uct_score(mean: Tensor, visits: Tensor, parent: Tensor, *, exploration: float) -> Tensor:
    """Return W / N + 2 c sqrt(2 ln N_parent / N), infinite for a child that was never visited.

    Args:
        mean: W / N, ``[..., A]``, in [0, 1]; anything where there is no visit.
        visits: N of the children, ``[..., A]``.
        parent: N of the parent, ``[...]``, at least 1.
        exploration: c, at least 0; 1 / sqrt(2) for returns in [0, 1].

    Returns:
        ``[..., A]``.

    Reference:
        Kocsis and Szepesvari 2006, "Bandit based Monte-Carlo planning", section 2.3. The bonus has
        the visits of the child below the fraction line: of the parent it would be one for all.
    """
    bonus = 2.0 * exploration * torch.sqrt(2.0 * parent.unsqueeze(-1).log() / visits)
    return torch.where(visits > 0, mean + bonus, torch.inf)


def puct_score(
    mean: Tensor, visits: Tensor, parent: Tensor, prior: Tensor, *, exploration: float
) -> Tensor:
    """Return W / N + c p sqrt(N_parent) / (1 + N).

    Args:
        mean: W / N, ``[..., A]``, in [0, 1]; a guess where there is no visit.
        visits: N of the children, ``[..., A]``.
        parent: N of the parent, ``[...]``.
        prior: p, probabilities of the actions, ``[..., A]``.
        exploration: c, at least 0.

    Returns:
        ``[..., A]``.

    Reference:
        Silver et al. 2017, "Mastering the game of Go without human knowledge", methods.
    """
    return mean + exploration * prior * parent.unsqueeze(-1).sqrt() / (1.0 + visits)


def visit_distribution(visits: Tensor, temperature: float) -> Tensor:
    """Return N^(1 / T) / sum: soft labels of the actions.

    Args:
        visits: ``[..., A]``, at least one above 0.
        temperature: T, at least 0: 1 is the share of visits, 0 the most visited alone.

    Returns:
        ``[..., A]``, sums to 1; the first of several that are visited equally often at T = 0.
    """
    if temperature == 0:
        best = visits.argmax(-1, keepdim=True)
        return torch.zeros_like(visits, dtype=torch.float32).scatter(-1, best, 1.0)
    return torch.softmax(visits.to(torch.float32).log() / temperature, dim=-1)
