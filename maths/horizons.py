"""How a model's errors grow with the horizon, and whether it knows where they are large."""

import math

import torch
from torch import Tensor

PARTICLES = 19
"""Draws whose range holds what comes in (19 - 1) / (19 + 1) = 90 % of cases."""


def held(samples: Tensor, truth: Tensor) -> Tensor:
    """Return whether numbers lie within the range of samples.

    Where truth and P samples are of one distribution, whatever it is, that is so with probability
    (P - 1) / (P + 1).

    Args:
        samples: ``[P, ...]``.
        truth: ``[...]``.

    Returns:
        ``[...]`` bool.
    """
    return (samples.amin(0) <= truth) & (truth <= samples.amax(0))


def sample_nll(samples: Tensor, truth: Tensor, least: float = 1e-6) -> Tensor:
    """Return -log of the normal density with the samples' mean and variance.

    Args:
        samples: ``[P, ...]``, P at least 2.
        truth: ``[...]``.
        least: Of the standard deviation: samples may all agree.

    Returns:
        ``[...]``, nats.
    """
    count = len(samples)
    # The mean of P samples is itself uncertain by a P-th of the variance.
    variance = (1 + 1 / count) * samples.var(0, correction=1)
    variance = variance.clamp_min(least**2)
    square = (truth - samples.mean(0)).square() / variance
    return 0.5 * (square + variance.log() + math.log(2.0 * math.pi))


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's rank correlation: whether one is large where the other is.

    Args:
        one: ``[N]``; equal numbers share their mean rank.
        other: ``[N]``.

    Returns:
        ``[]`` float64 in [-1, 1]; 0 where all numbers of one of them are equal.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Spearman 1904, "The proof and measurement of association between two things".
    """
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"shapes differ: {tuple(one.shape)} and {tuple(other.shape)}, [N] both")
    ranks = torch.stack([_ranks(one), _ranks(other)])
    ranks = ranks - ranks.mean(-1, keepdim=True)
    size = ranks.square().sum(-1).prod().sqrt()
    product = ranks.prod(0).sum()
    return torch.where(size > 0, product / size.clamp_min(1e-300), torch.zeros_like(product))


def _ranks(value: Tensor) -> Tensor:
    _, group, count = torch.unique(value, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    rank: Tensor = last - 0.5 * (count.double() - 1)
    return rank[group]
