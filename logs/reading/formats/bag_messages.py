"""Messages of a recording, from their bytes; their fields are in ``message_fields``."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hindsight_rl import message_fields
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.formats.bag_file import EXTRA, Topic
from hindsight_rl.message_fields import Column

Decode = Callable[[bytes], Any]
_IDL = "=" * 80 + "\n"


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
    try:
        return message_fields.column_of(name, topics)
    except ValueError as error:
        raise LogError(
            f"'{error}' is neither a field nor a place in brackets",
            "Write TOPIC.field.field, an entry as [0] or [elbow].",
            path=path,
            column=name,
        ) from error
