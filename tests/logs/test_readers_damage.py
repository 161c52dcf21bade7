"""Damaged columns: each is refused with file, column, row and fix; none is half-read."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log, survey

Values = dict[str, Any]


def put(name: str, row: int, value: Any) -> Callable[[Values], Values]:
    """Return the damage of one entry."""

    def damage(values: Values) -> Values:
        column = values[name].astype(type(value)) if isinstance(value, str) else values[name].copy()
        column[row] = value
        return values | {name: column}

    return damage


def replaced(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Values], Values]:
    """Return the damage of a whole column."""
    return lambda values: values | {name: change(values[name])}


def lost(name: str) -> Callable[[Values], Values]:
    """Return the damage of a column that is missing."""
    return lambda values: {key: value for key, value in values.items() if key != name}


DAMAGE: dict[str, tuple[Callable[[Values], Values], dict[str, Any], str]] = {
    "observation missing": (
        lost("observation"),
        {},
        r"log.npz: no column looks like the observation. Name it .*The source holds: action",
    ),
    "column of the map missing": (
        lost("reward"),
        {"reward": "rewrd"},
        r"log.npz, column 'rewrd': no such column. .*It holds: observation, action",
    ),
    "NaN in the observation": (
        put("observation", 5, np.nan),
        {},
        r"log.npz, column 'observation', row 5: NaN \(2 such entries in the column\). Repair",
    ),
    "infinite action": (put("action", 2, np.inf), {}, "column 'action', row 2: infinity"),
    "NaN reward": (put("reward", 7, np.nan), {}, r"column 'reward', row 7: NaN \(1 such entry"),
    "NaN in the next observation": (
        put("next_observation", 0, np.nan),
        {},
        "column 'next_observation', row 0: NaN",
    ),
    "objects": (
        replaced("action", lambda column: np.array([*column, None], object)[:-1]),
        {},
        "column 'action': an array of Python objects, which would have to be unpickled. Save it",
    ),
    "text": (
        replaced("reward", lambda column: np.array(["one", *column[1:].astype(str)])),
        {},
        "column 'reward', row 0: text 'one' where a number is needed",
    ),
    "short reward": (
        replaced("reward", lambda column: column[:-2]),
        {},
        "column 'reward': 6 rows where the actions have 8. The log is cut",
    ),
    "long observation": (
        replaced("observation", lambda column: np.repeat(column, 2, axis=0)),
        {},
        r"column 'observation': 16 rows where the actions have 8 \(or 11\)",
    ),
    "short episode column": (
        replaced("episode", lambda column: column[1:]),
        {},
        "column 'episode': 7 rows where the actions have 8",
    ),
    "steps backwards": (
        replaced("step", lambda column: column[::-1].copy()),
        {},
        "column 'step', row 1: the episode runs backwards: 1 after 2. Sort",
    ),
    "a step twice": (put("step", 1, 0), {}, "column 'step', row 1: the episode runs backwards"),
    "episode comes back": (
        put("episode", 7, 10),
        {},
        "column 'episode', row 7: episode 10 comes back after another one. Sort",
    ),
    "terminated in the middle": (
        put("terminated", 1, True),
        {},
        "column 'terminated', row 1: the flag is set but the episode goes on",
    ),
    "a flag of 2": (
        replaced("truncated", lambda column: 2 * column.astype(int)),
        {},
        "column 'truncated', row 4: 2 is no flag",
    ),
    "action out of bounds": (
        put("action", 3, 1.5),
        {"action_low": -1.0, "action_high": 1.0},
        r"column 'action', row 3: action\[0\] = 1.5 lies outside \[-1.0, 1.0\] .*clip: true",
    ),
    "too many bounds": (
        lambda values: values,
        {"action_low": [-1.0, -1.0, -1.0]},
        "action_low has 3 numbers for 2 action dimensions",
    ),
    "a bound beyond which nothing is": (
        lambda values: values,
        {"action_low": float("inf")},
        "action_low is inf in one dimension or more. Write null or -.inf where there is no bound",
    ),
    "clip without bounds": (lambda values: values, {"clip": True}, "clip is set without bounds"),
    "negative choice": (
        replaced("action", lambda column: np.arange(8) - 3),
        {},
        "column 'action', row 0: action -3 is negative",
    ),
    "fractional choice": (
        replaced("action", lambda column: np.arange(8) / 2),
        {"discrete_actions": True},
        "column 'action', row 1: action 0.5 is no whole number",
    ),
    "two choices per step": (
        lambda values: values,
        {"discrete_actions": True},
        "column 'action': 2 entries per row where one is needed",
    ),
    "scaled choices": (
        replaced("action", lambda column: np.arange(8)),
        {"action_scale": 2.0},
        "discrete actions are neither scaled nor clipped",
    ),
    "unsorted splits": (
        lambda values: values | {"splits": np.array([5, 4])},
        {"split_indices": "splits"},
        "column 'splits', row 1: episodes run backwards: split at 4 after 5",
    ),
    "split beyond the end": (
        lambda values: values | {"splits": np.array([4, 50])},
        {"split_indices": "splits"},
        "column 'splits', row 1: split at row 50 of a log with 8 rows",
    ),
    "no delimiter": (
        lambda values: lost("truncated")(lost("terminated")(lost("episode")(values))),
        {},
        "nothing says where episodes begin. Give one of episode, .*The source holds: obser",
    ),
    "jumps without next observations": (
        lambda values: lost("episode")(lost("next_observation")(values)),
        {"episode_jump": True},
        "episode_jump needs a stored next observation",
    ),
    "next observation of another width": (
        replaced("next_observation", lambda column: column[:, :1]),
        {},
        r"column 'next_observation': entries of shape \[1\] where observation has \[2\]",
    ),
    "empty": (
        lambda values: {name: value[:0] for name, value in values.items()},
        {},
        "column 'action': the log is empty",
    ),
    "vector reward": (
        replaced("reward", lambda column: np.stack([column, column], 1)),
        {},
        "column 'reward': 2 entries per row where one is needed",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(name: str, tmp_path: Path) -> None:
    damage, columns, told = DAMAGE[name]
    path = foreign.npz(tmp_path / "log.npz", damage(foreign.columns()))
    with pytest.raises(LogError, match=told):
        read_log(path, columns)


def test_several_kinds_of_damage_are_never_half_read(tmp_path: Path) -> None:
    # Pairs: had one damage hidden another, a log would be returned here.
    tried = 0
    for first, second in combinations(DAMAGE, 2):
        if {first, second} == {"action out of bounds", "clip without bounds"}:
            continue  # the one fixes the other
        columns = DAMAGE[first][1] | DAMAGE[second][1]
        try:
            values = DAMAGE[second][0](DAMAGE[first][0](foreign.columns()))
        except (KeyError, ValueError, IndexError, TypeError):
            continue  # the two cannot be combined
        path = foreign.npz(tmp_path / "log.npz", values)
        with pytest.raises(LogError):
            read_log(path, columns)
            pytest.fail(f"{first} and {second}: a log was returned")
        tried += 1
    assert tried > 300


def test_a_survey_reports_all_problems_at_once(tmp_path: Path) -> None:
    values = foreign.columns()
    for name in ("NaN in the observation", "steps backwards", "a flag of 2", "NaN reward"):
        values = DAMAGE[name][0](values)
    made, problems = survey(foreign.npz(tmp_path / "log.npz", values))
    assert [problem.column for problem in problems] == [
        "step",
        "truncated",
        "observation",
        "reward",
    ]
    assert np.isnan(made.columns["observation"][5]).all()
