"""Images: kept once, on disk or in memory; the next frame and stacks by row number; uint8."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import fit
from small_logs import everything, five, pictures, same, small
from tensordict import TensorDict

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import TERMINATED, TRUNCATED
from hindsight_rl.logs.append import append
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.rows import StackedRows
from hindsight_rl.relabel.goals import FinalGoal
from hindsight_rl.training.learner import Learner, LossTerms

# Frame numbers of five rows in episodes of three and two steps: 0 1 2 (3) | 4 5 (6).
NOW, LATER = [0, 1, 2, 4, 5], [1, 2, 3, 5, 6]


def filmed(shift: float = 0.0) -> Log:
    """Return five rows with the seven frames of their two episodes."""
    return small(shift, camera=pictures(7) + int(shift))


# --- the next frame, and stacks -------------------------------------------------------------------


def test_frames_of_whole_episodes_give_the_next_frame_too() -> None:
    batch = everything(filmed())
    assert torch.equal(batch["camera"], pictures(7)[NOW])
    assert torch.equal(batch["next", "camera"], pictures(7)[LATER])
    assert ("next", "camera") in filmed() and ("next", "camera") in filmed().keys()
    for key in ("camera", ("next", "camera")):
        assert torch.equal(filmed().column(key, slice(1, 4)), batch[key][1:4])
    assert ("next", "camera") not in everything(small(camera=pictures())).keys(True)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_stacks_repeat_the_first_frame_and_stay_in_the_episode(depth: int) -> None:
    episodes: list[tuple[int, int]] = [(0, 3), (4, 2)]  # first frame, steps

    def last(first: int, time: int) -> list[int]:
        return [first + max(0, time - back) for back in reversed(range(depth))]

    now = [last(first, time) for first, steps in episodes for time in range(steps)]
    later = [last(first, time + 1) for first, steps in episodes for time in range(steps)]
    batch = filmed().with_frame_stack(depth).gather(torch.arange(5).view(5, 1))
    assert batch["camera"].shape == (5, 1, depth, 2, 2, 3)
    assert torch.equal(batch["camera"][:, 0], pictures(7)[torch.tensor(now)])
    assert torch.equal(batch["next", "camera"][:, 0], pictures(7)[torch.tensor(later)])


def test_one_frame_for_every_row_is_stacked_too() -> None:
    batch = everything(small(camera=pictures()).with_frame_stack(2))
    assert torch.equal(
        batch["camera"], pictures()[torch.tensor([[0, 0], [0, 1], [1, 2], [3, 3], [3, 4]])]
    )


@pytest.mark.parametrize(
    ("log", "depth", "message"),
    [
        (filmed(), 0, "frame_stack is 0: it must be at least 1"),
        (small(), 2, "frame_stack is 2: the log has no images. Leave it out, or map image columns"),
        (
            Log.from_columns(five(camera=pictures()) | {("next", "camera"): pictures()}),
            3,
            "column 'camera': frame_stack is 3, and the next frames are a column of their own",
        ),
    ],
)
def test_what_cannot_be_stacked_is_refused(log: Log, depth: int, message: str) -> None:
    with pytest.raises(LogError, match=message):
        OfflineDataModule(log, frame_stack=depth)


@pytest.mark.parametrize("count", [4, 6, 8])
def test_another_number_of_frames_is_refused(count: int) -> None:
    message = rf"'camera': {count} frames for 5 rows in 2 episodes. Give 5, or 7: with the last"
    with pytest.raises(LogError, match=message):
        small(camera=pictures(count))


def test_actions_and_flags_are_numbers_whatever_their_dtype(tmp_path: Path) -> None:
    columns = five(camera=pictures(7)) | {"action": torch.tensor([0, 1, 2, 0, 1])}
    narrow = {key: columns[key].to(torch.uint8) for key in ("action", TERMINATED, TRUNCATED)}
    log = Log.from_columns(columns | narrow)
    assert list(log.images) == ["camera"]
    log.save(tmp_path / "log")
    batch = everything(Log.load(tmp_path / "log").with_frame_stack(2))
    for key in narrow:
        assert batch[key].dtype == torch.int64 and batch[key].tolist() == columns[key].tolist()


def test_a_log_whose_images_are_replaced_keeps_the_hash_of_what_was_read(tmp_path: Path) -> None:
    filmed().save(tmp_path / "log")
    for log in (filmed(), Log.load(tmp_path / "log")):
        hidden = log.with_columns({"camera": torch.zeros(5)})
        assert not hidden.images and hidden.hash() == filmed().hash()
    hidden.save(tmp_path / "hidden")
    assert Log.load(tmp_path / "hidden").hash() == filmed().hash()


def test_what_follows_may_not_be_said_twice() -> None:
    with pytest.raises(
        LogError, match=r"'camera': .* say what 'next.camera' is. Leave that column"
    ):
        Log.from_columns(five(camera=pictures(7)) | {("next", "camera"): pictures()})


# --- on disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("log", [filmed(), small(camera=pictures())], ids=["episodes", "rows"])
def test_images_are_saved_and_read_back(log: Log, memory_map: bool, tmp_path: Path) -> None:
    log.save(tmp_path / "log")
    back = Log.load(tmp_path / "log", memory_map=memory_map)
    assert same(everything(back), everything(log)) and back.hash() == log.hash()
    back.save(tmp_path / "again")
    for name in ("header.json", "matrix.bin", "frames0.bin"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "log" / name).read_bytes()


def test_a_log_of_images_has_a_version_that_earlier_releases_refuse(tmp_path: Path) -> None:
    filmed().save(tmp_path / "images")
    small().save(tmp_path / "plain")
    versions = [
        json.loads((tmp_path / name / "header.json").read_text())["version"]
        for name in ("images", "plain")
    ]
    assert versions == [2, 1]


def test_observations_may_be_images(tmp_path: Path) -> None:
    columns = {key: value for key, value in five().items() if key != ("next", "observation")}
    log = Log.from_columns(columns | {"observation": pictures(7)})
    log.save(tmp_path / "log")
    data = OfflineDataModule(Log.load(tmp_path / "log"), batch_size=4, frame_stack=2)
    assert data.spec.whole.shape == (2, 2, 2, 3) and data.spec.whole.dtype == "uint8"
    assert data.spec.to_dict()["observation"]["mean"] is None
    chunk = data._sampler().chunk(0, 3)
    assert chunk["observation"].shape == chunk["next", "observation"].shape == (3, 4, 2, 2, 2, 3)


@pytest.mark.parametrize("memory_map", [True, False])
def test_logs_with_images_are_joined(memory_map: bool, tmp_path: Path) -> None:
    logs = [filmed(), filmed(100.0)]
    for number, log in enumerate(logs):
        log.save(tmp_path / str(number))
    read = [Log.load(tmp_path / str(number), memory_map=memory_map) for number in (0, 1)]
    both = Log.concatenate(read, [1, 1])
    assert isinstance(both.images["camera"].pixels, StackedRows) == memory_map
    assert both.hash() == Log.concatenate(logs, [1, 1]).hash()
    batch = everything(both.with_frame_stack(3))
    parts = [everything(log.with_frame_stack(3)) for log in logs]
    for key in ("camera", ("next", "camera")):
        assert torch.equal(batch[key], torch.cat([part[key] for part in parts]))


def test_logs_whose_frames_differ_in_kind_are_not_joined() -> None:
    with pytest.raises(LogError, match="column 'camera': this source does not have the shape"):
        Log.concatenate([filmed(), small(camera=pictures())], [1, 1])


def test_images_are_appended(tmp_path: Path) -> None:
    filmed().save(tmp_path / "log")
    with (tmp_path / "log" / "frames0.bin").open("ab") as file:
        file.write(b"what an append left that did not end")
    append(tmp_path / "log", [filmed(100.0), filmed(7.0)])
    whole = Log.concatenate([filmed(), filmed(100.0), filmed(7.0)], [1, 1, 1])
    grown = Log.load(tmp_path / "log")
    assert same(everything(grown), everything(whole)) and grown.hash() == whole.hash()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "frames0.bin has 83 bytes where"),
        (lambda file: file.unlink(), "frames0.bin has 0 bytes where the header promises 84"),
        (lambda file: file.write_bytes(bytes(84)), "matrix.bin or frames0.bin was changed"),
    ],
    ids=["cut", "missing", "changed"],
)
def test_damaged_frames_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    filmed().save(tmp_path / "log")
    change(tmp_path / "log" / "frames0.bin")
    with pytest.raises(LogError, match=message):
        Log.load(tmp_path / "log").hash()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([6, 2, 2, 3], r"column 'camera': header.json is damaged \(6 frames for 5 rows in 2"),
        ([], r"header.json is damaged \(shape \[\] of images\)"),
        ([7, 2, -2, 3], r"header.json is damaged \(shape \[7, 2, -2, 3\] of images\)"),
        (7, r"header.json is damaged \('int' object is not iterable\)"),
    ],
)
def test_a_damaged_header_is_refused(shape: Any, message: str, tmp_path: Path) -> None:
    filmed().save(tmp_path / "log")
    header = json.loads((tmp_path / "log" / "header.json").read_text())
    header["images"]["camera"] = shape
    (tmp_path / "log" / "header.json").write_text(json.dumps(header))
    with pytest.raises(LogError, match=message):
        Log.load(tmp_path / "log")


@pytest.mark.parametrize(
    ("images", "dropped", "message"),
    [
        (
            {"episode_end": [7, 2]},
            True,
            r"column 'episode_end': header.json is damaged \(column is m",
        ),
        (
            {"episode_end": [7, 2]},
            False,
            r"column 'episode_end': .* \(images are called as another",
        ),
        (
            {"observation": [7, 2]},
            False,
            r"column 'observation': .* \(images are called as another",
        ),
        (
            {"c": [7, 2], "next.c": [5, 2]},
            False,
            r"column 'next.c': header.json is damaged \(images are called as another column is\)",
        ),
    ],
    ids=["a number", "also a column", "an observation", "also the next one"],
)
def test_a_header_whose_images_are_other_columns_is_refused(
    images: dict[str, list[int]], dropped: bool, message: str, tmp_path: Path
) -> None:
    filmed().save(tmp_path / "log")
    header = json.loads((tmp_path / "log" / "header.json").read_text())
    header["images"] = images
    if dropped:
        del header["columns"]["episode_end"]  # the last one: the others stay where they are
    (tmp_path / "log" / "header.json").write_text(json.dumps(header))
    with pytest.raises(LogError, match=message):
        Log.load(tmp_path / "log")


# --- to the learner -------------------------------------------------------------------------------


def pixel_cloning() -> type[Learner]:
    """Return the learner that docs/logs.md shows."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    space: dict[str, Any] = {"__name__": "example_of_logs"}
    exec(next(block for block in blocks if "class PixelCloning" in block), space)
    learner: type[Learner] = space["PixelCloning"]
    return learner


def moving_bars(episodes: int = 30, steps: int = 20) -> Log:
    """Return films of a bar that moves left, stays or moves right, as the last action said."""
    draws = np.random.default_rng(0)
    action = draws.integers(0, 3, (episodes, steps))
    place = np.cumsum(np.concatenate([np.full((episodes, 1), 4), action - 1], axis=1), axis=1) % 8
    film = np.zeros((episodes, steps + 1, 8, 8), np.uint8)
    np.put_along_axis(film, np.broadcast_to(place[..., None, None], (*place.shape, 8, 1)), 255, 3)
    # What is cloned is the move that led here: the action before.
    moved = torch.from_numpy(np.concatenate([np.ones((episodes, 1), int), action[:, :-1]], axis=1))
    rows = episodes * steps
    noise = torch.randn(rows, 2, generator=torch.Generator().manual_seed(0))
    end = torch.zeros(episodes, steps, dtype=torch.bool)
    end[:, -1] = True
    return Log.from_columns(
        {
            "observation": noise,
            "action": moved.reshape(-1),
            "pixels": torch.from_numpy(film.reshape(-1, 8, 8)),
            "achieved_goal": noise,
            ("next", "observation"): noise,
            ("next", "achieved_goal"): noise,
            ("next", "reward"): torch.zeros(rows),
            ("next", "terminated"): torch.zeros(rows, dtype=torch.bool),
            ("next", "truncated"): end.reshape(-1),
            "episode": torch.arange(episodes).repeat_interleave(steps),
        }
    )


def test_the_guides_learner_learns_from_stacked_pixels_on_disk(tmp_path: Path) -> None:
    """It clones which way a bar moved: two frames in a row tell it, and no vector of the log."""
    seen: set[torch.dtype] = set()
    shown = pixel_cloning()

    class Watched(shown):  # type: ignore[valid-type, misc]
        def losses(self, batch: TensorDict) -> LossTerms:
            seen.add(batch["pixels"].dtype)
            found: LossTerms = super().losses(batch)
            return found

    moving_bars().save(tmp_path / "log")
    data = OfflineDataModule(
        str(tmp_path / "log"), batch_size=32, updates_per_step=8, frame_stack=3
    )
    torch.manual_seed(0)
    learner = Watched(data.spec, learning_rates={"actor": 1e-2}, compile="off")
    batch = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
    before = learner.losses(batch).terms["actor"].item()
    fit(learner, data, tmp_path, 200)
    after = learner.losses(batch).terms["actor"].item()
    assert before > 0.9 and after < 0.1  # guessing costs log(3), about 1.1
    assert seen == {torch.uint8}


def test_relabelers_leave_images_alone_and_companions_have_none() -> None:
    data = OfflineDataModule(moving_bars(2, 5), [FinalGoal()], batch_size=4, frame_stack=2)
    chunk = data._sampler().chunk(0, 3)
    assert all("pixels" not in part.keys(True) for part in chunk["companion"].values())
    batch = data.on_after_batch_transfer(chunk, 0)
    for key in ("pixels", ("next", "pixels")):
        assert batch[key].dtype == torch.uint8 and batch[key].shape == (3, 4, 2, 8, 8)
        assert batch[key].data_ptr() == chunk[key].data_ptr()


def test_splits_filters_and_sweeps_see_the_same_frames() -> None:
    data = OfflineDataModule(moving_bars(6, 5), batch_size=4, frame_stack=3, validation=0.5)
    assert len(data.log.images["pixels"].pixels) == 36
    whole = everything(moving_bars(6, 5).with_frame_stack(3))
    for batch in (next(iter(data.val_dataloader())), next(data.in_order())):
        assert torch.equal(batch["pixels"], whole["pixels"][batch["index"]])
