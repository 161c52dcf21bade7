"""Policies of a latent vector: a decoder turns chance into actions, an encoder helps to fit it.

    log p(a) >= E_q[ log p(a | l) ] - KL(q(l | a) || p(l)),   p(l) = N(0, 1)

Reference: Kingma and Welling 2014, "Auto-encoding variational Bayes", arXiv 1312.6114; given a
state: Sohn, Lee and Yan 2015.
"""

import math

import torch
from torch import Tensor

from hindsight_rl.maths.divergences import normal_kl


def latent_divergence(mean: Tensor, log_std: Tensor, *, free: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return KL(q || N(0, 1)) of a row, and the part of it that counts in its loss.

    Args:
        mean: ``[..., L]``, of q.
        log_std: ``[..., L]``, natural logarithm of the spread of q.
        free: Nats of each latent number that cost nothing, at least 0: it may carry this much
            before the divergence pulls it to the prior, where the decoder would not hear it.

    Returns:
        Both ``[...]``, nats, at least 0, summed over latent numbers; the second without gradient
        for numbers below ``free``.

    Reference:
        Kingma, Salimans et al. 2016, arXiv 1606.04934, appendix C.8 (free bits), here of each row.
    """
    zero = torch.zeros_like(mean)
    each = normal_kl(mean, log_std, zero, zero)
    return each.sum(-1), each.clamp_min(free).sum(-1) if free else each.sum(-1)


def decoder_error(action: Tensor, decoded: Tensor, *, std: float) -> Tensor:
    """Return |a - D|^2 / (2 std^2), summed over dimensions: -log N(a; D, std^2) up to a constant.

    Args:
        action: ``[..., A]``.
        decoded: ``[..., A]``, same unit.
        std: Spread of actions about what is decoded, same unit, above 0.

    Returns:
        ``[...]``, nats.
    """
    return (action - decoded).square().sum(-1) / (2.0 * std**2)


def decoder_constant(width: int, *, std: float) -> float:
    """Return what :func:`decoder_error` lacks of -log N(a; D, std^2) of A dimensions, nats."""
    return width * (math.log(std) + 0.5 * math.log(2.0 * math.pi))
