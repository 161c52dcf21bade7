"""Signed labels: imitating what is labelled above 0 and avoiding what is labelled below.

-y log pi(a | s) with a reward as label y is the score-based policy gradient (REINFORCE): its
gradient over actions of the policy itself is that of minus the expected reward. For actions
of another policy the same holds after weighting by the ratio of the two. For y < 0 the loss falls
without bound while the action's probability goes to 0; each function here is a remedy.
"""

import math

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape, weighted_nll


def signed_nll(
    log_prob: Tensor, label: Tensor, *, floor: float = -math.inf, negative_scale: float = 1.0
) -> Tensor:
    """Return -y log pi; where y < 0, -negative_scale * y * max(log pi, floor).

    The mean over P positive and M negative rows of N, labelled 1 and -1, is P / N times the
    negative log-likelihood of the former less M / N times that of the latter.

    Args:
        log_prob: ``[B]``, nats.
        label: ``[B]``, any sign; no gradient flows through it.
        floor: Log-probability, nats, below which an action labelled negative is left alone.
        negative_scale: Factor of negative labels, at least 0.

    Returns:
        ``[B]``, nats times the unit of the label.

    Raises:
        ValueError: ``negative_scale`` is below 0, or the shapes differ.
    """
    if not negative_scale >= 0:
        raise ValueError(f"negative_scale is {negative_scale}, it must be at least 0")
    same_shape(log_prob=log_prob, label=label)
    avoided = label < 0
    weight = torch.where(avoided, negative_scale * label, label)
    # A comparison, not a clamp of every row: positive labels have no floor.
    return weighted_nll(torch.where(avoided, log_prob.clamp(min=floor), log_prob), weight)


def unlikelihood(action: Tensor, logits: Tensor) -> Tensor:
    """Return -log(1 - pi(a)), at least 0: what a discrete action costs that is to be avoided.

    Its gradient fades as the action becomes unlikely, by pi(a) in the logit of the action.

    Args:
        action: ``[...]`` int64, in [0, n).
        logits: ``[..., n]``, n at least 2.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: There is one action only, so it cannot be avoided.

    Reference:
        Welleck et al. 2019, "Neural text generation with unlikelihood training", arXiv 1908.04319,
        the unlikelihood term.
    """
    if logits.shape[-1] < 2:
        raise ValueError("there is one action only: nothing could be chosen in its place")
    chosen = torch.arange(logits.shape[-1], device=action.device) == action.unsqueeze(-1)
    # Not 1 - pi: that is 0 in float32 where pi is within 6e-8 of 1.
    others = logits.masked_fill(chosen, -math.inf).logsumexp(-1)
    return logits.logsumexp(-1) - others


def importance_ratio(
    log_prob: Tensor, behavior_log_prob: Tensor, *, max_ratio: float = math.inf
) -> Tensor:
    """Return min(pi / pi_b, max_ratio), without gradient.

    Args:
        log_prob: ``[B]``, of the policy that learns, nats.
        behavior_log_prob: ``[B]``, of the policy that acted, nats, in the same unit.
        max_ratio: Cap, above 0; a finite one biases the gradient.

    Returns:
        ``[B]``, in [0, max_ratio].

    Raises:
        ValueError: ``max_ratio`` is not above 0, or the shapes differ.
    """
    if not max_ratio > 0:
        raise ValueError(f"max_ratio is {max_ratio}, it must be above 0")
    same_shape(log_prob=log_prob, behavior_log_prob=behavior_log_prob)
    return torch.exp((log_prob - behavior_log_prob).detach()).clamp(max=max_ratio)


def within_clip(ratio: Tensor, label: Tensor, *, clip: float) -> Tensor:
    """Return 1 where min(ratio y, clipped ratio y) still has a slope, else 0.

    The ratio is clipped to [1 - clip, 1 + clip]. Labels times ratio times this, as weights of the
    negative log-likelihood, have the gradient of PPO's clipped objective.

    Args:
        ratio: ``[B]``, pi / pi_b, at least 0.
        label: ``[B]``, any sign.
        clip: In (0, 1).

    Returns:
        ``[B]``, 0 or 1.

    Raises:
        ValueError: ``clip`` is outside (0, 1).

    Reference:
        Schulman et al. 2017, "Proximal policy optimization algorithms", arXiv 1707.06347, eq. 7.
    """
    if not 0 < clip < 1:
        raise ValueError(f"clip is {clip}, it must lie in (0, 1)")
    spent = torch.where(label < 0, ratio < 1.0 - clip, ratio > 1.0 + clip)
    return (~spent).to(ratio.dtype)
