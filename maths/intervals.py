"""Intervals of estimates from episodes: what to believe, and how much.

The unit is the episode, never the row: rows of one episode are not independent.

- :func:`student`: mean plus or minus t standard errors. Too short where few episodes carry the
  weight.
- :func:`bootstrap`: resampled episodes, each resample with a normaliser of its own; percentile or
  BCa.
- :func:`hoeffding`, :func:`empirical_bernstein`, :func:`capped_lower_bound`: hold for any
  distribution in a range, for any number of episodes, and are wide.

Intervals of plain numbers are in :mod:`hindsight_rl.intervals`.

Reference: BCa: Efron 1987, "Better bootstrap confidence intervals"; Maurer and Pontil 2009, arXiv
0907.3740, theorem 4; capped: Thomas, Theocharous and Ghavamzadeh 2015, "High-confidence off-policy
evaluation", theorem 1.
"""

import math
from statistics import NormalDist

import torch
from torch import Tensor

from hindsight_rl.intervals import Interval, student_quantile
from hindsight_rl.maths.importance import Ratios


def student(estimate: Ratios, level: float = 0.95) -> Interval:
    """Return Student's interval; of a weighted estimate by the delta method.

    Args:
        estimate: Of n episodes.
        level: Coverage asked for, in (0, 1).

    Returns:
        The interval, from -inf to inf with fewer than two episodes.
    """
    count = len(estimate.numerator)
    if count < 2:
        return Interval(-math.inf, math.inf)
    error = float(estimate.influence().std()) / math.sqrt(count)
    half = student_quantile(0.5 + level / 2.0, count - 1) * error
    middle = float(estimate.value())
    return Interval(middle - half, middle + half)


def resample(episodes: int, uniform: Tensor) -> Tensor:
    """Return how often each episode counts in resamples of all of them.

    Args:
        episodes: n.
        uniform: ``[R, n]`` on [0, 1), one number per draw.

    Returns:
        ``[R, n]`` float64, whole numbers that sum to n in each row.
    """
    drawn = (uniform * episodes).long().clamp_max(episodes - 1)
    found = torch.zeros(uniform.shape, dtype=torch.float64, device=uniform.device)
    return found.scatter_add_(-1, drawn, torch.ones_like(found))


def percentile(values: Tensor, level: float = 0.95) -> Interval:
    """Return the interval between two quantiles of resampled estimates.

    Args:
        values: ``[R]``; those that are NaN, where no episode with a weight was drawn, are left out.
        level: Coverage asked for, in (0, 1).

    Returns:
        The interval, of NaN where nothing is left.
    """
    values = values[~values.isnan()]
    if not len(values):
        return Interval(math.nan, math.nan)
    return Interval(_quantile(values, (1.0 - level) / 2.0), _quantile(values, (1.0 + level) / 2.0))


def with_bias(interval: Interval, bias: float) -> Interval:
    """Return an interval that reaches further on the side to which a bias may have moved it from.

    Args:
        interval: Of what resamples do to an estimate.
        bias: How far the estimate lies above another one that has none.

    Returns:
        The interval, with its lower end lower by a bias above 0, or its upper end higher.
    """
    return Interval(interval.low - max(bias, 0.0), interval.high + max(-bias, 0.0))


def bootstrap(estimate: Ratios, counts: Tensor, level: float = 0.95) -> Interval:
    """Return the bias-corrected and accelerated (BCa) interval over resampled episodes.

    Args:
        estimate: Of n episodes.
        counts: ``[R, n]`` of :func:`resample`.
        level: Coverage asked for, in (0, 1).

    Returns:
        The interval; a percentile one where all resamples agree or lie on one side.
    """
    values = estimate.value(counts)
    values = values[~values.isnan()]
    middle = float(estimate.value())
    below = float((values < middle).double().mean() + 0.5 * (values == middle).double().mean())
    if len(values) < 2 or not 0.0 < below < 1.0:
        return percentile(values, level)
    normal = NormalDist()
    correction, acceleration = normal.inv_cdf(below), _acceleration(estimate)
    ends = []
    for share in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        moved = correction + normal.inv_cdf(share)
        shrunk = 1.0 - acceleration * moved
        if shrunk <= 0.0:  # a few episodes carry everything: BCa is not defined
            return percentile(values, level)
        ends.append(_quantile(values, normal.cdf(correction + moved / shrunk)))
    return Interval(*ends)


def _acceleration(estimate: Ratios) -> float:
    """Return how fast the standard error changes, by leaving out one episode at a time."""
    count = len(estimate.numerator)
    total, weight = estimate.numerator.sum(0), estimate.denominator.sum(0)
    left = (total - estimate.numerator) / (weight - estimate.denominator)
    values = left.sum(-1)
    values = values[values.isfinite()]
    if len(values) < count:
        return 0.0
    gap = values.mean() - values
    spread = float(gap.square().sum()) ** 1.5
    return float(gap.pow(3).sum()) / (6.0 * spread) if spread > 0.0 else 0.0


def _quantile(values: Tensor, share: float) -> float:
    """Return the smallest value that a share of all do not exceed."""
    ordered = values.sort().values
    # The last digit of a share must not decide: 0.95 * 20 is 19, whatever its rounding.
    place = math.ceil(share * len(ordered) - 1e-9) - 1
    return float(ordered[min(max(place, 0), len(ordered) - 1)])


def hoeffding(values: Tensor, width: float, level: float = 0.95) -> float:
    """Return a lower bound of the mean of values in a range.

    Args:
        values: ``[n]``.
        width: Of the range that they cannot leave.
        level: Probability that the bound holds, in (0, 1).

    Returns:
        The bound.
    """
    slack = width * math.sqrt(math.log(1.0 / (1.0 - level)) / (2.0 * len(values)))
    return float(values.double().mean()) - slack


def empirical_bernstein(values: Tensor, width: float, level: float = 0.95) -> float:
    """Return a lower bound of the mean of values in a range, closer where they vary little.

    Args:
        values: ``[n]``, at least two.
        width: Of the range that they cannot leave.
        level: Probability that the bound holds, in (0, 1).

    Returns:
        The bound.
    """
    values, count = values.double(), len(values)
    log = math.log(2.0 / (1.0 - level))
    slack = math.sqrt(2.0 * float(values.var()) * log / count)
    return float(values.mean()) - slack - 7.0 * width * log / (3.0 * (count - 1))


def capped_lower_bound(values: Tensor, cap: float, level: float = 0.95) -> float:
    """Return a lower bound of the mean of values of at least 0 with a long tail.

    Values above the cap count as the cap, which lowers the mean, so that the bound stays true. The
    cap must not be chosen on these values.

    Args:
        values: ``[n]``, at least two, none below 0.
        cap: Above 0.
        level: Probability that the bound holds, in (0, 1).

    Returns:
        The bound.

    Raises:
        ValueError: A value is below 0, or the cap is not above 0.
    """
    if not cap > 0.0 or bool((values < 0.0).any()):
        raise ValueError(f"cap {cap} must be above 0, and no value below 0: subtract their least")
    return empirical_bernstein(values.clamp_max(cap), cap, level)


def chosen_cap(values: Tensor, others: int, level: float = 0.95) -> float:
    """Return the cap that promises the highest bound of other values like these.

    Args:
        values: ``[n]``, at least two, none below 0: the few that are given up for the choice.
        others: How many values the bound will be of, at least two.
        level: Probability that the bound holds, in (0, 1).

    Returns:
        One of the values, or 1 where all are 0.

    Reference:
        Thomas, Theocharous and Ghavamzadeh 2015, "High-confidence off-policy evaluation", section
        "Selecting the threshold": its bound with mean and variance of the few, and the number of
        the others.
    """
    log = math.log(2.0 / (1.0 - level))
    best, found = -math.inf, 1.0
    for cap in values.double().unique().tolist():
        if cap <= 0.0:
            continue
        below = values.double().clamp_max(cap)
        slack = math.sqrt(2.0 * float(below.var()) * log / others)
        promised = float(below.mean()) - slack - 7.0 * cap * log / (3.0 * (others - 1))
        if promised > best:
            best, found = promised, cap
    return found
