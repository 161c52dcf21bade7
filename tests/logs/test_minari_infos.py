"""Infos of a Minari dataset: before a step where one acts by them, after it where they judge it."""

from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log

STORAGES = ["hdf5", "arrow", "parquet"]


def infos(episode: int, length: int) -> dict[str, Any]:
    """Return infos of the reset and each step: time, success at the end of episode 1, a place.

    Lists, as Minari collects numbers: its Arrow storages cannot read flat arrays back.
    """
    time = np.arange(length + 1)
    return {
        "time": time.tolist(),
        "success": ((time == length) & (episode == 1)).tolist(),
        "place": np.stack([time + 10.0 * episode, -time], 1),
        "note": ["reset"] + ["step"] * length,
    }


def nested(episode: int, length: int) -> dict[str, Any]:
    """Return the same in a dictionary of a dictionary."""
    return {"robot": {"arm": infos(episode, length)}}


def shortened(episode: int, length: int) -> dict[str, Any]:
    """Return the infos of the steps alone, and one of the whole episode."""
    made = {name: np.array(infos(episode, length)[name])[1:] for name in ("time", "success")}
    return made | {"won": np.array([episode == 1])}


@pytest.mark.parametrize("storage", STORAGES)
def test_what_a_step_told_belongs_to_its_row(storage: str, tmp_path: Path) -> None:
    path = foreign.minari(tmp_path / "made-v0", storage, infos=infos)
    log = read_log(path, {"success": "infos/success", "extra": ["infos/time"]})
    foreign.expect_same(log)
    assert log.column("success").tolist() == [i == 4 for i in range(8)]
    assert log.column("time").tolist() == [1, 2, 3, 4, 1, 1, 2, 3]
    assert log.info["columns"]["success"] == "next_infos/success"
    again = read_log(path, log.info["columns"])
    assert again.hash() == log.hash()


@pytest.mark.parametrize(
    ("storage", "made", "name"),
    [
        *((storage, infos, "infos/place") for storage in STORAGES),
        ("hdf5", nested, "infos/robot/arm/place"),
    ],
)
def test_what_one_acts_by_is_known_before_the_step(
    storage: str, made: Any, name: str, tmp_path: Path
) -> None:
    path = foreign.minari(tmp_path / "made-v0", storage, infos=made)
    log = read_log(path, {"observation": ["observations", name]})
    start = np.repeat([0.0, 10.0, 20.0], foreign.LENGTHS)
    step = log.column("step").numpy()
    seen, after = log.column("observation").numpy(), log.column(("next", "observation")).numpy()
    np.testing.assert_array_equal(seen[:, 2:], np.stack([start + step, -step], 1))
    np.testing.assert_array_equal(after[:, 2:], np.stack([start + step + 1, -step - 1], 1))
    task = read_log(path, {"task": name})
    np.testing.assert_array_equal(task.column("task")[:, 0], start + step)


def test_infos_without_those_of_the_reset(tmp_path: Path) -> None:
    path = foreign.minari(tmp_path / "made-v0", infos=shortened)
    log = read_log(path, {"success": "infos/success", "extra": "infos/time"})
    assert log.column("success").tolist() == [i == 4 for i in range(8)]
    assert log.column("time").tolist() == [1, 2, 3, 4, 1, 1, 2, 3]
    whole = read_log(path, {"success": "infos/won"})
    assert whole.column("success").tolist() == [i == 4 for i in range(8)]
    with pytest.raises(LogError, match="column 'infos/time': no info of the reset is stored, so"):
        read_log(path, {"observation": ["observations", "infos/time"]})


def uneven(episode: int, length: int) -> dict[str, Any]:
    """Return an info that misses a step of the last episode, whose rows go to the first."""
    return {"time": np.arange(length + 1 + 2 * (episode == 0) - 2 * (episode == 2))}


@pytest.mark.parametrize(
    ("made", "columns", "told"),
    [
        (infos, {"success": "infos/sucess"}, r"column 'infos/sucess': no such .* 'infos/success'"),
        (infos, {"success": "infos/note"}, "column 'next_infos/note': objects of mixed type"),
        (infos, {"success": "infos/time"}, "column 'next_infos/time', row 1: 2 is no flag"),
        (uneven, {"extra": "infos/time"}, "episode 0, column 'next_infos/time': 7 entries in an"),
        (
            lambda episode, _: {"won": np.array([True])} if episode else {"lost": np.zeros(1)},
            {"success": "infos/lost"},
            "episode 0, column 'next_infos/lost': 1 entries in an episode of 4 steps",
        ),
    ],
)
def test_infos_that_are_refused(made: Any, columns: Any, told: str, tmp_path: Path) -> None:
    path = foreign.minari(tmp_path / "made-v0", infos=made)
    with pytest.raises(LogError, match=told):
        read_log(path, columns)
    if made is not infos:
        foreign.expect_same(read_log(path))  # infos that nobody asks for do no harm
