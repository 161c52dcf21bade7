"""Preferences between segments: what people who compare say of rewards, and of policies.

    P(2 better than 1) = sigma(R_2 - R_1),   R_i = sum_t gamma^t r_it              (Bradley-Terry)
    L = -y log P - (1 - y) log(1 - P),   y: probability that the second is better

Sums, not means, and over equally many steps: a constant added to every step's reward then changes
nothing, and no longer segment wins for its length. A policy can stand in for the reward: with R =
alpha * sum log pi (contrastive preference learning, CPL) or beta * sum log(pi / reference) (direct
preference optimisation, DPO), or with the reward that critics imply (inverse preference learning,
IPL).

Reference: Bradley and Terry 1952; Christiano et al. 2017, arXiv 1706.03741, eq. 1; Rafailov et al.
2023, arXiv 2305.18290, eq. 7; Hejna et al. 2023, arXiv 2310.13639, eq. 5 and 8; Hejna and Sadigh
2023, arXiv 2305.15363, eq. 5; of ensembles Coste et al. 2023, arXiv 2310.02743.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from hindsight_rl.maths.losses import same_shape

Aggregate = Literal["mean", "min", "mean-std"]
"""How the answers of an ensemble become one."""


def segment_sum(value: Tensor, discount: float = 1.0) -> Tensor:
    """Return the sum over the steps of segments, each discounted from the segment's first step.

    Args:
        value: ``[..., L]``, one number per step.
        discount: In [0, 1].

    Returns:
        ``[...]``.

    Raises:
        ValueError: ``discount`` is out of range.
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}, it must lie in [0, 1]")
    if discount == 1:
        return value.sum(-1)
    steps = torch.arange(value.shape[-1], device=value.device)
    return (value * discount**steps).sum(-1)


def preference_loss(first: Tensor, second: Tensor, label: Tensor, *, noise: float = 0.0) -> Tensor:
    """Return the cross-entropy of labels and Bradley-Terry's probability.

    Args:
        first: ``[...]``, sum of the first segment of each pair.
        second: ``[...]``, of the second, over equally many steps.
        label: ``[...]`` in [0, 1], probability that the second is better; .5 for a tie. No
            gradient flows through it.
        noise: Share of answers, in [0, 1), that are thought to be given by chance:
            (1 - noise) P + noise / 2 stands for P, so that no single answer counts for ever.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: ``noise`` is out of range, or the shapes differ.
    """
    if not 0 <= noise < 1:
        raise ValueError(f"noise is {noise}, it must lie in [0, 1)")
    same_shape(first=first, second=second, label=label)
    margin, label = second - first, label.detach()
    if noise == 0:
        return binary_cross_entropy_with_logits(margin, label, reduction="none")
    chance = margin.new_tensor(math.log(noise / 2))
    sure = math.log1p(-noise)
    better = torch.logaddexp(sure - softplus(-margin), chance)
    worse = torch.logaddexp(sure - softplus(margin), chance)
    return -label * better - (1 - label) * worse


def pair_accuracy(margin: Tensor, label: Tensor) -> Tensor:
    """Return the share of decided pairs whose better segment is found; .5 where none is decided.

    Args:
        margin: ``[..., M]``, sum of the second segment less that of the first; 0 counts half.
        label: ``[M]`` in [0, 1]; pairs labelled .5 are left out.

    Returns:
        ``[...]`` in [0, 1].
    """
    decided = (label != 0.5).to(margin.dtype)
    gain = 0.5 * margin.sign() * (label - 0.5).sign()
    return 0.5 + (gain * decided).sum(-1) / decided.sum().clamp_min(1.0)


def by_preference(first: Tensor, second: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values of the better and of the worse segment of each pair, mixed by the label.

    Args:
        first: ``[...]``, of the first segment.
        second: ``[...]``, of the second.
        label: ``[...]`` in [0, 1], probability that the second is better.

    Returns:
        ``[...]`` each.
    """
    return torch.lerp(first, second, label), torch.lerp(second, first, label)


def calibration_error(probability: Tensor, label: Tensor, bins: int = 10) -> Tensor:
    """Return the expected calibration error: how far stated probabilities are from what happens.

    Predictions are put into bins of equal width; in each, the mean prediction is compared with the
    mean label, and the distances are averaged, weighted by the number of predictions.

    Args:
        probability: ``[..., M]`` in [0, 1], that the second segment is better.
        label: ``[M]`` in [0, 1].
        bins: At least 1.

    Returns:
        ``[...]`` in [0, 1].

    Raises:
        ValueError: ``bins`` is out of range.

    Reference:
        Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
        binning", eq. 1.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, it must be at least 1")
    number = (probability * bins).long().clamp(max=bins - 1)
    gap = torch.zeros((*probability.shape[:-1], bins), dtype=probability.dtype)
    gap = gap.to(probability.device).scatter_add(-1, number, probability - label)
    return gap.abs().sum(-1) / probability.shape[-1]


def disagreement(margin: Tensor) -> Tensor:
    """Return how much members disagree about pairs: the spread of their probabilities.

    Args:
        margin: ``[E, M]``, sum of the second segment less that of the first, by each member.

    Returns:
        ``[M]``, standard deviation over members (of a population), in [0, .5].
    """
    return torch.sigmoid(margin).std(0, correction=0)


def standardised(reward: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return rewards with mean 0 and standard deviation 1 over rows; constant ones become 0.

    Args:
        reward: ``[..., N]``.
        rows: ``[M]`` int64, those that count; ``None`` for all.

    Returns:
        ``[..., N]``.
    """
    counted = reward if rows is None else reward[..., rows]
    mean = counted.mean(-1, keepdim=True)
    spread = counted.std(-1, correction=0, keepdim=True)
    constant = spread <= 1e-6 * counted.abs().amax(-1, keepdim=True)
    return torch.where(constant, 0.0, (reward - mean) / spread.masked_fill(constant, 1.0))


def aggregate(reward: Tensor, how: Aggregate, *, coefficient: float = 1.0) -> Tensor:
    """Return one reward of those of an ensemble; all but the mean doubt what members disagree on.

    Args:
        reward: ``[E, ...]``, standardised: only then is one member's unit another's.
        how: ``"mean"``, ``"min"`` (worst case), or ``"mean-std"``: the mean less ``coefficient``
            standard deviations over members (of a population).
        coefficient: At least 0.

    Returns:
        ``[...]``.
    """
    if how == "min":
        return reward.amin(0)
    if how == "mean":
        return reward.mean(0)
    return reward.mean(0) - coefficient * reward.std(0, correction=0)


def contrastive_loss(first: Tensor, second: Tensor, label: Tensor, *, bias: float = 1.0) -> Tensor:
    """Return CPL's loss of pairs: -log sigma(winner - bias * loser), mixed by the label.

    With a bias of 1 it is :func:`preference_loss`. Below 1 the loss can no longer be lowered by
    making both segments unlikely.

    Args:
        first: ``[...]``, alpha * sum over steps of log pi, of the first segment.
        second: ``[...]``, of the second.
        label: ``[...]`` in [0, 1], probability that the second is better.
        bias: Factor of the loser's sum, in (0, 1].

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: ``bias`` is out of range, or the shapes differ.
    """
    if not 0 < bias <= 1:
        raise ValueError(f"bias is {bias}, it must lie in (0, 1]")
    same_shape(first=first, second=second, label=label)
    label = label.detach()
    return label * softplus(bias * first - second) + (1 - label) * softplus(bias * second - first)


def ranked_loss(value: Tensor, score: Tensor, *, bias: float = 1.0) -> Tensor:
    """Return CPL's loss of every pair of scored segments; the higher score is the better one.

    Pairs with equal scores are ties.

    Args:
        value: ``[B]``, alpha * sum over steps of log pi, of each segment.
        score: ``[B]``, any unit.
        bias: Factor of the loser's sum, in (0, 1].

    Returns:
        ``[B (B - 1) / 2]``, nats: their mean is the loss, as published, but that pairs whose loss
        is 0 count, too.

    Raises:
        ValueError: ``bias`` is out of range, the shapes differ, or there is one segment only.
    """
    same_shape(value=value, score=score)
    if len(value) < 2:
        raise ValueError("one segment alone cannot be compared: give a batch of at least 2")
    first, second = torch.triu_indices(len(value), len(value), 1, device=value.device)
    label = 0.5 + 0.5 * (score[second] - score[first]).sign()
    return contrastive_loss(value[first], value[second], label.to(value.dtype), bias=bias)


def direct_loss(first: Tensor, second: Tensor, label: Tensor, *, beta: float) -> Tensor:
    """Return DPO's loss of pairs of segments.

    Over all pairs with labels sigma(r_2 - r_1) its minimiser is reference * exp(r / beta), up to a
    factor: one step of reward-weighted regression.

    Args:
        first: ``[...]``, sum over steps of log pi - log reference, of the first segment.
        second: ``[...]``, of the second.
        label: ``[...]`` in [0, 1], probability that the second is better.
        beta: Weight of staying with the reference, above 0.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: ``beta`` is out of range, or the shapes differ.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}, it must be above 0")
    return preference_loss(beta * first, beta * second, label)


def implied_reward(
    action_value: Tensor, next_value: Tensor, terminated: Tensor, discount: float
) -> Tensor:
    """Return the reward that makes critics consistent: Q(s, a) - gamma V(s'), IPL's stand-in.

    Args:
        action_value: ``[...]``, Q(s, a).
        next_value: ``[...]``, V(s').
        terminated: ``[...]`` bool; nothing follows there.
        discount: gamma, in [0, 1].

    Returns:
        ``[...]``, with the gradients of both.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(action_value=action_value, next_value=next_value, terminated=terminated)
    return action_value - discount * torch.where(terminated, 0.0, next_value)


class Overoptimised(NamedTuple):
    """What choosing the best of n by a proxy of the true reward gives."""

    divergence: float
    """KL of the choice from what it chose among, nats."""
    proxy: float
    """Expected proxy of the chosen one."""
    gold: float
    """Expected true reward of the chosen one."""


def best_of(count: int, noise: float) -> Overoptimised:
    """Return what the best of n is worth, where true rewards are N(0, 1) and the proxy errs.

    With m_n the expected maximum of n normals, the proxy reaches m_n sqrt(1 + noise^2), and the
    true reward m_n / sqrt(1 + noise^2): the further one optimises, the further the two are apart.

    Args:
        count: n, at least 1.
        noise: Standard deviation of the proxy's error, at least 0.

    Returns:
        Divergence and both rewards.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Gao, Schulman and Hilton 2022, "Scaling laws for reward model overoptimization", arXiv
        2210.10760, section 2 and appendix A.
    """
    if count < 1 or noise < 0:
        raise ValueError(f"count {count} must be at least 1 and noise {noise} at least 0")
    at = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    below = torch.special.ndtr(at)
    # E max = integral of x d(Phi^n), by the midpoint of each step: exact to 1e-7.
    most = float((0.5 * (at[1:] + at[:-1]) * (below**count).diff()).sum())
    scale = math.sqrt(1 + noise**2)
    return Overoptimised(math.log(count) - (count - 1) / count, most * scale, most / scale)


def teacher_label(
    margin: Tensor,
    chance: Tensor,
    *,
    beta: float = math.inf,
    mistakes: float = 0.0,
    ties: float = 0.0,
) -> Tensor:
    """Return what a synthetic teacher answers, who sees the true rewards.

    Args:
        margin: ``[M]``, true reward of the second segment less that of the first.
        chance: ``[M, 2]`` on [0, 1): draws of the answer and of a mistake.
        beta: Rationality, above 0, one over reward units: the second wins with probability
            sigma(beta * margin); infinite for a teacher without noise.
        mistakes: Probability in [0, 1] of the opposite answer.
        ties: Margins up to this size are called a tie, at least 0, reward units.

    Returns:
        ``[M]``: 0, 1 or .5.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Lee, Smith, Dragan and Abbeel 2021, "B-Pref: benchmarking preference-based reinforcement
        learning", arXiv 2111.03026, section 4.1.
    """
    if not beta > 0 or not 0 <= mistakes <= 1 or not ties >= 0:
        raise ValueError(
            f"beta {beta} must be above 0, mistakes {mistakes} in [0, 1], ties {ties} at least 0"
        )
    if math.isinf(beta):
        second = margin > 0
    else:
        second = chance[:, 0] < torch.sigmoid(beta * margin)
    second = second ^ (chance[:, 1] < mistakes)
    return torch.where(margin.abs() <= ties, 0.5, second.to(margin.dtype))
