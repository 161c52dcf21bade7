"""What a LeRobot dataset, v3.0, says of itself: episodes, tasks, features and statistics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hindsight_rl.keys import ACTION, Key, key_name
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.writing.frames import spans
from hindsight_rl.logs.writing.lerobot_video import VIDEO, feature

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INDEX = {"timestamp": "float32", "index": "int64", "task_index": "int64"}
"""LeRobot's own columns, and their types."""

_WORDS = "a task of this log"  # LeRobot's tasks are texts
_KINDS = {"f": "float32", "i": "int64", "b": "bool"}


def write_episodes(log: Log, file: Path, filmed: Mapping[str, Any]) -> None:
    """Write where the rows of each episode lie.

    Args:
        log: The log.
        file: Parquet file to make.
        filmed: Further columns: where the episodes lie in videos.
    """
    stops = log.episode_ends().numpy() + 1
    starts = np.concatenate([[0], stops[:-1]])
    count = len(stops)
    zeros = np.zeros(count, np.int64)
    columns = {
        "episode_index": np.arange(count),
        "tasks": [[_WORDS]] * count,
        "length": stops - starts,
        "data/chunk_index": zeros,
        "data/file_index": zeros,
        "dataset_from_index": starts,
        "dataset_to_index": stops,
        "meta/episodes/chunk_index": zeros,
        "meta/episodes/file_index": zeros,
    }
    pyarrow.parquet.write_table(pa.table({**columns, **filmed}), file)


def write_tasks(file: Path) -> None:
    """Write the texts of the tasks as pandas does a frame that is indexed by them."""
    text = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    number = {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
    }
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [number | {"metadata": None}, text | {"metadata": None}],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": [_WORDS]})
    table = table.replace_schema_metadata({"pandas": json.dumps(about)})
    pyarrow.parquet.write_table(table, file)


def described(
    log: Log, names: Mapping[Key, str], shown: Mapping[Key, str], rate: float, *, video: bool
) -> dict[str, Any]:
    """Return what ``meta/info.json`` says.

    Args:
        log: The log.
        names: Name of each key of numbers.
        shown: Name of each key of images.
        rate: Rows per second.
        video: Whether images lie in videos.

    Returns:
        Plain values.
    """
    features: dict[str, Any] = {}
    said = log.info.get("names") or {}
    for key, name in names.items():
        kind = _KINDS[log.column(key, slice(1)).numpy().dtype.kind]
        label = key_name(key).removeprefix("next.") if key != ACTION else "action"
        width = int(np.prod(log.shape(key)))
        listed = said.get(label)
        stated_names = listed if listed and len(listed) == width else None
        features[name] = {"dtype": kind, "shape": [width], "names": stated_names}
    for key, name in shown.items():
        sides = ["height", "width", "channels"]
        still = {"dtype": "image", "shape": list(log.shape(key)), "names": sides}
        features[name] = feature(log.shape(key), rate) if video else still
    features |= {n: {"dtype": k, "shape": [1], "names": None} for n, k in INDEX.items()}
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": log.episodes,
        "total_frames": len(log),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": int(rate) if float(rate).is_integer() else rate,
        "splits": {"train": f"0:{log.episodes}"},
        "data_path": DATA,
        "video_path": VIDEO if video else None,
        "features": features,
    }


def statistics(log: Log, names: Mapping[Key, str], shown: Mapping[Key, str]) -> dict[str, Any]:
    """Return least, largest, mean and standard deviation of each number, over all rows.

    Those of frames are of each channel, from 0 to 1, of shape ``[C, 1, 1]``.

    Args:
        log: The log.
        names: Name of each key of numbers.
        shown: Name of each key of images.

    Returns:
        By name, plain values.
    """
    found: dict[str, Any] = {}
    for key, name in names.items():
        values = log.column(key).numpy().reshape(len(log), -1).astype(np.float64)
        found[name] = {
            "min": values.min(0).tolist(),
            "max": values.max(0).tolist(),
            "mean": values.mean(0).tolist(),
            "std": values.std(0).tolist(),
            "count": [len(log)],
        }
    return found | {name: _frame_stats(log, key) for key, name in shown.items()}


def _frame_stats(log: Log, key: Key) -> dict[str, Any]:
    """Return the same of the channels of frames, by how often each value is there."""
    counts = np.zeros((log.shape(key)[-1], 256), np.int64)
    for rows in spans(log):
        frames = log.column(key, rows).numpy()
        for channel, count in enumerate(counts):
            count += np.bincount(frames[..., channel].ravel(), minlength=256)
    value, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ value / total
    spread = np.sqrt(np.maximum(0.0, counts @ value**2 / total - mean**2))
    held = [np.flatnonzero(count) / 255 for count in counts]
    by_channel = {
        "min": [float(one[0]) for one in held],
        "max": [float(one[-1]) for one in held],
        "mean": mean.tolist(),
        "std": spread.tolist(),
    }
    shaped = {name: [[[one]] for one in ones] for name, ones in by_channel.items()}
    return shaped | {"count": [len(log)]}
