"""What float32 cannot hold is refused with the numbers, and what only looks like it is taken."""

from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
from small_logs import small

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.precision import collapse
from hindsight_rl.logs.reading import read_log, survey
from hindsight_rl.reports.summary import summarize

ROWS = np.arange(2000)
WAVE = np.sin(ROWS / 20)
DRAWN = np.random.default_rng(0).normal(size=2000)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (1.7e9 + 0.02 * ROWS, 128),  # Unix time of 40 s
        (1.7e9 + 0.02 * np.arange(1_000_000), 128),  # of 5 hours: 156 steps, each of 6,400 rows
        (1_700_000_000_000_000_000 + 20_000_000 * ROWS, 2**37),  # the same in nanoseconds
        (123_456_789 + (100 * WAVE).astype(np.int64), 8),  # encoder counts
        ((123_456_789 + (100 * WAVE)).astype(np.uint32), 8),
        (1e8 + DRAWN, 8),  # an offset of 1e8, a spread of 1
        (-1e8 + DRAWN, 8),
        (5.3e6 + WAVE, 0.5),  # metres on a map
        (48.1 + 1e-7 * ROWS, 2**-18),  # degrees of latitude, a centimetre a row
    ],
)
def test_what_float32_makes_equal(values: np.ndarray, step: float) -> None:
    lost = collapse(np.stack([np.zeros_like(values), values], axis=1))
    assert lost is not None and lost.dimension == 1 and lost.step == step
    assert collapse(values - values[0]) is None  # what the message says to do helps


@pytest.mark.parametrize(
    "values",
    [
        np.full(2000, 1.7e9),  # a constant loses nothing
        np.arange(2**24 - 2000, 2**24),  # whole numbers below 2**24 are exact
        1e8 + 8.0 * ROWS,  # and these are
        WAVE,
        0.02 + 1e-9 * DRAWN,  # an object at rest, to the noise of a simulation
        1.0 - 1e-5 * WAVE**2,  # a quaternion that hardly turns
        101_325.0 + 1e-9 * DRAWN,
        293.15 + 0.5 * np.sin(ROWS / 1e3),  # slow, and resolved finely enough
        1e6 + 1e5 * DRAWN,
        1e3 * np.cumsum(DRAWN),
        (1.7e9 + 0.02 * ROWS).astype(np.float32),  # lost before it came here
        np.r_[np.nan, 1e8 + DRAWN],  # reported as NaN elsewhere
        np.array([1.7e9]),
        np.arange(200, dtype=np.uint8),
        np.zeros((0, 3)),
    ],
)
def test_what_float32_holds_well_enough(values: np.ndarray) -> None:
    assert collapse(values) is None


def made(**columns: Any) -> dict[str, Any]:
    """Return the usual log with what a robot adds to it."""
    clock = 1.7e9 + 0.02 * np.arange(8)
    return foreign.columns() | {"clock": clock, "count": 123_456_789 + np.arange(8)} | columns


@pytest.mark.parametrize("write", [foreign.npz, foreign.hdf5, foreign.parquet])
def test_readers_refuse_it_and_say_what_to_do(write: Any, tmp_path: Path) -> None:
    suffix = {"npz": "npz", "hdf5": "hdf5", "parquet": "parquet"}[write.__name__]
    path = write(tmp_path / f"log.{suffix}", made())
    with pytest.raises(LogError) as raised:
        read_log(path, {"observation": ["observation", "clock"], "next_observation": "shifted"})
    told = str(raised.value)
    assert "column 'clock': values near 1.7e+09 change by 0.02, and float32 has steps of" in told
    assert "Subtract a constant" in told and "leave the column out" in told
    for field in ("task", "extra", "reward"):
        with pytest.raises(LogError, match="column 'count': values near 1.23457e.08 change by 1,"):
            read_log(path, {field: "count"})
    assert len(read_log(path, {"step": "clock"})) == 8  # checked only, and in float64


def test_an_entry_of_a_column_is_numbered(tmp_path: Path) -> None:
    both = np.stack([np.zeros(8), 1e8 + np.arange(8) / 8], axis=1)
    path = foreign.npz(tmp_path / "log.npz", made(observation=both))
    with pytest.raises(LogError, match="column 'observation': entry 1: values near 1e.08"):
        read_log(path, {"next_observation": "shifted"})


def test_episode_numbers_and_choices_are_no_measurements(tmp_path: Path) -> None:
    path = foreign.npz(
        tmp_path / "log.npz", made(episode=1.7e9 + np.repeat([1.0, 2, 3], [4, 1, 3]))
    )
    assert read_log(path).episodes == 3


def test_inspect_says_so(tmp_path: Path) -> None:
    columns = {"observation": ["observation", "clock"], "next_observation": "shifted"}
    assembly, problems = survey(foreign.npz(tmp_path / "log.npz", made()), columns)
    assert ["column 'clock'" in str(problem) for problem in problems] == [True]
    summary = summarize(assembly, problems)
    assert any("clock is near 1.7e+09 and has 1 different values" in r for r in summary.remarks)
    stored = made(clock=np.float32(1.7e9) + 128 * np.arange(8, dtype=np.float32))
    assembly, problems = survey(foreign.npz(tmp_path / "log.npz", stored), columns)
    assert problems == []
    remark = "has 8 different values: float32 counts in steps of 128 there. Subtract a constant"
    assert any(remark in r for r in summarize(assembly, problems).remarks)


def test_logs_made_in_python_are_looked_at_too() -> None:
    log = small()
    columns = {key: log.column(key).numpy() for key in log.keys()}
    count = len(log)
    far = 1e8 + np.linspace(0, 1, count)[:, None].astype(np.float64)
    with pytest.raises(LogError, match="column 'observation': entry 0: values near 1e.08"):
        Log.from_columns(columns | {"observation": far, ("next", "observation"): far})
