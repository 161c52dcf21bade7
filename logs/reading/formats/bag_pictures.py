"""Pictures in bags: ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage``.

Pictures are too many for memory. So of each message only the stamp is kept while a bag is scanned;
once it is known which rows there are, the file is read again, and each picture that a row shows is
decoded into a mapped file.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import check_room
from hindsight_rl.logs.pictures import PictureError, Pixels, pixels_of, smaller
from hindsight_rl.logs.reading.cameras import kept_size
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.formats.bag_file import Losses, Topic
from hindsight_rl.logs.reading.formats.bag_messages import decoder
from hindsight_rl.logs.reading.formats.bag_scan import Recording, messages_of
from hindsight_rl.logs.rows import mapped

STUB = 12
"""Bytes at the begin of a picture's message: how it is encoded, and the stamp."""

_RAW = ("sensor_msgs/msg/Image", "sensor_msgs/Image")
_PACKED = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/CompressedImage")
# Places of red, green, blue and opacity in a pixel.
_ENCODINGS = {
    "mono8": (0,),
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "rgba8": (0, 1, 2, 3),
    "bgra8": (2, 1, 0, 3),
}


def is_picture(topic: Topic) -> bool:
    """Return whether the messages of a topic are pictures."""
    return topic.encoding == "cdr" and topic.type in (*_RAW, *_PACKED)


def stamped(stub: bytes) -> dict[str, Any]:
    """Return the header of a picture's message, as far as its stamp.

    Args:
        stub: At least the first ``STUB`` bytes of the message.

    Returns:
        A message of a header alone; stamp 0 where the bytes are too few.
    """
    if len(stub) < STUB:
        return {"header": {"stamp": 0}}
    seconds, nano = struct.unpack_from("<iI" if stub[1] & 1 else ">iI", stub, 4)
    return {"header": {"stamp": {"sec": seconds, "nanosec": nano}}}


def frames_of(
    name: str,
    bags: Sequence[Recording],
    numbers: Sequence[NDArray[np.int64]],
    columns: ColumnMap,
) -> Pixels:
    """Return the picture of each row.

    Args:
        name: The topic.
        bags: The bags.
        numbers: Of each bag ``[R]``: which message of the topic its rows show, in the order of the
            file.
        columns: Column map; may say that smaller frames are kept.

    Returns:
        ``[N, H, W, C]`` uint8, mapped from a nameless temporary file.

    Raises:
        LogError: A picture is damaged, encoded in a way that is not read, or of another size than
            the first, or the disk is full.
    """
    first = next(bag for bag, rows in zip(bags, numbers, strict=True) if len(rows))
    recorded = _decoder(first, name)(first.first[name], 0).shape
    height, width = kept_size(columns, (recorded[0], recorded[1]), name)
    shape = sum(map(len, numbers)), height, width, recorded[2]
    check_room(int(np.prod(shape)), first.path)
    frames, start = mapped(shape, np.uint8), 0
    for bag, rows in zip(bags, numbers, strict=True):
        own = frames[start : start + len(rows)]
        for number, pixels in _shown(bag, name, np.unique(rows)):
            if pixels.shape != recorded:
                raise _error(
                    bag.path,
                    name,
                    number,
                    f"is of {_said(pixels.shape)} where the first is of {_said(recorded)}",
                    "Read the bags apart, or leave it out.",
                )
            own[rows == number] = smaller(pixels, (height, width))
        start += len(rows)
    return frames


def _shown(bag: Recording, name: str, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Pixels]]:
    """Yield number and pixels of some messages of a topic, in the order of the file."""
    decode, number, left = _decoder(bag, name), 0, iter(wanted.tolist())
    due = next(left, None)
    for file in bag.files:
        for topic, _, data in messages_of(file, Losses(), {}):
            if due is None:
                return
            if topic.name != name:
                continue
            if number == due:
                yield number, decode(data, number)
                due = next(left, None)
            number += 1


def _decoder(bag: Recording, name: str) -> Callable[[bytes, int], Pixels]:
    """Return what makes pixels of the bytes and the number of a message."""
    topic = bag.topics[name]
    message_of, pixels = decoder(topic, bag.path), _raw if topic.type in _RAW else _packed

    def decode(data: bytes, number: int) -> Pixels:
        try:
            return pixels(message_of(data))
        except PictureError as error:
            raise _error(bag.path, name, number, str(error), "Leave it out.") from error
        except Exception as error:  # bytes may be damaged in any way
            what = f"is damaged ({' '.join(str(error).split())[:100]})"
            raise _error(bag.path, name, number, what, "Leave it out.") from error

    return decode


def _raw(message: Any) -> Pixels:
    height, width, step = message.height, message.width, message.step
    places = _ENCODINGS.get(message.encoding)
    if places is None:
        raise PictureError(
            f"is encoded as '{message.encoding[:30]}', and {', '.join(_ENCODINGS)} are read"
        )
    line = width * len(places)
    if not height or not width or step < line or len(message.data) < height * step:
        raise PictureError(
            f"is damaged: {height} lines of {step} bytes for {width} pixels, and "
            f"{len(message.data):,} bytes"
        )
    lines = np.asarray(message.data, np.uint8)[: height * step].reshape(height, step)
    return lines[:, :line].reshape(height, width, len(places))[..., list(places)]


def _packed(message: Any) -> Pixels:
    if "compressedDepth" in message.format:
        raise PictureError(f"is encoded as '{message.format[:60]}', and jpeg and png are read")
    return pixels_of(bytes(message.data))


def _said(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]} pixels of {shape[2]} channels"


def _error(path: Path, name: str, number: int, problem: str, fix: str) -> LogError:
    return LogError(f"picture {number} {problem}", fix, path=path, column=name)
