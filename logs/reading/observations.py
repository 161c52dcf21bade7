"""A dictionary of observations in a log: which of its entries is what, as in an environment."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hindsight_rl.entries import PREFIX, Entry, entry_name, is_whole, roles
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import listed
from hindsight_rl.logs.reading.column_map import LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.resolve import expand


def entries_of(space: str) -> list[Entry]:
    """Return the entries of an observation space, in the order in which it was written.

    Minari's own space would not do: it sorts every dictionary.

    Args:
        space: The space as Minari's metadata hold it, JSON.

    Returns:
        Paths to the entries.
    """
    return [entry for entry, _ in _walk(json.loads(space), ())]


def choices_of(space: str) -> dict[str, int]:
    """Return how many choices each entry has that is one of some, counted from 0.

    Args:
        space: The space as Minari's metadata hold it, JSON.

    Returns:
        Counts by the name of the column. One that counts from elsewhere is left out.
    """
    leaves = ((entry, leaf) for entry, leaf in _walk(json.loads(space), ()))
    return {
        entry_name(entry): leaf["n"]
        for entry, leaf in leaves
        if leaf.get("type") == "Discrete"
        and type(leaf.get("n")) is int
        and leaf.get("start", 0) == 0
    }


def _walk(space: Mapping[str, Any], at: Entry) -> Iterator[tuple[Entry, Mapping[str, Any]]]:
    inner = space.get("subspaces")
    if isinstance(inner, Mapping):
        for key, part in inner.items():
            yield from _walk(part, (*at, str(key)))
    elif isinstance(inner, list):
        for number, part in enumerate(inner):
            yield from _walk(part, (*at, str(number)))
    else:
        yield at, space


def in_roles(
    columns: ColumnMap, entries: Sequence[Entry], held: Sequence[str], path: Path
) -> ColumnMap:
    """Return a map in which a dictionary of observations comes apart as in an environment.

    Goals become the task and what was reached, the rest is joined in the order of the space, but
    for what is mapped as an image (:mod:`hindsight_rl.entries`). Each has its next values.

    Args:
        columns: The map as its owner wrote it.
        entries: Entries of the observation space, in its order.
        held: Columns of the dataset.
        path: The dataset, for messages.

    Returns:
        The map.

    Raises:
        LogError: The space and the columns have other entries.
    """
    named = [entry_name(entry) for entry in entries]
    there = {name for name in held if name.split("/")[0] == PREFIX}
    if len(set(named)) < len(named) or set(named) != there:
        raise LogError(
            f"observation_space names the entries {listed(named)}, and the episodes hold "
            f"{listed(sorted(there))}",
            "Write the dataset again, with no '/' in a key.",
            path=path,
        )
    columns = replace(columns, **_guessed(columns, entries, held, path))
    following: dict[str, Any] = {}
    for field in ("observation", "achieved_goal"):
        given = getattr(columns, field)
        if given and getattr(columns, f"next_{field}") == LEFT_OUT:
            following[f"next_{field}"] = _following(given)
    return replace(columns, **following)


def _following(named: Any) -> Any:
    """Return the columns of one step later, in the same form."""
    if isinstance(named, dict):
        return {entry: _following(part) for entry, part in named.items()}
    return [f"next_{name}" for name in named] if isinstance(named, list) else f"next_{named}"


def _guessed(
    columns: ColumnMap, entries: Sequence[Entry], held: Sequence[str], path: Path
) -> dict[str, Any]:
    """Return the columns of each role that the map leaves out."""
    images = expand(columns.image, held, path) if columns.image else []
    found = roles(entries)
    by_field = {
        "observation": found.observation,
        "task": found.task,
        "achieved_goal": found.achieved,
    }
    guessed: dict[str, Any] = {}
    for field, role in by_field.items():
        if not role or getattr(columns, field) != LEFT_OUT:
            continue
        names = [entry_name(entry) for entry in role]
        kept = [n for n in names if n not in ([images] if isinstance(images, str) else images)]
        guessed[field] = names[0] if is_whole(role) else kept or None
    return guessed
