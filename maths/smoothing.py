"""Smoothing of targets: a critic evaluated beside an action rather than at it."""

import torch
from torch import Tensor


def smoothed_action(action: Tensor, noise: Tensor, *, std: float, limit: float) -> Tensor:
    """Return clip(a + clip(std * noise, -limit, limit), -1, 1).

    Values of similar actions are averaged so, and a narrow peak of a critic cannot be exploited.

    Args:
        action: ``[..., A]``, in [-1, 1], policy units.
        noise: ``[..., A]`` standard normal numbers.
        std: Standard deviation of what is added, policy units, at least 0.
        limit: Largest magnitude of what is added, policy units, at least 0.

    Returns:
        ``[..., A]``, in [-1, 1].

    Raises:
        ValueError: ``std`` or ``limit`` is below 0.

    Reference:
        Fujimoto et al. 2018, arXiv 1802.09477, section 5.3.
    """
    if not std >= 0 or not limit >= 0:
        raise ValueError(f"std {std} and limit {limit} must be at least 0")
    return torch.clamp(action + (std * noise).clamp(-limit, limit), -1.0, 1.0)
