"""Messages of one recorded file (MCAP, or sqlite3 of rosbag2) in the order in which they lie there.

A recorder that loses its power leaves a file without footer and index, whose last chunk is cut. So
MCAP is read from its front, record by record, and a cut chunk as far as it unpacks. What is lost is
reported, never passed over.

Reference:
    MCAP file format, version 0 (mcap.dev/spec).
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import LARGEST_RATIO, UNQUESTIONED, check_memory

MAGIC = b"\x89MCAP0\r\n"
EXTRA = "pip install 'hindsight-rl[train,ros]'"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _METADATA, _DATA_END = 2, 3, 4, 5, 6, 12, 15
_KNOWN = range(1, 256)  # 0 is none, those from 128 on are private
_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")  # begin, end, unpacked size, its checksum, letters of a name
_LATEST = 1 << 63  # ns, of a signed number
_SECOND = 1e9


@dataclass(frozen=True)
class Topic:
    """What a file says of a topic.

    Args:
        name: The topic.
        type: Name of its messages' type.
        encoding: Of the messages: ``cdr`` or ``json``.
        definition: Text of the type, "" where the file holds none.
        language: Of that text: ``ros2msg``, ``ros2idl``, ``jsonschema``.
    """

    name: str
    type: str
    encoding: str
    definition: str = ""
    language: str = ""


class Message(NamedTuple):
    """A message as it was recorded: its topic, when it was received (ns), its bytes."""

    topic: Topic
    received: int
    data: bytes


@dataclass
class Losses:
    """What a file has lost.

    Args:
        messages: How many messages, ``None`` where that cannot be said.
        until: Receive time (ns) up to which it is known that messages were there, 0 if not known.
        sentences: What happened, one sentence each.
    """

    messages: int | None = 0
    until: int = 0
    sentences: list[str] = field(default_factory=list)

    def add(self, sentence: str, messages: int | None = None, until: int = 0) -> None:
        """Note a loss."""
        known = None not in (messages, self.messages)
        self.messages = (self.messages or 0) + (messages or 0) if known else None
        self.until = max(self.until, until)
        self.sentences.append(sentence)


@dataclass
class _Open:
    """A file while it is read: its channels and schemas so far, and what was found beside them."""

    path: Path
    losses: Losses
    metadata: dict[str, dict[str, str]]
    schemas: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    channels: dict[int, Topic] = field(default_factory=dict)
    messages: int = 0
    bytes: int = 0
    parsed: int = 0
    unpacked: int = 0
    lost: int = 0
    undescribed: int = 0


def mcap_messages(
    path: Path, losses: Losses, metadata: dict[str, dict[str, str]]
) -> Iterator[Message]:
    """Yield the messages of an MCAP file; of one that was cut, all that can be recovered.

    Args:
        path: The file.
        losses: Receives what is lost.
        metadata: Receives the metadata records by name.

    Yields:
        Messages in the order of the file.

    Raises:
        LogError: It is no MCAP, or a chunk claims to unpack to more than its file can mean.
    """
    opened = _Open(path, losses, metadata)
    yield from _all(opened)
    if opened.undescribed:
        losses.add(f"{path}: {opened.undescribed:,} descriptions of topics are damaged", 0)
    if opened.lost:
        losses.add(
            f"{path}: {opened.lost:,} messages are damaged, or of no topic that is described",
            opened.lost,
        )


def _all(opened: _Open) -> Iterator[Message]:
    """Yield the messages of a file up to its end, or to where it is cut."""
    path, losses, size = opened.path, opened.losses, opened.path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise LogError("it is no MCAP file", "Give a file that a recorder wrote.", path=path)
        while True:
            at = file.tell()
            head = file.read(_HEAD.size)
            kind, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
            if kind in (_DATA_END, _FOOTER):
                return
            if kind not in _KNOWN:
                what = "without an end" if not head.strip(b"\0") else "cut"
                losses.add(f"{path}: the file is {what} at byte {at:,}")
                return
            whole = length <= size - file.tell()
            body = file.read(length if whole else size)
            if kind == _CHUNK:
                yield from _chunk(opened, body, at, whole)
            elif whole:
                yield from _record(opened, kind, body)
            if not whole:
                if kind != _CHUNK:
                    lost = 1 if kind == _MESSAGE else None
                    losses.add(f"{path}: the file is cut within the record at byte {at:,}", lost)
                return


def _record(opened: _Open, kind: int, body: bytes) -> Iterator[Message]:
    """Yield the message of a record, or take note of what it says."""
    if kind == _MESSAGE:
        opened.messages, opened.bytes = opened.messages + 1, opened.bytes + len(body) + _HEAD.size
        if len(body) >= _MESSAGE_HEAD.size:
            channel, _, received, _ = _MESSAGE_HEAD.unpack_from(body)
            topic = opened.channels.get(channel)
            if topic is not None and received < _LATEST:
                yield Message(topic, received, body[_MESSAGE_HEAD.size :])
                return
        opened.lost += 1
    elif kind in (_SCHEMA, _CHANNEL, _METADATA):
        try:
            _describe(opened, kind, body)
        except Exception:  # the bytes may be damaged in any way
            opened.undescribed += 1


def _describe(opened: _Open, kind: int, body: bytes) -> None:
    """Take note of a schema, a channel or metadata."""
    from mcap.data_stream import ReadDataStream
    from mcap.records import Channel, Metadata, Schema

    stream = ReadDataStream(io.BytesIO(body))
    if kind == _SCHEMA:
        schema = Schema.read(stream)
        text = schema.data.decode("utf-8", "replace")
        opened.schemas[schema.id] = (schema.name, schema.encoding, text)
    elif kind == _CHANNEL:
        channel = Channel.read(stream)
        name, language, text = opened.schemas.get(channel.schema_id, ("", "", ""))
        encoding = channel.message_encoding
        opened.channels[channel.id] = Topic(channel.topic, name, encoding, text, language)
    else:
        held = Metadata.read(stream)
        opened.metadata[held.name] = dict(held.metadata)


def _chunk(opened: _Open, body: bytes, at: int, whole: bool) -> Iterator[Message]:
    """Yield the messages of a chunk, of a damaged one as many as unpack."""
    path, place = opened.path, f"{opened.path}: the chunk at byte {at:,}"
    if len(body) < _CHUNK_HEAD.size:
        opened.losses.add(f"{place} is cut before its first message")
        return
    begin, end, size, checksum, letters = _CHUNK_HEAD.unpack_from(body)
    start = _CHUNK_HEAD.size + letters + 8
    held = path.stat().st_size
    check_memory(size, held, path)
    opened.unpacked += size
    if opened.unpacked > max(UNQUESTIONED, LARGEST_RATIO * held):  # time, if not memory
        check_memory(opened.unpacked, held, path)
    compression = body[_CHUNK_HEAD.size : start - 8].decode("ascii", "replace")
    data, why = _unpacked(compression, body[start:], size, path)
    if whole and not why and checksum and zlib.crc32(data) != checksum:
        why = "its checksum differs"
    if whole and (why or len(data) != size):
        data = b""  # no telling which of its numbers are right
    if not why and len(data) == size:
        yield from _records(opened, data)
        return
    before, last = opened.messages, begin
    for message in _records(opened, data):
        last = message.received
        yield message
    found = opened.messages - before
    mean = opened.bytes / opened.messages if opened.messages else 0.0
    lost = round((size - opened.parsed) / mean) if mean else None
    count = "an unknown number" if lost is None else f"about {lost:,}"
    opened.losses.add(
        f"{place} is {'damaged' if whole else 'cut'}{f' ({why})' if why else ''}: {found:,} of its "
        f"messages are recovered, {count} are lost, {max(0, end - last) / _SECOND:.3g} s",
        lost,
        end,
    )


def _records(opened: _Open, data: bytes) -> Iterator[Message]:
    """Yield the messages of unpacked records, up to one that is cut."""
    at = opened.parsed = 0
    while at + _HEAD.size <= len(data):
        kind, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if kind not in _KNOWN or at + length > len(data):
            return
        yield from _record(opened, kind, data[at : at + length])
        at += length
        opened.parsed = at


def _unpacked(compression: str, data: bytes, size: int, path: Path) -> tuple[bytes, str]:
    """Return what unpacks of a chunk, and why it is not all."""
    unpack = {"": _plain, "zstd": _zstd, "lz4": _lz4}.get(compression)
    if unpack is None:
        raise LogError(
            f"its chunks are compressed by {compression[:20]!r}, which is not known",
            "Write the file again with zstd, lz4 or no compression.",
            path=path,
        )
    return _all_of(unpack, data, size)


def _all_of(
    unpack: Callable[[bytes, int], Iterator[bytes]], data: bytes, size: int
) -> tuple[bytes, str]:
    parts: list[bytes] = []
    try:
        parts.extend(unpack(data, size))
        why = ""
    except Exception as error:  # any way of being damaged is the same
        why = " ".join(str(error).split())[:100] or type(error).__name__
    return b"".join(parts)[:size], why


def _plain(data: bytes, size: int) -> Iterator[bytes]:
    yield data


def _zstd(data: bytes, size: int) -> Iterator[bytes]:
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
        while size > 0 and (part := reader.read(min(size, 1 << 16))):
            yield part
            size -= len(part)


def _lz4(data: bytes, size: int) -> Iterator[bytes]:
    import lz4.frame

    reader = lz4.frame.LZ4FrameDecompressor()
    step, at = 1 << 16, 0
    while at < len(data) and not reader.eof and size > 0:
        part = reader.decompress(data[at : at + step], max_length=size)
        at, size = at + step, size - len(part)
        yield part
