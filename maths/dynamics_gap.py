"""The gap between two dynamics: how much likelier a transition is in the target than in the source.

    l_sa  = log p(target | s, a) / p(source | s, a)
    l_sas = log p(target | s, a, s') / p(source | s, a, s')
    gap   = l_sas - l_sa = log p_target(s' | s, a) / p_source(s' | s, a)                 (eq. 3)

Two classifiers that see the same rows give it: how many rows each side has, and where it visits,
cancels. A policy that maximises r + gap in the source is led away from what the target cannot do.

Reference: Eysenbach et al. 2021, "Off-dynamics reinforcement learning", arXiv 2006.13916; on two
logs: Liu et al. 2022, "DARA", arXiv 2203.06662.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.adversarial import discriminator_loss
from hindsight_rl.maths.losses import same_shape


def gap_loss(pair_logit: Tensor, gap: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropies of both classifiers, added.

    Args:
        pair_logit: ``[...]``, l_sa, above 0 for the target, nats.
        gap: ``[...]``, l_sas - l_sa, nats.
        target: ``[...]`` bool, whether a row is the target's.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(pair_logit=pair_logit, gap=gap)
    return discriminator_loss(pair_logit, target) + discriminator_loss(pair_logit + gap, target)


def corrected_reward(
    reward: Tensor, gap: Tensor, source: Tensor, *, coefficient: float, clip: float
) -> Tensor:
    """Return the reward plus the gap, in rows of the source.

    Args:
        reward: ``[...]``.
        gap: ``[...]``, nats; no gradient passes.
        source: ``[...]`` bool, whether a row is the source's; others keep their reward.
        coefficient: Reward per nat, at least 0; at 0 every reward stays as it is, bit for bit.
        clip: Largest magnitude of the gap, above 0.

    Returns:
        ``[...]``.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(reward=reward, gap=gap)
    same_shape(reward=reward, source=source)
    if coefficient == 0.0:  # adding 0 would make 0 of -0, and a number of nothing of infinity
        return reward
    return torch.where(source, reward + coefficient * gap.detach().clamp(-clip, clip), reward)


def ranked_above(upper: Tensor, lower: Tensor) -> Tensor:
    """Return how often a number of one side is above one of the other, ties as half: the AUC.

    Args:
        upper: ``[N]``.
        lower: ``[M]``.

    Returns:
        ``[]`` in [0, 1]; .5 where nothing tells the sides apart.
    """
    order = lower.sort().values
    below = torch.searchsorted(order, upper) + torch.searchsorted(order, upper, right=True)
    return below.double().mean().to(upper.dtype) / (2 * len(lower))
