"""Bags written by the libraries' own writers: rosbags (both storages) and mcap.

Imported as ``bag_files`` (``tests`` is on pytest's path). Needs the extra ``ros``.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

START = 1_700_000_000 * 10**9
"""Time of the first message, ns: a Unix time of today, where float64 counts in 238 ns."""
MS = 1_000_000
JOINTS, COMMAND, FLAG = "/joint_states", "/command", "/recording"
Put = Callable[[str, int, Any], None]
"""``put(topic, received_ns, message)``."""


@cache
def store() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


def made(kind: str, **fields: Any) -> Any:
    return store().types[kind](**fields)


def joints(stamp: int, names: Sequence[str], position: Sequence[float]) -> Any:
    """Return a message of joints; stamp 0 is none."""
    return made(
        "sensor_msgs/msg/JointState",
        header=header(stamp),
        name=list(names),
        position=np.array(position, np.float64),
        velocity=-np.array(position, np.float64),
        effort=np.zeros(0),
    )


def command(values: Sequence[float]) -> Any:
    layout = made("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    data = np.array(values, np.float64)
    return made("std_msgs/msg/Float64MultiArray", layout=layout, data=data)


def flag(on: bool) -> Any:
    return made("std_msgs/msg/Bool", data=on)


def header(stamp: int) -> Any:
    time = made("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return made("std_msgs/msg/Header", stamp=time, frame_id="")


def image(stamp: int, pixels: Any, encoding: str, padding: int = 0) -> Any:
    """Return a message of a picture, ``[H, W, C]`` in the order of the encoding."""
    height, width, channels = pixels.shape
    lines = np.full((height, width * channels + padding), 255, np.uint8)
    lines[:, : width * channels] = pixels.reshape(height, -1)
    return made(
        "sensor_msgs/msg/Image",
        header=header(stamp),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=lines.shape[1],
        data=lines.ravel(),
    )


def packed(stamp: int, data: bytes, kind: str) -> Any:
    """Return a message of a picture that is a file."""
    return made(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp),
        format=kind,
        data=np.frombuffer(data, np.uint8),
    )


def word(text: str) -> Any:
    return made("std_msgs/msg/String", data=text)


def rosbag(path: Path, write: Callable[[Put], None], storage: str = "MCAP") -> Path:
    """Write a bag with rosbags."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(path, version=9, storage_plugin=StoragePlugin[storage]) as writer:
        connections: dict[str, Any] = {}

        def put(topic: str, received: int, message: Any) -> None:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store())
            data = store().serialize_cdr(message, kind)
            writer.write(connections[topic], received, data)

        write(put)
    return path


def mcap(
    path: Path,
    write: Callable[[Put], None],
    *,
    compression: str = "ZSTD",
    chunk: int = 1 << 20,
    schema: Callable[[str], tuple[str, str]] | None = None,
) -> Path:
    """Write an MCAP file with mcap; messages that are dictionaries become JSON."""
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        packed = CompressionType[compression]
        writer = Writer(file, chunk_size=chunk, compression=packed, use_chunking=chunk > 0)
        writer.start()
        channels: dict[str, int] = {}

        def put(topic: str, received: int, message: Any) -> None:
            plain = isinstance(message, dict)
            if topic not in channels:
                kind = "plain" if plain else message.__msgtype__
                language, text = ("jsonschema", "{}") if plain else defined(kind)
                if schema is not None:
                    language, text = schema(kind)
                number = writer.register_schema(kind, language, text.encode())
                encoding = "json" if plain else "cdr"
                channels[topic] = writer.register_channel(topic, encoding, number)
            data = json.dumps(message).encode() if plain else _cdr(message)
            writer.add_message(channels[topic], received, data, received)

        write(put)
        writer.finish()
    return path


def defined(kind: str) -> tuple[str, str]:
    return "ros2msg", store().generate_msgdef(kind, ros_version=2)[0]


def _cdr(message: Any) -> bytes:
    return bytes(store().serialize_cdr(message, message.__msgtype__))


def steady(put: Put, count: int = 100) -> None:
    """Joints at 100 Hz, received 2 ms after their stamp; a command 1 ms after each stamp."""
    for k in range(count):
        stamp = START + 10 * k * MS
        put(JOINTS, stamp + 2 * MS, joints(stamp, ["a", "b"], [k, k + 0.5]))
        put(COMMAND, stamp + MS, command([2.0 * k]))


MAP = {"observation": f"{JOINTS}.position", "action": f"{COMMAND}.data", "control_rate_hz": 50}
AT_EACH = {"observation": f"{JOINTS}.position", "action": f"{COMMAND}.data", "row_at": JOINTS}
