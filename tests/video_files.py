"""LeRobot datasets with cameras, whose every frame shows its number.

Imported as ``video_files`` (``tests`` is on pytest's path). Writing needs PyAV.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import foreign_logs as foreign
import numpy as np

SIZE = (32, 64)
FPS = 25
CAMERA = "observation.images.front"
_BITS = 8


def numbered(number: int) -> np.ndarray:
    """Return a frame ``[32, 64, 3]`` that shows a number below 256: eight bars, black or white."""
    bits = [(number >> bit) & 1 for bit in range(_BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, SIZE[1] // _BITS)
    return np.repeat(np.tile(row, (SIZE[0], 1))[..., None], 3, axis=-1)


def numbers(frames: np.ndarray) -> list[int]:
    """Return the numbers that frames ``[N, H, W, 3]`` show, of any size and after lossy coding."""
    bars = frames.reshape(*frames.shape[:2], _BITS, -1).mean(axis=(1, 3)) > 127
    return [int(value) for value in bars @ (1 << np.arange(_BITS))]


def film(path: Path, shown: Sequence[int], *, times: Iterable[int] | None = None) -> Path:
    """Write a video of numbered frames, at multiples of the frame interval."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "2", "crf": "20"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number, at in zip(shown, times or range(len(shown)), strict=True):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def lerobot(path: Path, version: str, cameras: Sequence[str] = (CAMERA,)) -> Path:
    """Write the small log with cameras: row r of camera c shows r + 100 c.

    Version 3 has all episodes of a camera in one video, with three frames of 255 before each.
    """
    foreign.lerobot(path, version)
    info = json.loads((path / "meta" / "info.json").read_text())
    info["features"].pop("observation.images.top")
    for number, camera in enumerate(cameras):
        info["features"][camera] = {"dtype": "video", "shape": [*SIZE, 3], "names": None}
        write = _version_2 if version.startswith("v2") else _version_3
        write(path, camera, 100 * number)
    (path / "meta" / "info.json").write_text(json.dumps(info))
    return path


def _rows() -> list[range]:
    return [
        range(stop - length, stop)
        for stop, length in zip(foreign.LAST + 1, foreign.LENGTHS, strict=True)
    ]


def episode_file(path: Path, number: int, camera: str = CAMERA) -> Path:
    """Return where version 2 keeps the video of an episode."""
    return path / "videos" / "chunk-000" / camera / f"episode_{number:06d}.mp4"


def _version_2(path: Path, camera: str, first: int) -> None:
    for number, rows in enumerate(_rows()):
        film(episode_file(path, number, camera), [first + row for row in rows])


def _version_3(path: Path, camera: str, first: int) -> None:
    shown: list[int] = []
    starts: list[float] = []
    for rows in _rows():
        shown += [255] * 3
        starts.append(len(shown) / FPS)
        shown += [first + row for row in rows]
    film(path / "videos" / camera / "chunk-000" / "file-000.mp4", shown)
    file = path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    columns = foreign.parquet_values(file) | {
        f"videos/{camera}/chunk_index": np.zeros(3, np.int64),
        f"videos/{camera}/file_index": np.zeros(3, np.int64),
        f"videos/{camera}/from_timestamp": np.array(starts),
    }
    foreign.parquet(file, columns)
