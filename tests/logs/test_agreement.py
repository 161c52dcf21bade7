"""Columns that were written with other precision: what was the same still counts as the same."""

from collections.abc import Callable
from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.agreement import Agreement, Precision
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.reading import survey as surveyed
from hindsight_rl.reports.summary import summarize

Array = np.ndarray
Writing = Callable[[Array], Array]
EPISODES, LENGTH = 30, 3


def as_it_is(values: Array) -> Array:
    return values


def single(values: Array) -> Array:
    return values.astype(np.float32)


def half(values: Array) -> Array:
    return values.astype(np.float16)


def four_decimals(values: Array) -> Array:
    return np.round(values, 4)


def four_digits(values: Array) -> Array:
    return np.array([[float(f"{entry:.4g}") for entry in row] for row in values])


def single_printed(values: Array) -> Array:
    return np.array([[float(str(entry)) for entry in row] for row in values.astype(np.float32)])


WRITINGS = [as_it_is, single, half, four_decimals, four_digits, single_printed]


def recorded(now: Writing, after: Writing, *, leak: bool = False) -> dict[str, Array]:
    """Return 30 episodes of 3 steps, around (5 + 100 t, 500 t - 300), as two ways write it."""
    draws = np.random.default_rng(7)
    walk = draws.normal([5, -300], [2, 60], (EPISODES, LENGTH + 1, 2))
    walk += np.arange(LENGTH + 1)[:, None] * [100, 500]  # so that a reset goes further than a step
    following = walk[:, 1:].copy()
    if leak:
        following[:-1, -1] = walk[1:, 0]
    return {
        "observation": now(walk[:, :-1].reshape(-1, 2)),
        "next_observation": after(following.reshape(-1, 2)),
        "action": np.zeros((EPISODES * LENGTH, 1)),
        "reward": np.zeros(EPISODES * LENGTH),
    }


@pytest.mark.parametrize("after", WRITINGS)
@pytest.mark.parametrize("now", WRITINGS)
def test_jumps_are_judged_by_the_coarser_column(now: Writing, after: Writing, tmp_path: Path):
    path = foreign.npz(tmp_path / "log.npz", recorded(now, after))
    log = read_log(path, {"episode_jump": True})
    assert log.episodes == EPISODES
    assert log.column("step").tolist() == [0, 1, 2] * EPISODES


@pytest.mark.parametrize("after", WRITINGS)
def test_a_leaked_reset_is_seen_through_any_writing(after: Writing, tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", recorded(as_it_is, after, leak=True))
    with pytest.raises(LogError, match="at 29 of 29 cut episodes the next observation is already"):
        read_log(path, {"episode_length": LENGTH})
    path = foreign.npz(tmp_path / "log.npz", recorded(as_it_is, after))
    assert read_log(path, {"episode_length": LENGTH}).episodes == EPISODES


def test_chains_are_not_called_broken_by_rounding(tmp_path: Path) -> None:
    values = recorded(as_it_is, four_digits) | {"episode": np.repeat(np.arange(30), 3)}
    path = foreign.npz(tmp_path / "log.npz", values)
    assert not [r for r in summarize(*surveyed(path)).remarks if "differ from" in r]
    values["next_observation"][0] += 1
    path = foreign.npz(tmp_path / "log.npz", values)
    told = [r for r in summarize(*surveyed(path)).remarks if "differ from" in r]
    assert told == [
        "1.67 % of next observations differ from the observation of the following step, first at "
        "row 0: rows are out of order, or an episode ends there without a flag. If so, set "
        "episode_jump in place of what delimits episodes."
    ]


def test_precision_is_found_by_type_decimals_and_digits() -> None:
    numbers = np.random.default_rng(0).normal(0, 100, (50, 2))
    assert Precision.of(numbers) == Precision(2.0**-53, None, None)
    assert Precision.of(half(numbers)).relative == 2.0**-11
    assert Precision.of(single_printed(numbers)).relative == 2.0**-23
    assert Precision.of(single(numbers)) == Precision(2.0**-24, None, None)
    assert Precision.of(single(numbers).astype(float)) == Precision(2.0**-24, None, None)
    assert Precision.of(np.round(numbers, 3)).decimals == 3
    assert Precision.of(four_digits(numbers)).digits == 4
    assert Precision.of(single(np.round(numbers, 3))).decimals == 3


def test_columns_that_were_written_alike_are_the_same_or_not() -> None:
    grid = np.arange(200.0)[:, None]
    assert Agreement(grid, grid)(grid, grid).all()
    assert not Agreement(grid, grid + 1)(grid, grid + 1).any()
    assert not Agreement(grid, grid + 0.25)(grid[:9], grid[:9] + 3.25).any()
    nothing = np.full((3, 1), np.nan)
    assert not Agreement(nothing, nothing)(nothing, nothing).any()


def test_a_coarse_column_never_hides_a_change_that_is_large_beside_the_rest() -> None:
    """Whole numbers from 0 to 3: rounded by at most 0.5, which is no rounding at that size."""
    coarse, fine = np.array([[0.0], [1], [2], [3]]), np.array([[0.2], [1.3], [2.4], [2.9]])
    assert not Agreement(coarse, fine)(coarse, fine).any()


def test_a_dimension_that_never_changes_tells_no_rows_apart() -> None:
    fine = np.stack([np.linspace(0.001, 77.7, 40), np.full(40, 1234.5678)], 1)
    for coarse in (single(fine), four_digits(fine)):
        assert Agreement(fine, coarse)(fine, coarse).all()
