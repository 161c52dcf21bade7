"""A log as a LeRobot dataset, v3.0: parquet files described by meta/info.json.

LeRobot feeds its policies what begins with ``observation`` and takes ``action...`` for what they
answer, so no other column begins like that. Rewards, ends and stored next observations are
features of their own, which its tools pass on. Frames are pictures in the parquet file, or videos
where that is asked for. LeRobot has a frame for each row; what last steps led to lies in a file of
our own.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hindsight_rl.files import whole_folder, write_text
from hindsight_rl.keys import ACTION_LOG_PROB, EPISODE, STEP, TASK, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.writing.arrays import schema_of, tables
from hindsight_rl.logs.writing.flat import MAP_KEY, column_map, stated, written_keys
from hindsight_rl.logs.writing.frames import (
    PICTURE,
    image_keys,
    last_table,
    led_to,
    pictures,
    spans,
)
from hindsight_rl.logs.writing.lerobot_meta import (
    DATA,
    INDEX,
    described,
    statistics,
    write_episodes,
    write_tasks,
)
from hindsight_rl.logs.writing.lerobot_video import write_videos

STATED = f"meta/{MAP_KEY}.json"
LAST_FRAMES = f"meta/{MAP_KEY}_frames.parquet"
"""Frames that last steps led to, a row per episode; the reader looks for it."""
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_NAMES: dict[Key, str] = {
    "observation": "observation.state",
    ("next", "observation"): "next.observation.state",
    ACTION_LOG_PROB: "log_prob",
    TASK: "goal",
    EPISODE: "episode_index",
    STEP: "frame_index",
}


def write(
    log: Log, path: Path, rate: float | None, *, overwrite: bool, video: bool = False
) -> None:
    """Write a log as a LeRobot dataset.

    Args:
        log: The log.
        path: Folder to make.
        rate: Rows per second, where the log does not know it.
        overwrite: Whether a folder that lies there is replaced.
        video: Write cameras as videos, which lose detail, and what last steps led to.

    Raises:
        LogError: Images are no pictures, two columns would have one name, no rate is known, or the
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
    shown = {key: _camera(key) for key in image_keys(log)}
    _check_apart(log, names | shown)
    columns = column_map(log, names | shown) | {"control_rate_hz": rate}
    with whole_folder(path, overwrite=overwrite) as draft:
        for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
            (draft / folder).mkdir(parents=True)
        stills = {} if video else shown
        _write_rows(log, names, stills, columns.get("offset") or {}, rate, draft)
        filmed = write_videos(log, shown, rate, draft) if video else {}
        if led_to(log) and not video:
            pyarrow.parquet.write_table(last_table(log, shown), draft / LAST_FRAMES)
        write_episodes(log, draft / _EPISODES, filmed)
        write_tasks(draft / "meta" / "tasks.parquet")
        write_text(
            draft / "meta" / "info.json",
            json.dumps(described(log, names, shown, rate, video=video), indent=1),
        )
        write_text(
            draft / "meta" / "stats.json", json.dumps(statistics(log, names, shown), indent=1)
        )
        write_text(draft / STATED, stated(log, columns))


def _camera(key: Key) -> str:
    """Return the name of a camera; what follows its frames is one of its own."""
    name = key_name(key)
    later = name.startswith("next.")
    camera = name.removeprefix("next.").removeprefix("observation.").replace("/", ".")
    return f"{'next.' if later else ''}observation.images.{camera}"


def _check_apart(log: Log, names: dict[Key, str]) -> None:
    """Raise where two columns would have one name, or one that LeRobot counts rows by."""
    taken: dict[str, str] = dict.fromkeys(INDEX, "LeRobot's own")
    for key, name in names.items():
        if name in taken:
            raise LogError(
                f"the column '{key_name(key)}' would be called '{name}', as {taken[name]} is",
                "Leave it out of the column map, or write the log as parquet.",
                path=log.sources[0].name,
            )
        taken[name] = f"'{key_name(key)}'"


def _write_rows(
    log: Log,
    names: dict[Key, str],
    shown: dict[Key, str],
    offsets: dict[str, Any],
    rate: float,
    draft: Path,
) -> None:
    schema = schema_of(log, names, offsets, lists_of_one=False)  # as its features of shape [1]
    whole = schema
    for name, kind in INDEX.items():
        whole = whole.append(pa.field(name, pa.type_for_alias(kind)))
    for name in shown.values():
        whole = whole.append(pa.field(name, PICTURE))
    file = draft / DATA.format(chunk_index=0, file_index=0)
    with pyarrow.parquet.ParquetWriter(file, whole) as writer:
        rows_of = spans(log)
        for rows, table in zip(rows_of, tables(log, names, schema, offsets, rows_of), strict=True):
            step = log.column(STEP, rows).numpy()
            index = np.arange(rows.start, rows.start + len(step))
            further = {
                "timestamp": (step / rate).astype(np.float32),
                "index": index,
                "task_index": np.zeros(len(step), np.int64),
            }
            for name, kind in INDEX.items():
                table = table.append_column(name, pa.array(further[name], pa.type_for_alias(kind)))
            for key, name in shown.items():
                table = table.append_column(name, pictures(log, key, rows))
            writer.write_table(table)
