"""Adversarial imitation: a discriminator between expert and policy, and the rewards it gives.

    L_D = E_expert[ -log D ] + E_policy[ -log(1 - D) ],   D = sigmoid(logit)
    at the optimum logit = log p_expert(s, a) / p_policy(s, a)

    survive  -log(1 - D) = softplus(logit), at least 0: staying alive pays
    end      log D = -softplus(-logit), at most 0: ending pays
    logit    neither sign

AIRL writes the logit as f - log pi(a | s) with f = g(s) + discount h(s') - h(s). Then f is a reward
to keep (the logit itself is 0 everywhere once the policy is the expert's), and g alone carries over
to other dynamics.

Reference: Ho and Ermon 2016, arXiv 1606.03476; Fu, Luo and Levine 2018, arXiv 1710.11248; Kostrikov
et al. 2019, arXiv 1809.02925; the penalty: Gulrajani et al. 2017, arXiv 1704.00028.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hindsight_rl.maths.losses import same_shape

RewardForm = Literal["survive", "end", "logit"]


def discriminator_loss(logit: Tensor, expert: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of telling expert rows from others.

    Args:
        logit: ``[...]``, above 0 for the expert.
        expert: ``[...]`` bool.
        smoothing: Taken from the label 1 of the expert, in [0, 1).

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes differ, or ``smoothing`` is out of range.
    """
    same_shape(logit=logit, expert=expert)
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing is {smoothing}, it must lie in [0, 1)")
    label = expert.to(logit.dtype) * (1.0 - smoothing)
    return functional.binary_cross_entropy_with_logits(logit, label, reduction="none")


def shaped_reward(
    state_reward: Tensor,
    potential: Tensor,
    next_potential: Tensor,
    terminated: Tensor,
    *,
    discount: float,
) -> Tensor:
    """Return f = g(s) + discount (1 - terminated) h(s') - h(s).

    Args:
        state_reward: ``[...]``, g, nats.
        potential: ``[...]``, h of the state, nats.
        next_potential: ``[...]``, h of the next state, nats.
        terminated: ``[...]`` bool; behind an end the potential is 0.
        discount: In [0, 1].

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes differ.

    Reference:
        Fu et al. 2018, arXiv 1710.11248, eq. 4.
    """
    same_shape(state_reward=state_reward, potential=potential, terminated=terminated)
    same_shape(potential=potential, next_potential=next_potential)
    return state_reward + discount * (~terminated).to(potential.dtype) * next_potential - potential


def policy_logit(reward: Tensor, log_prob: Tensor) -> Tensor:
    """Return the logit of D = exp(f) / (exp(f) + pi(a | s)), f - log pi.

    Args:
        reward: ``[...]``, f, nats.
        log_prob: ``[...]``, log pi of the current policy, for expert rows too; no gradient passes.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(reward=reward, log_prob=log_prob)
    return reward - log_prob.detach()


def adversarial_reward(logit: Tensor, form: RewardForm) -> Tensor:
    """Return the reward that a logit gives; see the table of this module.

    Args:
        logit: ``[...]``, nats.
        form: Which sign it has.

    Returns:
        ``[...]``, nats.
    """
    if form == "survive":
        return functional.softplus(logit)
    return -functional.softplus(-logit) if form == "end" else logit


def between(expert: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Return points on the lines between pairs of rows, one share for all numbers of a pair.

    Args:
        expert: ``[..., F]``.
        other: ``[..., F]``.
        share: ``[...]``, of the expert, in [0, 1].

    Returns:
        ``[..., F]``.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(expert=expert, other=other)
    same_shape(expert=expert[..., 0], share=share)
    return torch.lerp(other, expert, share.unsqueeze(-1))


def gradient_penalty(slope: Tensor, *, target: float = 1.0) -> Tensor:
    """Return (|slope| - target)^2, one norm per row over all its numbers.

    Args:
        slope: ``[..., F]``, of the logit in its inputs.
        target: Norm that costs nothing, at least 0.

    Returns:
        ``[...]``.
    """
    # A norm of 0 has no slope of its own: the root would make it infinite.
    square = slope.square().sum(-1)
    norm = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
    return (norm - target).square()
