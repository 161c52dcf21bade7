"""A writer of MCAP: messages of JSON, and pictures as ROS 2 has them.

The file is written record by record, without chunks or index: of a robot that loses its power, all
messages are there that the system had written to the disk. Nothing but numpy is needed.

Reference:
    MCAP file format, version 0 (mcap.dev/spec); sensor_msgs/msg/Image of ROS 2, and its encoding
    CDR, little endian.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

PICTURE = "sensor_msgs/msg/Image"
ENCODINGS = {1: "mono8", 3: "rgb8", 4: "rgba8"}
"""Encodings of pictures by their channels."""

_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _METADATA, _DATA_END = 1, 2, 3, 4, 5, 12, 15
_RULE = "=" * 80
_DEFINITION = f"""\
std_msgs/Header header
uint32 height
uint32 width
string encoding
uint8 is_bigendian
uint32 step
uint8[] data
{_RULE}
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
{_RULE}
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
_SECOND_NS = 1_000_000_000


class McapWriter:
    """Writes messages to a file.

    Args:
        file: An empty binary file.
        metadata: What a reader finds before the first message, under the name ``hindsight``.
    """

    def __init__(self, file: BinaryIO, metadata: Mapping[str, str]) -> None:
        self._file = file
        self._channels: dict[str, int] = {}
        self._sequence = 0
        file.write(_MAGIC)
        self._record(_HEADER, _text("") + _text("hindsight"))
        pairs = b"".join(_text(name) + _text(value) for name, value in metadata.items())
        self._record(_METADATA, _text("hindsight") + _sized(pairs))

    def write(self, topic: str, stamp: int, message: Mapping[str, Any]) -> None:
        """Write a message.

        Args:
            topic: Its topic.
            stamp: When, ns since 1970.
            message: Plain values that JSON can hold; all of a topic have the same fields.
        """
        if topic not in self._channels:
            name = f"hindsight{topic.replace('/', '.')}"
            self._open(topic, "json", name, "jsonschema", json.dumps(_schema(message)))
        self._message(topic, stamp, json.dumps(message, separators=(",", ":")).encode())

    def picture(self, topic: str, stamp: int, pixels: NDArray[np.uint8]) -> None:
        """Write a picture as ``sensor_msgs/msg/Image``.

        Args:
            topic: Its topic.
            stamp: When, ns since 1970.
            pixels: ``[H, W, C]`` uint8: grey, red green and blue, or these with opacity.
        """
        if topic not in self._channels:
            self._open(topic, "cdr", PICTURE, "ros2msg", _DEFINITION)
        self._message(topic, stamp, _image(stamp, pixels))

    def close(self) -> None:
        """Write the end of the file; it stays open."""
        self._record(_DATA_END, struct.pack("<I", 0))
        self._record(_FOOTER, struct.pack("<QQI", 0, 0, 0))
        self._file.write(_MAGIC)

    def _open(self, topic: str, encoding: str, kind: str, language: str, schema: str) -> None:
        number = len(self._channels) + 1
        self._channels[topic] = number
        described = _text(kind) + _text(language) + _sized(schema.encode())
        self._record(_SCHEMA, struct.pack("<H", number) + described)
        about = _text(topic) + _text(encoding) + _sized(b"")
        self._record(_CHANNEL, struct.pack("<HH", number, number) + about)

    def _message(self, topic: str, stamp: int, data: bytes) -> None:
        number = self._channels[topic]
        head = struct.pack("<HIQQ", number, self._sequence & 0xFFFFFFFF, stamp, stamp)
        self._sequence += 1
        self._record(_MESSAGE, head + data)

    def _record(self, kind: int, body: bytes) -> None:
        self._file.write(struct.pack("<BQ", kind, len(body)) + body)


def _image(stamp: int, pixels: NDArray[np.uint8]) -> bytes:
    """Return a message of a picture; each number lies at a multiple of its own size."""
    height, width, channels = pixels.shape
    encoding = ENCODINGS[channels].encode() + b"\0"
    head = struct.pack("<iII4sII", *divmod(stamp, _SECOND_NS), 1, b"", height, width)
    head += struct.pack("<I", len(encoding)) + encoding + b"\0"  # not big-endian
    head += b"\0" * (-len(head) % 4)
    head += struct.pack("<II", width * channels, pixels.size)
    return b"\0\1\0\0" + head + np.ascontiguousarray(pixels).tobytes()


def _schema(value: Any) -> dict[str, Any]:
    """Return the JSON Schema of a plain value."""
    if isinstance(value, Mapping):
        inner = {name: _schema(entry) for name, entry in value.items()}
        return {"type": "object", "properties": inner}
    if isinstance(value, list):
        return {"type": "array", "items": _schema(value[0]) if value else {}}
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    return {"type": next((name for kind, name in kinds if isinstance(value, kind)), "null")}


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _text(text: str) -> bytes:
    return _sized(text.encode())
