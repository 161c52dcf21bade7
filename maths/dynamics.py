"""Models of the dynamics: the loss of a probabilistic ensemble, its bounds, how much it disagrees.

E members each give a normal distribution of D outputs, the change of the observation and the
reward, in standardised units: mean 0 and variance 1 over the log, or one loss would weigh metres
against rewards.

    L = (mu - y)^2 exp(-lv) + lv                   lv: log-variance; twice the NLL less its constant
    mixture of the members: mean_e sigma_e^2 (aleatoric: noise) + Var_e mu_e (epistemic: unknown)

Reference: Chua, Calandra, McAllister and Levine 2018 (PETS), arXiv 1805.12114; uncertainties: Yu et
al. 2020 (MOPO), arXiv 2005.13239, Kidambi et al. 2020 (MOReL), arXiv 2005.05951, compared by Lu,
Ball, Parker-Holder, Osborne and Roberts 2022, arXiv 2110.04135.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hindsight_rl.maths.draws import fork, integers, normals
from hindsight_rl.maths.losses import same_shape
from hindsight_rl.ports import Imagined

__all__ = [
    "EPISTEMIC",
    "UNCERTAINTIES",
    "Imagined",
    "MixtureVariance",
    "Uncertainty",
    "aleatoric_max",
    "disagreement",
    "elites",
    "ensemble_std",
    "gaussian_loss",
    "mean_deviation",
    "mixture_outcome",
    "mixture_variance",
    "pairwise",
    "penalised",
    "soft_bounds",
    "total_std",
    "unit_circle",
]


def soft_bounds(log_variance: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return log-variances drawn smoothly into [low, high].

    Bounds are soft: the lower one is applied last, and what it adds may lift a value above
    ``high`` by about exp(low - high). The gradient nowhere vanishes, by the bounds neither.

    Args:
        log_variance: ``[..., D]``, nats.
        low: ``[D]``, or broadcast against it.
        high: ``[D]``, above ``low``.

    Returns:
        ``[..., D]``, above ``low``.

    Reference:
        Chua et al. 2018, arXiv 1805.12114, appendix A.1.
    """
    bounded = high - softplus(high - log_variance)
    return low + softplus(bounded - low)


def gaussian_loss(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Return (mu - y)^2 exp(-lv) + lv: twice the negative log-likelihood, less log 2 pi.

    Args:
        mean: ``[E, ..., D]``.
        log_variance: ``[E, ..., D]``, nats.
        target: ``[E, ..., D]``, of each member, or ``[..., D]``, the same for all.

    Returns:
        ``[E, ..., D]``.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Chua et al. 2018, arXiv 1805.12114, eq. 1.
    """
    target = target.expand_as(mean) if target.shape == mean.shape[1:] else target
    same_shape(mean=mean, log_variance=log_variance, target=target)
    return (mean - target).square() * torch.exp(-log_variance) + log_variance


def unit_circle(value: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return vectors whose (cosine, sine) pairs have length 1 again.

    A predicted pair leaves the circle by its error, and further with every imagined step.

    Args:
        value: ``[..., O]``.
        cosines: ``[M]`` int64, places of the cosines of M angles.
        sines: ``[M]`` int64, places of their sines.

    Returns:
        ``[..., O]``; a pair (0, 0), which has no direction, stays.
    """
    if not len(cosines):
        return value
    length = torch.hypot(value[..., cosines], value[..., sines])
    length = torch.where(length > 0, length, 1.0).to(value.dtype)
    return value / torch.ones_like(value).index_copy(-1, cosines, length).index_copy(
        -1, sines, length
    )


def elites(error: Tensor, count: int) -> Tensor:
    """Return the numbers of the members with the least error, rising.

    Args:
        error: ``[E]``, on held-out episodes.
        count: How many, in [1, E].

    Returns:
        ``[count]`` int64.

    Raises:
        ValueError: ``count`` is out of range.
    """
    if not 1 <= count <= len(error):
        raise ValueError(f"elites is {count}, it must lie in [1, {len(error)}], the members")
    # Not top-k: of equal errors the first members count, on every device.
    return error.sort(stable=True).indices[:count].sort().values


def mixture_outcome(
    mean: Tensor, std: Tensor, elite: Tensor, draws: Tensor | None = None
) -> Tensor:
    """Return numbers drawn from one elite each, chosen anew for every row and step (TS1).

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``.
        elite: ``[E]``, 1 for elites and 0 for the others, at least one of them.
        draws: ``[..., 3]`` int64 counters, broadcast against the rows; ``None`` for the mean of the
            elites' means.

    Returns:
        ``[..., D]``.

    Reference:
        Chua et al. 2018, arXiv 1805.12114, section 5.1.
    """
    same_shape(mean=mean, std=std)
    if draws is None:
        share: Tensor = elite / elite.sum()
        return (share.reshape(-1, *[1] * (mean.ndim - 1)) * mean).sum(0)
    draws = draws.expand(*mean.shape[1:-1], 3)
    order = elite.argsort(descending=True, stable=True)
    member = order[integers(fork(draws, "member"), elite.sum().long())]
    place = member[None, ..., None].expand(1, *mean.shape[1:])
    noise = normals(fork(draws, "outcome"), mean.shape[-1]).to(mean.dtype)
    return mean.gather(0, place).squeeze(0) + std.gather(0, place).squeeze(0) * noise


# --- what is not known ----------------------------------------------------------------------------


class MixtureVariance(NamedTuple):
    """The variance of an ensemble's mixture, in two parts whose sum it is.

    Attributes:
        aleatoric: ``[..., D]``, mean of the members' variances: noise, which more rows leave.
        epistemic: ``[..., D]``, variance of their means: what the log leaves open.
    """

    aleatoric: Tensor
    epistemic: Tensor


def mixture_variance(mean: Tensor, std: Tensor) -> MixtureVariance:
    """Return the two parts of the variance of an ensemble.

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``, at least 0.

    Returns:
        ``[..., D]`` each.
    """
    same_shape(mean=mean, std=std)
    return MixtureVariance(std.square().mean(0), mean.var(0, correction=0))


def _norm(value: Tensor) -> Tensor:
    # Its gradient at 0 is 0, not infinite: members may agree.
    found: Tensor = torch.linalg.vector_norm(value, dim=-1)
    return found


def aleatoric_max(mean: Tensor, std: Tensor) -> Tensor:
    """Return max_e |sigma_e|: it also counts honest noise.

    Args:
        mean: ``[E, ..., D]``, not used.
        std: ``[E, ..., D]``, of all members and outputs.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Yu et al. 2020 (MOPO), arXiv 2005.13239, section 4.3.
    """
    return _norm(std).amax(0)


def mean_deviation(mean: Tensor, std: Tensor) -> Tensor:
    """Return max_e |mu_e - mean mu|.

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``, not used.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Lu et al. 2022, arXiv 2110.04135, section 3.
    """
    return _norm(mean - mean.mean(0)).amax(0)


def pairwise(mean: Tensor, std: Tensor) -> Tensor:
    """Return max_{e,f} |mu_e - mu_f|.

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``, not used.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Kidambi et al. 2020 (MOReL), arXiv 2005.05951, eq. 2.
    """
    return _norm(mean.unsqueeze(1) - mean.unsqueeze(0)).flatten(0, 1).amax(0)


def ensemble_std(mean: Tensor, std: Tensor) -> Tensor:
    """Return |std_e mu|, the root of the epistemic variance summed over outputs.

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``, not used.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Lu et al. 2022, arXiv 2110.04135, section 3.
    """
    return _norm((mean - mean.mean(0)).movedim(0, -2).flatten(-2)) / math.sqrt(len(mean))


def total_std(mean: Tensor, std: Tensor) -> Tensor:
    """Return the root of aleatoric plus epistemic variance, summed over outputs.

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Lakshminarayanan, Pritzel and Blundell 2017, arXiv 1612.01474, section 2.4.
    """
    parts = torch.cat([mean - mean.mean(0), std], dim=-1)
    return _norm(parts.movedim(0, -2).flatten(-2)) / math.sqrt(len(mean))


Uncertainty = Literal["aleatoric_max", "mean_deviation", "pairwise", "ensemble_std", "total_std"]
# Not a proxy, which compiled losses may not read.
UNCERTAINTIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    kind.__name__: kind
    for kind in (aleatoric_max, mean_deviation, pairwise, ensemble_std, total_std)
}
"""By name: ``(mean [E, ..., D], std [E, ..., D]) -> [...]``, in standardised units."""
EPISTEMIC = ("mean_deviation", "pairwise", "ensemble_std")
"""Those that are 0 where all members agree."""


def disagreement(mean: Tensor, std: Tensor, kind: Uncertainty) -> Tensor:
    """Return how much members leave open of a step.

    Where only their means count, rewards do not: a task may judge imagined steps instead.

    Args:
        mean: ``[E, ..., D]``, standardised; the reward is the last of D.
        std: ``[E, ..., D]``.
        kind: Which of :data:`UNCERTAINTIES`.

    Returns:
        ``[...]``, at least 0.
    """
    if kind in EPISTEMIC:
        mean, std = mean[..., :-1], std[..., :-1]
    return UNCERTAINTIES[kind](mean, std)


def penalised(reward: Tensor, disagreement: Tensor, *, penalty: float) -> Tensor:
    """Return r - lambda u: what an imagined step is worth where the model may be wrong.

    Args:
        reward: ``[...]``, reward units.
        disagreement: ``[...]``, u, at least 0.
        penalty: lambda, at least 0, reward units by unit of disagreement; 0 is the identity.

    Returns:
        ``[...]``, reward units.

    Reference:
        Yu et al. 2020 (MOPO), arXiv 2005.13239, eq. 6.
    """
    same_shape(reward=reward, disagreement=disagreement)
    return reward - penalty * disagreement if penalty else reward
