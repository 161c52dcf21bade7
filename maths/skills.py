"""Skills that can be told apart by where they lead: DIAYN, as a posterior over tasks.

    r = log q(z | s') - log p(z),     E[r] <= I(z; s') <= log K for K skills drawn alike

q is the posterior of :mod:`hindsight_rl.maths.posterior` over skills, of scores that are learned:
the reward of a skill is how much more likely its outcome makes it. Without log p(z) every step
would cost, and skills would learn to end their episodes.

Reference: Eysenbach, Gupta, Ibarz and Levine 2019, arXiv 1802.06070, eq. 3; the bound: Barber and
Agakov 2003.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape


def log_posterior(scores: Tensor, log_prior: Tensor | None = None) -> Tensor:
    """Return log q(z | s) of scores that are learned: their soft-max with the prior.

    The logarithm of ``task_posterior(scores, log_prior, partition=False)``, kept exact where q is
    small. Learned scores hold log Z themselves.

    Args:
        scores: ``[..., K]``, nats.
        log_prior: ``[K]``, nats, up to a constant; ``None`` for equal ones.

    Returns:
        ``[..., K]``, nats.
    """
    return torch.log_softmax(scores if log_prior is None else scores + log_prior, dim=-1)


def posterior_divergence(target: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(target || q): what a network that learns a posterior descends.

    Args:
        target: ``[..., K]``, probabilities; one-hot where the task is known, as that of a skill.
        log_q: ``[..., K]``, nats.

    Returns:
        ``[...]``, nats, at least 0.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(target=target, log_q=log_q)
    found: Tensor = (torch.special.xlogy(target, target) - target * log_q).sum(-1)
    return found


def skill_reward(log_q: Tensor, task: Tensor, log_prior: Tensor) -> Tensor:
    """Return log q(z | s') - log p(z) of the skill that was followed.

    Args:
        log_q: ``[..., K]``, nats.
        task: ``[..., K]``, one-hot; rows of zeros followed no skill.
        log_prior: ``[K]``, nats, of probabilities that sum to 1.

    Returns:
        ``[...]``, nats, at most -log p(z); 0 where no skill was followed.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(log_q=log_q, task=task)
    return (task * (log_q - log_prior)).sum(-1)
