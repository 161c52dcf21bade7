"""Dictionaries of observations: one order in logs and environments, goals apart, images whole."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.serialization import serialize_space

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.interface import Interface, RolloutError
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log, survey

STEPS = 3


class Shown(gymnasium.Env[Any, Any]):
    """Shows entry ``i`` of a space, in the space's order, as 10 i + the step number."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return shown(self.observation_space, 0), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return shown(self.observation_space, self.time), 0.0, self.time == STEPS, False, {}


def shown(space: spaces.Space[Any], time: int, number: list[int] | None = None) -> Any:
    """Return what :class:`Shown` shows at a time."""
    number = [0] if number is None else number
    if isinstance(space, spaces.Dict):
        return {key: shown(part, time, number) for key, part in space.spaces.items()}
    number[0] += 1
    return np.full(space.shape, 10 * (number[0] - 1) + time, space.dtype)


def stacked(items: list[Any]) -> Any:
    if isinstance(items[0], Mapping):
        return {key: stacked([item[key] for item in items]) for key in items[0]}
    return np.stack(items)


def recorded(folder: Path, space: spaces.Space[Any], data_format: str = "hdf5") -> Path:
    """Write one episode of :class:`Shown` as a Minari dataset."""
    folder.mkdir()
    storage = MinariStorage.new(
        folder / "data", space, spaces.Box(-1, 1, (1,), np.float32), data_format=data_format
    )
    buffer = EpisodeBuffer(
        observations=stacked([shown(space, time) for time in range(STEPS + 1)]),
        actions=np.zeros((STEPS, 1), np.float32),
        rewards=np.zeros(STEPS),
        terminations=np.arange(STEPS) == STEPS - 1,
        truncations=np.zeros(STEPS, bool),
    )
    storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": "made-v0", "minari_version": "0.5.4"})
    return folder


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(0, 255, shape or (1,), dtype)


# In each the joined text 'arm/q' would come behind or before its neighbour by another rule than
# the keys do: '-', '.' and ' ' sort before '/'.
ORDERS = {
    "minus": (spaces.Dict({"arm": spaces.Dict({"q": box()}), "arm-left": box()})),
    "dot": (spaces.Dict({"arm": spaces.Dict({"q": box()}), "arm.left": box()})),
    "space": (spaces.Dict({"arm": spaces.Dict({"q": box()}), "arm 2": box()})),
    "own": spaces.Dict(OrderedDict(z=box(2), a=spaces.Dict(OrderedDict(y=box(), b=box())))),
    "capital": spaces.Dict({"a": box(), "B": box()}),
}


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.parametrize("name", ORDERS)
def test_logs_environments_and_gymnasium_have_one_order(
    name: str, data_format: str, tmp_path: Path
) -> None:
    """Entry i holds 10 i + t, so any swap of entries shows in the numbers."""
    space = ORDERS[name]
    log = read_log(recorded(tmp_path / "made-v0", space, data_format))
    interface = Interface(Shown(space), "Shown")
    for time in range(STEPS):
        flat = spaces.flatten(space, shown(space, time))
        assert log.column("observation")[time].tolist() == flat.tolist()
        assert interface.see(shown(space, time)).observation.tolist() == flat.tolist()
        after = spaces.flatten(space, shown(space, time + 1))
        assert log.column(("next", "observation"))[time].tolist() == after.tolist()
    assert log.info["names"] == {"action": ["action[0]"]} | interface.names


def test_names_of_nested_entries() -> None:
    interface = Interface(Shown(ORDERS["own"]), "Shown")
    assert interface.names == {
        "observation": [f"observations/{n}" for n in ("z[0]", "z[1]", "a/y", "a/b")]
    }
    assert Interface(Shown(box(3)), "Shown").names == {}


def test_what_is_collected_has_the_names_of_the_environment() -> None:
    collector = Collector(lambda: Shown(ORDERS["minus"]), num_envs=1)
    assert collector.info["names"] == {
        "observation": ["observations/arm/q", "observations/arm-left"]
    }
    found = collector.collect(None, 0, 1, None)
    assert found.columns["observation"][0].tolist() == [0, 10]


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    space = spaces.Dict({"a": spaces.Dict({"b": box()})})
    folder = recorded(tmp_path / "made-v0", space)
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    twice = spaces.Dict({"a/b": box(), "a": spaces.Dict({"b": box()})})
    path.write_text(json.dumps(metadata | {"observation_space": serialize_space(twice)}))
    with pytest.raises(LogError, match="Write the dataset again, with no '/' in a key"):
        read_log(folder)


# --------------------------------------------------------------------------------------- goals


def goals(observation: spaces.Space[Any] | None, goal: spaces.Space[Any]) -> spaces.Dict:
    seen = {"speed": box(2)} if observation is None else {"observation": observation}
    return spaces.Dict({"achieved_goal": goal, "desired_goal": goal} | seen)


GOALS = {
    "flat": (goals(box(2), box()), 2, 1),
    "observation": (goals(spaces.Dict({"q": box(2), "v": box()}), box()), 3, 1),
    "goal": (goals(box(2), spaces.Dict({"x": box(), "y": box(2)})), 2, 3),
    "both": (goals(spaces.Dict({"q": box(2)}), spaces.Dict({"x": box()})), 2, 1),
    "no observation": (goals(None, box()), 2, 1),
}


@pytest.mark.parametrize("name", GOALS)
def test_a_goal_is_the_task_and_never_observed(name: str, tmp_path: Path) -> None:
    """Sorted, achieved_goal is entry 0, desired_goal follows, and the observation is last."""
    space, seen, asked = GOALS[name]
    log = read_log(recorded(tmp_path / "made-v0", space))
    interface = Interface(Shown(space), "Shown")
    assert interface.observation_shape == (seen,) and interface.task_shape == (asked,)
    first = shown(space, 0)
    goal_entries = len(space["desired_goal"]) if name in ("goal", "both") else 1
    observed = interface.see(first)
    assert observed.observation.min() == 10 * 2 * goal_entries  # behind all entries of both goals
    assert observed.task is not None
    assert observed.task.min() == 10 * goal_entries
    assert observed.task.max() == 10 * (2 * goal_entries - 1)
    assert log.column("observation")[0].tolist() == observed.observation.tolist()
    assert log.column("task")[0].tolist() == observed.task.tolist()
    assert log.column("achieved_goal")[0].tolist() == interface.achieved(first).tolist()
    after = interface.achieved(shown(space, 1)).tolist()
    assert log.column(("next", "achieved_goal"))[0].tolist() == after
    for key, names in interface.names.items():
        assert log.info["names"][key] == names
    collected = Collector(lambda: Shown(space), num_envs=1).collect(None, 0, 1, None)
    for key in ("observation", "task", "achieved_goal"):
        assert collected.columns[key][0].tolist() == log.column(key)[0].tolist()


def test_entries_beside_an_observation_are_observed_where_there_is_no_goal(tmp_path: Path) -> None:
    space = spaces.Dict({"observation": box(2), "load": box()})
    log = read_log(recorded(tmp_path / "made-v0", space))
    assert log.column("observation")[0].tolist() == [0, 10, 10]
    seen = Interface(Shown(space), "Shown").see(shown(space, 0))
    assert seen.observation.tolist() == [0, 10, 10] and seen.task is None


def test_goals_alone_are_nothing_to_observe() -> None:
    space = spaces.Dict({"achieved_goal": box(), "desired_goal": box()})
    with pytest.raises(RolloutError, match="holds goals alone"):
        Interface(Shown(space), "Shown")


# -------------------------------------------------------------------------------------- images

FILMED = spaces.Dict({"joints": box(2), "top": box(8, 8, 3, dtype=np.uint8)})


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 8, 3), np.uint8),
        ((4, 4), np.uint8),
        ((8, 8, 3), np.float32),
        ((3, 8, 9), np.float32),
        ((64, 48, 1), np.float64),
    ],
)
def test_an_image_is_not_flattened_unasked(shape: Any, dtype: Any, tmp_path: Path) -> None:
    space = spaces.Dict({"joints": box(2), "top": box(*shape, dtype=dtype)})
    with pytest.raises(LogError) as raised:
        read_log(recorded(tmp_path / "made-v0", space))
    told = str(raised.value)
    assert f"looks like an image ({np.dtype(dtype)} {list(shape)})" in told
    assert "column 'observations/top'" in told
    assert "`observation: [observations/joints]` to leave it out" in told
    assert "`observation: [observations/joints, observations/top]` to flatten it" in told
    assert ("`image: [observations/top]`" in told) == (dtype is np.uint8)
    with pytest.raises(RolloutError, match=r"entry 'top' looks like an image .*FilterObservation"):
        Interface(Shown(space), "Shown")


@pytest.mark.parametrize(("shape", "dtype"), [((5,), np.uint8), ((4, 3), np.float32)])
def test_small_tables_and_bytes_are_numbers(shape: Any, dtype: Any, tmp_path: Path) -> None:
    space = spaces.Dict({"joints": box(2), "top": box(*shape, dtype=dtype)})
    log = read_log(recorded(tmp_path / "made-v0", space))
    assert log.shape("observation") == (2 + int(np.prod(shape)),)


def test_what_the_refusal_says_can_be_written(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "made-v0", FILMED)
    joints, top = "observations/joints", "observations/top"
    assert read_log(folder, {"observation": [joints]}).shape("observation") == (2,)
    both = read_log(folder, {"observation": [joints], "image": [top]})
    assert both.shape("observation") == (2,) and both.shape("top") == (8, 8, 3)
    assert read_log(folder, {"observation": [joints, top]}).shape("observation") == (194,)
    _, problems = survey(folder)
    assert any("looks like an image" in str(problem) for problem in problems)


def test_cameras_alone_keep_their_shape(tmp_path: Path) -> None:
    space = spaces.Dict({"top": box(4, 4, dtype=np.uint8)})
    folder = recorded(tmp_path / "made-v0", space)
    with pytest.raises(LogError, match="`observation: observations/top` to keep its shape"):
        read_log(folder)
    assert read_log(folder, {"observation": "observations/top"}).shape("observation") == (4, 4)


@pytest.mark.parametrize("write", [foreign.npz, foreign.hdf5])
def test_guessed_columns_of_other_formats_are_not_flattened_either(
    write: Any, tmp_path: Path
) -> None:
    made = {name: v for name, v in foreign.columns().items() if "observation" not in name}
    made |= {"obs_0": np.zeros((8, 2)), "obs_1": np.zeros((8, 4, 4), np.uint8)}
    path = write(tmp_path / ("log.npz" if write is foreign.npz else "log.hdf5"), made)
    with pytest.raises(LogError, match=r"column 'obs_1': it looks like an image"):
        read_log(path)
    log = read_log(path, {"observation": ["obs_0"], "image": ["obs_1"]})
    assert log.shape("observation") == (2,) and log.shape("obs_1") == (4, 4)
