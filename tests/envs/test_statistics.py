"""Mean, standard error, interquartile mean and bootstrap: by hand, and by what they promise."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hindsight_rl.envs.rollout import Rollout
from hindsight_rl.envs.statistics import (
    bootstrap_interval,
    interquartile_mean,
    mean,
    paired,
    standard_error,
    summarize,
    summarize_seeds,
)

values = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3))


def test_standard_error_by_hand() -> None:
    """1, 2, 3, 4: the squares of the deviations sum to 5, so sd = sqrt(5/3), error = sd / 2."""
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3) / 2)
    assert math.isnan(standard_error([1.0]))


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 30.0], 11.0),  # floor(3 / 4) = 0: nothing is left out
        ([100.0, 2.0, 3.0, -50.0], 2.5),  # one at each end
        ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], 4.5),  # two at each end: 2 to 7
        ([0, 0, 1, 1, 1, 1, 99, 99], 1.0),
    ],
)
def test_interquartile_mean_by_hand(given_values: list[float], expected: float) -> None:
    assert float(interquartile_mean(given_values)) == expected


@given(values)
def test_interquartile_mean_ignores_order_and_lies_inside(sample: np.ndarray) -> None:
    middle = interquartile_mean(sample)
    assert interquartile_mean(sample[::-1]) == middle
    assert sample.min() - 1e-9 <= middle <= sample.max() + 1e-9


def test_statistics_take_leading_axes() -> None:
    table = np.arange(24.0).reshape(2, 3, 4)
    assert interquartile_mean(table).shape == mean(table).shape == (2, 3)
    assert interquartile_mean(table)[1, 2] == 21.5


@given(values)
def test_interval_lies_inside_and_is_repeatable(sample: np.ndarray) -> None:
    interval = bootstrap_interval(sample, resamples=50)
    assert sample.min() - 1e-9 <= interval.low <= interval.high <= sample.max() + 1e-9
    assert bootstrap_interval(sample, resamples=50) == interval


@given(values, st.floats(-50, 50))
def test_interval_moves_with_the_values(sample: np.ndarray, shift: float) -> None:
    before = bootstrap_interval(sample, resamples=50)
    after = bootstrap_interval(sample + shift, resamples=50)
    assert after == pytest.approx((before.low + shift, before.high + shift), abs=1e-6)


def test_interval_of_the_mean_is_that_of_the_central_limit() -> None:
    sample = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    interval = bootstrap_interval(sample, mean, resamples=4000)
    half = 1.96 * standard_error(sample)
    assert interval == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.03)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        interval = bootstrap_interval(draw.normal(size=40), mean, resamples=300, seed=seed)
        hits += interval.low <= 0.0 <= interval.high
    assert 180 <= hits <= 198  # 95 % of 200 is 190; the percentile interval is a little short


def test_narrower_confidence_gives_a_narrower_interval() -> None:
    sample = np.random.default_rng(2).normal(size=50)
    wide, narrow = (bootstrap_interval(sample, confidence=share) for share in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_runs_are_resampled_within_each_task() -> None:
    """Task 0 always scores 0, task 1 always 1: within tasks there is nothing to resample."""
    table = np.tile([0.0, 1.0], (6, 1))
    assert bootstrap_interval(table, mean) == (0.5, 0.5)
    mixed = bootstrap_interval(table.ravel(), mean)
    assert mixed.low < 0.5 < mixed.high


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"values": []}, "there are no values"),
        ({"values": [1.0, float("nan")]}, "a value is not finite"),
        ({"values": np.ones((1, 1, 1))}, r"values have shape \[1, 1, 1\]"),
        ({"values": [1.0], "confidence": 1.0}, "confidence is 1.0"),
        ({"values": [1.0], "resamples": 0}, "resamples 0"),
    ],
)
def test_refusals(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        bootstrap_interval(**arguments)


def test_standard_error_of_nothing() -> None:
    with pytest.raises(ValueError, match="there are no values: give at least one"):
        standard_error([])


def done(returns: list[float], successes: list[bool] | None = None) -> Rollout:
    """Return a rollout with these returns."""
    count = len(returns)
    told = None if successes is None else np.array(successes)
    return Rollout(
        env_id="CartPole-v1",
        seed=4,
        returns=np.array(returns),
        lengths=np.arange(count) + 1,
        terminated=np.ones(count, bool),
        successes=told,
        final_successes=told,
        seeds=np.arange(count),
    )


def test_summary_by_hand() -> None:
    report = summarize(done([4.0, 1.0, 3.0, 2.0], [True, False, True, True]))
    low, high = bootstrap_interval([4.0, 1.0, 3.0, 2.0])
    assert report == {
        "env": "CartPole-v1",
        "seed": 4,
        "episodes": 4,
        "return": 2.5,
        "return_standard_error": pytest.approx(math.sqrt(5 / 3) / 2),
        "return_iqm": 2.5,
        "return_iqm_low": low,
        "return_iqm_high": high,
        "length": 2.5,
        "success": 0.75,
        "final_success": 0.75,
        "success_low": pytest.approx(0.300642, abs=1e-6),
        "success_high": pytest.approx(0.954413, abs=1e-6),
        "returns": [4.0, 1.0, 3.0, 2.0],
    }


def test_summary_of_one_episode_without_success() -> None:
    report = summarize(done([4.0]))
    assert report["return_standard_error"] is None and report["success"] is None
    assert report["return_iqm_low"] == report["return_iqm_high"] == 4.0


def test_seeds_are_summarised_over_seeds() -> None:
    """Returns 1 to 4: mean 2.5, middle half (2, 3); the interval lies within [1, 4]."""
    reports = [
        {
            "env": "E",
            "seed": 7,
            "episodes": 2,
            "return": value,
            "length": 10.0 * value,
            "success": None,
            "final_success": None,
        }
        for value in (4.0, 1.0, 3.0, 2.0)
    ]
    found = summarize_seeds(reports)
    assert found["return"] == found["return_iqm"] == 2.5
    assert 1.0 <= found["return_iqm_low"] < 2.5 < found["return_iqm_high"] <= 4.0
    assert found["episodes"] == 8 and found["length"] == 25.0 and found["success"] is None
    assert found["returns"] == [4.0, 1.0, 3.0, 2.0] and found["seeds"] == reports


def test_success_over_seeds_has_an_interval_over_seeds() -> None:
    """Shares 0.5, 0.6, 0.7: mean 0.6, t(0.975, 2) * 0.1 / sqrt(3) = 0.248414."""
    shared = {"env": "E", "seed": 7, "episodes": 9, "return": 1.0, "length": 1.0}
    reports = [{**shared, "success": v, "final_success": v} for v in (0.5, 0.6, 0.7)]
    found = summarize_seeds(reports)
    assert found["success_low"] == pytest.approx(0.351586, abs=1e-6)
    assert found["success_high"] == pytest.approx(0.848414, abs=1e-6)
    sure = [
        {**report, "success": value} for report, value in zip(reports, (1, 1, 0.9), strict=True)
    ]
    assert summarize_seeds(sure)["success_high"] == 1.0


def test_pairs_of_episodes() -> None:
    """Differences 1, -1, 3, 1: mean 1, sd 1.632993, t(0.975, 3) 3.182446."""
    found = paired([3.0, 0.0, 5.0, 2.0], [2.0, 1.0, 2.0, 1.0])
    assert (found.difference, found.better, found.worse) == (1.0, 3, 1)
    assert found.low == pytest.approx(1.0 - 2.598457, abs=1e-6)
    assert found.high == pytest.approx(1.0 + 2.598457, abs=1e-6)
    # What is hard for both does not widen the interval.
    assert paired([9.0, 1.0], [8.0, 0.0]) == (1.0, 1.0, 1.0, 2, 0)
    with pytest.raises(ValueError, match=r"episodes \[2\] and \[1\] are no pairs"):
        paired([1.0, 2.0], [1.0])
