"""Column maps that name several entries of an observation, in every format: values at borders."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from foreign_logs import LAST, LENGTHS, ROWS
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from tiny_envs import HORIZON, Look

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.inspect import main as inspect
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.interface import Interface, RolloutError
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, survey
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Discrete, Image, Vector

CAMERA, ARM, GEAR = ("observation", "camera"), ("observation", "arm"), ("observation", "gear")
MAP = {"observation": {"camera": "images/front", "arm": ["q", "dq"]}}
FLAT = {"observation": {"camera": "front", "arm": ["q_*", "dq"]}}
# Frame t of episode i holds 10 i + t everywhere; what its last step led to holds one more.
FRAMES = np.concatenate([10 * i + np.arange(n) for i, n in enumerate(LENGTHS)])


def frames(numbers: np.ndarray) -> np.ndarray:
    return np.broadcast_to(numbers[:, None, None, None], (len(numbers), 8, 9, 3)).astype(np.uint8)


def stored() -> dict[str, np.ndarray]:
    """Return a log with a camera, joint angles (2) and a velocity (1), and a gear."""
    made = foreign.columns()
    position = made.pop("observation")
    made.pop("next_observation")
    return made | {
        "images/front": frames(FRAMES),
        "q": position,
        "dq": position[:, 0] / 2,
        "gear": np.arange(ROWS) % 3,
    }


def one_column_each(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same for formats whose names hold no slash, frames nested lists."""
    return {name.rpartition("/")[2]: value for name, value in values.items()}


def parquet(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    columns = one_column_each(values)
    nested = pa.list_(pa.list_(pa.list_(pa.uint8())))
    types = {name: nested for name, value in columns.items() if value.ndim == 4}
    table = {n: pa.array(v.tolist(), type=types.get(n)) for n, v in columns.items()}
    pa.parquet.write_table(pa.table(table), path)
    return path


def check(log: Log, *, last: int) -> None:
    """Check values at the border; the last frame of an episode is ``last`` more than its row's."""
    assert log.observed == [CAMERA, ARM] and len(log) == ROWS and log.episodes == 3
    batch = log.gather(torch.arange(ROWS))
    assert batch[CAMERA].dtype == torch.uint8 and batch[CAMERA].shape == (ROWS, 8, 9, 3)
    assert batch[CAMERA][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 20, 21, 22]
    following = [1, 2, 3, 3 + last, 10 + last, 21, 22, 22 + last]
    assert batch["next", *CAMERA][:, 7, 8, 2].tolist() == following
    assert batch[ARM].dtype == torch.float32
    assert batch[ARM][3:6].tolist() == [[3, -3, 1.5], [100, -100, 50], [200, -200, 100]]
    # Row 3 and 4 are last ones: row 2 leads to row 3, and row 5 to row 6.
    after = batch["next", *ARM]
    assert after[2].tolist() == [3, -3, 1.5] and after[5].tolist() == [201, -201, 100.5]
    assert after[4].tolist() == [100 + last, -100 - last, 50 + last / 2]


FORMATS = {
    "npz": (foreign.npz, MAP),
    "hdf5": (foreign.hdf5, MAP),
    "parquet": (parquet, {"observation": {"camera": "front", "arm": ["q", "dq"]}}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_and_a_vector_by_format(name: str, tmp_path: Path) -> None:
    """Without stored next observations the last row of an episode repeats its own."""
    write, columns = FORMATS[name]
    log = read_log(write(tmp_path / f"log.{name}", stored()), columns)
    check(log, last=0)
    assert log.info["repeated_next_observation"] == 1  # the one episode that is cut
    assert log.info["entries"] == ["camera", "arm"]
    names = ["q[0]", "q[1]", "dq"]
    assert log.info["names"]["observation.arm"] == names


@pytest.mark.parametrize("name", FORMATS)
def test_stored_next_entries_are_read(name: str, tmp_path: Path) -> None:
    write, columns = FORMATS[name]
    made = stored()
    made |= {"next_front": frames(FRAMES + 1), "q2": made["q"] + [1, -1], "dq2": made["dq"] + 0.5}
    after = {"next_observation": {"camera": "next_front", "arm": ["q2", "dq2"]}}
    log = read_log(write(tmp_path / f"log.{name}", made), columns | after)
    check(log, last=1)
    assert log.info["repeated_next_observation"] == 0


def test_one_entry_may_be_stored_and_another_follow(tmp_path: Path) -> None:
    made = stored() | {"q2": stored()["q"] + [1, -1], "dq2": stored()["dq"] + 0.5}
    path = foreign.npz(tmp_path / "log.npz", made)
    for camera in ({}, {"camera": "shifted"}):
        after = {"next_observation": camera | {"arm": ["q2", "dq2"]}}
        log = read_log(path, MAP | after)
        assert log.column(("next", *ARM))[4].tolist() == [101, -101, 50.5]
        assert log.column(("next", *CAMERA))[4, 0, 0, 0] == 10
        assert log.info["repeated_next_observation"] == 1


@pytest.mark.parametrize("name", ["npz", "hdf5"])
def test_one_row_more_per_episode_gives_the_next_entries(name: str, tmp_path: Path) -> None:
    write, columns = FORMATS[name]
    made, numbers = stored(), []
    for i, count in enumerate(LENGTHS):
        numbers.append(10 * i + np.arange(count + 1))
    made["images/front"] = frames(np.concatenate(numbers))
    for key in ("q", "dq"):
        step = np.array([1, -1]) if key == "q" else 0.5
        made[key] = np.insert(made[key], LAST + 1, made[key][LAST] + step, axis=0)
    check(read_log(write(tmp_path / f"log.{name}", made), columns), last=1)


def test_text_files_have_entries_of_numbers(tmp_path: Path) -> None:
    made = one_column_each(stored())
    del made["front"]
    path = foreign.csv(tmp_path / "log.csv", made)
    columns = {"observation": {"arm": ["q_*", "dq"], "gear": "gear"}}
    log = read_log(path, columns | {"observation_choices": {"gear": 4}, "action": "action_*"})
    assert log.observed == [ARM, GEAR]
    assert log.column(ARM)[4].tolist() == [100, -100, 50]
    assert log.column(GEAR).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert log.column(GEAR).dtype == torch.int64
    after = log.column(("next", *GEAR))
    assert after.tolist() == [1, 2, 0, 0, 1, 0, 1, 1] and after.dtype == torch.int64
    names = {"arm": ["q_0", "q_1", "dq"]}
    assert log.info["names"]["observation.arm"] == names["arm"]
    data = OfflineDataModule(log, batch_size=4)
    arm, gear = data.spec.observation.values()
    assert isinstance(arm, Vector) and arm.names == ("q_0", "q_1", "dq")
    assert gear == Discrete(4)


def test_lerobot_has_entries_of_its_features(tmp_path: Path) -> None:
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    log = read_log(folder, {"observation": {"state": "observation.state"}})
    assert log.observed == [("observation", "state")]
    assert log.column(("observation", "state"))[:2].tolist() == [[0, 0], [1, -1]]


# ---------------------------------------------------------------------------------------- Minari


def minari(path: Path, data_format: str = "hdf5") -> Path:
    """Write the same episodes with a dictionary of observations: arm, camera, gear."""
    arm = spaces.Dict({"q": spaces.Box(-np.inf, np.inf, (2,)), "dq": spaces.Box(-9, 999, (1,))})
    space = spaces.Dict(
        {"arm": arm, "camera": spaces.Box(0, 255, (8, 9, 3), np.uint8), "gear": spaces.Discrete(5)}
    )
    path.mkdir(parents=True)
    storage = MinariStorage.new(
        path / "data", space, spaces.Box(-1, 1, (2,)), data_format=data_format
    )
    made, buffers = foreign.columns(), []
    for number, (last, count) in enumerate(zip(LAST, LENGTHS, strict=True)):
        rows = slice(last + 1 - count, last + 1)
        q = np.concatenate([made["observation"][rows], made["next_observation"][last : last + 1]])
        seen = {
            "arm": {"q": q, "dq": q[:, :1] / 2},
            "camera": frames(10 * number + np.arange(count + 1)),
            "gear": np.arange(count + 1) % 3,
        }
        buffers.append(
            EpisodeBuffer(
                observations=seen,
                actions=made["action"][rows],
                rewards=made["reward"][rows].astype(float),
                terminations=made["terminated"][rows],
                truncations=made["truncated"][rows],
            )
        )
    storage.update_episodes(buffers)
    storage.update_metadata({"dataset_id": "robot-v0", "minari_version": "0.5.4"})
    return path


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_entries_of_a_minari_dictionary(data_format: str, tmp_path: Path) -> None:
    arm = [f"observations/arm/{key}" for key in ("q", "dq")]
    columns = {"observation": {"camera": "observations/camera", "arm": arm}}
    log = read_log(minari(tmp_path / "robot-v0", data_format), columns)
    check(log, last=1)
    assert log.info["names"]["observation.arm"] == [f"{arm[0]}[0]", f"{arm[0]}[1]", arm[1]]


def test_the_error_about_a_camera_names_a_map_that_works(tmp_path: Path) -> None:
    folder = minari(tmp_path / "robot-v0")
    with pytest.raises(LogError, match=r"column 'observations/camera'.*looks like an image") as e:
        read_log(folder)
    wanted = "{arm/dq: observations/arm/dq, arm/q: observations/arm/q, camera: observations/camera"
    wanted += ", gear: observations/gear}"
    assert f"`observation: {wanted}` to keep each as an entry" in str(e.value)
    log = read_log(folder, f"{{observation: {wanted}}}")
    assert [key[1] for key in log.observed] == ["arm/dq", "arm/q", "camera", "gear"]
    assert log.column(CAMERA)[:, 0, 0, 0].tolist() == FRAMES.tolist()
    assert log.column(("next", *CAMERA))[4, 0, 0, 0] == 11
    # The space says that a gear is one of 5, though the log shows 3.
    data = OfflineDataModule(log, batch_size=4)
    assert data.spec.observation["gear"] == Discrete(5)
    assert data.spec.observation["camera"] == Image((8, 9, 3))


def test_a_policy_of_the_map_is_played_in_the_environment(tmp_path: Path) -> None:
    """The environment's error names the same map, and shows its entries by these names."""
    env = Look()
    (tmp_path / "look-v0").mkdir()
    storage = MinariStorage.new(
        tmp_path / "look-v0" / "data", env.observation_space, env.action_space
    )
    seen = [env.reset(seed=0)[0]] + [env.step([0.5])[0] for _ in range(3)]
    buffer = EpisodeBuffer(
        observations={key: np.stack([part[key] for part in seen]) for key in seen[0]},
        actions=np.array([[0.5], [0.2], [-0.1]], np.float32),
        rewards=np.zeros(3),
        terminations=np.zeros(3, bool),
        truncations=np.array([False, False, True]),
    )
    storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": "look-v0", "minari_version": "0.5.4"})
    with pytest.raises(RolloutError, match="'camera' looks like an image") as raised:
        Interface(env, "Look")
    columns = re.search("`observation: ({.*})`", str(raised.value))
    assert columns is not None
    with pytest.raises(LogError, match=re.escape(columns[0])):
        read_log(tmp_path / "look-v0")
    data = OfflineDataModule(str(tmp_path / "look-v0"), columns=f"{{observation: {columns[1]}}}")
    assert list(data.spec.observation) == ["state", "camera"]
    learner = BC(data.spec, network=Network(hidden=(8,)), compile="off", threads=1)
    done = rollout(learner.act_numpy, Look, episodes=2, seed=0, spec=data.spec)
    assert done.lengths.tolist() == [HORIZON, HORIZON]


# ----------------------------------------------------------------------------- what goes with it


def test_other_fields_keep_working(tmp_path: Path) -> None:
    made = stored() | {"good": np.array([1, 0, 1]), "goal": np.zeros((ROWS, 2))}
    columns = MAP | {"action_scale": 2.0, "task": "goal", "success": "good", "extra": "gear"}
    log = read_log(foreign.npz(tmp_path / "log.npz", made), columns)
    assert log.column("action")[0].tolist() == [-2.0, pytest.approx(-2 + 4 / 15)]
    assert log.shape("task") == (2,) and log.column("gear").tolist() == made["gear"].tolist()
    assert log.column("success").tolist() == [True] * 4 + [False] + [True] * 3


def test_the_last_row_of_an_episode_may_be_an_observation(tmp_path: Path) -> None:
    made = stored()
    del made["terminated"], made["truncated"], made["step"]
    log = read_log(foreign.npz(tmp_path / "log.npz", made | {
        "episode": np.repeat([0, 1], [4, 4])}), MAP | {"last_row": "observation"})  # fmt: skip
    assert len(log) == 6
    assert log.column(CAMERA)[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 20, 21]
    assert log.column(("next", *CAMERA))[:, 0, 0, 0].tolist() == [1, 2, 3, 20, 21, 22]
    assert log.column(("next", *ARM))[2].tolist() == [3, -3, 1.5]


def test_episodes_begin_where_any_entry_jumps(tmp_path: Path) -> None:
    made = stored() | {"q2": stored()["q"] + [1, -1]}
    del made["episode"], made["terminated"], made["truncated"]
    columns = {"observation": {"camera": "images/front", "q": "q"}, "episode_jump": True}
    log = read_log(
        foreign.npz(tmp_path / "log.npz", made), columns | {"next_observation": {"q": "q2"}}
    )
    assert log.episodes == 3 and log.episode_ends().tolist() == LAST.tolist()


def test_names_and_units_of_an_entry(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", stored())
    given = {"names": {"observation.arm": ["a", "b", "c"]}, "units": {"observation.arm": ["m"] * 3}}
    log = read_log(path, MAP | given)
    assert log.info["names"]["observation.arm"] == ["a", "b", "c"]
    arm = OfflineDataModule(log, batch_size=4).spec.observation["arm"]
    assert (arm.names, arm.units) == (("a", "b", "c"), ("m", "m", "m"))
    with pytest.raises(LogError, match="2 names for 3 dimensions of observation.arm"):
        read_log(path, MAP | {"names": {"observation.arm": ["a", "b"]}})
    with pytest.raises(LogError, match="names are given for observation.camera, which has no dim"):
        read_log(path, MAP | {"names": {"observation.camera": ["a"]}})


def test_a_saved_log_of_entries_is_read_again(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", stored())
    log = read_log(path, MAP | {"observation": MAP["observation"] | {"gear": "gear"},
                                "observation_choices": {"gear": None}})  # fmt: skip
    log.save(tmp_path / "saved")
    again = Log.load(tmp_path / "saved")
    assert again.observed == log.observed and again.hash() == log.hash()
    assert again.info["observation_choices"] == {"gear": 3}
    assert OfflineDataModule(again, batch_size=4).spec.observation["gear"] == Discrete(3)


def test_inspect_prints_entries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.npz(tmp_path / "log.npz", stored())
    written = "{observation: {camera: images/front, arm: [q, dq], gear: gear}, "
    written += "observation_choices: {gear: 4}}"
    plot = tmp_path / "log.png"
    assert inspect([str(path), "--columns", written, "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    lines = {tuple(line.split("  ", 1)[:1]): line for line in shown.splitlines()}
    assert "images, 8 x 9 x 3" in lines["entry camera",]
    assert "3 real numbers" in lines["entry arm",]
    assert "one of 4" in lines["entry gear",]
    assert "observation.arm" in shown and "dq" in shown and plot.stat().st_size > 1000
    assert inspect([str(path), "--columns", written, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["entries"] == {
        "camera": {"kind": "image", "shape": [8, 9, 3]},
        "arm": {"kind": "vector", "shape": [3]},
        "gear": {"kind": "discrete", "shape": [], "n": 4},
    }
    read_log(path, written).save(tmp_path / "saved")
    assert inspect([str(tmp_path / "saved"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == found["entries"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"observation": {}},
            r"observation: \{\} is not text or a list of str or a mapping of text",
        ),
        ({"observation": {"a": 3}}, r"observation: \{'a': 3\} is not text or"),
        ({"observation": {"a.b": "x"}}, "an entry is called 'a.b'. Give a text without dots"),
        ({"observation": {"": "x"}}, "an entry is called ''"),
        (MAP | {"next_observation": "x"}, "has entries, and next_observation is a column"),
        (MAP | {"next_observation": {"leg": "x"}}, "has the entry 'leg', and observation does not"),
        ({"next_observation": {"leg": "x"}}, "has the entry 'leg', and observation does not"),
        (
            MAP | {"names": {"observation": ["x"]}},
            "keys are observation.camera, observation.arm, a",
        ),
        ({"observation_choices": {"gear": 5}}, "names 'gear', which is no entry"),
        (MAP | {"observation_choices": {"arm": 0}}, "arm has 0 choices"),
    ],
)
def test_a_wrong_map_of_entries_is_an_error(values: dict[str, Any], told: str) -> None:
    with pytest.raises(LogError, match=told):
        ColumnMap.load(values)


def test_wrong_columns_of_entries_are_errors(tmp_path: Path) -> None:
    made = stored() | {"odd": np.arange(ROWS) - 1, "half": np.arange(ROWS) / 2}
    path = foreign.npz(tmp_path / "log.npz", made)
    gear = {"observation_choices": {"gear": 2}}
    for columns, told in (
        ({"observation": {"camera": "images/back"}}, r"column 'images/back': no such column. Did"),
        (MAP | {"next_observation": {"camera": "q"}}, r"where observation.camera has \[8, 9, 3\]"),
        ({"observation": {"gear": "gear"}} | gear, "row 2: 2 is none of 2 choices counted from 0"),
        ({"observation": {"gear": "odd"}} | gear, "row 0: -1 is none of 2 choices"),
        ({"observation": {"gear": "half"}} | gear, "row 1: 0.5 is none of 2 choices"),
    ):
        with pytest.raises(LogError, match=told):
            read_log(path, columns)
    _, problems = survey(path, {"observation": {"gear": "odd"}} | gear)
    assert any("none of 2 choices" in str(problem) for problem in problems)


def test_groups_that_hold_an_episode_each_stay_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for number in range(2):
            group = file.create_group(f"data/demo_{number}")
            group["obs/front"], group["obs/q"] = frames(np.arange(3)), np.zeros((3, 2))
            group["actions"], group["dones"] = np.zeros((3, 1)), np.array([0, 0, 1])
    columns = {"observation": {"camera": "data/demo_*/obs/front", "q": "data/demo_*/obs/q"}}
    columns |= {"action": "data/demo_*/actions", "reward": 0.0}
    with pytest.raises(LogError, match="each of 2 groups holds an episode"):
        read_log(tmp_path / "log.hdf5", columns)
