"""Messages of a sqlite3 file of rosbag2, as many of a damaged one as can be read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.reading.formats.bag_file import Losses, Message, Topic

_HEADER = b"SQLite format 3\0"


def sqlite_messages(path: Path, losses: Losses) -> Iterator[Message]:
    """Yield the messages of a sqlite3 file.

    Args:
        path: The file, ``.db3``.
        losses: Receives what is lost.

    Yields:
        Messages in the order in which they were written.

    Raises:
        LogError: It is no such file, or nothing of it can be read.
    """
    with path.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            raise LogError(
                "it is no sqlite3 file of rosbag2", "Give a file that rosbag2 wrote.", path=path
            )
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as base:
        try:
            base.execute("PRAGMA trusted_schema = OFF")
            # Else a file shorter than its header says is not opened at all; nothing is written.
            base.execute("PRAGMA writable_schema = ON")
            topics = _topics(base)
        except sqlite3.Error as error:
            raise unreadable(path, "a sqlite3 file of rosbag2", error) from error
        last = found = 0
        damage = ""
        try:
            query = "SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"
            for number, topic, received, data in base.execute(query):
                last = number
                if topic in topics and isinstance(received, int) and isinstance(data, bytes):
                    found += 1
                    yield Message(topics[topic], received, data)
        except sqlite3.Error as error:
            damage = f" ({str(error)[:100]})"
        # Numbers run on from 1, so that pages which were lost in the middle show as well.
        newest = max(last, _newest(base) or 0)
        if damage or newest > found:
            losses.add(
                f"{path}: the file is damaged{damage}: {newest - found:,} of {newest:,} messages "
                "are lost, by their numbers",
                newest - found,
            )


def _topics(base: sqlite3.Connection) -> dict[int, Topic]:
    """Return the topics by their number; older files hold no definitions of types."""
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master")}
    for table in ("topics", "messages", "message_definitions"):
        _check_plain(base, table)
    said: dict[str, tuple[str, str]] = {}
    if "message_definitions" in tables:
        query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        said = {kind: (text, language) for kind, language, text in base.execute(query) if text}
    query = "SELECT id, name, type, serialization_format FROM topics"
    return {
        number: Topic(name, kind, encoding, *said.get(kind, ("", "")))
        for number, name, kind, encoding in base.execute(query)
    }


def _check_plain(base: sqlite3.Connection, table: str) -> None:
    """Raise for a view or a computed column: what they yield has no end and no size."""
    query = (
        "SELECT type = 'table' AND sql LIKE 'CREATE TABLE%' FROM sqlite_master "
        "WHERE lower(name) = ?"
    )
    plain = all(stored for (stored,) in base.execute(query, (table,)))
    hidden = any(row[-1] for row in base.execute(f"PRAGMA table_xinfo({table})"))
    if hidden or not plain:
        raise sqlite3.DatabaseError(f"'{table}' is no table of stored values")


def _newest(base: sqlite3.Connection) -> int | None:
    """Return the number of the last message that was written, where that can still be read."""
    try:
        (found,) = base.execute("SELECT max(id) FROM messages").fetchone()
    except sqlite3.Error:
        return None
    return found if isinstance(found, int) else None
