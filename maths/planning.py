"""Plans from samples: what the cross-entropy method and path integrals make of scored plans.

P plans of H actions each, ``[..., P, H, A]``, have scores ``[..., P]`` (reward units, larger is
better). A score of -infinity says that a plan cannot be judged; it has no part in any result.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.search import planned_return


class Gaussian(NamedTuple):
    """A diagonal normal distribution over plans.

    Attributes:
        mean: ``[..., H, A]``, action units.
        variance: ``[..., H, A]``, action units squared.
    """

    mean: Tensor
    variance: Tensor


def promised_return(
    reward: Tensor, terminated: Tensor, value: Tensor, *, discount: float
) -> Tensor:
    """Return what imagined steps promise; nothing counts after the one that terminates.

        sum_{k<H} gamma^k c_k r_k + gamma^H c_H V_H,   c_k = prod_{i<k} (1 - d_i)

    Args:
        reward: ``[..., H]``; what comes after a termination may be anything, NaN included.
        terminated: ``[..., H]`` bool.
        value: ``[...]``, of where the last step led, reward units.
        discount: gamma, in [0, 1].

    Returns:
        ``[...]``, reward units.
    """
    over = terminated.cumsum(-1) > 0
    before = torch.cat([torch.zeros_like(over[..., :1]), over[..., :-1]], dim=-1)
    earned, last = reward.masked_fill(before, 0.0), value.masked_fill(over[..., -1], 0.0)
    return planned_return(earned, terminated.to(reward.dtype), last, discount=discount)


def pessimistic_score(score: Tensor, *, pessimism: float) -> Tensor:
    """Return the mean over the particles of a plan, less some of their standard deviations.

    Args:
        score: ``[..., E]``, the same plan under each of E particles.
        pessimism: How many population standard deviations, at least 0.

    Returns:
        ``[...]``; -infinity where a particle is not finite.
    """
    mean = score.mean(-1)
    if pessimism:
        mean = mean - pessimism * score.var(-1, correction=0).sqrt()
    return torch.where(score.isfinite().all(-1), mean, -torch.inf)


def elites_of(score: Tensor, count: int) -> Tensor:
    """Return the numbers ``[..., count]`` int64 of the best of ``[..., P]``, the best first."""
    return score.topk(count, dim=-1).indices


def taken(plans: Tensor, chosen: Tensor) -> Tensor:
    """Return plans ``[..., N, H, A]`` of ``[..., P, H, A]`` by their numbers ``[..., N]``."""
    index = chosen[..., None, None].expand(*chosen.shape, *plans.shape[-2:])
    return plans.gather(-3, index)


def elite_update(
    now: Gaussian, plans: Tensor, score: Tensor, *, elites: int, momentum: float
) -> Gaussian:
    """Return the distribution after one iteration of the cross-entropy method.

        mean <- m mean + (1 - m) mean(elites),   the same for the population variance

    Args:
        now: The distribution that plans were drawn from.
        plans: ``[..., P, H, A]``.
        score: ``[..., P]``.
        elites: How many of the best plans count, in [1, P].
        momentum: m, in [0, 1).

    Returns:
        The distribution; NaN where no plan can be judged.

    Reference:
        Chua et al. 2018, arXiv 1805.12114, appendix C. The variance divides by the number of
        elites: with one less, a single elite would have none.
    """
    chosen = elites_of(score, elites)
    best = taken(plans, chosen)
    counts = score.gather(-1, chosen).isneginf().logical_not()[..., None, None].to(plans.dtype)
    weight = counts / counts.sum(-3, keepdim=True)
    mean = (weight * best).sum(-3)
    variance = (weight * (best - mean.unsqueeze(-3)).square()).sum(-3)
    return Gaussian(
        momentum * now.mean + (1.0 - momentum) * mean,
        momentum * now.variance + (1.0 - momentum) * variance,
    )


def bounded_variance(now: Gaussian, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return a variance that keeps two standard deviations inside the bounds.

    Args:
        now: The distribution, its mean inside the bounds.
        low: Lower bound, broadcast against ``[..., H, A]``.
        high: Upper bound.

    Returns:
        min(variance, ((mean - low) / 2)^2, ((high - mean) / 2)^2), ``[..., H, A]``.

    Reference:
        Chua et al. 2018, arXiv 1805.12114 (their code).
    """
    room = torch.minimum(now.mean - low, high - now.mean) / 2
    return torch.minimum(now.variance, room.square())


def path_integral_weights(score: Tensor, temperature: Tensor | float) -> Tensor:
    """Return the weights of plans: softmax(score / temperature).

    Args:
        score: ``[..., P]``.
        temperature: lambda, above 0, reward units; ``[..., 1]`` or a number.

    Returns:
        ``[..., P]``, they sum to 1; NaN where no plan can be judged.

    Reference:
        Williams et al. 2017, arXiv 1707.02342, algorithm 1.
    """
    return torch.softmax(score / temperature, dim=-1)


def control_cost(
    plans: Tensor, mean: Tensor, variance: Tensor, temperature: Tensor | float
) -> Tensor:
    """Return lambda mean' Sigma^-1 (plan - mean): what the information-theoretic form takes off.

    Args:
        plans: ``[..., P, H, A]``.
        mean: ``[..., H, A]``.
        variance: ``[..., H, A]`` or a number's tensor, above 0.
        temperature: lambda, reward units; ``[..., 1]`` or a number.

    Returns:
        ``[..., P]``, reward units.

    Reference:
        Williams et al. 2017, arXiv 1707.02342, equation 26.
    """
    push = (mean / variance).unsqueeze(-3)
    return temperature * (push * (plans - mean.unsqueeze(-3))).sum((-2, -1))


def score_range(score: Tensor) -> Tensor:
    """Return ``[..., 1]``: the best score less the worst one that is finite, never below 1e-6."""
    worst = score.masked_fill(score.isneginf(), torch.inf).amin(-1, keepdim=True)
    return (score.amax(-1, keepdim=True) - worst).clamp(min=1e-6)


def coloured(white: Tensor, exponent: float) -> Tensor:
    """Return noise whose power falls with frequency as f^-exponent, of variance 1 at every step.

    Args:
        white: ``[..., H]`` independent standard normal numbers.
        exponent: beta, at least 0: 0 is white, 2 a random walk; the lowest frequency that H steps
            resolve, 1 / H, stands for frequency 0.

    Returns:
        ``[..., H]``, each standard normal; ``white`` where beta is 0.

    Reference:
        Pinneri et al. 2020, arXiv 2008.06389 (iCEM), section 3.1.
    """
    steps = white.shape[-1]
    if exponent == 0 or steps == 1:
        return white
    frequency = torch.fft.fftfreq(steps, device=white.device, dtype=white.dtype).abs()
    scale = frequency.clamp(min=1.0 / steps).pow(-exponent / 2)
    scale = scale / scale.square().mean().sqrt()
    shaped: Tensor = torch.fft.irfft(torch.fft.rfft(white) * scale[: steps // 2 + 1], n=steps)
    return shaped


class Beam(NamedTuple):
    """What is left of a beam.

    Attributes:
        parent: ``[..., W]`` int64, which continuations are kept, the best first.
        sums: ``[..., W]``, discounted rewards of theirs so far.
        value: ``[..., W]``, what they promise, reward units.
    """

    parent: Tensor
    sums: Tensor
    value: Tensor


def beam_step(
    sums: Tensor, reward: Tensor, value: Tensor, *, discount: float, step: int, beam: int
) -> Beam:
    """Return the best continuations of plans, by what was earned and what is to come.

        value_t = sum_{k<=t} gamma^k r_k + gamma^(t+1) V_t

    Args:
        sums: ``[..., N]``, discounted rewards before step t.
        reward: ``[..., N]``, r_t.
        value: ``[..., N]``, V_t, of what comes after step t.
        discount: gamma, in [0, 1].
        step: t, from 0.
        beam: W, how many are kept, at least 1; all where there are fewer.

    Returns:
        What is kept.

    Reference:
        Janner, Li and Levine 2021, arXiv 2106.02039, algorithm 1 (their code's values).
    """
    earned = sums + discount**step * reward
    promised = earned + discount ** (step + 1) * value
    best, parent = promised.topk(min(beam, promised.shape[-1]), dim=-1)
    return Beam(parent, earned.gather(-1, parent), best)
