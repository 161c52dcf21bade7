"""HDF5 of demonstrations, as robomimic, LIBERO, Isaac Lab and ALOHA write it."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log

LENGTHS = (3, 2, 4)
MAP = {
    "format": "demonstrations",
    "observation": ["obs/pos", "obs/grip"],
    "done_means": "terminated",
}


def made(number: int, steps: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return the numbers of a demonstration; no two are alike."""
    rows = np.arange(steps) + 100.0 * number
    return {
        "actions": np.stack([rows, -rows], 1) / 1000,
        "rewards": np.eye(steps)[-1],
        "dones": np.eye(steps, dtype=np.int64)[-1],
        "states": np.tile(rows[:, None], (1, 7)),
        "obs/pos": np.stack([rows, rows + 0.5], 1),
        "obs/grip": rows[:, None] + 0.25,
        "obs/front": np.tile(rows[:, None, None, None] % 251, (1, 8, 8, 3)).astype(np.uint8),
        "next_obs/pos": np.stack([rows + 1, rows + 1.5], 1),
        "next_obs/grip": rows[:, None] + 1.25,
    }


def robomimic(path: Path, order: tuple[int, ...] = (0, 1, 2), **changed: Any) -> Path:
    """Write a file as robomimic does: attributes, and lists of demonstrations in ``mask``."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS)
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1})
        for number in order:
            # Ten in the middle: names sort by their numbers.
            group = data.create_group(f"demo_{number if number != 2 else 10}")
            group.attrs["num_samples"] = LENGTHS[number]
            for name, values in made(number, LENGTHS[number]).items():
                group.create_dataset(name, data=changed.get(name, values), compression="gzip")
        file["mask/train"] = np.array([b"demo_10", b"demo_0"])
        file["mask/valid"] = np.array([b"demo_1"])
        file["mask/gone"] = np.array([b"demo_7"])
    return path


def expected(name: str, numbers: tuple[int, ...] = (0, 1, 2)) -> np.ndarray[Any, Any]:
    """Return a column of some demonstrations, one below the other."""
    return np.concatenate([made(number, LENGTHS[number])[name] for number in numbers])


def check(log: Log, numbers: tuple[int, ...] = (0, 1, 2)) -> None:
    """Check episodes, observations, actions, rewards and ends against what was written."""
    lengths = [LENGTHS[number] for number in numbers]
    assert log.column("episode").tolist() == np.repeat(range(len(numbers)), lengths).tolist()
    seen = np.concatenate([expected("obs/pos", numbers), expected("obs/grip", numbers)], 1)
    np.testing.assert_array_equal(log.column(OBSERVATION), seen.astype(np.float32))
    actions = expected("actions", numbers).astype(np.float32)
    np.testing.assert_array_equal(log.column("action"), actions)
    ends = np.cumsum(lengths) - 1
    assert log.column(("next", "terminated")).nonzero()[:, 0].tolist() == ends.tolist()
    assert log.column(("next", "reward")).nonzero()[:, 0].tolist() == ends.tolist()


def test_each_group_is_an_episode_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Written in another order; demo_10 is behind demo_1. Next observations as they follow."""
    log = read_log(robomimic(tmp_path / "low_dim.hdf5", order=(2, 0, 1)), MAP)
    check(log)
    assert log.info["format"] == "demonstrations"
    following = log.column(("next", OBSERVATION))[:, 0].tolist()
    assert following[:2] == [1.0, 2.0] and following[3] == 101.0
    stored = {"next_observation": ["next_obs/pos", "next_obs/grip"]}
    whole = read_log(tmp_path / "low_dim.hdf5", MAP | stored)
    np.testing.assert_array_equal(
        whole.column(("next", OBSERVATION))[:, :2], expected("next_obs/pos").astype(np.float32)
    )


def test_a_filter_key_chooses_demonstrations(tmp_path: Path) -> None:
    path = robomimic(tmp_path / "image.hdf5")
    check(read_log(path, MAP | {"filter_key": "train"}), (0, 2))
    check(read_log(path, MAP | {"filter_key": "valid"}), (1,))
    for key, message in (
        ("test", "no list 'test' of demonstrations in 'mask'. Set filter_key to one of"),
        ("gone", "mask/gone names 'demo_7', which is not there"),
    ):
        with pytest.raises(LogError, match=message):
            read_log(path, MAP | {"filter_key": key})
    with pytest.raises(LogError, match="filter_key is for demonstrations"):
        read_log(path, {"filter_key": "train", "action": "data/demo_0/actions"})


def test_cameras_are_entries_or_images(tmp_path: Path) -> None:
    """LIBERO and robomimic's image files: frames beside the joint angles."""
    path = robomimic(tmp_path / "image.hdf5")
    entries = {"observation": {"state": ["obs/pos", "obs/grip"], "eye": "obs/front"}}
    log = read_log(path, MAP | entries)
    frames = log.take((OBSERVATION, "eye"), np_rows(9))
    np.testing.assert_array_equal(frames, expected("obs/front"))


def np_rows(count: int) -> Any:
    import torch

    return torch.arange(count)


def test_a_folder_of_files_is_one_episode_each(tmp_path: Path) -> None:
    """ALOHA: a file for an episode, no rewards and no flags; every episode is cut."""
    for number, steps in enumerate(LENGTHS):
        values = made(number, steps)
        with h5py.File(tmp_path / f"episode_{number if number != 2 else 10}.hdf5", "w") as file:
            file.attrs["sim"] = True
            file["observations/qpos"], file["action"] = values["obs/pos"], values["actions"]
            file["observations/qvel"] = values["obs/grip"]
            file["observations/images/top"] = values["obs/front"]
    named = {"observation": ["observations/qpos", "observations/qvel"], "reward": 0.0}
    log = read_log(tmp_path, {"format": "demonstrations"} | named)
    assert log.column("episode").tolist() == [0] * 3 + [1] * 2 + [2] * 4
    np.testing.assert_array_equal(
        log.column(OBSERVATION)[:, :2], expected("obs/pos").astype(np.float32)
    )
    assert log.column(("next", "truncated")).nonzero()[:, 0].tolist() == [2, 4, 8]
    assert not log.column(("next", "terminated")).any()
    alone = read_log(tmp_path / "episode_10.hdf5", {"format": "demonstrations"} | named)
    assert len(alone) == 4 and alone.episodes == 1


def test_an_observation_more_than_actions(tmp_path: Path) -> None:
    """Isaac Lab and ManiSkill may keep what the last action led to: it is the next observation."""
    path = tmp_path / "dataset.hdf5"
    with h5py.File(path, "w") as file:
        for number, steps in enumerate(LENGTHS):
            group = file.create_group(f"data/demo_{number}")
            group.attrs["success"] = True
            group["obs/policy"] = np.arange(steps + 1.0)[:, None] + 100 * number
            group["actions"] = np.zeros((steps, 2))
            group["states/articulation/robot/joint_position"] = np.zeros((steps, 5))
    given = {"format": "demonstrations", "observation": "obs/policy", "reward": 0.0}
    log = read_log(path, given)
    assert log.column(("next", OBSERVATION))[:, 0].tolist() == [
        1,
        2,
        3,
        101,
        102,
        201,
        202,
        203,
        204,
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observation": "~"}, "3 columns are observed, and the column map does not say which"),
        ({"episode": "states"}, "gives episode, and each demonstration is an episode"),
        ({"episode_length": 3}, "gives episode_length, and each demonstration is an episode"),
        ({"reward": "bonus"}, "column 'bonus': no such column"),
        ({"action": "demonstration"}, "demonstration"),
    ],
)
def test_maps_that_do_not_fit(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = robomimic(tmp_path / "low_dim.hdf5")
    columns = {name: value for name, value in (MAP | given).items() if value != "~"}
    with pytest.raises(LogError, match=message):
        read_log(path, columns)


def broken(path: Path, name: str, values: Any) -> Path:
    """Write three demonstrations, and other values of the second one."""
    robomimic(path)
    with h5py.File(path, "r+") as file:
        group = file["data/demo_1"]
        del group[name]
        if values is not None:
            group[name] = values
    return path


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rewards", None, r"demo_1, column 'rewards': no such column"),
        ("rewards", np.zeros(3), r"demo_1, column 'rewards': 3 rows, and 2 actions"),
        ("obs/pos", np.zeros((1, 2)), r"demo_1, column 'obs/pos': 1 rows, and 2 actions"),
        (
            "obs/pos",
            np.zeros((2, 3)),
            r"demo_1, column 'obs/pos': rows of shape \[3\], and of \[2\]",
        ),
        ("rewards", np.array([b"a", b"b"]), "no plain numeric array"),
    ],
)
def test_a_demonstration_that_is_unlike_the_others(
    name: str, values: Any, message: str, tmp_path: Path
) -> None:
    """Two that are one row too short and too long would be joined without a trace."""
    with pytest.raises(LogError, match=message):
        read_log(broken(tmp_path / "low_dim.hdf5", name, values), MAP)


def test_files_without_demonstrations(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["data/obs"] = np.zeros((3, 2))
        file["elsewhere"] = h5py.ExternalLink("low_dim.hdf5", "/data/demo_0")
    robomimic(tmp_path / "low_dim.hdf5")
    with pytest.raises(LogError, match="no group in it holds actions"):
        read_log(tmp_path / "other.hdf5", MAP)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogError, match="the folder holds no .hdf5 and no .h5 file"):
        read_log(tmp_path / "empty", MAP)
    cut = (tmp_path / "low_dim.hdf5").read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(LogError, match="HDF5"):
        read_log(tmp_path / "cut.hdf5", MAP)


def test_without_the_format_the_map_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="Read them all with `format: demonstrations`"):
        read_log(robomimic(tmp_path / "low_dim.hdf5"))
