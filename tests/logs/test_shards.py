"""Logs of several files: each file's episodes are its own unless a step column shows otherwise."""

from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, read_logs, survey
from hindsight_rl.reports.summary import summarize

Values = dict[str, np.ndarray]


def worker(first: int, rows: int, **more: object) -> Values:
    """Return rows of one file: observations count up from ``first``."""
    count = first + np.arange(rows, dtype=float)
    values = {"observation": count[:, None], "action": np.zeros((rows, 1)), "reward": count}
    return values | {name: np.asarray(value) for name, value in more.items()}


def folder(path: Path, *files: Values) -> Path:
    for number, values in enumerate(files):
        foreign.parquet(path / f"w{number}.parquet", values)
    return path


def lengths(log: Log) -> list[int]:
    return (log.column("step")[log.episode_ends()] + 1).tolist()


def after(log: Log) -> list[float]:
    return log.column(("next", "observation"))[:, 0].tolist()


def test_one_episode_per_file_each_numbered_0(tmp_path: Path) -> None:
    files = (worker(0, 3, episode=[0] * 3), worker(100, 2, episode=[0] * 2))
    log = read_log(folder(tmp_path / "log", *files))
    assert lengths(log) == [3, 2]
    assert after(log) == [1, 2, 2, 101, 101]
    assert log.column(("next", "truncated")).tolist() == [False, False, True, False, True]
    assert log.info["parted_episodes"] == 1
    remarks = summarize(*survey(tmp_path / "log")).remarks
    assert any(remark.startswith("1 episodes begin only because a file does") for remark in remarks)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (([0, 1, 2], [3, 4]), [5]),
        (([0, 1, 2], [0, 1]), [3, 2]),
        (([0, 1, 2], [2, 3]), [3, 2]),
        (([0, 1, 2], [60, 61]), [3, 2]),
        (([0, 5, 10], [15, 20]), [5]),
        (([0.0, 0.05, 0.1], [0.15, 0.2]), [5]),
        (([0.0, 0.05, 0.1], [7.0, 7.05]), [3, 2]),
        (([1.7e9, 1.7e9 + 1, 1.7e9 + 2], [1.7e9, 1.7e9 + 1]), [3, 2]),
    ],
)
def test_a_step_column_decides(
    steps: tuple[list[float], list[float]], expected: list[int], tmp_path: Path
) -> None:
    files = (
        worker(0, 3, episode=[0] * 3, step=steps[0]),
        worker(100, 2, episode=[0] * 2, step=steps[1]),
    )
    log = read_log(folder(tmp_path / "log", *files))
    assert lengths(log) == expected
    assert after(log)[2] == (100 if expected == [5] else 2)
    assert log.info.get("parted_episodes", 0) == len(expected) - 1


def test_numbers_that_start_anew_in_every_file(tmp_path: Path) -> None:
    files = [worker(i * 100, 4, episode=[0, 0, 1, 1]) for i in range(3)]
    log = read_log(folder(tmp_path / "log", *files))
    assert lengths(log) == [2] * 6
    assert after(log) == [1, 1, 3, 3, 101, 101, 103, 103, 201, 201, 203, 203]
    assert "parted_episodes" not in log.info


def test_a_number_that_comes_back_in_its_own_file_is_refused(tmp_path: Path) -> None:
    files = (worker(0, 2, episode=[0, 1]), worker(100, 4, episode=[0, 1, 0, 0]))
    told = r"w1.parquet, column 'episode', row 2: episode 0 comes back after another one. Sort"
    with pytest.raises(LogError, match=told):
        read_log(folder(tmp_path / "log", *files))


@pytest.mark.parametrize(
    ("first", "second"),
    [([0, 1, 2], [3, 4, 5]), ([3, 4, 5], [0, 1, 2]), ([0, 2, 4], [1, 3, 5])],
)
def test_rows_of_an_episode_scattered_over_files_are_refused(
    first: list[int], second: list[int], tmp_path: Path
) -> None:
    one = worker(0, 4, episode=[7, 7, 7, 8], step=[*first, 0])
    other = worker(100, 4, episode=[9, 7, 7, 7], step=[0, *second])
    told = r"w1.parquet, column 'episode', row 1: episode 7 comes back, and its steps are those"
    with pytest.raises(LogError, match=told):
        read_log(folder(tmp_path / "log", one, other))


def test_flags_end_with_the_file_too(tmp_path: Path) -> None:
    one = worker(0, 3, terminated=[0, 1, 0], truncated=[0, 0, 0])
    other = worker(100, 2, terminated=[0, 1], truncated=[0, 0])
    log = read_log(folder(tmp_path / "log", one, other))
    assert lengths(log) == [2, 1, 2] and after(log)[2] == 2
    assert log.column(("next", "truncated")).tolist() == [False, False, True, False, False]
    steps = ([0, 1, 0], [1, 2])
    files = [v | {"step": np.array(s)} for v, s in zip((one, other), steps, strict=True)]
    log = read_log(folder(tmp_path / "log", *files))
    assert lengths(log) == [2, 3] and after(log)[2] == 100


def test_a_fixed_length_must_end_with_the_file(tmp_path: Path) -> None:
    files = (worker(0, 3), worker(100, 3))
    log = read_log(folder(tmp_path / "log", *files), {"episode_length": 3})
    assert lengths(log) == [3, 3]
    told = r"w1.parquet, row 0: the file begins within an episode of episode_length 2, and nothing"
    with pytest.raises(LogError, match=told):
        read_log(folder(tmp_path / "log", *files), {"episode_length": 2})
    files = tuple(v | {"t": np.arange(3) + i * 3} for i, v in enumerate(files))
    columns = {"episode_length": 6, "step": "t"}
    assert lengths(read_log(folder(tmp_path / "log", *files), columns)) == [6]


def test_hive_folders_of_workers_and_of_episodes(tmp_path: Path) -> None:
    """Files in one folder ``episode=3`` are parts of one; other folders hold other episodes."""
    by_worker = tmp_path / "workers"
    for i in range(2):
        foreign.parquet(by_worker / f"worker={i}" / "a.parquet", worker(i * 100, 2, episode=[0, 0]))
    assert after(read_log(by_worker)) == [1, 1, 101, 101]
    by_episode = tmp_path / "episodes"
    for i in range(2):
        for part in range(2):
            file = by_episode / f"episode={i}" / f"part-{part}.parquet"
            foreign.parquet(file, worker(i * 100 + part * 2, 2))
    log = read_log(by_episode)
    assert lengths(log) == [4, 4] and after(log) == [1, 2, 3, 3, 101, 102, 103, 103]
    both = tmp_path / "both"
    for i in range(2):
        foreign.parquet(both / f"worker={i}" / "episode=0" / "a.parquet", worker(i * 100, 2))
    assert after(read_log(both)) == [1, 1, 101, 101]


@pytest.mark.parametrize("ending", ["npz", "csv", "hdf5"])
def test_other_formats_are_lists_of_files(ending: str, tmp_path: Path) -> None:
    write = {"npz": foreign.npz, "csv": foreign.csv, "hdf5": foreign.hdf5}[ending]
    (tmp_path / "log").mkdir()
    files = [
        write(tmp_path / "log" / f"w{i}.{ending}", worker(i * 100, 2, episode=np.zeros(2, int)))
        for i in range(2)
    ]
    assert after(read_logs(files)) == [1, 1, 101, 101]
    for columns in (None, {"format": ending}):
        with pytest.raises(LogError, match="folder"):
            read_log(tmp_path / "log", columns)
