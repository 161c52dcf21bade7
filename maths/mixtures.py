"""Mixtures of normal distributions: which answer to give, and how many components are in use."""

import torch
from torch import Tensor
from torch.nn import functional

from hindsight_rl.maths.losses import mixture_log_prob


def log_density_at_means(logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density of a mixture at the mean of each of its components.

    The largest of them belongs to a mode of the density wherever components lie apart. The heaviest
    component may be another one: it may be wide.

    Args:
        logits: ``[..., M]``, unnormalised log-weights of the components.
        mean: ``[..., M, A]``.
        log_std: ``[..., M, A]``.

    Returns:
        ``[..., M]``, nats.
    """
    every = (logits.unsqueeze(-2), mean.unsqueeze(-3), log_std.unsqueeze(-3))
    return mixture_log_prob(mean, *every)


def soft_floor(log_std: Tensor, *, log_floor: float) -> Tensor:
    """Return log(floor + exp(log_std)): a spread that stays above a floor and keeps its gradient.

    A density has no upper bound where its spread has no floor: at data that repeat exactly, -log
    sigma outweighs every other part of the loss.

    Args:
        log_std: ``[...]``, natural logarithm of a spread.
        log_floor: Natural logarithm of the least spread.

    Returns:
        ``[...]``, above ``log_floor``.
    """
    return log_floor + functional.softplus(log_std - log_floor)


def components_used(logits: Tensor) -> Tensor:
    """Return exp(H(mean weights)): how many components a batch makes use of, ``[]``, in [1, M].

    Args:
        logits: ``[..., M]``, unnormalised log-weights of the components.

    Returns:
        1 where one component has all the weight in every row, M where all have the same share.
    """
    share = torch.softmax(logits, dim=-1).reshape(-1, logits.shape[-1]).mean(0)
    return torch.exp(-torch.xlogy(share, share).sum())
