"""Fields of a topic over time: stamps and numbers, one entry per message that holds the field."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.reading.formats.bag_messages import decoder
from hindsight_rl.logs.reading.formats.bag_pictures import stamped
from hindsight_rl.logs.reading.formats.bag_rows import Stamps
from hindsight_rl.logs.reading.formats.bag_scan import Recording
from hindsight_rl.message_fields import Absent, Column, stamp_of, text_of, value_of

HEADER, RECEIVE = "header", "receive"
APART = 1.0
"""Seconds by which the clocks of two topics may differ, and messages come out of order."""
_STARTS = frozenset({"start", "begin", "on", "true", "1"})
_STOPS = frozenset({"stop", "end", "off", "false", "0"})
_SECOND = 1e9


class Series(NamedTuple):
    """A field over time: ``[M]`` stamps (ns, ascending), ``[M, ...]`` numbers, names of entries."""

    stamps: Stamps
    values: NDArray[Any]
    names: list[str]


def decoded(bag: Recording, topic: str) -> list[Any]:
    """Return the messages of a topic that were kept.

    Args:
        bag: The bag.
        topic: One of its topics.

    Returns:
        Messages in the order of the file; of pictures their headers alone.

    Raises:
        LogError: The type is not known, or a message is damaged.
    """
    if topic in bag.brief:
        return [stamped(stub) for stub in bag.kept[topic]]
    decode, found = decoder(bag.topics[topic], bag.path), list[Any]()
    for data in bag.kept[topic]:
        try:
            found.append(decode(data))
        except Exception as error:  # bytes may be damaged in any way
            place = f"{bag.path}, topic {topic}, message {len(found)}"
            raise unreadable(place, bag.topics[topic].type or "a message", error) from error
    return found


def stamps_of(
    bag: Recording, topic: str, messages: Sequence[Any], wanted: str | None
) -> tuple[Stamps, str]:
    """Return the stamps of a topic's messages, ``[M]`` ns in the order of the file.

    Args:
        bag: The bag.
        topic: The topic.
        messages: Its messages.
        wanted: ``receive`` for the times at which the recorder received them; else those of the
            headers, where every message has one.

    Returns:
        Stamps, and which they are.

    Raises:
        LogError: The clock jumps back: in the order of their stamps messages of before and after
            the jump would be mixed.
    """
    stamps, kind = np.array(bag.received[topic], np.int64), RECEIVE
    if wanted != RECEIVE:
        stated = np.array([stamp_of(message) for message in messages], np.int64)
        if (stated > 0).all():
            stamps, kind = stated, HEADER
    back = np.maximum.accumulate(stamps) - stamps
    if back.max() > APART * _SECOND:
        other = "Set `stamps: receive`, or cut" if kind == HEADER else "Cut"
        raise LogError(
            f"its clock ({kind} stamps) jumps back by {back.max() / _SECOND:.4g} s at message "
            f"{int(back.argmax())}, as that of a simulator that is reset",
            f"{other} the bag there and give its parts.",
            path=bag.path,
            column=topic,
        )
    return stamps, kind


def check_clocks(bag: Recording, stamps: Mapping[str, Stamps], kinds: Mapping[str, str]) -> None:
    """Raise where topics are stamped by clocks that differ, so that nothing can be compared.

    Args:
        bag: The bag.
        stamps: Of each topic, in the order of the file.
        kinds: What they are.

    Raises:
        LogError: Two topics are behind their receive times by different amounts.
    """
    late = {
        topic: float(np.median(np.array(bag.received[topic], np.int64) - stamp)) / _SECOND
        for topic, stamp in stamps.items()
    }
    first, last = min(late, key=late.__getitem__), max(late, key=late.__getitem__)
    if late[last] - late[first] > APART:
        raise LogError(
            f"two clocks: {first} ({kinds[first]} stamps) lies {late[first]:.4g} s before the time "
            f"it was received, {last} ({kinds[last]} stamps) {late[last]:.4g} s",
            "Set `stamps: receive` in the column map, or leave one of them out.",
            path=bag.path,
        )


def series_of(messages: Sequence[Any], stamps: Stamps, column: Column, path: Path) -> Series:
    """Return a field over time, joints in the order of the first message that names them.

    Args:
        messages: Of the topic.
        stamps: ``[M]`` of the messages, ns.
        column: The field.
        path: The bag, for messages.

    Returns:
        The series, sorted by stamp; messages without the named entry are left out.

    Raises:
        LogError: No message has the field, it holds no numbers, or its size changes.
    """
    at, values = list[int](), list[NDArray[Any]]()
    first: list[str] = []
    for number, message in enumerate(messages):
        try:
            value, names = value_of(message, column)
        except Absent:
            continue
        except KeyError as error:
            fix = f"Its fields there: {error.args[0]}."
            raise LogError("no such field", fix, path=path, column=column.name) from error
        except TypeError as error:
            problem = f"it holds {error.args[0]}, no numbers (message {number})"
            fix = "Name a field of numbers."
            raise LogError(problem, fix, path=path, column=column.name) from error
        if not values:
            first = names
        elif names != first:
            value = _in_order(value, names, first, column, number, path)
        if values and value.shape != values[0].shape:
            raise LogError(
                f"message {number} has {list(value.shape)} entries, and the first "
                f"{list(values[0].shape)}",
                "Name single entries, [0] or by their names, or leave the column out.",
                path=path,
                column=column.name,
            )
        at.append(number)
        values.append(value)
    if not values:
        why = "holds such an entry" if messages else "is there"
        raise LogError(
            f"no message {why}", "Correct the name, or leave it out.", path=path, column=column.name
        )
    order = np.argsort(stamps[at], kind="stable")
    return Series(stamps[at][order], np.stack(values)[order], first)


def marks(
    messages: Sequence[Any], stamps: Stamps, column: Column, path: Path
) -> tuple[Stamps, NDArray[np.bool_]]:
    """Return the marks of a topic: when, and whether each starts an episode.

    Args:
        messages: Of the topic.
        stamps: ``[M]``, ns.
        column: The field: a flag, a number (0 stops), or one of the words start and stop.
        path: The bag, for messages.

    Returns:
        ``[M]`` ns ascending, and ``[M]``.

    Raises:
        LogError: A mark is something else, or there is none.
    """
    if not messages:
        raise LogError("no mark was recorded", "Leave it out.", path=path, column=column.name)
    on = [_starts(text_of(message, column), column, path) for message in messages]
    order = np.argsort(stamps, kind="stable")
    return stamps[order], np.array(on)[order]


def _starts(mark: Any, column: Column, path: Path) -> bool:
    if isinstance(mark, (bool, int, float, np.number)):
        return bool(mark)
    word = mark.strip().lower() if isinstance(mark, str) else ""
    if word not in _STARTS | _STOPS:
        what = repr(mark)[:50] if isinstance(mark, str) else "no text or flag"
        raise LogError(
            f"a mark is {what}",
            "Name a field that is true and false, 1 and 0, or 'start' and 'stop'.",
            path=path,
            column=column.name,
        )
    return word in _STARTS


def _in_order(
    value: NDArray[Any],
    names: list[str],
    first: list[str],
    column: Column,
    number: int,
    path: Path,
) -> NDArray[Any]:
    """Return numbers in the order of the names of the first message."""
    if sorted(names) != sorted(first):
        raise LogError(
            f"message {number} names {names or 'nothing'}, and the first {first or 'nothing'}",
            f"Several publish on the topic: list the joints, such as '{column.name}[NAME]'.",
            path=path,
            column=column.name,
        )
    return value[[names.index(name) for name in first]]
