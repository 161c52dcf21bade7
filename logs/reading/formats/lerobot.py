"""LeRobot datasets, v2.0 to v3: parquet files, described by meta/info.json.

Version 2 keeps one file per episode, version 3 many episodes per file. Both are read by listing the
files and comparing rows with what the metadata promises, so that a missing file is noticed.
Cameras are decoded where the column map names them, from videos (:mod:`lerobot_video`) or single
pictures.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hindsight_rl.logs.checks import MOST_CHOICES, Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import files_below, parse_json, read_json, read_text
from hindsight_rl.logs.problems import missing_column
from hindsight_rl.logs.reading.cameras import check_cameras
from hindsight_rl.logs.reading.column_map import LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.formats.arrow import (
    check_sizes,
    parquet_columns,
    read_parquet,
    to_numpy,
)
from hindsight_rl.logs.reading.formats.arrow_pictures import picture_columns, read_pictures
from hindsight_rl.logs.reading.formats.lerobot_video import cameras, read_cameras
from hindsight_rl.logs.reading.formats.parquet import table_of
from hindsight_rl.logs.reading.resolve import Names, resolve, wanted
from hindsight_rl.logs.reading.table import Table, natural
from hindsight_rl.logs.reading.whole_frames import whole_frames

# `next.done` only says that the recording of an episode stopped, so it is not guessed.
NAMES: Names = {
    "observation": ("observation.state", "observation.environment_state", "observation"),
    "action": ("action",),
    "reward": ("next.reward", "reward"),
    "episode": ("episode_index",),
    "step": ("frame_index",),
}
LAST_FRAMES = "meta/hindsight_frames.parquet"
"""File of our own: what the last step of each episode led to, a row per episode."""
_EPISODE = "episode_index"
_ROW = 400  # bytes of a row of the metadata as Python keeps it
MOST_FPS = 1e6
"""Rows per second at most: more is a damaged number."""


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a dataset folder.

    Args:
        path: The folder that holds ``meta`` and ``data``.
        columns: Column map; a dataset without rewards gets zeros unless it says otherwise.

    Returns:
        The table, with names, tasks and control rate of the metadata.

    Raises:
        LogError: No dataset, an unknown version, files missing, or rows that the metadata denies.
    """
    info = _info(path)
    files = natural(files_below(path / "data", "*.parquet"))
    if not files:
        raise LogError("data/ holds no .parquet file", "Fetch the dataset again.", path=path)
    held = parquet_columns(files[0])
    filmed = [name for name in cameras(info["features"]) if name not in held]
    kinds = {name: feature.get("dtype") for name, feature in info["features"].items()}
    check_cameras(columns, lambda name: kinds.get(name) in ("image", "video"), path)
    if columns.reward == LEFT_OUT and not set(held) & set(NAMES["reward"]):
        columns = replace(columns, reward=0.0)
    resolved = resolve(columns, [*held, *filmed], path, NAMES)
    watched = [name for name in wanted(resolved) if name in filmed]
    stills = [name for name in wanted(resolved) if name in held and kinds.get(name) == "image"]
    table = table_of(files, resolved, path, apart=[*watched, *stills])
    _check_counts(path, info, table)
    names = {name: _names(info["features"].get(name, {}).get("names")) for name in held}
    rate = _rate(info.get("fps"), path)
    facts = {"names": names, "control_rate_hz": rate, "task_names": _task_names(path)}
    if watched:
        table.values.update(read_cameras(path, watched, info | {"fps": rate}, resolved, files))
    table.values.update(_read_stills(path, stills, files, resolved))
    return replace(table, facts=facts, held=(*held, *filmed))


def _info(path: Path) -> dict[str, Any]:
    info = _json(path / "meta" / "info.json")
    version = str(info.get("codebase_version"))
    if not version.startswith(("v2", "v3")):
        raise LogError(
            f"LeRobot format {version[:50]} is not known",
            "Convert the dataset to v2.1 or v3.0 with LeRobot's scripts.",
            path=path / "meta" / "info.json",
        )
    features = info.get("features")
    if not isinstance(features, Mapping):
        raise LogError("meta/info.json lists no features", "Fetch the metadata again.", path=path)
    for name, feature in features.items():
        if not isinstance(feature, Mapping):
            raise LogError(
                "meta/info.json does not describe the feature",
                "Fetch the metadata again.",
                path=path,
                column=name,
            )
    return info


def _json(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise LogError("no JSON object", "Fetch the metadata again.", path=path)
    return value


def _rate(fps: Any, path: Path) -> float | None:
    """Return the rows per second that the metadata say."""
    if fps is None:
        return None
    number = isinstance(fps, (int, float)) and not isinstance(fps, bool)
    if not number or not 0 < fps < MOST_FPS:
        raise LogError(
            f"fps is {reprlib.repr(fps)}, and no number above 0",
            "Correct it, or fetch the metadata again.",
            path=path / "meta" / "info.json",
        )
    return float(fps)


def _read_stills(
    path: Path, names: Sequence[str], files: Sequence[Path], columns: ColumnMap
) -> dict[str, Array]:
    """Return frames that are single pictures; of our own datasets those of whole episodes."""
    found: dict[str, Array] = {}
    own = path / LAST_FRAMES
    there = picture_columns(own) if own.exists() else []
    for name in names:
        frames, rows = read_pictures(files, name, columns)
        numbers = np.concatenate(
            [to_numpy(read_parquet(file, [_EPISODE])[_EPISODE], _EPISODE, file) for file in files]
        )
        if len(rows) != len(numbers):
            raise LogError("an empty cell", "Fetch it again.", path=files[0], column=name)
        if name in there:
            last, _ = read_pictures([own], name, columns)
            ends = np.flatnonzero(np.r_[numbers[1:] != numbers[:-1], True])
            if len(last) != len(ends):
                raise LogError(
                    f"{len(last)} frames for {len(ends)} episodes", "Remove it.", path=own
                )
            frames = whole_frames(frames, last, np.arange(len(ends)), ends)
        found[name] = frames
    return found


def _check_counts(path: Path, info: Mapping[str, Any], table: Table) -> None:
    """Compare rows and episode lengths with the metadata."""
    action = table.columns.action
    rows = len(table.values[action if isinstance(action, str) else (action or [""])[0]])
    if info.get("total_frames") not in (None, rows):
        raise LogError(
            f"{rows} rows where meta/info.json promises {reprlib.repr(info['total_frames'])}",
            "Files are missing or cut: fetch the dataset again.",
            path=path,
        )
    name = table.columns.episode
    if name != NAMES["episode"][0]:
        return
    numbers, counts = np.unique(table.values[name], return_counts=True)
    seen = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    promised = _lengths(path)
    unknown = sorted(set(seen) - set(promised)) if promised else []
    if unknown:
        raise LogError(
            f"episode {unknown[0]} is not in the metadata",
            "The dataset was appended to or mixed: fetch it again.",
            path=path,
            column=name,
        )
    for episode, length in promised.items():
        if seen.get(episode) != length:
            raise LogError(
                f"episode {episode} has {seen.get(episode, 0)} rows where the metadata promises "
                f"{length}",
                "A file is missing or cut: fetch the dataset again.",
                path=path,
                column=name,
            )


def _lengths(path: Path) -> dict[int, int]:
    """Return the promised length of each episode; empty where the metadata has no such list."""
    rows = _json_lines(path / "meta" / "episodes.jsonl")
    for file in natural(files_below(path / "meta" / "episodes", "*.parquet")):
        rows += _rows(file, ["episode_index", "length"])
    try:
        return {int(row["episode_index"]): int(row["length"]) for row in rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise unreadable(path / "meta", "a list of episode lengths", error) from error


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    rows = [parse_json(line, path, "JSON lines") for line in lines]
    if not all(isinstance(row, dict) for row in rows):
        raise LogError("a line is no JSON object", "Fetch the metadata again.", path=path)
    return rows


def _task_names(path: Path) -> list[str]:
    """Return the texts of the tasks in the order of their numbers."""
    rows = _json_lines(path / "meta" / "tasks.jsonl")
    file = path / "meta" / "tasks.parquet"
    if file.exists():
        # Version 3 writes a data frame whose index, the text, has one of two names.
        held = parquet_columns(file)
        text = "task" if "task" in held else "__index_level_0__"
        known = text in held and "task_index" in held
        table = _rows(file, ["task_index", text]) if known else []
        rows += [{"task_index": row["task_index"], "task": row[text]} for row in table]
    named: dict[int, str] = {}
    for row in rows:
        number, name = row.get("task_index"), row.get("task")
        if (
            not isinstance(number, int)
            or isinstance(number, bool)
            or not 0 <= number < MOST_CHOICES
            or not isinstance(name, str)
        ):
            raise LogError(
                f"no task of a number and a text: {reprlib.repr(row)}",
                "Fetch the metadata again.",
                path=path / "meta",
            )
        if named.setdefault(number, name) != name:
            raise LogError(
                f"task {number} has two texts", "Fetch the metadata again.", path=path / "meta"
            )
    return [named.get(number, f"task[{number}]") for number in range(max(named, default=-1) + 1)]


def _rows(file: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Return the rows of some columns of a parquet file of the metadata."""
    held = parquet_columns(file)
    for name in columns:
        if name not in held:
            raise missing_column(name, held, file)
    check_sizes([file], columns, file, row_bytes=_ROW)
    return list(read_parquet(file, columns).to_pylist())


def _names(names: Any) -> list[str]:
    """Return names that may be a list, a list in a list, or a mapping of lists, as one list."""
    if isinstance(names, Mapping):
        return [name for group in names.values() for name in _names(group)]
    if isinstance(names, list):
        return [name for entry in names for name in _names(entry)]
    return [str(names)] if isinstance(names, str) else []
