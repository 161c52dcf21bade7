"""What files say of themselves: metadata, headers, numbers and column maps that cannot be true."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.reading.column_map import ColumnMap

# ------------------------------------------------------------------ LeRobot


@pytest.mark.parametrize(
    "fps", [[25], "25", float("nan"), float("inf"), -25, 0, True, 10**400, {"a": 1}]
)
def test_lerobot_rates(fps: Any, tmp_path: Path) -> None:
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    info = folder / "meta" / "info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fps": fps}))
    with pytest.raises(LogError, match="info.json: fps is .*, and no number above 0"):
        read_log(folder)
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fps": None}))
    assert read_log(folder).info["control_rate_hz"] is None


def swap(old: str, new: str) -> Callable[[str], str]:
    """Return the change of a text."""
    return lambda text: text.replace(old, new)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("info.json", lambda _: "[" * 100_000 + "]" * 100_000, "info.json: cannot be read as JSON"),
        ("info.json", lambda _: "[]", "info.json: no JSON object"),
        ("info.json", swap('"features": {', '"features": {"a": [],'), "'a': meta/info.json does n"),
        ("info.json", swap('"total_frames": 8', '"total_frames": [8]'), r"promises \[8\]"),
        ("info.json", swap('"v2.1"', "2.1"), "LeRobot format 2.1 is not known"),
        ("tasks.jsonl", lambda text: "null\n" + text, "tasks.jsonl: a line is no JSON object"),
        ("tasks.jsonl", lambda text: "[1]\n" + text, "tasks.jsonl: a line is no JSON object"),
        ("tasks.jsonl", swap('"task_index": 1', '"task_index": null'), "no task of a number and"),
        ("tasks.jsonl", swap('"task_index": 1', '"task_index": -1'), "no task of a number and"),
        ("tasks.jsonl", swap('"put"', "null"), "no task of a number and a text"),
        ("tasks.jsonl", swap("1", "0"), "task 0 has two texts"),
        ("tasks.jsonl", lambda _: "[" * 100_000, "tasks.jsonl: cannot be read as JSON lines"),
        ("episodes.jsonl", swap("3", "1e999"), "a list of episode lengths"),
        ("episodes.jsonl", lambda text: text.splitlines()[0], "episode 1 is not in the metadata"),
    ],
)
def test_lerobot_metadata(
    name: str, change: Callable[[str], str], told: str, tmp_path: Path
) -> None:
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    file = folder / "meta" / name
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(LogError, match=told):
        read_log(folder)


def test_lerobot_tasks_of_millions_of_equal_rows(tmp_path: Path) -> None:
    """Found by ``make fuzz``: 30 kB of text became more than a gigabyte of objects."""
    folder = foreign.lerobot(tmp_path / "robot", "v3.0")
    rows = 1_000_000
    table = pa.table({"task_index": np.zeros(rows, int), "task": pa.repeat("put", rows)})
    pa.parquet.write_table(table, folder / "meta" / "tasks.parquet")
    with pytest.raises(LogError, match="tasks.parquet: it unpacks to 404.4 MiB"):
        read_log(folder)


def test_lerobot_names_that_are_nested_deeply(tmp_path: Path) -> None:
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    info = folder / "meta" / "info.json"
    names = "[" * 600 + "]" * 600
    info.write_text(info.read_text().replace('["shoulder", "elbow"]}, ', names + "}, ", 1))
    with pytest.raises(LogError, match=r"robot: it cannot be read .too deep nesting"):
        read_log(folder)


def test_lerobot_tasks_are_named_by_their_numbers(tmp_path: Path) -> None:
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    lines = [{"task_index": 2, "task": "put"}, {"task_index": 0, "task": "pick"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "meta" / "tasks.jsonl").write_text(text)
    assert read_log(folder).info["task_names"] == ["pick", "task[1]", "put"]


# ------------------------------------------------------------------ read though wrong


def test_whole_numbers_that_turn_real_after_a_megabyte(tmp_path: Path) -> None:
    """Episodes 10^17 + i are told apart as whole numbers only; one real one turns all of them."""
    count, path = 40_000, tmp_path / "log.csv"
    rows = [f"{i}.5,0.1,1,{10**17 + i // 5}" for i in range(count)]
    head = "observation,action,reward,episode\n"
    assert len("\n".join(rows)) > 1 << 20
    path.write_text(head + "\n".join(rows) + "\n")
    assert read_log(path).episodes == count // 5
    path.write_text(head + "\n".join([*rows, "1.5,0.1,1,3.0"]) + "\n")
    with pytest.raises(LogError, match="'episode', row 0: 1e.17 is too large for float64: episode"):
        read_log(path)
    small = [row.replace(str(10**17)[:-5], "") for row in rows]
    path.write_text(head + "\n".join([*small, "1.5,0.1,1,9000000.0"]) + "\n")
    log = read_log(path)
    assert (len(log), log.episodes) == (count + 1, count // 5 + 1)


def test_episode_numbers_beyond_their_type(tmp_path: Path) -> None:
    numbers = np.repeat(2.0**24 + np.arange(3), (4, 1, 3))
    values = foreign.columns() | {"episode": numbers.astype(np.float32)}
    with pytest.raises(LogError, match="'episode', row 0: 16777216 is too large for float32"):
        read_log(foreign.npz(tmp_path / "log.npz", values))
    foreign.expect_same(read_log(foreign.npz(tmp_path / "log.npz", values | {"episode": numbers})))


# ------------------------------------------------------------------ column maps


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("control_rate_hz: .inf", "control_rate_hz: inf is too large. Give a number below 9"),
        ("control_rate_hz: .nan", "control_rate_hz: nan is not above 0"),
        (f"action_count: {10**400}", r"action_count: 1000\d*\.\.\.\d* is too large"),
        (f"time_limit: {2**53}\ndone_means: time_limit", "time_limit: 9007199254740992 is too l"),
        ("reward: .nan", "reward: nan is no number to learn from"),
        ("reward: .inf", "reward: inf is no number to learn from"),
        ("reward: 1e39", "reward: 1e.39 is no number to learn from"),
        ("time: 2020-13-45", "cannot be read .month must be in 1..12"),
        ("a: " + "[" * 3_000, "the column map cannot be read"),
        ("a: " + "x" * (1 << 20), "cannot be read .more than 1,048,576 letters"),
        ("names: {1: [a], observation: [b], q: [c]}", "names has no key 1"),
        (
            "a: &a [x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip(
                "abcdefghij", "bcdefghijk", strict=True))
            + "observation: *k",
            "the column map has no field 'a'",
        ),
    ],
)  # fmt: skip
def test_column_maps(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(LogError, match=told):
        ColumnMap.load(tmp_path / "map.yaml")


def test_task_numbers_that_would_fill_the_memory(tmp_path: Path) -> None:
    """60,000 rows times 60,000 tasks are 13 GiB of ones and zeros."""
    values = {n: np.zeros(60_000, np.float32) for n in ("observation", "action", "reward")}
    values |= {"episode": np.arange(60_000), "task": np.arange(60_000)}
    path = foreign.npz(tmp_path / "log.npz", values)
    with pytest.raises(LogError, match="column 'task': it unpacks to 13.4 GiB in memory"):
        read_log(path, {"task": "task", "one_hot_task": True})


# ------------------------------------------------------------------ saved logs


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rows": 10**30}, "rows"),
        ({"rows": True}, "True rows"),
        ({"rows": 8.0}, "8.0 rows"),
        ({"drawable": 10**30}, "drawable rows"),
        ({"sources": [[0, "8", 1.0, "a"]]}, "source"),
        ({"sources": [[0, 8, None, "a"]]}, "source"),
        ({"sources": [[0, 8, 1.0, 3]]}, "source"),
        ({"info": {"names": {"observation": 3}}}, "info: names is"),
        ({"info": {"control_rate_hz": -1}}, "info: control_rate_hz is -1"),
        ({"info": {"discrete_actions": "two"}}, "info: discrete_actions is two"),
        ({"info": {"task_names": [1]}}, "info: task_names is"),
    ],
)
def test_headers_of_saved_logs(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    read_log(foreign.npz(tmp_path / "log.npz", foreign.columns())).save(tmp_path / "saved")
    header = tmp_path / "saved" / "header.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | change))
    with pytest.raises(LogError, match=f"saved: header.json is damaged .*{told}"):
        read_log(tmp_path / "saved")
    header.write_text("[" * 100_000)
    with pytest.raises(LogError, match="saved: no readable header.json"):
        read_log(tmp_path / "saved")
    header.write_text('{"rows": Infinity, "format": "hindsight-log", "version": 1}')
    with pytest.raises(LogError, match="saved: header.json is damaged"):
        read_log(tmp_path / "saved")
