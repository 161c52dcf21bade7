"""Kullback-Leibler (KL) divergences of distributions of one action, or of latent numbers."""

import torch
from torch import Tensor


def categorical_kl(share: Tensor, log_other: Tensor) -> Tensor:
    """Return KL(share || other) of probabilities of m actions.

    Args:
        share: ``[m, ...]``, sum 1 over the actions; those of share 0 count nothing.
        log_other: ``[m, ...]``, log-probabilities of the other distribution, nats.

    Returns:
        ``[...]``, nats.
    """
    # An action that both exclude has score -inf + inf, and that is not a number.
    score = (share.log() - log_other).masked_fill(share == 0, 0.0)
    return (share * score).sum(0)


def normal_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """Return KL(N(mean, std) || N(other mean, other std)) of each dimension by itself.

    Args:
        mean: ``[..., A]``.
        log_std: ``[..., A]``, natural logarithm of the spread.
        other_mean: ``[..., A]``, same unit.
        other_log_std: ``[..., A]``.

    Returns:
        ``[..., A]``, nats.
    """
    ratio = log_std - other_log_std
    # Limits on a change of spread are near 1e-6: exp(2 ratio) - 1 would be lost in float32.
    spread = 0.5 * torch.expm1(2.0 * ratio) - ratio
    return spread + 0.5 * ((mean - other_mean) * torch.exp(-other_log_std)).square()


def standard_normal_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return KL(N(mean, std^2) || N(0, 1)) of a diagonal normal distribution, summed over entries.

    Args:
        mean: ``[..., L]``.
        log_std: ``[..., L]``, natural logarithm of the spread.

    Returns:
        ``[...]``, nats, at least 0.

    Reference:
        Kingma and Welling 2014, "Auto-encoding variational Bayes", arXiv 1312.6114, appendix B.
    """
    zero = torch.zeros_like(mean)
    return normal_kl(mean, log_std, zero, zero).sum(-1)
