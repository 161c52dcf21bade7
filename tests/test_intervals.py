"""Quantiles of Student, intervals of means and of shares."""

import math

import pytest

from hindsight_rl.intervals import Interval, student_interval, student_quantile, wilson


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.975, 1, 12.7062047362),
        (0.975, 2, 4.3026527297),
        (0.95, 4, 2.1318467863),
        (0.975, 30, 2.0422724563),
        (0.995, 1000, 2.5807546981),
        (0.025, 5, -2.5705818356),
        (0.5, 7, 0.0),
    ],
)
def test_quantiles_of_student(probability: float, freedom: int, expected: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(expected, abs=1e-9)


def test_both_ways_to_a_quantile_agree() -> None:
    assert student_quantile(0.975, 500) == pytest.approx(student_quantile(0.975, 501), abs=2e-5)
    assert student_quantile(0.975, 500) > student_quantile(0.975, 501) > 1.959964


def test_interval_of_a_mean() -> None:
    low, high = student_interval([0.0, 1.0, 2.0, 3.0, 4.0])
    assert (low, high) == (pytest.approx(2 - 1.963243, abs=1e-6), pytest.approx(3.963243, abs=1e-6))
    assert student_interval([3.0]) == Interval(-math.inf, math.inf)


def test_shares_of_successes() -> None:
    assert wilson(9, 10) == (pytest.approx(0.595850, abs=1e-6), pytest.approx(0.982124, abs=1e-6))
    low, high = wilson(0, 10)
    assert low == pytest.approx(0.0, abs=1e-12) and high == pytest.approx(0.277533, abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 successes of 10 trials"):
        wilson(11, 10)
