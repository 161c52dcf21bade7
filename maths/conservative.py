"""The conservative gap: how much larger the values of all actions are than that of the logged one.

Minimising it lowers the values of actions that the log does not hold. Bootstrapping would otherwise
increase them without bound.
"""

import math

import torch
from torch import Tensor


def conservative_gap(value: Tensor, chosen: Tensor) -> Tensor:
    """Return log sum exp Q(s, .) - Q(s, a): above 0 where ``value`` holds the logged action's.

    Its gradient is the soft-max of the values minus 1 at the logged action.

    Args:
        value: ``[..., n]``, of all n actions, reward units.
        chosen: ``[...]``, of the logged action, reward units.

    Returns:
        ``[...]``, reward units.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Kumar et al. 2020, "Conservative Q-learning for offline reinforcement learning", arXiv
        2006.04779, eq. 4, CQL(H).
    """
    if value.shape[:-1] != chosen.shape:
        raise ValueError(
            f"shapes differ: value {tuple(value.shape)} must be chosen {tuple(chosen.shape)} and "
            "one more dimension, that of the actions"
        )
    return torch.logsumexp(value, dim=-1) - chosen


def sampled_gap(value: Tensor, log_density: Tensor, chosen: Tensor) -> Tensor:
    """Return the gap where the sum over actions is an integral, estimated by importance sampling.

    The mean over samples is left a sum, as in the authors' code: the estimate is log m too large.

    Args:
        value: ``[..., m]``, of m sampled actions, reward units.
        log_density: ``[..., m]``, of each under what it was drawn from, nats, broadcast against
            ``value``; no gradient passes.
        chosen: ``[...]``, of the logged action, reward units.

    Returns:
        ``[...]``, reward units.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Kumar et al. 2020, arXiv 2006.04779, appendix F.
    """
    return conservative_gap(value - log_density.detach(), chosen)


def uniform_actions(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the actions, uniform on [-1, 1]^A, that normal numbers make, and their log-density.

    Args:
        noise: ``[..., A]`` standard normal numbers.

    Returns:
        ``[..., A]``, and ``[...]`` nats: -A log 2 throughout.
    """
    # Twice the normal distribution function, less 1.
    action = torch.erf(noise * math.sqrt(0.5))
    return action, torch.full_like(noise[..., 0], -noise.shape[-1] * math.log(2.0))
