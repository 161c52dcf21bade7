"""Cameras of LeRobot datasets: the exact frame at every row, decoded once, whatever happens."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
import torch
from small_logs import everything
from video_files import CAMERA, FPS, SIZE, episode_file, film, lerobot, numbers

from hindsight_rl.logs import frame_store, video
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, read_logs
from hindsight_rl.logs.rows import StackedRows

pytest.importorskip("av", reason="needs the extra 'video'")

WHOLE = [0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 7]  # each episode's last frame stands for what followed


def read(folder: Path, **columns: Any) -> Log:
    return read_log(folder, {"image": CAMERA} | columns)


def pixels(log: Log, key: str = "front") -> np.ndarray:
    frames = log.images[key].pixels
    return frames[:].numpy()


def store(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.with_name(f"{folder.name}.frames").iterdir())


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_every_row_has_its_frame(version: str, tmp_path: Path) -> None:
    """Episodes of 4, 1 and 3 steps; row r shows r, and what follows it is the next row's."""
    folder = lerobot(tmp_path / "robot", version, (CAMERA, "observation.images.wrist"))
    log = read(folder, image=[CAMERA, "observation.images.wrist"])
    assert len(log) == 8 and log.shape("front") == (*SIZE, 3)
    assert numbers(pixels(log)) == WHOLE
    batch = everything(log)
    assert batch["front"].dtype == torch.uint8
    assert numbers(batch["front"].numpy()) == list(range(8))
    assert numbers(batch["next", "front"].numpy()) == [1, 2, 3, 3, 4, 6, 7, 7]
    assert numbers(batch["wrist"].numpy()) == list(range(100, 108))


def test_a_camera_may_be_an_entry_of_the_observation(tmp_path: Path) -> None:
    """Its frames stay in the file they were decoded to; the state lies beside them."""
    folder = lerobot(tmp_path / "robot", "v3.0")
    log = read_log(folder, {"observation": {"front": CAMERA, "state": "observation.state"}})
    front, state = ("observation", "front"), ("observation", "state")
    assert log.observed == [front, state]
    assert numbers(log.images[front].pixels[:].numpy()) == WHOLE
    batch = everything(log)
    assert numbers(batch["next", *front].numpy()) == [1, 2, 3, 3, 4, 6, 7, 7]
    assert batch["next", *state][:, 0].tolist() == [1, 2, 3, 3, 100, 201, 202, 202]


def test_frames_stay_in_one_file_of_bytes(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    read(folder)
    (name,) = store(folder)
    assert name.startswith("observation.images.front-32x64-") and name.endswith(".frames")
    file = folder.with_name("robot.frames") / name
    assert file.stat().st_size == 11 * 32 * 64 * 3
    mapped = np.memmap(file, np.uint8, mode="r", shape=(11, *SIZE, 3))
    assert numbers(mapped) == WHOLE


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return a list of the videos that were decoded."""
    seen: list[str] = []

    def watched(clip: video.Clip, *rest: Any) -> Any:
        seen.append(clip.file.name)
        return video.frames(clip, *rest)

    monkeypatch.setattr(frame_store, "frames", watched)
    yield seen


def test_videos_are_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    first = read(folder)
    assert len(decoded) == 3
    again = read(folder)
    assert len(decoded) == 3 and again.hash() == first.hash()
    # Another size, another place and other videos are other frames.
    read(folder, resize=[16, 32])
    read(folder, frame_cache=str(tmp_path / "elsewhere"))
    assert len(decoded) == 9 and len(store(folder)) == 2
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    film(episode_file(folder, 1), [77])
    assert numbers(pixels(read(folder))) == [0, 1, 2, 3, 3, 77, 77, 5, 6, 7, 7]


def test_datasets_that_are_joined_leave_their_frames_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied together where they are few, else read as one; contents and hash are the same."""
    folders = [str(lerobot(tmp_path / name, "v2.1")) for name in ("one", "two")]
    film(episode_file(tmp_path / "two", 2), [50, 60, 70])
    copied = read_logs(folders, {"image": CAMERA})
    monkeypatch.setattr("hindsight_rl.logs.frames.MOST_COPIED", 100)
    left = read_logs(folders, {"image": CAMERA})
    assert isinstance(copied.images["front"].pixels, torch.Tensor)
    assert isinstance(left.images["front"].pixels, StackedRows)
    assert left.hash() == copied.hash()
    for log in (copied, left):
        assert numbers(everything(log)["front"].numpy()) == [*range(8), 0, 1, 2, 3, 4, 50, 60, 70]


def test_smaller_frames_average_pixels(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    whole, small = pixels(read(folder)), pixels(read(folder, resize=[16, 32]))
    assert small.shape == (11, 16, 32, 3) and numbers(small) == WHOLE
    mean = whole.reshape(11, 16, 2, 32, 2, 3).mean(axis=(2, 4))
    # Colours are kept at half the size, and edges ring: most pixels agree.
    assert (np.abs(mean - small) <= 4).mean() > 0.95


def test_a_killed_run_is_gone_on_with(tmp_path: Path, decoded: list[str]) -> None:
    """The process dies within the last episode: two are kept, the third is decoded again."""
    folder = lerobot(tmp_path / "robot", "v2.1")
    child = os.fork()
    if not child:
        original = video.frames

        def dies(clip: video.Clip, *rest: Any) -> Any:
            for number, pixels in enumerate(original(clip, *rest)):
                if clip.file.name.endswith("2.mp4") and number == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield pixels

        frame_store.frames = dies
        read(folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [name[-5:] for name in store(folder)] == [".done", ".lock", ".part"]
    assert numbers(pixels(read(folder))) == WHOLE
    assert decoded == ["episode_000002.mp4"]
    assert [name.endswith(".frames") for name in store(folder)] == [True]


def test_processes_that_want_the_same_camera_wait_for_one(
    tmp_path: Path, decoded: list[str]
) -> None:
    """A process that is decoding holds the others until it is done; they decode nothing."""
    folder = lerobot(tmp_path / "robot", "v2.1")
    begun, end = os.pipe()
    child = os.fork()
    if not child:
        original = video.frames

        def slow(clip: video.Clip, *rest: Any) -> Any:
            os.write(end, b"x")
            time.sleep(0.3)
            yield from original(clip, *rest)

        frame_store.frames = slow
        read(folder)
        os._exit(0)
    os.read(begun, 1)
    with pytest.warns(UserWarning, match="another process decodes it, this one waits"):
        log = read(folder)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert decoded == [] and numbers(pixels(log)) == WHOLE
    assert [name.endswith(".frames") for name in store(folder)] == [True]


@pytest.mark.parametrize(
    ("listed", "kept"),
    [("0\n1\n", 1), ("0\n1", 2), ("0\nx\n99\n-1\n", 2), ("", 3)],
)
def test_what_a_stopped_run_lists_is_checked(
    listed: str, kept: int, tmp_path: Path, decoded: list[str]
) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    read(folder)
    place = folder.with_name("robot.frames")
    (name,) = store(folder)
    (place / name).rename(place / f".{name}.part")
    (place / f".{name}.done").write_text(listed)
    decoded.clear()
    assert numbers(pixels(read(folder))) == WHOLE
    assert len(decoded) == kept


def test_a_cut_store_is_refused(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    read(folder)
    file = folder.with_name("robot.frames") / store(folder)[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LogError, match=r"67,583 bytes where 67,584 were written. Remove it"):
        read(folder)


# --- what is wrong with videos --------------------------------------------------------------------


def test_a_missing_video(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    episode_file(folder, 1).unlink()
    with pytest.raises(LogError, match=r"videos, .*front': there is no video of episode 1\. Fetch"):
        read(folder)


def test_a_damaged_video_names_file_and_frame(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    file = film(episode_file(folder, 0), [0, 1, 2, 3])
    whole = bytearray(file.read_bytes())
    start, stop = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    whole[stop - 40 : stop] = b"\xff" * 40  # the last frame; the first ones lie behind a long text
    file.write_bytes(whole)
    with pytest.raises(LogError, match=r"episode_000000.mp4: frame [1-3] of its episode cannot be"):
        read(folder)
    file.write_bytes(bytes(whole)[: start + 20])
    with pytest.raises(LogError, match=r"000000.mp4: frame 0 of its episode cannot be read"):
        read(folder)
    assert not any(name.endswith(".frames") for name in store(folder))


def test_frames_that_were_dropped(tmp_path: Path) -> None:
    """Frame 2 of the first episode is not there; its neighbours are a whole interval away."""
    folder = lerobot(tmp_path / "robot", "v2.1")
    film(episode_file(folder, 0), [0, 1, 3], times=[0, 1, 3])
    told = r"000000.mp4: there is no frame within half an interval of 0.0800 s, .* frame 2 of its"
    with pytest.raises(LogError, match=told):
        read(folder)
    film(episode_file(folder, 0), [0, 1])
    with pytest.raises(LogError, match=r"of 0.0800 s, .* frame 2 .*; the nearest is at 0.0400 s"):
        read(folder)


def test_frames_may_be_off_by_less_than_half_an_interval(tmp_path: Path) -> None:
    """Times of the rows that drift by 0.4 intervals find their frames, those by 0.6 do not."""
    folder = lerobot(tmp_path / "robot", "v2.1")
    rows = folder / "data" / "chunk-000" / "episode_000000.parquet"
    columns = foreign.parquet_values(rows)
    columns["timestamp"] = (np.arange(4) + [0.0, 0.4, -0.4, 0.3]) / FPS
    for number in range(3):
        file = rows.with_name(f"episode_{number:06d}.parquet")
        values = foreign.parquet_values(file)
        seconds = values["frame_index"] / FPS if number else columns["timestamp"]
        foreign.parquet(file, values | {"timestamp": seconds})
    assert numbers(pixels(read(folder))) == WHOLE
    columns["timestamp"] = (np.arange(4) + [0.0, 0.0, 0.0, 0.6]) / FPS
    foreign.parquet(rows, columns)
    with pytest.raises(LogError, match="within half an interval of 0.1440 s, the time of frame 3"):
        read(folder)
    columns["timestamp"] = np.array([0.0, 0.04, 0.02, 0.12])
    foreign.parquet(rows, columns)
    with pytest.raises(LogError, match="'timestamp', row 2: times of an episode fall"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [48, 64, 3]}, r"frames of 32 x 64 pixels where meta/info.json promises 48 x 64"),
        ({"shape": [32, 64]}, r"its shape is \[32, 64\], and not that of an image"),
        ({"shape": [32, 1 << 30, 3]}, r"and not that of an image"),
        ({"shape": [32, 64, 3], "dtype": "image"}, "no such column"),
    ],
)
def test_metadata_of_a_camera(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    info = folder / "meta" / "info.json"
    facts = json.loads(info.read_text())
    facts["features"][CAMERA] |= change
    info.write_text(json.dumps(facts))
    with pytest.raises(LogError, match=told):
        read(folder)


def test_channels_may_come_first(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    info = folder / "meta" / "info.json"
    facts = json.loads(info.read_text())
    facts["features"][CAMERA] |= {"shape": [3, *SIZE], "names": ["channels", "height", "width"]}
    info.write_text(json.dumps(facts))
    assert numbers(pixels(read(folder))) == WHOLE


def test_sizes_are_checked_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    usage = type("Usage", (), {"free": 60_000})
    monkeypatch.setattr(frame_store.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LogError, match=r"the disk has 0.0 free. Keep smaller ones \(`resize"):
        read(folder)
    assert [name for name in store(folder) if not name.endswith(".lock")] == []
    read(folder, resize=[16, 32])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"resize": [16]}, r"resize: \[16\] is no height and width"),
        ({"resize": [0, 8]}, r"resize: \[0, 8\] is no height and width"),
        ({"resize": [64, 64]}, r"resize is \[64, 64\], larger than the \[32, 64\] that was"),
        ({"task": CAMERA}, "a camera among the columns of 'task'. Name it beside them: `image:"),
        ({"observation": ["observation.state", CAMERA]}, "a camera among the columns of 'obser"),
    ],
)
def test_options(columns: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    with pytest.raises(LogError, match=told):
        read(folder, **columns)


def test_a_dataset_without_its_videos_is_read_without_cameras(tmp_path: Path) -> None:
    log = read_log(foreign.lerobot(tmp_path / "robot", "v2.1"))
    assert not log.images and not (tmp_path / "robot.frames").exists()


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lerobot(tmp_path / "robot", "v2.1")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(LogError, match=r'pip install "hindsight-rl\[video\]", or leave the camera'):
        read(folder)
