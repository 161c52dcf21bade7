"""Logs with two flags: none of them is passed over, whichever one says where the task ended."""

from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.cli.inspect import main as inspect
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log

ENDED = np.array([0, 0, 0, 0, 0, 1])
ALL = np.array([0, 0, 1, 0, 0, 1])
CUT = ALL - ENDED


def log_of(path: Path, columns: Any = None, **flags: Any) -> Log:
    """Return the log of six rows, 0, 1, 2 | 100, 101, 102, with some flags."""
    seen = np.array([0.0, 1, 2, 100, 101, 102])[:, None]
    values = {"observations": seen, "actions": np.zeros((6, 1)), "rewards": np.arange(6.0)}
    return read_log(foreign.hdf5(path / "log.hdf5", values | flags), columns)


def ends(log: Log) -> tuple[list[int], list[int]]:
    terminated, truncated = log.column(("next", "terminated")), log.column(("next", "truncated"))
    return terminated.nonzero()[:, 0].tolist(), truncated.nonzero()[:, 0].tolist()


READ: dict[str, tuple[dict[str, Any], Any]] = {
    "d3rlpy 1": ({"terminals": ENDED, "episode_terminals": ALL}, None),
    "d3rlpy 1, its map": ({"terminals": ENDED, "episode_terminals": ALL}, "d3rlpy"),
    "terminals named": (
        {"terminals": ENDED, "episode_terminals": ALL},
        {"terminated": "terminals"},
    ),
    "dones of all ends": ({"terminals": ENDED, "dones": ALL}, None),
    "dones of all ends, other words": ({"terminated": ENDED, "done": ALL}, None),
    "dones of all ends, truncated never set": (
        {"terminated": ENDED, "truncated": 0 * ENDED, "dones": ALL},
        None,
    ),
    "dones that say terminated again": (
        {"terminated": ENDED, "truncated": CUT, "dones": ENDED},
        None,
    ),
    "several ends named": (
        {"terminated": ENDED, "lost": CUT, "stopped": ENDED},
        {"episode_end": ["lost", "stopped"]},
    ),
    "dones beside timeouts": ({"dones": ALL, "timeouts": CUT}, None),
    "dones of tasks beside timeouts": ({"dones": ENDED, "timeouts": CUT}, None),
    "done named beside timeouts": ({"d": ALL, "timeouts": CUT}, {"done": "d"}),
    "timeout in the singular": ({"terminated": ENDED, "timeout": CUT}, None),
    "is_terminal alone": ({"is_terminal": ENDED, "truncated": CUT}, None),
    "starts": ({"terminals": ENDED, "episode_starts": np.roll(ALL, 1)}, None),
    "starts named": ({"terminals": ENDED, "new": np.roll(ALL, 1)}, {"episode_start": "new"}),
    "ends as row numbers": ({"terminals": ENDED, "episode_ends": np.array([3, 6])}, None),
    "is_first named": (
        {"terminals": ENDED, "is_first": np.roll(ALL, 1)},
        {"episode_start": "is_first"},
    ),
    "steps with is_last": (
        {"is_last": ALL, "is_first": np.roll(ALL, 1), "is_terminal": ENDED},
        {"episode_end": "is_last", "terminated": "is_terminal", "last_row": "step"},
    ),
    "masks": (
        {"terminals": ALL, "masks": 1 - ENDED},
        {"episode_end": "terminals", "continues": "masks"},
    ),
    "masks, ends found": ({"terminals": ALL, "masks": 1.0 - ENDED}, {"continues": "masks"}),
    "masks beside dones_float": ({"dones_float": ALL, "masks": 1 - ENDED}, {"continues": "masks"}),
    "masks beside timeouts": ({"timeouts": CUT, "masks": 1 - ENDED}, {"continues": "masks"}),
    "masks of something else": (
        {"terminals": ENDED, "dones": ALL, "masks": ALL},
        {"continues": None},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_two_flags_are_both_read(case: str, tmp_path: Path) -> None:
    flags, columns = READ[case]
    log = log_of(tmp_path, columns, **flags)
    assert ends(log) == ([5], [2])
    assert log.column(("next", "observation"))[:, 0].tolist() == [1, 2, 2, 101, 102, 102]


REFUSED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "masks": (
        {"terminals": ALL, "masks": 1 - ENDED},
        None,
        r"column 'masks': .*Write in the column map \{episode_end: terminals, continues: masks\}",
    ),
    "masks beside dones_float": (
        {"dones_float": ALL, "masks": 1 - ENDED},
        {"episode": None},
        r"\{episode_end: dones_float, continues: masks\}, or `continues: null`",
    ),
    "is_last": ({"terminals": ENDED, "is_last": ALL}, None, "holds is_last, as RLDS does"),
    "is_first": (
        {"terminals": ENDED, "is_first": np.roll(ALL, 1)},
        None,
        r"\{episode_start: is_first, last_row: step\}",
    ),
    "is_last beside episodes": (
        {"is_last": ALL, "episode": np.repeat([0, 1], 3)},
        {"episode": "episode"},
        "the column map does not say whether it is",
    ),
    "valids": (
        {"terminals": ALL, "valids": 1 - ALL},
        None,
        "column 'valids': .*compact_dataset=False",
    ),
    "a mask of a row within": (
        {"dones": ALL, "masks": np.array([1, 0, 1, 1, 1, 0])},
        {"continues": "masks"},
        "column 'masks', row 1: the flag is set but the episode goes on",
    ),
    "a task that ends within": (
        {"terminated": [0, 1, 0, 0, 0, 1], "dones": ALL},
        None,
        "column 'terminated', row 1: the flag is set but the episode goes on",
    ),
    "continues twice": (
        {"masks": 1 - ENDED},
        {"continues": "masks", "terminated": "masks"},
        "continues is given beside terminated or done",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_flag_that_could_be_passed_over_is_refused(case: str, tmp_path: Path) -> None:
    flags, columns, told = REFUSED[case]
    with pytest.raises(LogError, match=told):
        log_of(tmp_path, columns, **flags)


def test_the_last_row_as_an_observation(tmp_path: Path) -> None:
    """Rows 2 and 5 are what rows 1 and 4 led to: four steps, of which the last one terminates."""
    columns = {"episode_end": "is_last", "terminated": "is_terminal", "last_row": "observation"}
    log = log_of(tmp_path, columns, is_last=ALL, is_terminal=ENDED)
    assert log.column("observation")[:, 0].tolist() == [0, 1, 100, 101]
    assert log.column(("next", "observation"))[:, 0].tolist() == [1, 2, 101, 102]
    assert log.column(("next", "reward")).tolist() == [0, 1, 3, 4]
    assert ends(log) == ([3], [1]) and log.info["repeated_next_observation"] == 0
    by_mask = {"episode_end": "last", "continues": "masks", "last_row": "observation"}
    log = log_of(tmp_path, by_mask, last=ALL, masks=1 - ENDED)
    assert ends(log) == ([3], [1])


@pytest.mark.parametrize(
    ("delimiter", "value"),
    [
        ("episode", np.repeat([7, 9], 3)),
        ("episode_start", np.roll(ALL, 1)),
        ("split_indices", np.array([3])),
        ("episode_length", None),
    ],
)
def test_any_delimiter_counts_the_last_row(delimiter: str, value: Any, tmp_path: Path) -> None:
    columns = {delimiter: 3 if value is None else "mark", "last_row": "observation"}
    flags = {"terminals": ENDED} | ({} if value is None else {"mark": value})
    log = log_of(tmp_path, columns, **flags)
    assert ends(log) == ([3], [1]) and log.column(("next", "observation"))[1].item() == 2


def test_rows_are_counted_as_the_file_does(tmp_path: Path) -> None:
    columns = {"episode_end": "last", "last_row": "observation"}
    rewards, seen = np.zeros(6), np.zeros((6, 1))
    rewards[[2, 4]] = np.nan  # that of row 2 means nothing
    with pytest.raises(LogError, match="column 'rewards', row 4: NaN"):
        log_of(tmp_path, columns, last=ALL, rewards=rewards)
    seen[5] = np.nan
    with pytest.raises(LogError, match="column 'observations', row 5: NaN"):
        log_of(tmp_path, columns, last=ALL, observations=seen)
    with pytest.raises(LogError, match="row 3: an episode of one row, which is no step by"):
        log_of(tmp_path, columns, last=[0, 0, 1, 1, 0, 1])


EQUAL = (
    r"all 2 episodes terminate by column 'terminals' after exactly 3 steps, as they do where.*"
    "That 'terminals' is `terminated` was guessed"
)


@pytest.mark.parametrize("last", [1, 0])
def test_equal_lengths_that_all_terminate_are_warned_of(last: int, tmp_path: Path) -> None:
    """With the last flag unset the third episode is only unfinished."""
    seen = np.arange(9.0)[:, None]
    values = {"observations": seen, "actions": 0 * seen, "rewards": seen[:, 0]}
    flags = np.array([0, 0, 1, 0, 0, 1, 0, 0, last])
    path = foreign.hdf5(tmp_path / "log.hdf5", values | {"terminals": flags})
    with pytest.warns(UserWarning, match=EQUAL.replace("2", str(2 + last), 1)):
        log = read_log(path)
    log.save(tmp_path / "saved")
    with pytest.warns(UserWarning, match=f"saved: all {2 + last} episodes terminate after exactly"):
        read_log(tmp_path / "saved")


def test_inspect_warns_of_equal_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"terminals": ALL, "next_observations": np.ones((6, 1))}
    with pytest.warns(UserWarning, match=EQUAL):
        log_of(tmp_path, None, **flags)
    inspect([str(tmp_path / "log.hdf5")])
    assert "all 2 episodes terminate by column 'terminals'" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_other_lengths_and_choices_of_one_step_are_not_warned_of(tmp_path: Path) -> None:
    log_of(tmp_path, terminals=[0, 1, 0, 0, 0, 1])
    log_of(tmp_path, terminals=ENDED, timeouts=CUT)
    log_of(tmp_path, terminals=np.ones(6))
    log_of(tmp_path, terminals=ENDED)
    log_of(tmp_path, terminals=ENDED, episode_terminals=ALL)
