"""Names, units and offsets of dimensions: what a column map and a source say of them."""

from typing import Any

import numpy as np

from hindsight_rl.keys import ACTION, TASK, Key, key_name
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.column_map import Named
from hindsight_rl.logs.reading.entries import observed_columns
from hindsight_rl.logs.reading.table import Table


def named_dimensions(table: Table, columns: dict[Key, Array], findings: Problems) -> dict[str, Any]:
    """Return the facts ``names``, ``units`` and, where one is given, ``offset``.

    Args:
        table: Columns of the source.
        columns: Those of the log that is made.
        findings: Where it came from.

    Returns:
        Lists of one entry per dimension, by key.

    Raises:
        LogError: They are more or fewer than the dimensions.
    """
    given = table.columns
    sources = {part.key: part.named for part in observed_columns(given)}
    sources |= {key: named for key, named in ((ACTION, given.action), (TASK, given.task)) if named}
    named = {
        key_name(key): _names(table, key_name(key), source, columns[key], findings)
        for key, source in sources.items()
        if key in columns and _has_dimensions(key, columns[key])
    }
    units = {key: list(unit) for key, unit in (given.units or {}).items()}
    for key, unit in units.items():
        _same_count("units", key, unit, named.get(key, []), findings)
    for key in given.names or {}:
        if key not in named:
            raise findings.error(
                f"names are given for {key}, which has no dimensions here", "Leave them out."
            )
    facts: dict[str, Any] = {"names": named, "units": units}
    if given.offset:
        facts["offset"] = _offsets(table, columns, findings)
    return facts


def _offsets(table: Table, columns: dict[Key, Array], findings: Problems) -> dict[str, Any]:
    """Return what was subtracted from each key, one number per dimension."""
    found: dict[str, Any] = {}
    for label in table.columns.offset or {}:
        values = columns.get(_key(label))
        if values is None or values.dtype.kind != "f":
            problem = (
                "which the log does not have" if values is None else "which is no real numbers"
            )
            raise findings.error(f"offset is given for {label}, {problem}", "Leave it out.")
        found[label] = offset_of(table, label, values.shape[1:], findings).tolist()
    return found


def offset_of(table: Table, label: str, shape: tuple[int, ...], findings: Problems) -> Array:
    """Return what is subtracted from the numbers of a key.

    Args:
        table: Columns of the source.
        label: Name of the key.
        shape: Of one row.
        findings: Where it came from.

    Returns:
        ``shape`` float64; zeros where the map gives no offset.

    Raises:
        LogError: Neither one number nor one per dimension is given.
    """
    given = (table.columns.offset or {}).get(label, 0.0)
    numbers, size = np.ravel(np.asarray(given, np.float64)), int(np.prod(shape))
    if len(numbers) not in (1, size):
        raise findings.error(
            f"offset of the {label} has {len(numbers)} numbers for {size} dimensions",
            "Give one number, or one per dimension.",
        )
    return np.broadcast_to(numbers, (size,)).reshape(shape)


def _key(label: str) -> Key:
    outer, dot, entry = label.partition(".")
    return (outer, entry) if dot else outer


def _has_dimensions(key: Key, values: Array) -> bool:
    """Return whether a column is of numbers in a row; choices among the entries have no names."""
    number = values.dtype.kind == "f" or isinstance(key, str)
    return values.ndim < 3 and values.dtype != np.uint8 and number


def _names(table: Table, label: str, named: Named, values: Array, findings: Problems) -> list[str]:
    """Names of the dimensions: as given, as the source says, as its columns, or numbered."""
    width = 1 if values.ndim == 1 else values.shape[1]
    numbered = [f"{label}[{i}]" for i in range(width)] if values.ndim > 1 else [label]
    given = (table.columns.names or {}).get(label)
    if given:
        _same_count("names", label, given, numbered, findings)
        return list(given)
    if label == "task" and table.columns.one_hot_task:
        said = list(table.facts.get("task_names") or [])
    elif isinstance(named, list):
        said = [part for name in named for part in _part_names(table, name)]
    else:
        said = list((table.facts.get("names") or {}).get(named) or [])
    return said if len(said) == width else numbered


def _part_names(table: Table, name: str) -> list[str]:
    """Names of the dimensions of one of several joined columns."""
    width = table.values[name][0].size if len(table.values[name]) else 0
    said = list((table.facts.get("names") or {}).get(name) or [])
    if len(said) == width:
        return said
    return [name] if width == 1 else [f"{name}[{i}]" for i in range(width)]


def _same_count(
    what: str, key: str, given: list[str], expected: list[str], findings: Problems
) -> None:
    if len(given) != len(expected):
        raise findings.error(
            f"{len(given)} {what} for {len(expected)} dimensions of {key}",
            f"Correct {what} in the column map.",
        )
