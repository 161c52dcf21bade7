"""Minari datasets that are already on this machine, by folder or by id. Nothing is downloaded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import read_json
from hindsight_rl.logs.reading.column_map import SHIFTED, ColumnMap, Named
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.formats.minari_sizes import check_stored
from hindsight_rl.logs.reading.observations import choices_of, entries_of, in_roles
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, Names, expand, resolve, wanted
from hindsight_rl.logs.reading.table import Table, parts_of

# Observations of a goal environment come apart: the goal is the task, never part of the state.
NAMES: Names = {
    "observation": ("observations", "observations/observation"),
    "action": ("actions",),
    "reward": ("rewards",),
    "next_observation": ("next_observations", "next_observations/observation"),
    "terminated": ("terminations",),
    "truncated": ("truncations",),
    "episode": ("episode",),
    "task": ("observations/desired_goal",),
    "achieved_goal": ("observations/achieved_goal",),
    "next_achieved_goal": ("next_observations/achieved_goal",),
    "action_log_prob": ("next_infos/action_log_prob",),
}
_INFO = "infos/"
# Fields of what is known when acting.
_BEFORE = ("observation", "achieved_goal", "task", "image")


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a dataset.

    Columns are named ``observations``, ``next_observations`` (with ``/key`` for entries of a
    dictionary), ``actions``, ``rewards``, ``terminations``, ``truncations``, ``episode`` and
    ``infos/key``. Images have a frame more per episode, what its last step led to.

    Args:
        path: Folder of the dataset or its ``data`` folder.
        columns: Column map.

    Returns:
        The table, with bounds or number of actions and the environment's name.

    Raises:
        LogError: No dataset, an unsafe or damaged one, or a column is missing.
    """
    folder = path / "data" if (path / "data" / "metadata.json").exists() else path
    storage, metadata = _open(folder)
    _check_actions(storage.action_space, columns, folder)
    episodes = _episodes(storage, metadata, folder)
    lengths = [len(episode["rewards"]) for episode in episodes]
    promised = metadata.get("total_steps", sum(lengths))
    if sum(lengths) != promised:
        raise LogError(
            f"{sum(lengths)} steps where metadata.json promises {promised}",
            "The dataset is cut: write or fetch it again.",
            path=path,
        )
    named = _of_the_step(columns, episodes[0], path)
    given = in_roles(named, entries_of(metadata["observation_space"]), list(episodes[0]), path)
    resolved = _frames_once(resolve(given, list(episodes[0]), path, NAMES), episodes[0])
    films = _films(resolved, episodes[0])
    for name in wanted(resolved):
        _check_everywhere(name, episodes, lengths, path)
    values = {
        name: np.concatenate([part for e in episodes for part in _parts(e, name, name in films)])
        for name in wanted(resolved)
    }
    parts = parts_of([f"{path}, episode {i}" for i in range(len(episodes))], lengths)
    facts = _facts(storage, metadata) | {"choices": choices_of(metadata["observation_space"])}
    return Table(resolved, values, facts, parts, tuple(episodes[0]))


def _of_the_step(columns: ColumnMap, episode: Mapping[str, Array], path: Path) -> ColumnMap:
    """Return a map in which an info means what a reader of the map expects.

    The infos of an episode are one more than its steps: the first is that of the reset. What is
    known when acting (observation, goal, task, image) is the info from before the step; anything
    else (success, say) is what the step returned.
    """
    changes: dict[str, Any] = {}
    held = list(dict.fromkeys(n.removeprefix("next_") if _INFO in n else n for n in episode))
    for field in COMMON_NAMES:
        given = getattr(columns, field)
        entries = columns_in(given)
        if not any(entry.startswith(_INFO) for entry in entries):
            continue
        if field in _BEFORE:
            _check_known_before(entries, episode, path)
            continue
        if isinstance(given, dict):
            changes[field] = {e: _later(named, held, episode, path) for e, named in given.items()}
        else:
            changes[field] = _later(given, held, episode, path)
    return replace(columns, **changes)


def _later(named: Named, held: Sequence[str], episode: Mapping[str, Array], path: Path) -> Named:
    """Return columns with what the step returned in the place of each info."""
    if named == SHIFTED:
        return named
    names = [name for entry in columns_in(named) for name in columns_in(expand(entry, held, path))]
    later = [f"next_{n}" if n.startswith(_INFO) and f"next_{n}" in episode else n for n in names]
    return later[0] if isinstance(named, str) and len(later) == 1 else later


def _check_known_before(entries: Sequence[str], episode: Mapping[str, Array], path: Path) -> None:
    for entry in entries:
        if entry.startswith(_INFO) and entry not in episode and f"next_{entry}" in episode:
            raise LogError(
                "no info of the reset is stored, so what was known before each step is not there",
                "Name another column: an info of the step is about what comes after it.",
                path=path,
                column=entry,
            )


def _check_everywhere(
    name: str, episodes: Sequence[Mapping[str, Array]], lengths: Sequence[int], path: Path
) -> None:
    """Check that every episode has a column, with an entry per step or one for all of it."""
    found = [len(episode[name]) if name in episode else 0 for episode in episodes]
    if found == list(lengths) or set(found) == {1}:
        return
    pairs = enumerate(zip(found, lengths, strict=True))
    number = next(i for i, (rows, length) in pairs if rows != length)
    raise LogError(
        f"{found[number]} entries in an episode of {lengths[number]} steps",
        "Record it at every step, or once per episode, in all episodes.",
        path=f"{path}, episode {number}",
        column=name,
    )


def _frames_once(columns: ColumnMap, episode: Mapping[str, Array]) -> ColumnMap:
    """Return a map that reads the next frame from the following one, not from a second copy."""
    once: dict[str, Any] = {}
    for field in ("observation", "achieved_goal"):
        named, after = getattr(columns, field), getattr(columns, f"next_{field}")
        if isinstance(named, dict) and isinstance(after, dict):
            once[f"next_{field}"] = {
                entry: SHIFTED if _again(named[entry], name, episode) else name
                for entry, name in after.items()
            }
        elif _again(named, after, episode):
            once[f"next_{field}"] = SHIFTED
    return replace(columns, **once)


def _again(named: Any, after: Any, episode: Mapping[str, Array]) -> bool:
    """Return whether two columns are the same frames, the second from one step later on."""
    return bool(after == f"next_{named}" and _is_film(episode, named))


def _films(columns: ColumnMap, episode: Mapping[str, Array]) -> set[str]:
    """Return the columns of frames, whose last one in an episode nothing else would read."""
    names = set(columns_in(columns.image))
    for field in ("observation", "achieved_goal"):
        named, after = getattr(columns, field), getattr(columns, f"next_{field}")
        pairs = [(named, after)]
        if isinstance(named, dict):
            later = after if isinstance(after, dict) else {}
            pairs = [(name, later.get(entry)) for entry, name in named.items()]
        shifted = (name for name, following in pairs if following in (None, SHIFTED))
        names |= {name for name in shifted if _is_film(episode, name)}
    return {name for name in names if f"next_{name}" in episode}


def _is_film(episode: Mapping[str, Array], name: Any) -> bool:
    if not isinstance(name, str):  # joined columns are numbers, and a goal may be absent
        return False
    return episode[name].dtype == np.uint8 and episode[name].ndim > 2


def _parts(episode: Mapping[str, Array], name: str, whole: bool) -> Sequence[Array]:
    """Return the rows of an episode, of whole ones also what the last step led to."""
    return [episode[name], *([episode[f"next_{name}"][-1:]] if whole else [])]


def _check_actions(space: Any, columns: ColumnMap, folder: Path) -> None:
    """Raise for several choices at once, which would be taken for real numbers."""
    several = isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary)
    if several and columns.discrete_actions is None:
        raise LogError(
            f"its actions are {space}, several choices at once, and a policy makes one",
            "Record them through a wrapper that numbers their combinations, or set "
            "`discrete_actions: false` to take them as real numbers.",
            path=folder,
            column="actions",
        )


def _open(folder: Path) -> tuple[MinariStorage, dict[str, Any]]:
    try:
        metadata = read_json(folder / "metadata.json")
        if not isinstance(metadata, dict):
            raise LogError("metadata.json is no JSON object", "Fetch it again.", path=folder)
        for space in ("observation_space", "action_space"):
            # Without them Minari would make the environment, that is, import what the file names.
            if not isinstance(metadata.get(space), str):
                raise LogError(
                    f"metadata.json holds no {space}",
                    "Write the dataset again with Minari 0.4 or later.",
                    path=folder,
                )
        return MinariStorage.read(folder), metadata
    except LogError:
        raise
    except Exception as error:  # any way of being broken is the same to the caller
        raise unreadable(folder, "a Minari dataset", error) from error


def _episodes(
    storage: MinariStorage, metadata: Mapping[str, Any], folder: Path
) -> list[dict[str, Array]]:
    episodes: list[dict[str, Array]] = []
    try:
        rows = check_stored(folder, metadata)
        for episode in storage.get_episodes(range(int(metadata["total_episodes"]))):
            episodes.append(_columns(episode, folder))
    except LogError:
        raise
    except Exception as error:
        raise unreadable(folder, "a Minari dataset", error) from error
    if not episodes:
        raise LogError("the log is empty", "Give at least one episode.", path=folder)
    found = sum(len(episode["rewards"]) + 1 for episode in episodes)
    if rows not in (None, found):
        raise LogError(
            f"Minari reads {found} of {rows} stored rows",
            "Write the dataset again with one file per episode, or as HDF5.",
            path=folder,
        )
    return episodes


def _columns(episode: Mapping[str, Any], folder: Path) -> dict[str, Array]:
    """Return the columns ``[T, ...]`` of one episode, observations split into now and next."""
    steps = len(episode["rewards"])
    columns = {"episode": np.full(steps, int(episode["id"]))}
    for name, values in _leaves("observations", episode["observations"]):
        _expect(len(values), steps + 1, name, episode, folder)
        columns[name] = values[:-1]
        columns[f"next_{name}"] = values[1:]
    for field in ("actions", "rewards", "terminations", "truncations"):
        for name, values in _leaves(field, episode[field]):
            _expect(len(values), steps, name, episode, folder)
            columns[name] = values
    for name, values in _leaves("infos", episode.get("infos") or {}):
        columns |= _info(name, np.atleast_1d(values), steps)
    return columns


def _info(name: str, values: Array, steps: int) -> dict[str, Array]:
    """Return an info before and after each step; one of the episode is both."""
    if len(values) == steps + 1:
        return {name: values[:-1], f"next_{name}": values[1:]}
    if len(values) == steps:  # the reset was not recorded
        return {f"next_{name}": values}
    return {name: values, f"next_{name}": values}


def _expect(found: int, expected: int, name: str, episode: Mapping[str, Any], folder: Path) -> None:
    if found != expected:
        raise LogError(
            f"{found} rows where {expected} belong",
            "The dataset is cut: write or fetch it again.",
            path=f"{folder}, episode {episode['id']}",
            column=name,
        )


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(f"{name}/{key}", entry)
    elif isinstance(value, tuple):
        for number, entry in enumerate(value):
            yield from _leaves(f"{name}/{number}", entry)
    else:
        yield name, np.asarray(value)


def _facts(storage: MinariStorage, metadata: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    space = storage.action_space
    if isinstance(space, spaces.Discrete):
        facts["action_count"], facts["action_start"] = int(space.n), int(space.start)
    elif isinstance(space, spaces.Box):
        # Infinite where a dimension has no bound on that side.
        facts["low"] = space.low.reshape(-1).tolist()
        facts["high"] = space.high.reshape(-1).tolist()
    try:
        name = json.loads(metadata["env_spec"])["id"]
        facts["environment"] = name if isinstance(name, str) else None
    except (KeyError, TypeError, ValueError, RecursionError):
        facts["environment"] = None
    return facts
