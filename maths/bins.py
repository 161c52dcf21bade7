"""Actions in bins: one dimension after the other, each given the bins of those before it.

    log p(a) = sum_d [ log softmax(f_d(s, k_<d))[k_d] - log width_d[k_d] ],   k_d: the bin of a_d

The density is constant within a bin, so it is one of actions and compares with that of other
distributions. Two dimensions of a joint answer stay together, which no product of marginals does.

Reference: Metz, Ibarz, Jaitly and Davidson 2017, "Discrete sequential prediction of continuous
actions for deep RL", arXiv 1705.05035.
"""

import math

import torch
from torch import Tensor

from hindsight_rl.maths.losses import categorical_log_prob


def even_edges(low: Tensor, high: Tensor, *, bins: int) -> Tensor:
    """Return the edges of G equally wide bins between two bounds.

    Args:
        low: ``[A]``.
        high: ``[A]``, above ``low``.
        bins: G, at least 2; an odd number keeps the middle of the range a centre.

    Returns:
        ``[A, G + 1]``, rising, in the dtype of the bounds.
    """
    share = torch.arange(bins + 1, dtype=low.dtype, device=low.device) / bins
    return low.unsqueeze(-1) + (high - low).unsqueeze(-1) * share


def quantile_edges(quantiles: Tensor, *, bins: int, least: float) -> Tensor:
    """Return the edges of G bins that hold about equally many actions of a log.

    Args:
        quantiles: ``[A, Q]``, rising: those of shares 0, 1 / (Q - 1), ..., 1.
        bins: G, at least 2.
        least: Width that every bin has at least, above 0, unit of the quantiles. Where a log
            repeats a number, several quantiles are that number.

    Returns:
        ``[A, G + 1]``, rising.
    """
    last = quantiles.shape[-1] - 1
    place = torch.arange(bins + 1, dtype=quantiles.dtype, device=quantiles.device) * (last / bins)
    before = place.floor().long().clamp(max=last - 1)
    part = place - before
    edges = quantiles[..., before] * (1.0 - part) + quantiles[..., before + 1] * part
    steps = least * torch.arange(bins + 1, dtype=edges.dtype, device=edges.device)
    return (edges - steps).cummax(dim=-1).values + steps


def bin_of(value: Tensor, edges: Tensor) -> Tensor:
    """Return the bin of every number; what lies beyond the outer edges is in the outer bins.

    Args:
        value: ``[..., A]``.
        edges: ``[A, G + 1]``, rising, same unit.

    Returns:
        ``[..., A]`` int64, in [0, G); a number on an edge is in the upper bin.
    """
    return (value.unsqueeze(-1) >= edges[:, 1:-1]).sum(-1)


def bin_centres(edges: Tensor) -> Tensor:
    """Return the middle of each bin, ``[..., G]`` of edges ``[..., G + 1]``."""
    return 0.5 * (edges[..., :-1] + edges[..., 1:])


def bin_means(value: Tensor, edges: Tensor) -> Tensor:
    """Return the mean of the numbers in each bin; of an empty bin the middle.

    A number that a log repeats stands for its bin exactly, which the middle would miss.

    Args:
        value: ``[M, A]``.
        edges: ``[A, G + 1]``, rising.

    Returns:
        ``[A, G]``.
    """
    bins = bin_of(value, edges).T
    centre = bin_centres(edges)
    one = torch.ones_like(value.T)
    count = torch.zeros_like(centre).scatter_add(-1, bins, one)
    total = torch.zeros_like(centre).scatter_add(-1, bins, value.T)
    return torch.where(count > 0, total / count.clamp(min=1.0), centre)


def without_unlikely(log_prob: Tensor, share: float) -> Tensor:
    """Return log-probabilities without the least likely bins, which hold a share at most.

    Bins that are equally likely stay or go together; the likeliest always stay.

    Args:
        log_prob: ``[..., G]``, nats.
        share: In [0, 1).

    Returns:
        ``[..., G]``; -infinity where a bin is left out.
    """
    rising = log_prob.sort(dim=-1).values
    held = rising.exp().cumsum(-1)
    last = torch.searchsorted(rising, log_prob.contiguous(), right=True) - 1  # of equal ones
    return log_prob.masked_fill(held.gather(-1, last) <= share, -math.inf)


def binned_log_prob(bins: Tensor, logits: Tensor, edges: Tensor) -> Tensor:
    """Return the log-density of actions in bins, summed over dimensions.

    Args:
        bins: ``[..., A]`` int64, in [0, G).
        logits: ``[..., A, G]``, of each dimension given the bins before it.
        edges: ``[A, G + 1]``, rising.

    Returns:
        ``[...]``, nats per unit of the edges in every dimension.
    """
    width = (edges[:, 1:] - edges[:, :-1]).log().expand_as(logits)
    log_width = width.gather(-1, bins.unsqueeze(-1)).squeeze(-1)
    return (categorical_log_prob(bins, logits) - log_width).sum(-1)


def drawn_bin(logits: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bin that a share of the probability leads to, and where within it.

    This is the inverse of the cumulative distribution of one dimension, constant within bins.

    Args:
        logits: ``[..., G]``; the share may have further dimensions before those of the logits.
        share: ``[...]``, in [0, 1].

    Returns:
        The bin ``[...]`` int64, in [0, G), and the place ``[...]`` in it, in [0, 1].
    """
    mass = torch.softmax(logits, dim=-1).expand(*share.shape, logits.shape[-1])
    upper = mass.cumsum(-1)
    # Rounding may leave the last sum below 1; the last bin is never counted.
    chosen = (upper[..., :-1] <= share.unsqueeze(-1)).sum(-1)
    at = chosen.unsqueeze(-1)
    inside = mass.gather(-1, at).squeeze(-1)
    below = upper.gather(-1, at).squeeze(-1) - inside
    tiny = torch.finfo(mass.dtype).tiny
    return chosen, ((share - below) / inside.clamp_min(tiny)).clamp(0.0, 1.0)


def drawn_lead(logits: Tensor, share: Tensor) -> Tensor:
    """Return how far a share lies from where another choice begins: rounding may not cross it.

    Args:
        logits: ``[..., G]``.
        share: ``[...]``, in [0, 1].

    Returns:
        ``[...]``, in [0, 1]; 1 where there is no other.
    """
    if logits.shape[-1] < 2:
        return torch.ones_like(share)
    upper = torch.softmax(logits, dim=-1).cumsum(-1)[..., :-1]
    return (upper - share.unsqueeze(-1)).abs().amin(-1)


def lead(scores: Tensor) -> Tensor:
    """Return by how much the largest of scores ``[..., M]`` exceeds the second, ``[...]``."""
    if scores.shape[-1] < 2:
        return torch.full_like(scores[..., 0], math.inf)
    best = scores.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def normal_share(noise: Tensor) -> Tensor:
    """Return the share of the standard normal distribution below numbers ``[...]``, in [0, 1]."""
    return 0.5 * (1.0 + torch.erf(noise * math.sqrt(0.5)))
