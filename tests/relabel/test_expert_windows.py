"""ExpertAction and windows: what policies with a memory, and those that plan ahead, imitate."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from episode_logs import episode_log
from gymnasium import spaces
from small_fits import fit, learner_of
from small_logs import small

from hindsight_rl.agents.act import ACT
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import History, Network
from hindsight_rl.relabel.expert_action import ExpertAction
from hindsight_rl.training.learner import Learner
from hindsight_rl.windows import Window

NAN = float("nan")
DONE = torch.tensor([[0.1], [0.2], [0.3], [0.4], [0.5]])  # episodes of 3 and 2
SAID = torch.tensor([[0.1], [NAN], [0.9], [0.4], [0.6]])


def served(kind: type[Learner], log: Log, **arguments: Any) -> tuple[Learner, OfflineDataModule]:
    """Return a learner, and what serves it the expert's actions of a log."""
    data = OfflineDataModule(log, [ExpertAction()], batch_size=32, seed=3)
    learner = learner_of(kind, data.spec, compile="off", **arguments)
    return learner, data.serve(learner)


def windows(data: OfflineDataModule, part: str) -> dict[int, tuple[list[float], list[bool]]]:
    """Return actions and valid steps of the window of each row that is drawn."""
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 8), 0)
    found = {}
    for row in batch["index"].unique().tolist():
        at = batch["index"] == row
        action, valid = batch[part, "action"][at][0, :, 0], batch[part, "valid"][at][0]
        found[row] = ([round(one, 4) for one in action.tolist()], valid.tolist())
    return found


def test_a_past_shows_what_was_executed() -> None:
    """The target is the expert's; before it stands what the policy will have done itself."""
    log = small(action=DONE, expert_action=SAID)
    learner, data = served(BC, log, history=History(2, actions=True))
    assert windows(data, "history") == {
        0: ([0.0, 0.0], [False, False]),
        2: ([0.1, 0.2], [True, True]),
        3: ([0.0, 0.0], [False, False]),
        4: ([0.0, 0.4], [False, True]),
    }
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0]
    assert torch.equal(batch["action"], SAID[batch["index"]])
    assert learner.losses(learner.read(learner.complete(batch))).terms["actor"].isfinite()


def test_steps_of_a_segment_without_a_label_are_not_imitated() -> None:
    """Segments begin in front of labels too: row 1 has none, and row 2 behind it has."""
    log = small(action=DONE, expert_action=SAID)
    _, data = served(RecurrentBC, log, segment=2, burn_in=1)
    assert windows(data, "chunk") == {
        0: ([0.1, 0.2], [True, False]),
        1: ([0.2, 0.9], [False, True]),
        2: ([0.9, 0.9], [True, False]),
        3: ([0.4, 0.6], [True, True]),
        4: ([0.6, 0.6], [True, False]),
    }
    sparse = SAID.clone()
    sparse[:3], sparse[3] = NAN, NAN
    _, data = served(RecurrentBC, small(action=DONE, expert_action=sparse), segment=2, burn_in=1)
    assert set(windows(data, "chunk")) == {3, 4}
    assert data.log.drawable().tolist() == [4]


def test_a_plan_is_the_experts_as_long_as_it_was_executed() -> None:
    """Row 0 executed its label, and row 1 has none; row 3 executed its, so 4's belongs to it."""
    log = small(action=DONE, expert_action=SAID)
    for kind in (ACT, FlowBC):
        learner, data = served(kind, log, chunk=3)
        assert windows(data, "chunk") == {
            0: ([0.1, 0.1, 0.1], [True, False, False]),
            2: ([0.9, 0.9, 0.9], [True, False, False]),
            3: ([0.4, 0.6, 0.6], [True, True, False]),
            4: ([0.6, 0.6, 0.6], [True, False, False]),
        }
        batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0]
        assert learner.losses(learner.read(learner.complete(batch))).terms["actor"].isfinite()


def test_choices_are_planned_in_their_own_numbers() -> None:
    """Windows of choices: what was executed decides where a plan ends, counted as the log does."""
    done = torch.tensor([3, 3, 4, 3, 4])
    log = small(action=done, expert_action=torch.tensor([3.0, 4.0, 4.0, NAN, 3.0]))
    log = Log.from_columns({k: log.column(k) for k in log.keys()}, {"action_start": 3})
    bound = ExpertAction().prepare(log)
    rows = torch.tensor([[0, 1, 2], [3, 4, 4]])
    values: dict[Any, Any] = {
        "action": bound.columns["action"][rows],
        "valid": torch.tensor([[True, True, True], [True, True, False]]),
    }
    plan = bound.windowed("chunk", rows, values, "plan")
    assert plan["valid"].tolist() == [[True, True, False], [False, False, False]]
    assert plan["action"][0].tolist() == [3, 4, 4]
    past = bound.windowed("history", rows, values, "executed")
    assert torch.equal(past["action"], done[rows])
    assert values["action"][0].tolist() == [3, 4, 4] and values["valid"][0].all()


def test_takeovers_are_plans_and_segments() -> None:
    """HG-DAgger in chunks: what a person did in a row is a plan, up to where they let go."""
    taken = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    data = OfflineDataModule(
        small(action=DONE, intervened=taken), [ExpertAction("action", only="intervened")]
    )
    data.serve(learner_of(ACT, data.spec, chunk=2))
    assert windows(data, "chunk") == {
        1: ([0.2, 0.3], [True, True]),
        2: ([0.3, 0.3], [True, False]),
        3: ([0.4, 0.4], [True, False]),
    }


def test_loss_and_gradient_of_a_segment_are_those_of_its_labels() -> None:
    """Numbers of unlabelled steps change neither; those of labelled steps change both."""
    log = episode_log([6, 5])
    label = log.column("action") * 0.5
    label[[2, 7]] = NAN
    found = []
    for shift, other in ((0.0, 0.0), (1.0, 0.0), (0.0, 0.1)):
        action = log.column("action").clone()
        action[[2, 7]] += shift  # executed where nobody said anything
        changed = log.with_columns({"action": action, "expert_action": label + other})
        torch.manual_seed(0)
        learner, data = served(RecurrentBC, changed, segment=4, burn_in=1)
        learner.actor.scale.load_state_dict(
            found[0][2] if found else learner.actor.scale.state_dict()
        )
        batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0]
        loss = learner.losses(learner.read(learner.complete(batch))).terms["actor"]
        grad = torch.autograd.grad(loss, [*learner.actor.parameters()], allow_unused=True)
        flat = torch.cat([one.flatten() for one in grad if one is not None])
        found.append((loss.detach(), flat, learner.actor.scale.state_dict()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[2][0])
    assert (found[0][1] - found[2][1]).abs().max() > 1e-4


def test_a_learner_must_say_what_a_window_of_actions_is_to_it() -> None:
    learner: Any = SimpleNamespace(
        acts=True,
        read_keys=("action", ("history", "action")),
        window=Window(history=2),
        action_windows={"chunk": "plan"},
    )
    with pytest.raises(ValueError, match="reads a history of actions, those that were executed"):
        ExpertAction().check_learner(learner)


class Cue(gymnasium.Env[Any, Any]):
    """The side to take is shown in the first of six steps only; the environment knows it."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Draw the side."""
        super().reset(seed=seed)
        self.side, self.time = float(self.np_random.choice([-0.5, 0.5])), 0
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        """Pay the distance from the side."""
        reward = -abs(float(action[0]) - self.side)
        self.time += 1
        return self._shown(), reward, False, self.time == 6, {}

    def _shown(self) -> Any:
        return np.array([self.side if self.time == 0 else 0.0, self.time / 6], np.float32)


def knows(observation: Any, task: Any, env: Any) -> Any:
    """Return the side, which the policy no longer sees."""
    return np.array([[env.unwrapped.side]], np.float32)


@pytest.mark.parametrize(
    ("kind", "arguments", "lost"),
    [
        (RecurrentBC, {"segment": 6, "burn_in": 0, "units": 16}, (0.0, 0.5)),
        (BC, {"history": History(5, actions=True)}, (0.0, 0.5)),
        (BC, {}, (2.0, 3.0)),
    ],
)
def test_a_student_with_a_memory_learns_what_only_its_teacher_still_sees(
    kind: type[Learner], arguments: dict[str, Any], lost: tuple[float, float], tmp_path: Path
) -> None:
    """Without one it answers 0 from the second step on, and loses 5 x 0.5 = 2.5 of an episode."""
    collection = Collection(
        initial_episodes=20,
        episodes_per_round=10,
        updates_per_env_step=1.0,
        sample=False,
        expert=Expert(knows, max_episodes=50),
    )
    data = IteratedDataModule(Cue, [ExpertAction()], collection=collection, batch_size=64)
    optimizer: Any = lambda groups: torch.optim.Adam(groups, lr=1e-2)  # noqa: E731
    torch.manual_seed(0)
    learner = kind(
        data.spec, network=Network(hidden=(16,)), optimizer=optimizer, compile="off", **arguments
    )
    fit(learner, data, tmp_path, 260)
    assert data.history[-1].episodes == 50
    found = -rollout(learner.eval().player(), Cue, episodes=20, seed=9).returns.mean()
    assert lost[0] <= found < lost[1]
