"""Soft maxima of action values, and the reward of a policy's own likelihood (Munchausen).

    V(s)  = alpha log sum_a exp(Q(s, a) / alpha),   pi = soft-max of Q / alpha
          = sum_a pi(a | s) (Q(s, a) - alpha log pi(a | s))
    r'    = r + weight clip(alpha log pi(a | s), low, 0)

What is averaged over next states is V, not exp V: the latter would count on luck.

Reference: soft Q-learning: Haarnoja, Tang, Abbeel and Levine 2017, arXiv 1702.08165, equation 3;
mellowmax: Asadi and Littman 2017, arXiv 1612.05628; Munchausen: Vieillard, Pietquin and Geist 2020,
arXiv 2007.14430, equation 1.
"""

import math

import torch
from torch import Tensor


def soft_maximum(value: Tensor, *, temperature: float) -> Tensor:
    """Return alpha log sum exp(value / alpha), at least the largest value.

    Args:
        value: ``[..., n]``, reward units.
        temperature: alpha, above 0, reward units.

    Returns:
        ``[...]``, reward units. Its gradient is the soft-max.
    """
    return temperature * torch.logsumexp(value / temperature, dim=-1)


def mellow_maximum(value: Tensor, *, temperature: float) -> Tensor:
    """Return alpha log mean exp(value / alpha), between the mean and the largest value.

    Args:
        value: ``[..., n]``, reward units.
        temperature: alpha, above 0, reward units; infinitely large it gives the mean.

    Returns:
        ``[...]``, reward units.
    """
    return soft_maximum(value, temperature=temperature) - temperature * math.log(value.shape[-1])


def soft_expectation(number: Tensor, chooser: Tensor, *, temperature: float) -> Tensor:
    """Return what numbers of actions are worth to the soft-max of others, its entropy included.

    Args:
        number: ``[..., n, M]``, M numbers of each action, reward units.
        chooser: ``[..., n]``, action values, reward units.
        temperature: alpha, above 0, reward units.

    Returns:
        ``[..., M]``, reward units; :func:`soft_maximum` where the numbers are those values.
    """
    log_prob = torch.log_softmax(chooser / temperature, dim=-1).unsqueeze(-1)
    return (log_prob.exp() * (number - temperature * log_prob)).sum(-2)


def munchausen_bonus(
    log_prob: Tensor, *, weight: float, temperature: float, low: float = -1.0
) -> Tensor:
    """Return weight clip(alpha log pi, low, 0), without gradient.

    Args:
        log_prob: ``[...]``, log pi(a | s) of the logged action, nats.
        weight: At least 0; the paper's alpha.
        temperature: Of the policy, above 0, reward units.
        low: Below 0, reward units: what an action that is never taken costs at most.

    Returns:
        ``[...]``, reward units, at most 0.
    """
    return weight * (temperature * log_prob.detach()).clamp(low, 0.0)
