"""Topics as the observation of a policy, and its action as a message.

Columns are those of a column map (``/joint_states.position``): what a log of a bag was read by is
what the robot is read by. Numbers that a message names are put into the contract's order.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.feed import Observation
from hindsight_rl.export.sensors import Sensed
from hindsight_rl.message_fields import Absent, Column, column_of, value_of

Array = NDArray[Any]
_JOINT = re.compile(r"\[[^\]]*\D[^\]]*\]$")  # an entry that is called by a name, not a number


@dataclass(frozen=True)
class Entry:
    """An entry of the observation, as the contract has it, and the columns that make it up."""

    name: str
    """"" for the only one."""
    columns: tuple[Column, ...]
    size: int
    """How many numbers."""
    names: tuple[str, ...]
    """Of the numbers; empty where the log had none."""


def columns_of(words: Sequence[str]) -> tuple[Column, ...]:
    """Return columns of words such as ``/joint_states.position``.

    Args:
        words: Each a topic, a dot and a field.

    Returns:
        Topics and steps into their messages.

    Raises:
        ValueError: A word names no field of a topic.
    """
    found = []
    for word in words:
        topic = word.split(".", 1)[0].split("[", 1)[0]
        try:
            column = column_of(word, [topic])
        except ValueError as error:
            raise ValueError(f"'{word}': {error} is neither a field nor a place in it") from error
        if not topic.startswith("/") or column is None or not column.steps:
            raise ValueError(f"'{word}' is no /TOPIC.field, such as /joint_states.position")
        found.append(column)
    return tuple(found)


class Inputs:
    """The newest numbers of every column, and the observation that they make.

    Messages are taken in one thread and read in another.

    Args:
        entries: The observation.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)
        self._newest: dict[str, tuple[Array, list[str], float]] = {}
        self._wrong = ""
        self._lock = threading.Lock()
        self.topics = tuple(dict.fromkeys(c.topic for e in entries for c in e.columns))
        """Topics to subscribe to."""

    def take(self, topic: str, message: Any, at: float) -> None:
        """Take a message.

        Args:
            topic: Of the message.
            message: It. A column that it does not have by name (another publisher's joint) stays.
            at: When it was true, seconds of the reader's clock.
        """
        for column in (c for e in self._entries for c in e.columns if c.topic == topic):
            try:
                numbers, names = value_of(message, column)
            except Absent:
                continue
            except (KeyError, TypeError) as error:
                with self._lock:
                    self._wrong = f"{column.name}: the message has {error.args[0]} there"
                continue
            with self._lock:
                self._newest[column.name] = (np.ravel(numbers), names, at)

    def missing(self) -> list[str]:
        """Return the columns that nothing came for yet."""
        with self._lock:
            columns = [column.name for entry in self._entries for column in entry.columns]
            return [name for name in columns if name not in self._newest]

    def read(self, now: float) -> Sensed | None:
        """Return the observation and the age of its oldest part.

        Args:
            now: Seconds of the clock that messages came by.

        Returns:
            What ``ControlLoop`` reads; ``None`` where a column is missing.

        Raises:
            ValueError: Messages do not have the fields, the numbers or the names of the contract.
        """
        with self._lock:
            if self._wrong:
                raise ValueError(self._wrong)
            parts: dict[str, Array] = {}
            oldest = now
            for entry in self._entries:
                found = [self._newest.get(column.name) for column in entry.columns]
                held = [part for part in found if part is not None]
                if len(held) < len(found):
                    return None
                oldest = min([oldest, *(at for _, _, at in held)])
                parts[entry.name] = _ordered([part[:2] for part in held], entry)
        observation: Observation = parts[""] if list(parts) == [""] else parts
        return Sensed(observation, now - oldest)


def entries_of(contract: Mapping[str, Any], words: Mapping[str, Sequence[str]]) -> list[Entry]:
    """Return the entries of a contract's observation with their columns.

    Args:
        contract: Of the policy.
        words: Columns by entry, under "" those of an observation that is one vector.

    Returns:
        Entries in the contract's order.

    Raises:
        ValueError: An entry has no columns, or is none of plain numbers.
    """
    seen = contract["observation"]
    stated = seen.get("entries") or {"": seen}
    found = []
    for name, about in stated.items():
        label = f"observation.{name}" if name else "observation"
        shape = about.get("shape") or [0]
        if len(shape) != 1 or about.get("dtype", "float32") not in ("float32", "float64"):
            raise ValueError(f"{label} is no vector of numbers: write a node of your own for it")
        if not words.get(name):
            listed = ", ".join(about.get("names") or ()) or "no names"
            raise ValueError(
                f"the parameter {label} is missing: {shape[0]} numbers ({listed}), such as "
                "['/joint_states.position']"
            )
        names = tuple(about.get("names") or ())
        found.append(Entry(name, columns_of(words[name]), int(shape[0]), names))
    return found


def fill(message: Any, column: Column, action: Any, joints: Sequence[str], period: float) -> Any:
    """Write an action into a message.

    Args:
        message: New; changed in place.
        column: Which of its fields.
        action: ``[A]``, or the number of a choice.
        joints: Names for a message that lists some.
        period: Seconds of a step: when a point of a trajectory is to be reached.

    Returns:
        The message.

    Raises:
        ValueError: There is no such field.
    """
    value = int(action) if np.ndim(action) == 0 else [float(number) for number in action]
    for field in ("joint_names", "name"):
        if joints and isinstance(getattr(message, field, None), list):
            setattr(message, field, list(joints))
    holder = message
    *outer, (last, _) = column.steps
    for step, bracketed in outer:
        try:
            holder = holder[int(step)] if bracketed else getattr(holder, step)
        except (AttributeError, IndexError, ValueError) as error:
            raise ValueError(f"{column.name}: the message has no {step} there") from error
    if not hasattr(holder, last):
        raise ValueError(f"{column.name}: the message has no field {last}")
    setattr(holder, last, value)
    after = getattr(holder, "time_from_start", None)
    if after is not None:
        after.sec, after.nanosec = int(period), round(period % 1.0 * 1e9)
    return message


def _ordered(parts: Sequence[tuple[Array, list[str]]], entry: Entry) -> Array:
    """Return the numbers of an entry's columns in the contract's order, by names as in a log."""
    label = f"observation.{entry.name}" if entry.name else "observation"
    # In 64 bits: the policy subtracts the contract's offset before it takes 32.
    numbers = [values.astype(np.float64) for values, _ in parts]
    size = sum(map(len, numbers))
    if size != entry.size:
        columns = ", ".join(column.name for column in entry.columns)
        raise ValueError(f"{label} takes {entry.size} numbers, and {columns} have {size}")
    stated = [_short(name) for name in entry.names]
    if len(stated) != size:
        return np.concatenate(numbers)
    named = [
        [_short(name) for name in own or _numbered(column.name, len(values))]
        for column, (values, own) in zip(entry.columns, parts, strict=True)
    ]
    joined = [name for own in named for name in own]
    if len(set(joined)) == size:
        return _placed(np.concatenate(numbers), joined, stated, label)
    # Two arms may name their joints alike: then each column keeps its place.
    at, found = 0, list[Array]()
    for values, own in zip(numbers, named, strict=True):
        found.append(_placed(values, own, stated[at : at + len(own)], label))
        at += len(own)
    return np.concatenate(found)


def _placed(numbers: Array, names: list[str], stated: list[str], label: str) -> Array:
    """Return numbers in the order of the names that a contract states."""
    if names == stated:
        return numbers
    if sorted(names) == sorted(stated):
        return numbers[[names.index(name) for name in stated]]
    joints = any(_JOINT.search(name) for name in stated) and any(map(_JOINT.search, names))
    if not joints and not set(names) & set(stated):
        return numbers  # the column map gave names of its own
    absent = [name for name in stated if name not in names]
    raise ValueError(
        f"{label} takes {', '.join(absent)}, and messages name {', '.join(names)}: list the "
        "columns as in the column map of the log"
    )


def _numbered(column: str, count: int) -> list[str]:
    """Return the names that a log gives to a column whose messages name nothing."""
    return [column] if count == 1 else [f"{column}[{place}]" for place in range(count)]


def _short(name: str) -> str:
    """Return a name without topic and outer fields: position[elbow] of /joints.position[elbow]."""
    field, bracket, inner = name.partition("[")
    return field.rpartition(".")[2] + bracket + inner
