"""Reads the parts of a spec from plain values; errors name what is missing."""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.spec_parts import (
    WHOLE,
    ActionSpec,
    Dataset,
    Discrete,
    Entry,
    Image,
    Probe,
    Shape,
    SpecError,
    TaskSpec,
    Vector,
    Words,
)


def entries_of(described: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the entries of an observation."""
    if "entries" not in described:
        return {WHOLE: _entry(described, "observation")}
    parts = mapping(described["entries"], "observation.entries")
    if not parts:
        raise SpecError("spec: observation.entries is empty")
    found = {}
    for name, facts in parts.items():
        place = f"observation.{name}"
        found[name] = _entry(mapping(facts, place), place)
    return found


def vectors_of(described: Mapping[str, Any]) -> dict[str, Vector]:
    """Return the columns beside the observation."""
    found = {}
    for name, facts in described.items():
        entry = _entry(mapping(facts, f"beside.{name}"), f"beside.{name}")
        if not isinstance(entry, Vector):
            raise SpecError(f"spec: beside.{name} is no vector of float32")
        found[name] = entry
    return found


def _entry(facts: Mapping[str, Any], place: str) -> Entry:
    """Return one entry; version 1 says by its dtype alone what it is."""
    kinds = {"float32": "vector", "uint8": "image", "int64": "discrete"}
    dtype = needed(facts, "dtype", place)
    kind = facts.get("kind", kinds.get(str(dtype)))
    if kind is None or kinds.get(str(dtype)) != kind:
        raise SpecError(
            f"spec: {place} has kind {facts.get('kind')!r} and dtype {dtype!r}, and is a vector of "
            "float32, an image of uint8 or a discrete entry of int64"
        )
    shape, (names, units) = _shape(facts, place), _names(facts, place)
    if kind == "vector":
        mean, std, offset = (
            _numbers(facts.get(name), f"{place}.{name}") for name in ("mean", "std", "offset")
        )
        return Vector(shape, mean, std, names, units, offset)
    if kind == "image":
        return Image(shape, names=names, units=units)
    return Discrete(
        of_kind(needed(facts, "n", place), int, f"{place}.n"), shape, names=names, units=units
    )


def action_of(facts: Mapping[str, Any]) -> ActionSpec:
    """Return the action."""
    kind = needed(facts, "kind", "action")
    if kind not in ("continuous", "discrete"):
        raise SpecError(f"spec: action.kind is {kind!r}, and is 'continuous' or 'discrete'")
    shape, (names, units) = _shape(facts, "action"), _names(facts, "action")
    rate_limit = _numbers(facts.get("rate_limit"), "action.rate_limit", open_ends=True)
    if kind == "discrete":
        n = of_kind(needed(facts, "n", "action"), int, "action.n")
        start = of_kind(facts.get("start", 0), int, "action.start")
        return ActionSpec(
            "discrete", shape, n=n, start=start, rate_limit=rate_limit, names=names, units=units
        )
    if len(shape) != 1:
        raise SpecError(f"spec: action.shape is {list(shape)}, and is one size for real numbers")
    low, high = (
        _numbers(facts.get(side), f"action.{side}", open_ends=True) for side in ("low", "high")
    )
    mean, std = (_numbers(facts.get(name), f"action.{name}") for name in ("mean", "std"))
    quantiles = _numbers(facts.get("quantiles"), "action.quantiles")
    if (
        quantiles is not None
        and [isinstance(row, tuple) and len(row) > 1 for row in quantiles] != [True] * shape[0]
    ):
        raise SpecError(f"spec: action.quantiles must be {shape[0]} lists of 2 or more numbers")
    return ActionSpec(
        "continuous",
        shape,
        low,
        high,
        mean,
        std,
        rate_limit=rate_limit,
        names=names,
        units=units,
        quantiles=quantiles,
    )


def task_of(facts: Mapping[str, Any]) -> TaskSpec:
    """Return the task."""
    mean, std, offset, default = (
        _numbers(facts.get(name), f"task.{name}") for name in ("mean", "std", "offset", "default")
    )
    family = of_kind(facts.get("family", "task"), str, "task.family")
    shape, (names, units) = _shape(facts, "task"), _names(facts, "task")
    return TaskSpec(shape, mean, std, names, units, offset, family=family, default=default)


def dataset_of(facts: Mapping[str, Any]) -> Dataset:
    """Return the log; facts of it that are not there are empty."""
    return Dataset(
        of_kind(facts.get("hash", ""), str, "dataset.hash"),
        _words(facts.get("source"), "dataset.source") or (),
        of_kind(facts.get("rows", 0), int, "dataset.rows"),
        of_kind(facts.get("episodes", 0), int, "dataset.episodes"),
    )


def probe_of(facts: Mapping[str, Any], entries: Mapping[str, Entry]) -> Probe:
    """Return the probe rows; the answers of a contract are left out."""
    rows = facts.get("observation")
    if list(entries) == [WHOLE]:
        rows = None if rows is None else {WHOLE: rows}
    tables = {}
    for name, table in mapping(rows or {}, "probe.observation").items():
        if name not in entries:
            raise SpecError(f"spec: probe.observation.{name} is of no entry of the observation")
        tables[name] = _table(table, entries[name], f"probe.observation.{name}")
    task = facts.get("task")
    return Probe(tables, None if task is None else _rows(task, "float32", "probe.task"))


def _table(values: Any, entry: Entry, place: str) -> NDArray[Any]:
    """Return probe rows: nested lists, or bytes as a text in base64."""
    if not isinstance(values, str):
        return _rows(values, entry.dtype, place)
    size = math.prod(entry.shape)
    try:
        data = base64.b64decode(values, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SpecError(f"spec: {place} is not base64 ({error})") from error
    if entry.dtype != "uint8" or not size or len(data) % size:
        raise SpecError(f"spec: {place} holds no rows of shape {list(entry.shape)}")
    return np.frombuffer(data, np.uint8).reshape(-1, *entry.shape)


def _rows(values: Any, dtype: str, place: str) -> NDArray[Any]:
    try:
        return np.array(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SpecError(f"spec: {place} is no full table of numbers ({error})") from error


def needed(facts: Mapping[str, Any], name: str, place: str) -> Any:
    """Return a fact that must be there."""
    if name not in facts:
        raise SpecError(f"{'' if place == 'spec' else 'spec: '}{place}.{name} is missing")
    return facts[name]


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """Return a dictionary with texts as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise SpecError(f"spec: {place} must be a dictionary, and is {type(value).__name__}")
    return value


def of_kind(value: Any, kinds: Any, place: str) -> Any:
    """Return a value that is of the kind that is needed; truth values are no numbers."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise SpecError(f"spec: {place} is {value!r}, which is not of the right type")
    return value


def _shape(facts: Mapping[str, Any], place: str) -> Shape:
    sizes = needed(facts, "shape", place)
    sound = isinstance(sizes, Sequence) and all(type(size) is int and size >= 0 for size in sizes)
    if not sound or isinstance(sizes, str):
        raise SpecError(f"spec: {place}.shape is {sizes!r}, and must list sizes")
    return tuple(sizes)


def _names(facts: Mapping[str, Any], place: str) -> tuple[Words | None, Words | None]:
    """Return names and units."""
    return _words(facts.get("names"), f"{place}.names"), _words(
        facts.get("units"), f"{place}.units"
    )


def _words(values: Any, place: str) -> Words | None:
    found: Words | None = _tuple(values, place, lambda word: isinstance(word, str), "texts")
    return found


def _numbers(values: Any, place: str, *, open_ends: bool = False) -> Any:
    """Return numbers as tuples, nested as they are; a gap stands for an open end where allowed."""

    def fits(value: Any) -> bool:
        if value is None:
            return open_ends
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    return _tuple(values, place, fits, "numbers")


def _tuple(values: Any, place: str, fits: Callable[[Any], bool], what: str) -> Any:
    if values is None:
        return None
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise SpecError(f"spec: {place} is {values!r}, and must be a list of {what}")
    found = []
    for value in values:
        inner = isinstance(value, Sequence) and not isinstance(value, str)
        if not inner and not fits(value):
            raise SpecError(f"spec: {place} holds {value!r}, and must be a list of {what}")
        found.append(_tuple(value, place, fits, what) if inner else value)
    return tuple(found)
