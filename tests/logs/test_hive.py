"""Parquet in folders named key=value: the names are columns, or refused where order is lost."""

from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log


def written(folder: Path, *, key: str = "episode", keep: bool = False, **more: Any) -> Path:
    """Write the small log with a folder per episode, numbered 2, 7, 10, and return the folder."""
    made = foreign.columns() | {name: np.asarray(value) for name, value in more.items()}
    for number, stop, length in zip((2, 7, 10), foreign.LAST + 1, foreign.LENGTHS, strict=True):
        rows = slice(stop - length, stop)
        part = {n: v[rows] for n, v in made.items() if keep or n != "episode"}
        if keep:
            part["episode"] = np.full(length, number)
        place = folder / f"{key}={number}"
        place.mkdir(parents=True)
        foreign.parquet(place / "part-0.parquet", part)
    return folder


def test_folders_of_episodes_are_read_in_the_order_of_numbers(tmp_path: Path) -> None:
    log = read_log(written(tmp_path / "log"))
    foreign.expect_same(log)
    assert log.info["format"] == "parquet" and log.info["columns"]["episode"] == "episode"


def test_a_column_that_the_files_hold_too_must_agree(tmp_path: Path) -> None:
    foreign.expect_same(read_log(written(tmp_path / "same", keep=True)))
    folder = written(tmp_path / "other", keep=True)
    (folder / "episode=7").rename(folder / "episode=8")
    told = r"episode=8/part-0.parquet, column 'episode', row 0: 7 in a folder named episode=8"
    with pytest.raises(LogError, match=told):
        read_log(folder)


def test_several_keys_and_other_meanings(tmp_path: Path) -> None:
    inner = written(tmp_path / "log" / "robot=left%20arm")
    (inner / "_temporary").mkdir()
    foreign.parquet(inner / "_temporary" / "part.parquet", foreign.columns())
    foreign.expect_same(read_log(tmp_path / "log"))
    weights = written(tmp_path / "weights", key="kg", keep=True)
    log = read_log(weights, {"extra": "kg"})
    foreign.expect_same(log)
    assert log.column("kg").tolist() == [2.0] * 4 + [7.0] + [10.0] * 3
    text = written(tmp_path / "text")
    for number in ("2", "7", "10"):
        (text / f"episode={number}").rename(text / f"episode={number.zfill(3)}")
    foreign.expect_same(read_log(text))


@pytest.mark.parametrize(
    ("key", "field"), [("done", "done"), ("step", "step"), ("ok", "observation")]
)
def test_keys_that_part_an_episode_are_refused(key: str, field: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "log", key=key, keep=True)
    for part in folder.rglob("*.parquet"):
        made = {
            n: v for n, v in foreign.columns().items() if n not in (key, "terminated", "truncated")
        }
        foreign.parquet(part, made)
    columns = {"observation": ["ok", "observation"]} if key == "ok" else {}
    told = rf"parted by '{key}', taken for {field}: the rows of an episode lie in several .* again"
    with pytest.raises(LogError, match=told):
        read_log(folder, columns)


def test_folders_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    def refused(name: str, move: tuple[str, str], told: str) -> None:
        folder = written(tmp_path / name)
        (folder / move[1]).parent.mkdir(parents=True, exist_ok=True)
        (folder / move[0]).rename(folder / move[1])
        with pytest.raises(LogError, match=told):
            read_log(folder)

    refused("null", ("episode=7", "episode=__HIVE_DEFAULT_PARTITION__"), "a value is missing")
    refused(
        "keys",
        ("episode=7", "number=7"),
        "keys of its folders are number, those of another file's episode",
    )
    refused("plain", ("episode=7", "rest"), "the folder 'rest' is not named key=value, as others")
    refused(
        "beside",
        ("episode=7/part-0.parquet", "part-0.parquet"),
        "the keys of its folders are none, those",
    )
