"""Importance sampling: what a policy would have got, from episodes that another one recorded.

    rho_{i,t} = prod_{k <= t} pi_e(a_ik | s_ik) / pi_b(a_ik | s_ik)

    ordinary       mean_i rho_{i,H-1} G_i
    per decision   mean_i sum_t discount^t rho_{i,t} r_{i,t}
    weighted       sum_i rho_{i,H-1} G_i / sum_i rho_{i,H-1}
    step-weighted  sum_t discount^t sum_i rho_{i,t} r_{i,t} / sum_i rho_{i,t}

Episodes are padded to one length [n, H]. Behind its end an episode has rewards of 0 and keeps its
last ratio: both policies do the same there, which is nothing. Averages over the episodes that are
still alive are wrong where the length depends on the actions.

Each of them, and each of the doubly robust estimators, is a sum of ratios of sums over episodes,
see :class:`Ratios`; intervals need no more than that.

Reference: Precup, Sutton and Singh 2000, "Eligibility traces for off-policy policy evaluation";
step-weighted: Thomas 2015, "Safe reinforcement learning", section 3.9 (CWPDIS).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Ratios(NamedTuple):
    """An estimate: sum_k sum_i N_ik / sum_i D_ik over episodes i.

    A resample of episodes only changes how often each counts, so that its estimate, with its own
    normaliser, is two products of matrices.
    """

    numerator: Tensor
    """``[n, K]`` float64."""
    denominator: Tensor
    """``[n, K]`` float64, at least 0."""

    def value(self, count: Tensor | None = None) -> Tensor:
        """Return the estimate.

        Args:
            count: ``[..., n]``, how often each episode counts; ``None`` for once.

        Returns:
            ``[...]``, reward units; NaN where no episode with any weight counts.
        """
        if count is None:
            return (self.numerator.sum(0) / self.denominator.sum(0)).sum(-1)
        count = count.to(self.numerator.dtype)
        return ((count @ self.numerator) / (count @ self.denominator)).sum(-1)

    def influence(self) -> Tensor:
        """Return how far each episode moves the estimate ``[n]``: n times the slope in its count.

        Their mean is 0, and their standard deviation over sqrt(n) is the standard error of the
        estimate (delta method). Of a plain mean they are the deviations from it.
        """
        total = self.denominator.sum(0)
        part = self.numerator - self.denominator * (self.numerator.sum(0) / total)
        return len(part) * (part / total).sum(-1)


def mean_of(value: Tensor) -> Ratios:
    """Return the mean of one number per episode ``[n]`` as an estimate."""
    return Ratios(value.unsqueeze(-1), torch.ones_like(value).unsqueeze(-1))


def cumulative_log_ratio(target: Tensor, behavior: Tensor, valid: Tensor) -> Tensor:
    """Return log rho of every step, carried on behind the end of an episode.

    Args:
        target: ``[n, H]``, log-probability of the logged action under the policy to be judged.
        behavior: ``[n, H]``, under the policy that recorded.
        valid: ``[n, H]`` bool, steps that are part of the episode.

    Returns:
        ``[n, H]`` float64, nats; -inf where the policy never takes one of the actions.

    Raises:
        ValueError: An action has no chance under the policy that recorded it, or is not a number.
    """
    step = torch.where(valid, target.double() - behavior.double(), 0.0)
    wrong = valid & (torch.isnan(step) | ~torch.isfinite(behavior))
    if bool(wrong.any()):
        episode, place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"log-probabilities of step {place} of episode {episode} are "
            f"{float(target[episode, place])} (judged) and {float(behavior[episode, place])} "
            "(recorded): the latter must be finite, since the action was taken"
        )
    return step.cumsum(-1)


def episode_weights(log_ratio: Tensor, cap: float | None = None) -> Tensor:
    """Return rho of steps from its logarithm, capped if asked for.

    Args:
        log_ratio: ``[...]``, nats.
        cap: Largest value, above 0; biased, and of bounded variance (Ionides 2008).

    Returns:
        ``[...]`` float64.

    Raises:
        ValueError: ``cap`` is not above 0.
    """
    if cap is None:
        return log_ratio.double().exp()
    if not cap > 0.0:
        raise ValueError(f"cap is {cap}, it must be above 0")
    return log_ratio.double().exp().clamp_max(cap)


def discounted(reward: Tensor, discount: float) -> Tensor:
    """Return ``[n, H]`` float64, rewards times discount^t."""
    steps = torch.arange(reward.shape[-1], dtype=torch.float64, device=reward.device)
    return reward.double() * discount**steps


def ordinary(
    log_ratio: Tensor, reward: Tensor, *, discount: float, cap: float | None = None
) -> Ratios:
    """Return importance sampling of whole episodes: no bias, most variance.

    Args:
        log_ratio: ``[n, H]`` of :func:`cumulative_log_ratio`.
        reward: ``[n, H]``, 0 behind the end of an episode.
        discount: In [0, 1].
        cap: See :func:`episode_weights`.

    Returns:
        The estimate.
    """
    return mean_of(episode_weights(log_ratio[:, -1], cap) * discounted(reward, discount).sum(-1))


def per_decision(
    log_ratio: Tensor, reward: Tensor, *, discount: float, cap: float | None = None
) -> Ratios:
    """Return importance sampling of every reward by the actions before it: no bias.

    Args:
        log_ratio: ``[n, H]`` of :func:`cumulative_log_ratio`.
        reward: ``[n, H]``, 0 behind the end of an episode.
        discount: In [0, 1].
        cap: See :func:`episode_weights`.

    Returns:
        The estimate.
    """
    return mean_of((episode_weights(log_ratio, cap) * discounted(reward, discount)).sum(-1))


def weighted(log_ratio: Tensor, reward: Tensor, *, discount: float) -> Ratios:
    """Return the weighted mean of whole returns: biased, never outside of those seen.

    Args:
        log_ratio: ``[n, H]`` of :func:`cumulative_log_ratio`.
        reward: ``[n, H]``, 0 behind the end of an episode.
        discount: In [0, 1].

    Returns:
        The estimate.
    """
    weight = relative_weights(log_ratio[:, -1:])
    return Ratios(weight * discounted(reward, discount).sum(-1, keepdim=True), weight)


def step_weighted(log_ratio: Tensor, reward: Tensor, *, discount: float) -> Ratios:
    """Return the weighted mean of the rewards of every step: biased, least variance of these.

    Args:
        log_ratio: ``[n, H]`` of :func:`cumulative_log_ratio`.
        reward: ``[n, H]``, 0 behind the end of an episode.
        discount: In [0, 1].

    Returns:
        The estimate.
    """
    weight = relative_weights(log_ratio)
    return Ratios(weight * discounted(reward, discount), weight)


def effective_sample_size(log_weight: Tensor) -> Tensor:
    """Return Kish's effective number of episodes, (sum w)^2 / sum w^2.

    Args:
        log_weight: ``[n, ...]``, nats; -inf for a weight of 0.

    Returns:
        ``[...]`` in [1, n]; 0 where all weights are 0.
    """
    weight = relative_weights(log_weight)
    total, square = weight.sum(0), weight.square().sum(0)
    return torch.where(square > 0.0, total.square() / square.clamp_min(1e-300), 0.0)


class Odd(NamedTuple):
    """A step at which the mean weight is not what it must be."""

    step: int
    """The first one."""
    mean: float
    """Of the weights."""


def first_odd_mean(log_ratio: Tensor, errors: float = 4.0, least: float = 30.0) -> Odd | None:
    """Return the first step at which weights do not average 1, as right probabilities would have.

    Only steps at which enough effective episodes are left are looked at: a standard error of a few
    large weights says nothing.

    Args:
        log_ratio: ``[n, H]`` of :func:`cumulative_log_ratio`.
        errors: Standard errors that count as noise.
        least: Effective episodes below which a step is not looked at.

    Returns:
        The step; ``None`` where there is none.
    """
    weight = log_ratio.double().exp()
    mean, error = weight.mean(0), weight.std(0) / math.sqrt(len(weight))
    odd = ((mean - 1.0).abs() > errors * error + 1e-9) & mean.isfinite()
    odd &= effective_sample_size(log_ratio) >= least
    found = odd.nonzero()
    return Odd(int(found[0]), float(mean[found[0]])) if len(found) else None


def share_of_the_heaviest(log_weight: Tensor, share: float = 0.9) -> int:
    """Return how many episodes carry a share of the whole weight.

    Args:
        log_weight: ``[n]``, nats.
        share: In (0, 1].

    Returns:
        The smallest number of episodes; 0 where all weights are 0.
    """
    weight = relative_weights(log_weight).sort(descending=True).values
    if float(weight.sum()) == 0.0:
        return 0
    reached = weight.cumsum(0) >= share * weight.sum() * (1.0 - 1e-12)
    return int(reached.int().argmax()) + 1


def relative_weights(log_weight: Tensor) -> Tensor:
    """Return weights relative to the largest of their column: ratios stay, nothing overflows.

    Args:
        log_weight: ``[n, ...]``, nats; -inf for a weight of 0.

    Returns:
        ``[n, ...]`` float64 in [0, 1].
    """
    log_weight = log_weight.double()
    largest = log_weight.amax(0, keepdim=True)
    return (log_weight - torch.where(largest > -torch.inf, largest, 0.0)).exp()
