"""Intervals of a mean and of a share, by the standard library alone.

Reference: Student 1908; Wilson 1927, "Probable inference, the law of succession, and statistical
inference".
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple


class Interval(NamedTuple):
    """A confidence interval, in the units of what is estimated."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution.

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom, at least 1.

    Returns:
        The quantile, to about 1e-9.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Abramowitz and Stegun 26.7.3 and 26.7.4, inverted by bisection; 26.7.5 above 500 degrees.
    """
    if not 0.0 < probability < 1.0 or freedom < 1:
        raise ValueError(f"probability {probability} of {freedom} degrees of freedom: take (0, 1)")
    if probability < 0.5:
        return -student_quantile(1.0 - probability, freedom)
    normal = NormalDist().inv_cdf(probability)
    if freedom > 500:
        return _far_quantile(normal, freedom)
    low, high = 0.0, 1.0
    while _within(high, freedom) < 2.0 * probability - 1.0:
        high *= 2.0
    for _ in range(80):
        middle = (low + high) / 2.0
        inside = _within(middle, freedom) < 2.0 * probability - 1.0
        low, high = (middle, high) if inside else (low, middle)
    return (low + high) / 2.0


def _within(value: float, freedom: int) -> float:
    """Return the probability that |t| is at most a value."""
    angle = math.atan(value / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(2 + odd, freedom, 2):
        total += term
        term *= cosine**2 * (step - 1) / step
    if freedom > 1:
        total += term
    inside = math.sin(angle) * total
    return 2.0 / math.pi * (angle + inside) if odd else inside


def _far_quantile(x: float, freedom: int) -> float:
    terms = (
        (x**3 + x) / 4.0,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96.0,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384.0,
    )
    return x + sum(term / math.pow(freedom, power + 1) for power, term in enumerate(terms))


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return Student's interval of a mean.

    Args:
        values: At least one number.
        level: Coverage asked for, in (0, 1).

    Returns:
        The interval; from -inf to inf for one value.
    """
    if len(values) < 2:
        return Interval(-math.inf, math.inf)
    half = student_quantile(0.5 + level / 2.0, len(values) - 1)
    half *= stdev(values) / math.sqrt(len(values))
    return Interval(fmean(values) - half, fmean(values) + half)


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Return Wilson's interval of a share of successes.

    Args:
        successes: In [0, trials].
        trials: How many there were.
        level: Coverage asked for, in (0, 1).

    Returns:
        The interval, in [0, 1]; all of it without trials.

    Raises:
        ValueError: There are more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    share, size = successes / trials, 1.0 + z * z / trials
    middle = (share + z * z / (2.0 * trials)) / size
    half = z / size * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
