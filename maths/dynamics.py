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
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hindsight_rl.maths.losses import same_shape
from hindsight_rl.ports import Imagined

__all__ = [
    "EPISTEMIC",
    "UNCERTAINTIES",
    "Imagined",
    "MixtureVariance",
    "aleatoric_max",
    "elites",
    "ensemble_std",
    "gaussian_loss",
    "mean_deviation",
    "mixture_variance",
    "pairwise",
    "penalised",
    "soft_bounds",
    "total_std",
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


UNCERTAINTIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (aleatoric_max, mean_deviation, pairwise, ensemble_std, total_std)
    }
)
"""By name: ``(mean [E, ..., D], std [E, ..., D]) -> [...]``, in standardised units."""
EPISTEMIC = ("mean_deviation", "pairwise", "ensemble_std")
"""Those that are 0 where all members agree."""


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
