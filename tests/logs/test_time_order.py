"""Rows that do not follow one another in time are warned of, wherever their episodes are joined."""

import warnings
from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.reading import read_log


def without_flags() -> dict[str, np.ndarray]:
    """Return three episodes of 4, 1 and 3 rows in which only the last one's end is marked."""
    made = foreign.columns()
    made["terminated"][3] = made["truncated"][4] = False
    return {name: made[name] for name in made if name not in ("episode", "step")}


def test_an_end_without_a_flag_is_warned_of_and_jumps_fix_it(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", without_flags())
    with pytest.warns(UserWarning, match="2 of 7 stored next observations .* first at row 3"):
        assert read_log(path).episodes == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_log(path, {"episode_jump": True}).episodes == 3


def test_shuffled_rows_are_warned_of(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(foreign.ROWS)
    values = {name: column[order] for name, column in without_flags().items()}
    with pytest.warns(UserWarning, match="rows are shuffled, set `episode_jump: true`"):
        assert len(read_log(foreign.npz(tmp_path / "log.npz", values))) == foreign.ROWS


def test_rows_in_order_are_not_warned_of(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_log(foreign.npz(tmp_path / "log.npz", foreign.columns())).episodes == 3
        # Without stored next observations there is nothing to compare.
        bare = {k: v for k, v in without_flags().items() if k != "next_observation"}
        assert read_log(foreign.npz(tmp_path / "bare.npz", bare)).episodes == 1
