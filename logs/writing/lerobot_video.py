"""Cameras of a LeRobot dataset, v3.0, as videos: one file for each, all episodes in it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hindsight_rl.files import WriteError
from hindsight_rl.keys import Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.video import pyav
from hindsight_rl.logs.writing.frames import spans

VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_PARTS = ("chunk", "file")
_FORMAT = "yuv420p"  # colours of four pixels are one
_SETTINGS = {"g": "2", "crf": "18"}  # a key frame at every second one: LeRobot draws frames at will
_LARGEST_DENOMINATOR = 1 << 16  # of the frames per second


def write_videos(log: Log, shown: dict[Key, str], rate: float, draft: Path) -> dict[str, Any]:
    """Write the frames of the rows of each camera as H.264, which loses detail.

    Args:
        log: The log.
        shown: Name of each camera.
        rate: Rows per second.
        draft: Folder of the dataset.

    Returns:
        Columns of the table of episodes: in which video each lies, and from when to when.

    Raises:
        LogError: PyAV is missing, frames are not of three channels and even sides, or the video
            cannot be encoded.
    """
    stops = log.episode_ends().numpy() + 1
    starts = np.concatenate([[0], stops[:-1]])
    found: dict[str, Any] = {}
    for key, name in shown.items():
        height, width, channels = log.shape(key)
        if channels != 3 or height % 2 or width % 2:
            raise LogError(
                f"its frames are {[height, width, channels]}, and videos are of three channels and "
                "even sides",
                "Write it as pictures: leave --video out.",
                path=log.sources[0].name,
                column=key_name(key),
            )
        file = draft / VIDEO.format(video_key=name, chunk_index=0, file_index=0)
        file.parent.mkdir(parents=True)
        _encode(log, key, rate, file)
        place = f"videos/{name}"
        found |= {f"{place}/{part}_index": np.zeros(len(stops), np.int64) for part in _PARTS}
        found |= {f"{place}/from_timestamp": starts / rate, f"{place}/to_timestamp": stops / rate}
    return found


def feature(shape: tuple[int, ...], rate: float) -> dict[str, Any]:
    """Return what ``meta/info.json`` says of a camera in videos."""
    height, width, channels = shape
    about = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": _FORMAT,
        "video.is_depth_map": False,
        "video.fps": rate,
        "video.channels": channels,
        "has_audio": False,
    }
    sides = ["height", "width", "channels"]
    return {"dtype": "video", "shape": list(shape), "names": sides, "info": about}


def _encode(log: Log, key: Key, rate: float, file: Path) -> None:
    av = pyav("written")
    height, width, _ = log.shape(key)
    interval = 1 / Fraction(rate).limit_denominator(_LARGEST_DENOMINATOR)
    try:
        with av.open(str(file), "w") as container:
            stream = container.add_stream("libx264", rate=1 / interval, options=_SETTINGS)
            stream.height, stream.width, stream.pix_fmt = height, width, _FORMAT
            stream.codec_context.time_base = interval
            for rows in spans(log):
                for row, pixels in enumerate(log.column(key, rows).numpy(), rows.start):
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                    frame.pts, frame.time_base = row, interval
                    container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except OSError as error:
        raise WriteError(file, error) from error
    except av.error.FFmpegError as error:
        raise LogError(
            f"its video cannot be encoded ({error})",
            "Write it as pictures: leave --video out.",
            column=key_name(key),
        ) from error
