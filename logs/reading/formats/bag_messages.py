"""Fields of recorded messages as numbers: ``TOPIC.field.field[0]``, joints by their names.

A message of joints lists their names beside its arrays, and each publisher may list them in an
order of its own. So arrays are put into the order of the first message by these names, and
``/joint_states.position[elbow]`` is taken from those messages that hold an elbow.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import DEEPEST
from hindsight_rl.logs.reading.formats.bag_file import EXTRA, Topic

Decode = Callable[[bytes], Any]
_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\[\]]+)\]")
_NAMED = ("name", "joint_names", "names")
_SECOND_NS = 1_000_000_000
_IDL = "=" * 80 + "\n"


@dataclass(frozen=True)
class Column:
    """A field of a topic's messages.

    Args:
        name: As a column map writes it.
        topic: The topic.
        steps: Names of fields, and places or names within brackets, from the outside inwards.
    """

    name: str
    topic: str
    steps: tuple[tuple[str, bool], ...]


def column_of(name: str, topics: Sequence[str], path: Path) -> Column | None:
    """Return the field that a column's name stands for, ``None`` where it names no topic.

    Args:
        name: As a column map writes it.
        topics: Topics of the source.
        path: The source, for messages.

    Returns:
        Topic and steps.

    Raises:
        LogError: What follows the topic cannot be read.
    """
    fitting = [topic for topic in topics if name.startswith(topic)]
    fitting = [topic for topic in fitting if name[len(topic) : len(topic) + 1] in ("", ".", "[")]
    if not fitting:
        return None
    topic = max(fitting, key=len)
    rest, steps, at = name[len(topic) :], list[tuple[str, bool]](), 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise LogError(
                f"'{rest[at:][:50]}' is neither a field nor a place in brackets",
                "Write TOPIC.field.field, an entry as [0] or [elbow].",
                path=path,
                column=name,
            )
        steps.append((found[1] or found[2], found[1] is None))
        at = found.end()
    return Column(name, topic, tuple(steps))


def decoder(topic: Topic, path: Path) -> Decode:
    """Return what makes a message of the bytes of one.

    Args:
        topic: What the file says of the topic.
        path: The source, for messages.

    Returns:
        A function of bytes.

    Raises:
        LogError: The encoding or the type is not known, or the extra is missing.
    """
    if topic.encoding == "json":
        return json.loads
    if topic.encoding != "cdr":
        raise LogError(
            f"messages are encoded as {topic.encoding[:30]!r}, and those of cdr and json are read",
            "Leave the topic out, or convert the recording.",
            path=path,
            column=topic.name,
        )
    return _cdr(topic.type, topic.definition, topic.language, str(path), topic.name)


@cache
def _cdr(kind: str, definition: str, language: str, path: str, name: str) -> Decode:
    try:
        from rosbags.typesys import (
            Stores,
            get_types_from_idl,
            get_types_from_msg,
            get_typestore,
        )
    except ImportError as error:
        raise LogError("messages of ROS need rosbags", f"{EXTRA}.", path=path) from error
    try:
        # The standard types differ little between releases of ROS, and not in what robots log.
        store = get_typestore(Stores.EMPTY if definition else Stores.LATEST)
        if definition and language == "ros2idl":
            texts = definition.split(_IDL)[1:] if definition.startswith(f"{_IDL}IDL: ") else None
            for text in [t.split("\n", 1)[1] for t in texts] if texts else [definition]:
                store.register(get_types_from_idl(text))
        elif definition:
            store.register(get_types_from_msg(definition, kind))
        store.get_msgdef(kind)
    except Exception as error:  # a definition may be wrong in any way
        why = " ".join(str(error).split())[:100] or type(error).__name__
        held = (
            "the definition in the file is wrong" if definition else "the file does not define it"
        )
        raise LogError(
            f"messages of the type '{kind[:100]}', which is not known: {held} ({why})",
            "Record as MCAP, which holds the definitions, or leave the topic out.",
            path=path,
            column=name,
        ) from error
    return lambda data: store.deserialize_cdr(data, kind)


def stamp_of(message: Any) -> int:
    """Return the time (ns) in the header of a message, 0 where it has none."""
    stamp = _entry(_entry(message, "header"), "stamp")
    seconds = _entry(stamp, "sec")
    if isinstance(stamp, (int, float)):  # of JSON, seconds
        return round(stamp * _SECOND_NS)
    nano = _entry(stamp, "nanosec") or _entry(stamp, "nsec") or 0
    return int(seconds) * _SECOND_NS + int(nano) if isinstance(seconds, (int, float)) else 0


def numbers_in(message: Any) -> Iterator[str]:
    """Yield the names of the numbers of a message, ``.field.field``, without its header."""
    for name, value in _fields(message):
        if name == "header":
            continue
        if _is_numeric(value):
            yield f".{name}"
        elif _holds_fields(value):
            yield from (f".{name}{rest}" for rest in numbers_in(value))


class Absent(Exception):  # noqa: N818  (an answer, not a fault)
    """A message does not hold the named entry."""


def value_of(message: Any, column: Column) -> tuple[NDArray[Any], list[str]]:
    """Return the numbers that a column has in a message.

    Args:
        message: It, decoded.
        column: Which of its fields.

    Returns:
        Numbers ``[...]``, and their names where the message has any.

    Raises:
        Absent: An entry that is called by its name is not in this message.
        KeyError: There is no such field; the text lists those that there are.
        TypeError: It holds no numbers; the text says what.
    """
    above, value, last = [], message, ""
    for step, bracketed in column.steps:
        above.append(value)
        if not bracketed:
            found = _entry(value, step)
            if found is None:
                raise KeyError(", ".join(name for name, _ in _fields(value)) or "no fields")
            value, last = found, step
            continue
        place = step if step.isdigit() else str(_place(above, value, step))
        if not int(place) < _length(value):
            raise Absent
        value, last = value[int(place)], f"{last}[{step}]"
    if isinstance(value, str):
        raise TypeError("text")
    numbers, names = _flat(value, 0)
    return numbers, names or _names_of(above, numbers, last)


def text_of(message: Any, column: Column) -> Any:
    """Return a field as it is, ``None`` where there is none: a mark may be a text."""
    value = message
    for step, bracketed in column.steps:
        value = value[int(step)] if bracketed and step.isdigit() else _entry(value, step)
    return value


def _entry(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None) if _holds_fields(value) else None


def _fields(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    named = getattr(type(value), "__dataclass_fields__", {})
    return [(name, getattr(value, name)) for name in named if not name.startswith("__")]


def _holds_fields(value: Any) -> bool:
    return isinstance(value, Mapping) or hasattr(type(value), "__dataclass_fields__")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, np.ndarray)) else 0


def _is_numeric(value: Any) -> bool:
    if isinstance(value, (bool, int, float, np.number)):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    plain = isinstance(value, list) and bool(value)
    return plain and all(isinstance(entry, (bool, int, float)) for entry in value)


def _flat(value: Any, depth: int) -> tuple[NDArray[Any], list[str]]:
    """Return the numbers of a value; of a message all of its own, in their order, with names."""
    if _is_numeric(value) or (isinstance(value, list) and not value):
        return np.asarray(value), []
    if not _holds_fields(value) or depth > DEEPEST:
        raise TypeError(f"a list of {type(value[0]).__name__}" if _length(value) else "no numbers")
    parts, names = list[NDArray[Any]](), list[str]()
    for name, entry in _fields(value):
        if name == "header":
            continue
        if isinstance(entry, str):
            raise TypeError(f"text in its field {name}")
        numbers, inner = _flat(entry, depth + 1)
        parts.append(np.ravel(numbers))
        default = [name] if numbers.ndim == 0 else [f"{name}[{i}]" for i in range(numbers.size)]
        names += [f"{name}.{rest}" for rest in inner] if inner else default
    if not parts:
        raise TypeError("no numbers")
    return np.concatenate(parts), names


def _place(above: Sequence[Any], value: Any, name: str) -> int:
    """Return the place of an entry in an array by its name."""
    names = _listed(above, _length(value))
    if name not in names:
        raise Absent
    return names.index(name)


def _names_of(above: Sequence[Any], numbers: NDArray[Any], last: str) -> list[str]:
    """Return names of the entries of an array: ``position[elbow]``."""
    listed = _listed(above, len(numbers)) if numbers.ndim == 1 else []
    return [f"{last}[{name}]" for name in listed]


def _listed(above: Sequence[Any], count: int) -> list[str]:
    """Return the names that the nearest message around an array lists for as many entries."""
    for outer in reversed(above):
        for field in _NAMED:
            names = _entry(outer, field)
            if isinstance(names, list) and len(names) == count and count:
                if all(isinstance(name, str) for name in names) and len(set(names)) == count:
                    return names
    return []
