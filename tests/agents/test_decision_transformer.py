"""Decision Transformer: what a step sees, windows against the ring at acting, falling commands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from torch import Tensor

from hindsight_rl.agents.decision_transformer import DecisionTransformer
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.rollout import lowered
from hindsight_rl.export.draws import counters
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Attention
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import ReturnToGo

WINDOW = {"context": 5, "max_step": 8}


def made(**options: Any) -> tuple[DecisionTransformer, Any]:
    log = episode_log(**options, returns=True)
    data = data_for(DecisionTransformer, log, WINDOW)
    learner = learner_of(DecisionTransformer, data.spec, **WINDOW)
    data.serve(learner)
    return learner, whole_log(learner, data)


def past_of(batch: Any) -> dict[str, Tensor]:
    history = batch["history"]
    return {name: history[name] for name in history.keys()} | {"step": batch["step"]}


# --- what a step sees -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["observation", "action", "return_to_go"])
def test_later_tokens_leave_no_trace(name: str) -> None:
    """A change at place 2 of 5 is seen from there on; an action only by the steps after its own."""
    learner, batch = made(task=True)
    past, seen, task = past_of(batch), batch["observation"], batch["task"]
    before = learner.memory.each(seen, task, past)
    past[name] = past[name].clone()
    past[name][:, 2] += 1.0
    after = learner.memory.each(seen, task, past)
    first = 3 if name == "action" else 2
    assert torch.equal(before[:, :first], after[:, :first])
    full = batch["step"] >= 4
    assert not torch.isclose(before[full, first], after[full, first]).all(-1).any()


def test_left_padding_is_not_there() -> None:
    """The window of an early step is that of a network which was given no more."""
    learner, batch = made(task=True)
    past, seen, task = past_of(batch), batch["observation"], batch["task"]
    found = learner.memory(seen, task, past)
    for row in (batch["step"] < 4).nonzero()[:, 0].tolist():
        short = {
            name: value[row : row + 1] if name == "step" else value[row : row + 1, 4 - step :]
            for step in [int(batch["step"][row])]
            for name, value in past.items()
        }
        alone = learner.memory(seen[row : row + 1], task[row : row + 1], short)
        torch.testing.assert_close(found[row : row + 1], alone, rtol=0, atol=1e-6)


def test_loss_is_that_of_a_plain_loop() -> None:
    learner, batch = made(task=True)
    total, entries = torch.zeros(()), 0
    past = past_of(batch)
    actions = torch.cat([past["action"], batch["action"].unsqueeze(1)], dim=1)
    observed = torch.cat([past["observation"], batch["observation"].unsqueeze(1)], dim=1)
    for row in range(len(batch)):
        some = {name: value[row] for name, value in past.items()}
        features = learner.memory.each(batch["observation"][row], batch["task"][row], some)
        for place in range(5):
            if place == 4 or past["valid"][row, place]:
                policy = learner.actor.distribution(features[place], observed[row, place])
                wanted = learner.actor.scale.to_policy(actions[row, place])
                total, entries = total - policy.log_prob(wanted), entries + 1
    found = learner.losses(batch).terms["actor"]
    torch.testing.assert_close(found, total / entries)
    batch["weight"] = torch.full((len(batch),), 3.0)
    torch.testing.assert_close(learner.losses(batch).terms["actor"], 3 * found)


# --- acting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"task": True}, {"task": True, "discrete": True}])
def test_the_ring_at_acting_is_the_window_of_the_log(options: dict[str, bool]) -> None:
    """Played along an episode of the log, with its actions, its features are those of training."""
    learner, batch = made(**options)
    task = batch["task"] if "task" in batch.keys() else None
    expected = learner.memory(batch["observation"], task, past_of(batch))
    for episode in range(6):
        state = learner.initial_state(1)
        for row in (batch["episode"] == episode).nonzero()[:, 0].tolist():
            asked = None if task is None else task[row : row + 1]
            seen = batch["observation"][row : row + 1]
            features = learner.memory(seen, asked, state)
            torch.testing.assert_close(features[0], expected[row])
            state = learner.decide(seen, asked, state).state
            state["action"][:, -1] = batch["action"][row]


def test_times_beyond_the_last_are_the_last() -> None:
    learner, batch = made()
    seen, past = batch["observation"][:1], learner.initial_state(1)
    late = [learner.memory(seen, None, past | {"step": torch.tensor([step])}) for step in (7, 90)]
    assert torch.equal(*late)
    early = learner.memory(seen, None, past | {"step": torch.tensor([6])})
    assert not torch.isclose(early, late[0]).all()


def test_a_lowered_command_plays_alike_in_the_file(tmp_path: Path) -> None:
    """Two episodes of 60 steps, whose command every reward lowers; the state is reset between."""
    learner, _ = made(task=True)
    report = export_policy(learner.eval(), tmp_path / "policy.onnx")
    assert report["parity"]["max_difference"] < 1e-5
    policy, actor = OnnxPolicy(tmp_path / "policy.onnx"), TorchActor(learner)
    draw, found = np.random.default_rng(0), []
    for episode in range(2):
        policy.reset()
        task, state = np.float32([[9.0, 60.0]]), actor.initial_state(1)
        for step in range(60):
            seen = draw.normal(size=(1, 3)).astype(np.float32)
            answer, state = actor.step(seen, task, state, counters(0, np.array([episode]), step))
            found.append(np.abs(policy.act(seen[0], task[0]) - answer[0]).max())
            if step:
                assert state["state.return_to_go"][0, -2] == pytest.approx(9.0 - 0.1 * (step - 1))
            task = lowered(task, np.float32([0.1]))
    assert max(found) < 1e-4


# --- returns --------------------------------------------------------------------------------------


def split(episodes: int = 80, steps: int = 4) -> Log:
    """Return episodes in which all actions are 1 and pay 1, or all are -1 and pay -1."""
    sign = torch.where(torch.arange(episodes) % 2 == 0, -1.0, 1.0).repeat_interleave(steps)
    last = torch.arange(episodes * steps) % steps == steps - 1
    seen = torch.randn(episodes * steps, 2, generator=torch.Generator().manual_seed(0))
    columns: dict[Any, Tensor] = {
        "observation": seen,
        "action": torch.stack([sign, sign], dim=-1),
        "episode": torch.arange(episodes).repeat_interleave(steps),
        ("next", "observation"): seen,
        ("next", "reward"): sign,
        ("next", "terminated"): last,
        ("next", "truncated"): torch.zeros(episodes * steps, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"action": {"low": LOW, "high": HIGH}})


def test_it_does_what_earned_the_return_it_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = OfflineDataModule(split(), [ReturnTask()], batch_size=64, updates_per_step=50)
    learner = DecisionTransformer(
        data.spec,
        attention=Attention(16, 2, 1),
        context=4,
        max_step=4,
        optimizer=lambda params: torch.optim.Adam(params, lr=3e-3),
    )
    fit(learner, data, tmp_path, 300)
    seen, asked = torch.zeros(2, 2), torch.tensor([[4.0], [-4.0]])
    state = learner.initial_state(2)
    with torch.no_grad():
        for _ in range(4):
            found = learner.decide(seen, asked, state)
            state, asked = found.state, asked - torch.tensor([[1.0], [-1.0]])
            wanted = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
            torch.testing.assert_close(found.action, wanted, atol=0.2, rtol=0)


def test_other_tasks_than_returns_are_refused(tmp_path: Path) -> None:
    """A goal beside past returns would be silently wrong."""
    data = OfflineDataModule(episode_log(goals=True), [ReturnToGo(), FutureGoal()])
    learner = DecisionTransformer(data.spec, **WINDOW)
    with pytest.raises(ValueError, match=r"first number of the task is not return_to_go"):
        fit(learner, data, tmp_path, 1)


@pytest.mark.parametrize("arguments", [{"context": 1}, {"max_step": 0}])
def test_arguments_out_of_range(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"context .* must be at least 2 and max_step"):
        DecisionTransformer(OfflineDataModule(episode_log()).spec, **arguments)
