"""Choices that start elsewhere: the environment's numbers in logs, numbers from 0 in a learner."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import minari
import numpy as np
import pytest
import torch
from episode_logs import episode_log
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from small_fits import data_for, fit, learner_of
from small_replays import iterated
from tensordict import TensorDict
from tiny_envs import Walk

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.base import from_zero
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.contract import ContractError, dump, parse
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.verify import verify_file
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, read_logs


def minari_log(folder: Path, space: spaces.Space[Any], actions: Any) -> Path:
    """Write a Minari dataset of one episode."""
    folder.mkdir()
    storage = MinariStorage.new(
        folder / "data", observation_space=spaces.Box(-9, 9, (2,)), action_space=space
    )
    steps = len(actions)
    ends = np.arange(steps) == steps - 1
    seen = np.arange(2.0 * steps + 2, dtype=np.float32).reshape(-1, 2) / 9
    storage.update_episodes(
        [
            EpisodeBuffer(
                0, None, None, seen, np.asarray(actions), np.ones(steps), ends, np.zeros_like(ends)
            )
        ]
    )
    storage.update_metadata({"dataset_id": "a-v0", "minari_version": minari.__version__})
    return folder


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [-1, 1, 7])
def test_a_minari_space_says_where_choices_start(start: int, tmp_path: Path) -> None:
    values = np.array([0, 1, 0, 1, 1]) + start
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is guessed
        log = read_log(minari_log(tmp_path / "m", spaces.Discrete(3, start=start), values))
    assert log.column("action").tolist() == values.tolist()
    assert (log.info["discrete_actions"], log.info["action_start"]) == (3, start)


def test_several_choices_at_once_are_refused(tmp_path: Path) -> None:
    path = minari_log(tmp_path / "m", spaces.MultiDiscrete([3, 2]), np.ones((4, 2), np.int64))
    with pytest.raises(LogError, match=r"actions are MultiDiscrete\(\[3 2\]\), several .*numbers"):
        read_log(path)
    assert read_log(path, {"discrete_actions": False}).shape("action") == (2,)


def test_half_infinite_bounds_stay_half_bounded(tmp_path: Path) -> None:
    space = spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 1]))
    log = read_log(minari_log(tmp_path / "m", space, np.float32([[5, -5], [0, 1], [2, 0]])))
    assert log.info["action"] == {"low": [0.0, None], "high": [None, 1.0]}
    log.save(tmp_path / "saved")
    assert Log.load(tmp_path / "saved").info["action"] == log.info["action"]
    outside = minari_log(tmp_path / "o", space, np.float32([[5, -5], [-1, 1], [2, 0]]))
    with pytest.raises(LogError, match=r"action\[0\] = -1 lies outside \[0"):
        read_log(outside)
    learner = learner_of(BC, data_for(BC, log).spec)
    found = learner.actor.scale.to_environment(torch.tensor([[-1e6, -1e6], [1e6, 1e6]]))
    assert found[0, 0] == 0 and found[1, 1] == 1 and found[0, 1] < -1e5 and found[1, 0] > 1e5


def test_float64_bounds_are_stated_as_float32_numbers_inside(tmp_path: Path) -> None:
    space = spaces.Box(-0.1, 0.1, (1,), np.float64)
    log = read_log(minari_log(tmp_path / "m", space, [[0.1], [-0.1], [0.05]]))
    given = episode_log()
    given.info["action"] = {"low": [-2.1, -1.0], "high": [2.1, 3.0]}
    for high, bound in (
        (tuple(log.info["action"]["high"]), 0.1),
        (data_for(BC, given).spec.action.high[:1], 2.1),
    ):
        assert high == (float(np.float32(high[0])),) and bound - 3e-7 < high[0] < bound


def test_the_column_map_says_where_choices_start(tmp_path: Path) -> None:
    values = foreign.columns() | {"action": np.array([2, 1, 2, 1, 1, 2, 3, 1], np.int8)}
    path = foreign.npz(tmp_path / "log.npz", values)
    for given, count, start in (
        ({"action_start": 1}, 3, 1),
        ({"action_start": 1, "action_count": 5}, 5, 1),
        ({"action_start": -2}, 6, -2),
        ({"action_start": 0}, 4, 0),
        ({"action_count": 4}, 4, 0),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log = read_log(path, given)
        assert log.column("action").tolist() == values["action"].tolist()
        found = log.info["discrete_actions"], log.info.get("action_start", 0)
        assert found == (count, start)
    with pytest.raises(LogError, match="action 1 is below 2, the first action.*action_start"):
        read_log(path, {"action_start": 2})
    with pytest.raises(LogError, match="action 3 is none of the 2 actions from 1"):
        read_log(path, {"action_start": 1, "action_count": 2})


def test_a_guess_is_named(tmp_path: Path) -> None:
    values = foreign.columns() | {"action": np.array([2, 1, 2, 1, 1, 2, 3, 1], np.int8)}
    path = foreign.npz(tmp_path / "log.npz", values)
    with pytest.warns(UserWarning, match=r"column 'action' .* from 1 on.*a guess.*action_start"):
        log = read_log(path)
    assert (log.info["discrete_actions"], log.info["action_start"]) == (3, 1)
    zero = foreign.npz(tmp_path / "zero.npz", values | {"action": values["action"] - 1})
    for paths in ([path, zero], [zero, path]):
        with pytest.warns(UserWarning, match="a guess"):
            both = read_logs(paths)
        assert (both.info["discrete_actions"], both.info.get("action_start", 0)) == (4, 0)
    with pytest.raises(LogError, match="action_start: 0 differs from 1 of the first source"):
        read_logs([path, zero], [{"action_start": 1}, None])
    with pytest.warns(UserWarning, match="a guess"):
        both = read_logs([path, path], [None, {"action_start": -1}])
    assert (both.info["discrete_actions"], both.info["action_start"]) == (5, -1)
    with (
        pytest.warns(UserWarning, match="a guess"),
        pytest.raises(LogError, match="holds the choice 1, and those of .*start at 2"),
    ):
        later = foreign.npz(tmp_path / "later.npz", values | {"action": values["action"] + 1})
        read_logs([path, later], [None, {"action_start": 2}])


# --- training, export, playing --------------------------------------------------------------------


def shifted(start: int) -> Log:
    """Return a log of three choices from ``start`` on."""
    log = episode_log(discrete=True)
    moved = log.with_columns({"action": log.column("action") + start})
    moved.info.update({"action_start": start} if start else {})
    return moved


class Numbered(Walk):
    """A walk of 4 steps with choices from ``start`` on, which pays the number of the choice."""

    def __init__(self, start: int = 1) -> None:
        super().__init__()
        self.action_space = spaces.Discrete(3, start=start)
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def step(self, action: Any) -> Any:
        """Take one step."""
        assert self.action_space.contains(action), action
        self.time += 1
        return self._observe(), float(action), False, self.time == 4, {}

    def _observe(self) -> Any:
        return np.array([self.position, self.time, np.sin(self.time)], np.float32)


@pytest.mark.parametrize("start", [-1, 1])
def test_a_learner_is_the_same_wherever_choices_start(start: int, tmp_path: Path) -> None:
    """Weights equal those of the log from 0; what it does is moved by ``start``, file included."""
    learners = []
    for first in (0, start):
        data = data_for(BC, shifted(first))
        learner = learner_of(BC, data.spec)
        fit(learner, data, tmp_path / str(first), 20)
        learners.append(learner)
    plain, moved = learners
    assert moved.spec.action == replace(plain.spec.action, start=start)
    for one, two in zip(plain.parameters(), moved.parameters(), strict=True):
        assert one.equal(two)
    seen = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    np.testing.assert_array_equal(moved.act_numpy(seen), plain.act_numpy(seen) + start)

    path = tmp_path / "policy.onnx"
    export_policy(moved, path)
    policy = OnnxPolicy(path)
    np.testing.assert_array_equal(policy.act(seen), moved.act_numpy(seen))
    assert policy.act(seen[0]) == moved.act_numpy(seen[:1])[0]
    assert policy.contract["action"]["start"] == start
    assert verify_file(path)["parity"]["disagreements"] == 0

    played = [
        rollout(act, lambda: Numbered(start), episodes=3, seed=0, spec=moved.spec)
        for act in (moved.act_numpy, policy.act)
    ]
    np.testing.assert_array_equal(played[0].returns, played[1].returns)
    with pytest.raises(ValueError, match=f"from {start}"):
        rollout(plain.act_numpy, lambda: Numbered(start), episodes=1, seed=0, spec=plain.spec)


def test_windows_and_companions_are_numbered_from_0() -> None:
    def of(*values: int) -> torch.Tensor:
        return torch.tensor([values])

    valid = torch.tensor([[False, True]])
    batch = TensorDict(
        {
            "action": torch.tensor([5]),
            "history": {"action": of(0, 7), "valid": valid},
            "chunk": {"action": of(5, 5), "valid": ~valid},
            "companion": {"goal": {"action": torch.tensor([6])}},
        },
        [1],
    )
    found = from_zero(batch, 5)
    assert found["action"].tolist() == [0] and found["companion", "goal", "action"].tolist() == [1]
    assert found["history", "action"].tolist() == [[0, 2]]
    assert found["chunk", "action"].tolist() == [[0, 0]]
    assert batch["action"].tolist() == [5] and batch["history", "action"].tolist() == [[0, 7]]
    assert from_zero(batch, 0) is batch


def test_contracts_without_a_start_begin_at_0(tmp_path: Path) -> None:
    learner = learner_of(BC, data_for(BC, shifted(0)).spec)
    export_policy(learner, tmp_path / "policy.onnx")
    contract = dict(OnnxPolicy(tmp_path / "policy.onnx").contract)
    assert "start" not in contract["action"] and parse(dump(contract)) == contract
    moved = contract | {"action": contract["action"] | {"start": 5}}
    with pytest.raises(ContractError, match="probe.action holds .* none of the 3 choices from 5"):
        parse(json.dumps(moved))
    odd = contract | {"action": contract["action"] | {"start": "1"}}
    with pytest.raises(ContractError, match="action.start is of type str"):
        parse(json.dumps(odd))


def test_collecting_with_the_policy_keeps_the_environments_numbers(tmp_path: Path) -> None:
    data = iterated(
        lambda: Numbered(-1), initial_episodes=4, episodes_per_round=4, batch_size=16, seed=5
    )
    assert data.spec.action.n == 3 and data.spec.action.start == -1
    learner = learner_of(BC, data.spec)
    fit(learner, data, tmp_path, 40)
    assert len(data.history) > 1
    action, reward = data.log.column("action"), data.log.column(("next", "reward"))
    assert action.float().equal(reward) and action.unique().tolist() == [-1, 0, 1]
