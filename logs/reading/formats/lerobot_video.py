"""Cameras of LeRobot datasets: which video and which time each row's frame comes from.

Version 2 keeps one video per episode and camera, whose time begins with the episode; version 3 many
episodes in one, the metadata say where each begins.
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.frame_store import Camera, stored_frames
from hindsight_rl.logs.limits import files_below
from hindsight_rl.logs.reading.cameras import kept_size
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.formats.arrow import parquet_columns, read_parquet, to_numpy
from hindsight_rl.logs.video import Clip, Size

_FETCH = "Fetch the dataset again."
_TIME, _FRAME, _EPISODE = "timestamp", "frame_index", "episode_index"
_LARGEST = 1 << 14  # pixels of a side
_V2 = re.compile(r"chunk-[0-9]+/(?P<camera>[^/]+)/episode_(?P<number>[0-9]+)\.mp4")
_V3 = re.compile(r"(?P<camera>[^/]+)/chunk-(?P<chunk>[0-9]+)/file-(?P<number>[0-9]+)\.mp4")


def cameras(features: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns that lie in videos."""
    return [name for name, feature in features.items() if feature.get("dtype") == "video"]


def read_cameras(
    path: Path,
    names: Sequence[str],
    info: Mapping[str, Any],
    columns: ColumnMap,
    files: Sequence[Path],
) -> dict[str, Array]:
    """Return the frames of cameras, decoded before or now.

    Args:
        path: The dataset.
        names: Columns of the cameras.
        info: What ``meta/info.json`` says.
        columns: Says how large frames are kept, and where.
        files: The parquet files, in the order of the rows.

    Returns:
        ``[N + E, H, W, 3]`` uint8 by column, mapped: the last frame of every episode twice.

    Raises:
        LogError: A video is missing or damaged, or has no frame at the time of a row.
    """
    folder = Path(columns.frame_cache or path.with_name(f"{path.name}.frames"))
    episodes, times = _times(files, float(info["fps"]))
    find = _in_version_2 if str(info["codebase_version"]).startswith("v2") else _in_version_3
    found: dict[str, Array] = {}
    for name in names:
        recorded = _size(info["features"][name], name, path)
        clips = find(path, name, episodes, times)
        camera = Camera(name, clips, recorded, kept_size(columns, recorded, name), 1 / info["fps"])
        found[name] = stored_frames(camera, folder)
    return found


def _size(feature: Mapping[str, Any], name: str, path: Path) -> Size:
    """Return height and width, whichever order the metadata have them in."""
    shape: Any = feature.get("shape")
    names = feature.get("names")
    counts = isinstance(shape, list) and len(shape) == 3
    if not counts or not all(type(side) is int and 0 < side <= _LARGEST for side in shape):
        raise LogError(
            f"its shape is {reprlib.repr(shape)}, and not that of an image",
            "Correct meta/info.json.",
            path=path,
            column=name,
        )
    first = isinstance(names, list) and names[:1] in (["channels"], ["channel"])
    height, width = shape[1:] if first else shape[:2]
    return int(height), int(width)


def _times(files: Sequence[Path], fps: float) -> tuple[Array, list[NDArray[np.float64]]]:
    """Return the number of each episode in the order of the rows, and the times of its rows."""
    held = parquet_columns(files[0])
    clock = _TIME if _TIME in held else _FRAME
    for needed in (clock, _EPISODE):
        if needed not in held:
            raise LogError(
                "no such column, and cameras need it", _FETCH, path=files[0], column=needed
            )
    shards = [(file, read_parquet(file, [clock, _EPISODE])) for file in files]
    time, episode = (
        np.concatenate([to_numpy(shard[name], name, file) for file, shard in shards])
        for name in (clock, _EPISODE)
    )
    time = time.astype(np.float64) / (1.0 if clock == _TIME else fps)
    starts = np.flatnonzero(np.r_[True, episode[1:] != episode[:-1]])
    runs = np.split(time, starts[1:])
    for run, row in zip(runs, starts.tolist(), strict=True):
        wrong = np.flatnonzero(~np.isfinite(run) | (np.diff(run, prepend=run[0]) < 0))
        if len(wrong):
            raise LogError(
                "times of an episode fall, or are no numbers",
                _FETCH,
                path=files[0].parent,
                column=clock,
                row=row + int(wrong[0]),
            )
    return episode[starts], runs


def _in_version_2(
    path: Path, name: str, episodes: Array, times: Sequence[NDArray[np.float64]]
) -> list[Clip]:
    there = {match["number"].lstrip("0"): file for match, file in _videos(path, name, _V2)}
    clips = []
    for number, seconds in zip(episodes.tolist(), times, strict=True):
        file = there.get(str(number).lstrip("0"))
        if file is None:
            raise _no_video(path, name, number)
        clips.append(Clip(file, seconds))
    return clips


def _in_version_3(
    path: Path, name: str, episodes: Array, times: Sequence[NDArray[np.float64]]
) -> list[Clip]:
    there = {(int(m["chunk"]), int(m["number"])): file for m, file in _videos(path, name, _V3)}
    columns = [f"videos/{name}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    where: dict[int, tuple[tuple[int, int], float]] = {}
    for file in files_below(path / "meta" / "episodes", "*.parquet"):
        held = parquet_columns(file)
        for needed in (_EPISODE, *columns):
            if needed not in held:
                raise LogError("no such column", _FETCH, path=file, column=needed)
        rows = read_parquet(file, [_EPISODE, *columns]).to_pylist()
        try:
            where |= {int(row[_EPISODE]): _place(row, columns) for row in rows}
        except (TypeError, ValueError, OverflowError) as error:
            raise unreadable(file, "a list of places in videos", error) from error
    clips = []
    for number, seconds in zip(episodes.tolist(), times, strict=True):
        place, start = where.get(int(number), ((-1, -1), 0.0))
        if place not in there:
            raise _no_video(path, name, number)
        clips.append(Clip(there[place], seconds + start))
    return clips


def _place(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[tuple[int, int], float]:
    chunk, number, start = (row[column] for column in columns)
    if not 0 <= float(start) < float("inf"):
        raise ValueError(f"from_timestamp {start}")
    return (int(chunk), int(number)), float(start)


def _videos(path: Path, name: str, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
    """Return the videos of a camera with the numbers in their names."""
    folder = path / "videos"
    files = files_below(folder, "*.mp4") if folder.is_dir() else []
    matched = ((pattern.fullmatch(file.relative_to(folder).as_posix()), file) for file in files)
    return [(match, file) for match, file in matched if match and match["camera"] == name]


def _no_video(path: Path, name: str, episode: int) -> LogError:
    return LogError(
        f"there is no video of episode {episode}", _FETCH, path=path / "videos", column=name
    )
