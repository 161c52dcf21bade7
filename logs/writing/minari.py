"""A log as a Minari dataset: whole episodes, observations one more than actions."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.files import whole_folder, write_text
from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    EPISODE,
    NEXT_ACHIEVED,
    REWARD,
    STEP,
    TASK,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import next_key
from hindsight_rl.logs.writing.flat import FIELDS, MAP_KEY, facts, stated, written_keys
from hindsight_rl.logs.writing.frames import spans

STATED = f"{MAP_KEY}.json"
Array = NDArray[Any]
_OWN = {ACTION, REWARD, TERMINATED, TRUNCATED, EPISODE, STEP, TASK, ACHIEVED, NEXT_ACHIEVED}


def write(log: Log, path: Path, rate: float | None, *, overwrite: bool) -> None:
    """Write a log as a Minari dataset.

    Args:
        log: The log.
        path: Folder to make; its name, with ``-v0`` where it has no version, is the dataset's id.
        rate: Rows per second, where the log does not know it.
        overwrite: Whether a dataset that lies there is replaced.

    Raises:
        LogError: The log has an offset, next observations are not those of the following
            row, or the folder is no dataset.
    """
    import minari
    from minari.dataset.minari_storage import MinariStorage

    if path.exists() and not (path / "data" / "metadata.json").is_file():
        raise LogError(
            "is no Minari dataset, so it is not overwritten", "Choose another name.", path=path
        )
    if log.info.get("offset"):
        raise LogError(
            "it has an offset, and Minari's observations are of float32",
            "Write it as parquet, or read it without the offset.",
            path=log.sources[0].name,
        )
    keys = written_keys(log)
    seen = {*log.observed, *map(next_key, log.observed)}
    infos = [key for key in (*keys, *_beside(log)) if key not in {*_OWN, *seen}]
    _check_chains(log)
    with whole_folder(path, overwrite=overwrite) as draft:
        storage = MinariStorage.new(
            draft / "data", observation_space=_observed(log), action_space=_actions(log)
        )
        storage.update_episodes(_episodes(log, infos))
        name = path.name if re.search(r"-v\d+$", path.name) else f"{path.name}-v0"
        about = {"dataset_id": name, "minari_version": minari.__version__}
        storage.update_metadata(about | {"algorithm_name": "a log of hindsight_rl"})
        columns = _columns(log, infos) | facts(log)
        columns |= {} if rate is None else {"control_rate_hz": rate}
        for given in ("action_low", "action_high", "action_count", "action_start"):
            columns.pop(given, None)  # the space says them
        write_text(draft / STATED, stated(log, columns))


def _beside(log: Log) -> list[Key]:
    """Return the images beside what is observed."""
    return [key for key in log.images if isinstance(key, str)]


def _check_chains(log: Log) -> None:
    """Raise where what follows a row is not the next one: Minari keeps each observation once."""
    inner = log.column(EPISODE).numpy()
    same = inner[:-1] == inner[1:]
    for key in (*log.observed, *([ACHIEVED] if ACHIEVED in log else [])):
        if next_key(key) not in log or (key in log.images and log.images[key].whole):
            continue
        wrong = same & _differ(log, key)
        if wrong.any():
            raise LogError(
                f"{key_name(next_key(key))} is not the {key_name(key)} of the following row in "
                f"{int(wrong.sum()):,} rows, and Minari keeps each observation once",
                "Write it as parquet or lerobot.",
                path=log.sources[0].name,
                row=int(np.flatnonzero(wrong)[0]),
            )


def _differ(log: Log, key: Key) -> NDArray[np.bool_]:
    """Return where what follows a row is not what the next row holds, ``[N - 1]``."""
    found = []
    for rows in spans(log):
        later = log.column(next_key(key), rows).numpy()
        now = log.column(key, slice(rows.start + 1, rows.stop + 1)).numpy()
        found.append((later[: len(now)] != now).any(axis=tuple(range(1, now.ndim))))
    return np.concatenate(found)


def _box(log: Log, key: Key) -> spaces.Box:
    if key in log.images:
        return spaces.Box(0, 255, log.shape(key), np.uint8)
    return spaces.Box(-np.inf, np.inf, log.shape(key) or (1,), np.float32)


def _observed(log: Log) -> spaces.Space[Any]:
    """Return the space of observations; beside a goal or task they lie in a dictionary."""
    choices = log.info.get("observation_choices") or {}
    parts: dict[str, spaces.Space[Any]] = {}
    for key in log.observed:
        name = str(key[-1])
        wide = bool(log.shape(key))
        if name in choices and not isinstance(key, str):
            count = int(choices[name])
            parts[name] = (
                spaces.MultiDiscrete(np.full(log.shape(key), count))
                if wide
                else spaces.Discrete(count)
            )
        else:
            parts[name] = _box(log, key)
    whole: spaces.Space[Any] = spaces.Dict(parts)
    if not log.info.get("entries"):
        whole = _box(log, log.observed[0])
    goals = {TASK: "desired_goal", ACHIEVED: "achieved_goal"}
    beside = {name: _box(log, key) for key, name in goals.items() if key in log}
    return spaces.Dict({"observation": whole, **beside}) if beside else whole


def _actions(log: Log) -> spaces.Space[Any]:
    if count := log.info.get("discrete_actions"):
        return spaces.Discrete(int(count), start=int(log.info.get("action_start") or 0))
    shape, bounds = log.shape(ACTION) or (1,), log.info.get("action") or {}
    ends = []
    for side, open_end in (("low", -np.inf), ("high", np.inf)):
        given = bounds.get(side) or [None] * shape[0]
        ends.append(np.array([open_end if end is None else end for end in given], np.float32))
    return spaces.Box(ends[0].reshape(shape), ends[1].reshape(shape), dtype=np.float32)


def _episodes(log: Log, infos: list[Key]) -> Iterator[Any]:
    from minari.data_collector import EpisodeBuffer

    start = 0
    for number, end in enumerate(log.episode_ends().tolist()):
        rows = slice(start, end + 1)
        start = end + 1
        seen: Any = {str(key[-1]): _with_last(log, key, rows) for key in log.observed}
        if not log.info.get("entries"):
            seen = _with_last(log, log.observed[0], rows)
        beside: dict[str, Array] = {}
        if TASK in log:
            task = log.column(TASK, rows).numpy()
            beside["desired_goal"] = np.concatenate([task, task[-1:]])
        if ACHIEVED in log:
            beside["achieved_goal"] = _with_last(log, ACHIEVED, rows)
        yield EpisodeBuffer(
            id=number,
            observations={"observation": seen, **beside} if beside else seen,
            actions=log.column(ACTION, rows).numpy(),
            rewards=log.column(REWARD, rows).numpy().astype(np.float64),
            terminations=log.column(TERMINATED, rows).numpy(),
            truncations=log.column(TRUNCATED, rows).numpy(),
            infos={
                key_name(key): (_with_last if key in log.images else _returned)(log, key, rows)
                for key in infos
            },
        )


def _with_last(log: Log, key: Key, rows: slice) -> Array:
    """Return a column before each step and after the last one."""
    now = log.column(key, rows).numpy()
    after = next_key(key)
    last = log.column(after, slice(rows.stop - 1, rows.stop)).numpy() if after in log else now[-1:]
    return np.concatenate([now, last])


def _returned(log: Log, key: Key, rows: slice) -> Array:
    """Return a column as the infos of steps; before the first, of the reset, it is repeated."""
    values = log.column(key, rows).numpy()
    return np.concatenate([values[:1], values])


def _columns(log: Log, infos: list[Key]) -> dict[str, Any]:
    beside = TASK in log or ACHIEVED in log
    outer = "observations/observation" if beside else "observations"
    entries = {str(key[-1]): f"{outer}/{key[-1]}" for key in log.observed}
    found: dict[str, Any] = {"observation": entries if log.info.get("entries") else outer}
    found |= {"task": "observations/desired_goal"} if TASK in log else {}
    found |= {"achieved_goal": "observations/achieved_goal"} if ACHIEVED in log else {}
    further = []
    for key in infos:
        name = f"infos/{key_name(key)}"
        if key in log.images:
            found.setdefault("image", []).append(name)
        elif key in FIELDS:
            found[FIELDS[key]] = name
        elif isinstance(key, str) and not log.shape(key):
            further.append(name)
    return found | ({"extra": further} if further else {})
