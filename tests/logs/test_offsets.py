"""Numbers that float32 cannot hold, kept less an offset: from the log to the file that acts."""

from pathlib import Path
from typing import Any

import foreign_logs as foreign
import gymnasium
import numpy as np
import pytest
import torch
from foreign_logs import ROWS
from gymnasium import spaces
from lightning import Trainer

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.inspect import main as inspect
from hindsight_rl.cli.run import act_time
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.rollout import RolloutError, rollout
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, read_logs
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.nets.network import Network
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.relabel.goals import FinalGoal
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.spec import Spec, Vector

EPOCH = 1.7e9
CLOCK = EPOCH + 0.25 * np.arange(ROWS)
MAP = {"observation": ["observation", "clock"], "next_observation": "shifted"}
LESS = {"offset": {"observation": [0, 0, "1.7e9"]}}  # as YAML 1.1 reads it


def stored(tmp_path: Path, **more: Any) -> Path:
    return foreign.npz(tmp_path / "log.npz", foreign.columns() | {"clock": CLOCK} | more)


def test_the_error_names_the_option_and_the_option_works(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with pytest.raises(LogError, match=r"set `offset` in the column map, as in `offset: {observa"):
        read_log(path, MAP)
    log = read_log(path, MAP | LESS)
    relative = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
    assert log.column("observation")[:, 2].tolist() == relative
    # The border of episodes: rows 3, 4 and 7 repeat themselves, none takes the next one's.
    assert log.column(("next", "observation"))[:, 2].tolist() == [0.25, 0.5, 0.75, 0.75, 1.0,
                                                                   1.5, 1.75, 1.75]  # fmt: skip
    assert log.column("observation")[:, 0].tolist() == [0, 1, 2, 3, 100, 200, 201, 202]
    assert log.info["offset"] == {"observation": [0.0, 0.0, 1.7e9]}


def test_the_error_of_another_field_does_not_name_it(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"first value, in the log\. Or leave the column out"):
        read_log(stored(tmp_path), {"extra": "clock"})


def test_stored_next_observations_are_shifted_alike(tmp_path: Path) -> None:
    columns = MAP | LESS | {"next_observation": ["next_observation", "later"]}
    log = read_log(stored(tmp_path, later=CLOCK + 0.25), columns)
    after = log.column(("next", "observation"))[:, 2]
    assert after.tolist() == (0.25 * np.arange(1, ROWS + 1)).tolist()


def test_whole_numbers_and_one_offset_for_all_dimensions(tmp_path: Path) -> None:
    counts = 123_456_789 + np.stack([np.arange(ROWS), 3 * np.arange(ROWS)], 1)
    path = stored(tmp_path, counts=counts)
    log = read_log(path, {"observation": "counts", "offset": {"observation": 123_456_789}})
    assert log.column("observation").tolist() == (counts - 123_456_789).tolist()
    assert log.info["offset"] == {"observation": [123_456_789.0] * 2}


def test_an_entry_has_an_offset_of_its_own(tmp_path: Path) -> None:
    columns = {"observation": {"arm": "observation", "time": "clock"}}
    log = read_log(stored(tmp_path), columns | {"offset": {"observation.time": EPOCH}})
    assert log.column(("observation", "time"))[:3].tolist() == [[0], [0.25], [0.5]]
    spec = OfflineDataModule(log, batch_size=4).spec
    assert isinstance(time := spec.observation["time"], Vector) and time.offset == (EPOCH,)
    assert isinstance(arm := spec.observation["arm"], Vector) and arm.offset is None
    assert Spec.from_dict(spec.to_dict()) == spec
    assert "offset" not in spec.to_dict()["observation"]["entries"]["arm"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"offset": {"action": 1.0}}, "offset has no key 'action'. Its keys are observation and t"),
        ({"offset": {"observation": float("nan")}}, "that of the observation is not finite"),
        ({"offset": {"observation": "far"}}, "is not a mapping of a number or a list of float"),
        (LESS | {"observation": {"a": "x"}}, "Its keys are observation.a and task"),
    ],
)
def test_a_wrong_offset_is_an_error(values: dict[str, Any], told: str) -> None:
    with pytest.raises(LogError, match=told):
        ColumnMap.load(values)


def test_an_offset_of_another_width_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="offset of the observation has 2 numbers for 3 dimensions"):
        read_log(stored(tmp_path), MAP | {"offset": {"observation": [0, EPOCH]}})


def test_an_offset_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="offset is given for task, which the log does not have"):
        read_log(
            stored(tmp_path),
            MAP | LESS | {"offset": {"task": 1.0}} | {"observation": "observation"},
        )


def test_sources_with_different_offsets_are_not_mixed(tmp_path: Path) -> None:
    one, two = (
        stored(tmp_path),
        foreign.npz(tmp_path / "two.npz", foreign.columns() | {"clock": CLOCK}),
    )
    other = MAP | {"offset": {"observation": [0, 0, 1.7e9 + 64]}}
    with pytest.raises(LogError, match="offset: .* differs from"):
        read_logs([one, two], [MAP | LESS, other])
    assert len(read_logs([one, two], MAP | LESS)) == 2 * ROWS


def test_the_offset_of_a_task_holds_for_goals_that_were_achieved(tmp_path: Path) -> None:
    place = 5.3e6 + 0.125 * np.arange(ROWS)
    path = stored(tmp_path, goal=np.full(ROWS, place[-1]), place=place)
    columns = {"task": "goal", "achieved_goal": "place", "offset": {"task": 5.3e6}}
    log = read_log(path, columns)
    assert log.column("achieved_goal")[:3].ravel().tolist() == [0, 0.125, 0.25]
    assert log.column("task")[0].tolist() == [0.875]
    goals = OfflineDataModule(log, batch_size=4, relabel=[FinalGoal()]).spec.task
    assert goals is not None and goals.offset == (5.3e6,)
    returns = OfflineDataModule(log, batch_size=4, relabel=[ReturnTask()]).spec.task
    assert returns is not None and returns.offset is None  # returns are not places


def test_inspect_says_what_was_subtracted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = "{observation: [observation, clock], next_observation: shifted, "
    written += "offset: {observation: [0, 0, 1.7e9]}}"
    assert inspect([str(stored(tmp_path)), "--columns", written]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "observation less 0, 0, 1700000000" in shown


# ------------------------------------------------------------------------- log to file to episodes


class Clock(gymnasium.Env[Any, Any]):
    """Shows the time since 1970 and how long the step took; the action is to be its quarter."""

    def __init__(self, dtype: Any = np.float64) -> None:
        low, high = np.full(2, -np.inf, dtype), np.full(2, np.inf, dtype)
        self.observation_space = spaces.Box(low, high, dtype=dtype)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.dtype = dtype

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = float(self.np_random.uniform(0, 2))
        return self.seen(), {}

    def seen(self) -> Any:
        return np.array([EPOCH + self.time, np.sin(self.time)], self.dtype)

    def step(self, action: Any) -> Any:
        reward = -abs(float(action[0]) - (self.time / 4))
        self.time += 0.25
        return self.seen(), reward, False, self.time > 2, {}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[BC, Log]:
    """Return a policy fitted to (time / 4) of raw clock values."""
    draw = np.random.default_rng(0)
    time = draw.uniform(0, 2, 400)
    columns = {
        "seen": np.stack([EPOCH + time, np.sin(time)], 1),
        "action": (time / 4)[:, None],
        "reward": np.zeros(400),
        "end": np.arange(400) % 10 == 9,
    }
    path = foreign.npz(tmp_path_factory.mktemp("clock") / "log.npz", columns)
    given: dict[str, Any] = {"observation": "seen", "episode_end": "end", "action_low": -1.0}
    given |= {"action_high": 1.0, "offset": {"observation": [EPOCH, 0]}}
    log = read_log(path, given)
    data = OfflineDataModule(log, batch_size=64, updates_per_step=16, seed=1)
    torch.manual_seed(0)
    learner = BC(
        data.spec, network=Network(hidden=(32,)), head="deterministic", compile="off", threads=1
    )
    learner.build_optimizer = lambda params: torch.optim.Adam(params, lr=5e-3)
    Trainer(
        accelerator="cpu", max_steps=400, max_epochs=-1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    ).fit(learner, data)  # fmt: skip
    return learner.eval(), log


def test_the_file_takes_raw_values_and_equals_torch(
    fitted: tuple[BC, Log], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, log = fitted
    path = tmp_path / "clock.onnx"
    export_policy(learner, path)
    policy = OnnxPolicy(path)
    assert policy.contract["observation"]["offset"] == [EPOCH, 0.0]
    time = np.linspace(0, 2, 41)
    raw = np.stack([EPOCH + time, np.sin(time)], 1)
    relative = torch.tensor(raw - [EPOCH, 0.0], dtype=torch.float32)
    with torch.no_grad():
        ours = learner(relative).numpy()
    np.testing.assert_allclose(policy.act(raw), ours, rtol=0, atol=1e-5)
    np.testing.assert_allclose(policy.act(raw[7]), ours[7], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(learner.act_numpy(raw), ours)
    actor, _ = TorchActor(learner).step(raw, None, {}, np.zeros((41, 3), np.int64))
    np.testing.assert_array_equal(actor, ours)
    drawn = learner.collecting(False)
    assert callable(drawn)
    np.testing.assert_array_equal(drawn(raw, None, torch.zeros(41, 3, dtype=torch.int64)), ours)
    error = np.abs(ours[:, 0] - time / 4).max()
    with capsys.disabled():
        print(f"\nlargest error {error:.3f} of actions from 0 to 0.5")
    assert error < 0.05  # it could not be, had the clock become one number
    assert act_time(policy)["act_us_median"] > 0


def test_float32_has_lost_the_digits_already(fitted: tuple[BC, Log], tmp_path: Path) -> None:
    learner, _ = fitted
    export_policy(learner, tmp_path / "clock.onnx")
    policy = OnnxPolicy(tmp_path / "clock.onnx")
    raw = np.array([[EPOCH, 0.0]], np.float32)
    for act in (policy.act, learner.act_numpy):
        for value in (raw, raw[0]) if act == policy.act else (raw,):
            with pytest.raises(ValueError, match="has dtype float32, and this policy subtracts"):
                act(value)


def test_episodes_see_raw_values(fitted: tuple[BC, Log], tmp_path: Path) -> None:
    learner, _ = fitted
    export_policy(learner, tmp_path / "clock.onnx")
    policy = OnnxPolicy(tmp_path / "clock.onnx")
    played = [
        rollout(act, Clock, episodes=6, seed=3, spec=spec)
        for act, spec in ((learner.act_numpy, learner.spec), (policy, policy.contract))
    ]
    np.testing.assert_allclose(played[0].returns, played[1].returns, rtol=0, atol=1e-4)
    assert played[0].returns.mean() / played[0].lengths.mean() > -0.05
    with pytest.raises(RolloutError, match="what it shows has dtype float32, and this policy"):
        rollout(policy, lambda: Clock(np.float32), episodes=1, seed=0, spec=policy.contract)


def test_a_saved_log_and_a_checkpoint_keep_it(fitted: tuple[BC, Log], tmp_path: Path) -> None:
    learner, log = fitted
    log.save(tmp_path / "saved")
    again = Log.load(tmp_path / "saved")
    assert again.info["offset"] == {"observation": [EPOCH, 0.0]}
    assert OfflineDataModule(again, batch_size=4).spec.observation == learner.spec.observation
    assert Spec.from_dict(learner.spec.to_dict()) == learner.spec
