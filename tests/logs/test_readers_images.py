"""Camera frames in somebody else's log: beside the observation, uint8, each kept once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
import torch
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from small_logs import everything

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log


def read_images(folder: Path, names: str | Sequence[str], **columns: Any) -> Log:
    path = foreign.npz(folder / "log.npz", foreign.columns() | columns)
    return read_log(path, {"image": names if isinstance(names, str) else list(names)})


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 255, (count, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("write", [foreign.npz, foreign.hdf5])
def test_image_columns_come_beside_the_observation(write: Any, tmp_path: Path) -> None:
    """Eight rows; where an episode's outcome was not filmed, its last frame stands in for it."""
    wrist, top = frames(8), frames(8)
    path = tmp_path / ("log.npz" if write is foreign.npz else "log.hdf5")
    write(path, foreign.columns() | {"cam/wrist": wrist, "top": top})
    log = read_log(path, {"image": ["cam/wrist", "top"]})
    np.testing.assert_array_equal(log.column("wrist"), wrist)
    after = log.column(("next", "top"))
    ends = log.episode_ends()
    inside = torch.tensor([row for row in range(8) if row not in ends.tolist()])
    assert torch.equal(after[inside], torch.from_numpy(top)[inside + 1])
    assert torch.equal(after[ends], torch.from_numpy(top)[ends])


@pytest.mark.parametrize("write", [foreign.npz, foreign.hdf5])
def test_a_file_may_hold_the_frames_of_whole_episodes(write: Any, tmp_path: Path) -> None:
    path = tmp_path / ("log.npz" if write is foreign.npz else "log.hdf5")
    write(path, foreign.columns() | {"top": numbered(11)})
    assert_whole(read_log(path, {"image": "top"}), "top")


def numbered(count: int) -> np.ndarray:
    """Return frames that hold their number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 2, 2)).copy()


def assert_whole(log: Log, key: str) -> None:
    """Check that a log of 4, 1 and 3 steps has the frames 0 to 10, once."""
    assert len(log.images[key].pixels) == 11 and ("next", key) not in log.images
    batch = everything(log)
    assert batch[key][:, 0, 0].tolist() == [0, 1, 2, 3, 5, 7, 8, 9]
    assert batch["next", key][:, 0, 0].tolist() == [1, 2, 3, 4, 6, 8, 9, 10]


def filmed_minari(folder: Path, *, joints: bool) -> Path:
    """Write a Minari dataset of :func:`numbered` frames, with or without a vector beside them."""
    made, top = foreign.columns(), spaces.Box(0, 255, (2, 2), np.uint8)
    inner = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    space = spaces.Dict({"joints": inner, "top": top}) if joints else top
    folder.mkdir()
    storage = MinariStorage.new(
        folder / "data", space, spaces.Box(-1, 1, (2,), np.float32), data_format="hdf5"
    )
    buffers = []
    for number, (stop, length) in enumerate(zip(foreign.LAST + 1, foreign.LENGTHS, strict=True)):
        rows = slice(stop - length, stop)
        film = numbered(11)[rows.start + number : stop + number + 1]
        seen = [made["observation"][rows], made["next_observation"][stop - 1 : stop]]
        buffers.append(
            EpisodeBuffer(
                observations={"joints": np.concatenate(seen), "top": film} if joints else film,
                actions=made["action"][rows],
                rewards=made["reward"][rows].astype(float),
                terminations=made["terminated"][rows],
                truncations=made["truncated"][rows],
            )
        )
    storage.update_episodes(buffers)
    storage.update_metadata({"dataset_id": "made-v0", "minari_version": "0.5.4"})
    return folder


def test_minari_images_come_beside_the_vector_with_the_last_frame(tmp_path: Path) -> None:
    log = read_log(filmed_minari(tmp_path / "made-v0", joints=True), {"image": "observations/top"})
    assert_whole(log, "top")
    foreign.expect_same(log)


def test_minari_observations_that_are_images_are_kept_once(tmp_path: Path) -> None:
    log = read_log(filmed_minari(tmp_path / "made-v0", joints=False))
    assert_whole(log, "observation")
    assert log.info["repeated_next_observation"] == 0
    assert log.with_frame_stack(2).gather(torch.arange(8))["observation"].shape == (8, 2, 2, 2)


def test_minari_without_the_image_asked_for_is_refused(tmp_path: Path) -> None:
    folder = filmed_minari(tmp_path / "made-v0", joints=True)
    with pytest.raises(LogError, match=r"column 'observations/wrist': no such column"):
        read_log(folder, {"image": "observations/wrist"})


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        ("depth", {}, "column 'depth': no such column. It holds"),
        ("top", {"top": frames(8).astype(np.float32)}, "image column of float32, not of uint8"),
        ("top", {"top": frames(5)}, "column 'top': 5 rows"),
        ("a/action", {"a/action": frames(8)}, "would be called 'action', as another column is"),
        (["a/x", "b/x"], {"a/x": frames(8), "b/x": frames(8)}, "would be called 'x'"),
    ],
)
def test_wrong_image_columns_are_refused(
    names: Any, columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(LogError, match=message):
        read_images(tmp_path, names, **columns)
