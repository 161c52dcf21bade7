"""Fields of messages as numbers: ``TOPIC.field.field[0]``, joints by their names.

Messages are of JSON, of a bag or of a robot that runs. A message of joints lists their names beside
its arrays, and each publisher may list them in an order of its own. So arrays come with names, and
``/joint_states.position[elbow]`` is taken from those messages that hold an elbow.
"""

import array
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\[\]]+)\]")
_NAMED = ("name", "joint_names", "names")
_DEEPEST = 32
"""Messages within messages."""
_SECOND_NS = 1_000_000_000
_LATEST = 9_000_000_000  # seconds, whose ns still fit 64 bits


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


def column_of(name: str, topics: Sequence[str]) -> Column | None:
    """Return the field that a column's name stands for, ``None`` where it names no topic.

    Args:
        name: As a column map writes it.
        topics: Topics that there are.

    Returns:
        Topic and steps.

    Raises:
        ValueError: What follows the topic cannot be read; the text shows it.
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
            raise ValueError(rest[at:][:50])
        steps.append((found[1] or found[2], found[1] is None))
        at = found.end()
    return Column(name, topic, tuple(steps))


def stamp_of(message: Any) -> int:
    """Return the time (ns) in the header of a message, 0 where it has none."""
    stamp = _entry(_entry(message, "header"), "stamp")
    seconds, nano = stamp, 0  # of JSON, seconds
    if not isinstance(stamp, (int, float)):
        seconds = _entry(stamp, "sec")
        nano = _entry(stamp, "nanosec") or _entry(stamp, "nsec") or 0
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < _LATEST:
        return 0
    return round(seconds * _SECOND_NS) + (nano if isinstance(nano, int) else 0)


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
        place = step if step.isdecimal() else str(_place(above, value, step))
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
        if bracketed and step.isdecimal():
            value = value[int(step)] if int(step) < _length(value) else None
        else:
            value = _entry(value, step)
    return value


def _entry(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None) if _holds_fields(value) else None


def _fields(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    # Of a message of rclpy, or of one that was read from a bag.
    typed = getattr(value, "get_fields_and_field_types", None)
    named = typed() if typed is not None else getattr(type(value), "__dataclass_fields__", {})
    return [(name, getattr(value, name)) for name in named if not name.startswith("__")]


def _holds_fields(value: Any) -> bool:
    kind = type(value)
    typed = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "get_fields_and_field_types")
    return typed or isinstance(value, Mapping)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, np.ndarray, array.array)) else 0


def _is_numeric(value: Any) -> bool:
    if isinstance(value, (bool, int, float, np.number)):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, array.array):
        return value.typecode != "u"
    plain = isinstance(value, list) and bool(value)
    return plain and all(isinstance(entry, (bool, int, float)) for entry in value)


def _flat(value: Any, depth: int) -> tuple[NDArray[Any], list[str]]:
    """Return the numbers of a value; of a message all of its own, in their order, with names."""
    if _is_numeric(value) or (isinstance(value, list) and not value):
        return np.asarray(value), []
    if not _holds_fields(value) or depth > _DEEPEST:
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
