"""Distributions of returns as quantiles: the loss they are fitted by, and those of a mixture.

N numbers stand for the quantiles at the midpoints of N equal shares,

    tau_i = (2 i - 1) / (2 N),     i = 1, ..., N
    rho_tau(u) = |tau - 1(u < 0)| h(u),   h(u) = |u|, or Huber's loss divided by its limit

so that their mean is an estimate of the mean.

Reference: Dabney, Rowland, Bellemare and Munos 2018, "Distributional reinforcement learning with
quantile regression", arXiv 1710.10044, eqs. 8 to 10.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.losses import huber_loss


def midpoints(count: int, device: torch.device | None = None) -> Tensor:
    """Return tau ``[N]``, the shares whose quantiles N numbers stand for.

    Args:
        count: N, at least 1.
        device: Where to.

    Returns:
        float32, in (0, 1).
    """
    return (torch.arange(count, device=device) + 0.5) / count


def quantile_loss(
    quantile: Tensor, target: Tensor, weight: Tensor, *, limit: float | None = None
) -> Tensor:
    """Return the error of quantiles for a weighted sample of a distribution.

    Args:
        quantile: ``[..., N]``, in the order of :func:`midpoints`.
        target: ``[..., M]``, the sample; no gradient flows through it.
        weight: ``[..., M]``, what each of it counts; they sum to 1.
        limit: Where squares go over to lines, above 0, in the unit of the targets; ``None`` for
            lines throughout: only they have the quantiles as their minimum.

    Returns:
        ``[...]``, the mean over the quantiles, in the unit of the targets.

    Raises:
        ValueError: Targets and weights differ in shape.
    """
    if target.shape != weight.shape:
        raise ValueError(
            f"shapes differ: target {tuple(target.shape)}, weight {tuple(weight.shape)}"
        )
    error = target.detach().unsqueeze(-2) - quantile.unsqueeze(-1)  # [..., N, M]
    size = error.abs() if limit is None else huber_loss(error, limit=limit) / limit
    below = (error < 0).to(error.dtype)
    tau = midpoints(quantile.shape[-1], quantile.device).to(quantile.dtype)
    slope = (tau.unsqueeze(-1) - below).abs()
    return (slope * size * weight.detach().unsqueeze(-2)).sum(-1).mean(-1)


def mixture_quantiles(value: Tensor, weight: Tensor, count: int) -> Tensor:
    """Return quantiles of a weighted sample.

    Args:
        value: ``[..., M]``.
        weight: ``[..., M]``, at least 0, with a sum above 0.
        count: N, at least 1.

    Returns:
        ``[..., N]``, rising: the smallest values up to which at least the shares of
        :func:`midpoints` lie.
    """
    value, order = value.sort(dim=-1)
    reached = weight.gather(-1, order).double().cumsum(-1)
    reached = reached / reached[..., -1:]
    shares = midpoints(count, value.device).double().expand(*value.shape[:-1], count).contiguous()
    # A hair less: a share that is reached exactly is reached, whatever rounding made of the sum.
    found = torch.searchsorted(reached.contiguous(), shares - 1e-9)
    return value.gather(-1, found.clamp_max(value.shape[-1] - 1))
