"""A log as a LeRobot dataset, v3.0: parquet files described by meta/info.json, without videos.

LeRobot feeds its policies what begins with ``observation`` and takes ``action...`` for what they
answer, so no other column begins like that. Rewards, ends and stored next observations are
features of their own, which its tools pass on.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hindsight_rl.files import whole_folder, write_text
from hindsight_rl.keys import ACTION, ACTION_LOG_PROB, EPISODE, STEP, TASK, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.writing.arrays import schema_of, tables
from hindsight_rl.logs.writing.flat import MAP_KEY, column_map, stated, written_keys

STATED = f"meta/{MAP_KEY}.json"
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_NAMES: dict[Key, str] = {
    "observation": "observation.state",
    ("next", "observation"): "next.observation.state",
    ACTION_LOG_PROB: "log_prob",
    TASK: "goal",
    EPISODE: "episode_index",
    STEP: "frame_index",
}
_INDEX = {"timestamp": "float32", "index": "int64", "task_index": "int64"}
_WORDS = "a task of this log"  # LeRobot's tasks are texts
_KINDS = {"f": "float32", "i": "int64", "b": "bool"}


def write(log: Log, path: Path, rate: float | None, *, overwrite: bool) -> None:
    """Write a log as a LeRobot dataset.

    Args:
        log: The log.
        path: Folder to make.
        rate: Rows per second, where the log does not know it.
        overwrite: Whether a folder that lies there is replaced.

    Raises:
        LogError: The log has images, two columns would have one name, no rate is known, or the
            folder is no dataset.
    """
    rate = log.info.get("control_rate_hz") or rate
    if not rate:
        raise LogError(
            "the log does not know its control rate, and LeRobot stamps its rows by one",
            "Give the rate, on the command line --rate HZ.",
            path=log.sources[0].name,
        )
    if path.exists() and not (path / "meta" / "info.json").is_file():
        raise LogError(
            "is no LeRobot dataset, so it is not overwritten", "Choose another name.", path=path
        )
    # LeRobot takes a slash, as in the entry arm/q, for that of a folder.
    keys = written_keys(log)
    names = {key: _NAMES.get(key, key_name(key)).replace("/", ".") for key in keys}
    _check_apart(log, names)
    columns = column_map(log, names) | {"control_rate_hz": rate}
    with whole_folder(path, overwrite=overwrite) as draft:
        for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
            (draft / folder).mkdir(parents=True)
        _write_rows(log, names, columns.get("offset") or {}, rate, draft)
        _write_episodes(log, draft / _EPISODES)
        _write_tasks(draft / "meta" / "tasks.parquet")
        write_text(draft / "meta" / "info.json", json.dumps(_info(log, names, rate), indent=1))
        write_text(draft / "meta" / "stats.json", json.dumps(_stats(log, names), indent=1))
        write_text(draft / STATED, stated(log, columns))


def _check_apart(log: Log, names: dict[Key, str]) -> None:
    """Raise where two columns would have one name, or one that LeRobot counts rows by."""
    taken: dict[str, str] = dict.fromkeys(_INDEX, "LeRobot's own")
    for key, name in names.items():
        if name in taken:
            raise LogError(
                f"the column '{key_name(key)}' would be called '{name}', as {taken[name]} is",
                "Leave it out of the column map, or write the log as parquet.",
                path=log.sources[0].name,
            )
        taken[name] = f"'{key_name(key)}'"


def _write_rows(
    log: Log, names: dict[Key, str], offsets: dict[str, Any], rate: float, draft: Path
) -> None:
    schema = schema_of(log, names, offsets, lists_of_one=False)  # as its features of shape [1]
    whole = schema
    for name, kind in _INDEX.items():
        whole = whole.append(pa.field(name, pa.type_for_alias(kind)))
    file = draft / _DATA.format(chunk_index=0, file_index=0)
    with pyarrow.parquet.ParquetWriter(file, whole) as writer:
        for rows, table in zip(log.spans(), tables(log, names, schema, offsets), strict=True):
            step = log.column(STEP, rows).numpy()
            index = np.arange(rows.start, rows.start + len(step))
            further = {
                "timestamp": (step / rate).astype(np.float32),
                "index": index,
                "task_index": np.zeros(len(step), np.int64),
            }
            for name, kind in _INDEX.items():
                table = table.append_column(name, pa.array(further[name], pa.type_for_alias(kind)))
            writer.write_table(table)


def _write_episodes(log: Log, file: Path) -> None:
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
    pyarrow.parquet.write_table(pa.table(columns), file)


def _write_tasks(file: Path) -> None:
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


def _info(log: Log, names: dict[Key, str], rate: float) -> dict[str, Any]:
    features: dict[str, Any] = {}
    said = log.info.get("names") or {}
    for key, name in names.items():
        kind = _KINDS[log.column(key, slice(1)).numpy().dtype.kind]
        label = key_name(key).removeprefix("next.") if key != ACTION else "action"
        width = int(np.prod(log.shape(key)))
        listed = said.get(label)
        stated_names = listed if listed and len(listed) == width else None
        features[name] = {"dtype": kind, "shape": [width], "names": stated_names}
    features |= {n: {"dtype": k, "shape": [1], "names": None} for n, k in _INDEX.items()}
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
        "data_path": _DATA,
        "video_path": None,
        "features": features,
    }


def _stats(log: Log, names: dict[Key, str]) -> dict[str, Any]:
    """Return least, largest, mean and standard deviation of each number, over all rows."""
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
    return found
