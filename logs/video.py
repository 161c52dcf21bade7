"""Frames of a video file at given times, decoded by PyAV (the extra ``video``)."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import regular_file

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Size = tuple[int, int]
"""Height and width, pixels."""

Pixels = NDArray[np.uint8]

_FETCH = "The video is cut or damaged: fetch it again."


class _BrokenError(Exception):
    """A frame cannot be had; the message says why."""


class Clip(NamedTuple):
    """Frames that are wanted of one file.

    Attributes:
        file: The file.
        times: ``[T]`` float64, seconds since its begin, never falling.
    """

    file: Path
    times: NDArray[np.float64]


def frames(
    clip: Clip, recorded: Size, wanted: Size, interval: float
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frame that is nearest to each time, within half an interval.

    Args:
        clip: Which frames.
        recorded: Size that the metadata promise.
        wanted: Size that is returned; a smaller one averages the pixels that fall together.
        interval: Seconds between two frames.

    Yields:
        ``[H, W, 3]`` uint8, red, green and blue; as many as there are times.

    Raises:
        LogError: PyAV is missing, or the file is, it is damaged, of another size, or holds no
            frame at one of the times.
    """
    av = pyav("decoded")
    file = regular_file(clip.file)
    number = 0
    try:
        with closing(av.open(str(file))) as container:
            for frame in _nearest(container, clip, recorded, interval):
                height, width = wanted
                scaled = frame.reformat(width, height, "rgb24", interpolation="AREA")
                yield np.asarray(scaled.to_ndarray(), np.uint8)
                number += 1
    except (av.error.FFmpegError, _BrokenError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LogError(
            f"frame {number} of its episode cannot be read ({why})", _FETCH, path=file
        ) from error


def pyav(doing: str) -> Any:
    """Return PyAV.

    Args:
        doing: What it is needed for, ``decoded`` say.

    Returns:
        The module.

    Raises:
        LogError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise LogError(
            f"videos are {doing} by PyAV, which is not installed",
            'pip install "hindsight-rl[video]", or leave the camera out of the column map.',
        ) from error
    return av


def _nearest(
    container: "InputContainer", clip: Clip, recorded: Size, interval: float
) -> Iterator["VideoFrame"]:
    """Yield the frame nearest to each time, those in between are only decoded."""
    half = 0.5 * interval
    decoded = _decoded(container, clip, recorded, float(clip.times[0]) - half)
    before, after = None, next(decoded, None)
    for number, time in enumerate(clip.times.tolist()):
        while after is not None and after[0] < time:
            before, after = after, next(decoded, None)
        near = [one for one in (before, after) if one is not None]
        if not near:
            raise _BrokenError("the video ends before")
        found, frame = min(near, key=lambda one: abs(one[0] - time))
        # Times are float32 in most datasets: at 10,000 seconds they are 1e-3 apart.
        if abs(found - time) > half + 1e-7 * abs(time):
            raise LogError(
                f"there is no frame within half an interval of {time:.4f} s, the time of frame "
                f"{number} of its episode; the nearest is at {found:.4f} s",
                "Frames were dropped, or fps is another one: correct meta/info.json, or record or "
                "convert the dataset again.",
                path=clip.file,
            )
        yield frame


def _decoded(
    container: "InputContainer", clip: Clip, recorded: Size, start: float
) -> Iterator[tuple[float, "VideoFrame"]]:
    """Yield the times and frames of a file, from the key frame before some time on."""
    stream = _stream(container, clip.file, recorded)
    base = float(stream.time_base or 0)
    if start > 0 and base:
        container.seek(int(start / base), stream=stream, backward=True)
    for frame in container.decode(stream):
        if frame.pts is None or frame.is_corrupt:
            raise _BrokenError("no time" if frame.pts is None else "damaged bytes")
        yield float(frame.pts) * base, frame


def _stream(container: "InputContainer", file: Path, recorded: Size) -> "VideoStream":
    if not container.streams.video:
        raise LogError("it holds no video", _FETCH, path=file)
    stream = container.streams.video[0]
    found = stream.codec_context.height, stream.codec_context.width
    if found != recorded:  # before a frame is decoded: memory goes by what the file says
        raise LogError(
            f"frames of {found[0]} x {found[1]} pixels where meta/info.json promises "
            f"{recorded[0]} x {recorded[1]}",
            "Fetch the dataset again, or correct the metadata.",
            path=file,
        )
    stream.thread_type = "AUTO"
    # Else a decoder paints over what it cannot read, and says nothing.
    stream.codec_context.options = {"err_detect": "explode"}
    return stream
