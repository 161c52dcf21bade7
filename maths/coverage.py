"""Where experience lies, and how it is spread out: densities, skewed goals, marginal matching.

    Skew-Fit    goals ~ p_skew(g) proportional to p(g)^(1 + alpha),  -1 <= alpha <= 0
    matching    r(s) = log p*(s) - log rho(s),  rho: of all past rows

Rows drawn from p with weights p^alpha have p_skew. Each round its entropy rises, and the uniform
distribution is where it rests. Matching against all that was ever visited is fictitious play: the
mixture of all policies so far matches p*, while the last one alone need not, and often does not.

Reference: Pong et al. 2020 (Skew-Fit), arXiv 1903.03698; Lee et al. 2019 (state marginal matching),
arXiv 1906.05274.
"""

import math

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape
from hindsight_rl.maths.returns import reverse_scan

_LOG_ROOT = 0.5 * math.log(2.0 * math.pi)
_TOGETHER = 1 << 22  # pairs of point and centre that are looked at together


def normal_kernel_log_density(value: Tensor, centre: Tensor, bandwidth: Tensor) -> Tensor:
    """Return the log-density of a mixture of equal normal kernels about centres.

    Kernels are averaged in probability (log-sum-exp); a mean of logarithms would be biased low.

    Args:
        value: ``[N, F]``.
        centre: ``[M, F]``, same unit.
        bandwidth: ``[F]``, standard deviations of the kernel, above 0.

    Returns:
        ``[N]``, nats per unit of volume.
    """
    scaled, about = value / bandwidth, centre / bandwidth
    blocks = scaled.split(max(1, _TOGETHER // len(centre)))
    square = torch.cat([_log_mean(block, about) for block in blocks])
    return square - value.shape[-1] * _LOG_ROOT - bandwidth.log().sum()


def _log_mean(value: Tensor, centre: Tensor) -> Tensor:
    """Return log mean_m exp(-|x - c_m|^2 / 2), ``[N]``."""
    # Differences, not |x|^2 + |c|^2 - 2 x.c, which loses small distances in float32.
    distance = (value.unsqueeze(1) - centre).square().sum(-1)
    found: Tensor = torch.logsumexp(-0.5 * distance, dim=1) - math.log(len(centre))
    return found


def scott_bandwidth(value: Tensor, *, floor: float = 1e-3) -> Tensor:
    """Return the spread of each number times N^(-1 / (F + 4)).

    Args:
        value: ``[N, F]``.
        floor: Least bandwidth, in the unit of ``value``, above 0.

    Returns:
        ``[F]``.

    Reference:
        Scott 1992, "Multivariate density estimation", eq. 6.42.
    """
    count, width = value.shape
    spread = value.std(0, correction=0) * count ** (-1.0 / (width + 4))
    return torch.clamp_min(spread, floor)


def row_log_density(
    value: Tensor, rows: Tensor, *, centres: int = 1024, bandwidth: float | None = None
) -> Tensor:
    """Return the log-density of some rows where each row is.

    Args:
        value: ``[N, F]``, of all rows.
        rows: ``[M]`` int64, those whose density it is.
        centres: How many of them have a kernel, at least 1, spread evenly.
        bandwidth: Of the kernels, in the unit of ``value``, above 0; ``None`` for Scott's rule, at
            least 1e-2.

    Returns:
        ``[N]``, nats per unit of volume.
    """
    seen = value[rows]
    band = scott_bandwidth(seen, floor=1e-2)
    if bandwidth is not None:
        band = torch.full_like(band, bandwidth)
    few = seen[:: max(1, -(-len(seen) // centres))]
    return normal_kernel_log_density(value, few, band)


def skew_weight(log_density: Tensor, *, alpha: float) -> Tensor:
    """Return p^alpha, scaled to mean 1: how much more often a row is drawn.

    Args:
        log_density: log p of N rows that were drawn from p, ``[N]``, nats, up to a constant.
        alpha: In [-1, 0]: at 0 rows stay as they are, at -1 places are drawn alike.

    Returns:
        ``[N]``, of mean 1.

    Raises:
        ValueError: ``alpha`` is out of range.

    Reference:
        Pong et al. 2020, arXiv 1903.03698, eq. 5 and 6.
    """
    if not -1.0 <= alpha <= 0.0:
        raise ValueError(f"alpha is {alpha}, it must lie in [-1, 0]")
    return torch.softmax(alpha * log_density, dim=0) * len(log_density)


def marginal_reward(log_target: Tensor, log_density: Tensor, *, floor: float = -20.0) -> Tensor:
    """Return log p*(s) - log rho(s), the reward that makes visits match a target.

    Args:
        log_target: log p*, ``[...]``, nats.
        log_density: log rho, of all that was visited so far, ``[...]``, nats.
        floor: Least log rho that counts: places never seen would be worth any number.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes differ.

    Reference:
        Lee et al. 2019, arXiv 1906.05274, eq. 2 and algorithm 1.
    """
    same_shape(log_target=log_target, log_density=log_density)
    return log_target - log_density.clamp_min(floor)


def discounted_sums(bonus: Tensor, first: Tensor, *, discount: float) -> Tensor:
    """Return y_t = b_t + discount y_(t - 1) along each episode: past bonuses, discounted.

    Its spread is what bonuses are divided by: then they are as large as returns of 1. The filter
    runs along time; across parallel environments it would mix episodes.

    Args:
        bonus: ``[N]``, rows in order.
        first: ``[N]`` bool, True on the first row of each episode.
        discount: In [0, 1].

    Returns:
        ``[N]`` float64.

    Reference:
        Burda et al. 2018, arXiv 1810.12894, section 2.4, and its code (RewardForwardFilter).
    """
    carry = discount * (~first).double()
    return reverse_scan(bonus.flip(0), carry.flip(0)).flip(0)
