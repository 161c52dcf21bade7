"""SuccessorFeatures: targets by hand, its limit to DQN, improvement, units, errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, weights, whole_log
from tensordict import TensorDict
from torch import Tensor
from torchrl_oracles import network_gradients

from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.successor_features import SuccessorFeatures
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.spec import SpecError
from hindsight_rl.tasks.linear import LinearTasks

FEATURES, TERMINATED = ("next", "achieved_goal"), ("next", "terminated")


def case(**arguments: Any) -> tuple[SuccessorFeatures, TensorDict]:
    """Return a learner in its own units, and a batch of every row of a log."""
    data = data_for(SuccessorFeatures)
    learner = learner_of(SuccessorFeatures, data.spec, **arguments)
    assert isinstance(learner, SuccessorFeatures)
    return learner, whole_log(learner, data)


def told(learner: SuccessorFeatures, psi: dict[tuple[float, ...], Tensor]) -> None:
    """Have both critics answer with psi ``[n, K]`` by the task whose policy is meant."""
    for critic in (learner.critic, learner.target_critic):

        def answer(observation: Tensor, action: Tensor | None, task: Tensor) -> Tensor:
            flat = [psi[tuple(one)] for one in task.reshape(-1, task.shape[-1]).tolist()]
            values = torch.stack(flat).reshape(*task.shape[:-1], *flat[0].shape)
            if action is not None:
                index = action[..., None, None].expand(*task.shape[:-1], 1, values.shape[-1])
                values = values.gather(-2, index).squeeze(-2)
            return values.unsqueeze(0)

        critic.forward = answer


# TB6: psi of "always left" and "always right", by the task each is best for; discount 0.9.
LEFT, RIGHT = (1.0, 0.0), (0.0, 1.0)
PSI = {
    LEFT: torch.tensor([[10.0, 0.0], [9.0, 1.0], [0.0, 0.0]]),
    RIGHT: torch.tensor([[1.0, 9.0], [0.0, 10.0], [0.0, 0.0]]),
}


# --- targets --------------------------------------------------------------------------------------


def test_true_successors_have_no_error() -> None:
    """TB6: left earns (1, 0); under its policy psi(s, left) is (1, 0) + 0.9 (10, 0) = (10, 0)."""
    learner, batch = case(discount=0.9)
    told(learner, PSI)
    row = batch[:2].clone()
    row["action"], row["task"] = torch.tensor([0, 1]), torch.tensor([LEFT, LEFT])
    row[FEATURES] = torch.eye(2)
    row[TERMINATED] = torch.zeros(2, dtype=torch.bool)
    loss, q = learner.critic_loss(row)
    assert loss.item() == pytest.approx(0.0, abs=1e-9)
    assert q.tolist() == [[10.0, 9.0]]


def test_error_counts_in_spreads_of_each_feature() -> None:
    """An end after features (3, 4): errors (3 - 10) / 2 and 4 / 4, half their squares."""
    learner, batch = case(discount=0.9)
    told(learner, PSI)
    learner.critic.scale.copy_(torch.tensor([2.0, 4.0]))
    row = batch[:1].clone()
    row["action"], row["task"] = torch.tensor([0]), torch.tensor([LEFT])
    row[FEATURES], row[TERMINATED] = torch.tensor([[3.0, 4.0]]), torch.ones(1, dtype=torch.bool)
    assert learner.critic_loss(row)[0].item() == pytest.approx(0.5 * (3.5**2 + 1))


def reward_as_feature() -> Log:
    """Return a log whose only feature is its reward, under the task 1."""
    log = episode_log(discrete=True)
    ones = torch.ones(len(log), 1)
    return log.with_columns({"task": ones, FEATURES: log.column(("next", "reward"))[:, None]})


@pytest.mark.parametrize("critics", [1, 2])
def test_one_feature_that_is_the_reward_is_double_dqn(critics: int) -> None:
    """Psi is Q: the same values, loss and gradients from the same weights."""
    data = OfflineDataModule(reward_as_feature())
    learner = learner_of(SuccessorFeatures, data.spec, critics=critics, policies=0)
    plain = learner_of(DQN, data.spec, double=True, huber=None, critics=critics, discount=0.95)
    assert isinstance(learner, SuccessorFeatures)
    learner.critic.critic.load_state_dict(plain.critic.state_dict())
    learner.target_critic.critic.load_state_dict(plain.target_critic.state_dict())
    batch = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
    values = plain.action_values(batch["observation"], batch["task"])
    torch.testing.assert_close(learner.action_values(batch["observation"], batch["task"]), values)
    found, expected = learner.losses(batch).terms, plain.losses(batch).terms
    if critics == 1:  # of several each follows its own target here, the least of all there
        torch.testing.assert_close(found["critic"], expected["critic"])
        theirs = network_gradients(plain.critic, expected["critic"])
        for name, gradient in network_gradients(learner.critic, found["critic"]).items():
            torch.testing.assert_close(gradient, theirs[name.removeprefix("critic.")], msg=name)


# --- generalised policy improvement ---------------------------------------------------------------


@pytest.mark.parametrize(("task", "best", "value"), [((1.0, 0.5), 0, 10.0), ((0.5, 1.0), 1, 10.0)])
def test_the_best_of_several_policies_is_followed(
    task: tuple[float, float], best: int, value: float
) -> None:
    """TB6 under a task whose own psi promises nothing: left is worth 10; and by symmetry."""
    learner, batch = case(tasks=[LEFT, RIGHT], discount=0.9)
    told(learner, PSI | {task: torch.zeros(3, 2)})
    wanted = torch.tensor([task])
    values = learner.action_values(batch["observation"][:1], wanted)
    assert values.argmax().item() == best and values.amax().item() == value
    assert learner(batch["observation"][:1], wanted).item() == best
    assert learner.own_values(batch["observation"][:1], wanted).tolist() == [[0.0] * 3]


def test_policies_are_those_of_tasks_that_rows_were_given() -> None:
    learner, _ = case(policies=3)
    assert learner.others.shape == (3, 2)
    assert learner.others.tolist() == learner.spec.probe.task[:3].tolist()  # type: ignore[index]
    assert case(policies=0)[0].others.shape == (0, 2)


def test_candidate_tasks_may_share_an_observation() -> None:
    """As relabeling by inverse RL asks: rows ``[R, 1]`` meet tasks ``[R, N, K]``."""
    learner, batch = case()
    tasks = torch.randn(5, 4, 2)
    found = learner.action_values(batch["observation"][:5, None], tasks)
    for number in range(4):
        one = learner.action_values(batch["observation"][:5], tasks[:, number])
        torch.testing.assert_close(found[:, number], one)


def test_it_learns_what_its_policies_meet(tmp_path: Path) -> None:
    """TB6's world from random steps: left earns feature 1, right feature 2, in a state that stays.

    Tasks are drawn from a box; that of the test, (1, 0.5), and its mirror image are two of them.
    """
    rows = 400
    generator = torch.Generator().manual_seed(0)
    action = torch.randint(2, (rows,), generator=generator)
    ends = torch.arange(rows) % 20 == 19
    log = Log.from_columns(
        {
            "observation": torch.zeros(rows, 1),
            "action": action,
            "episode": torch.arange(rows) // 20,
            ("next", "observation"): torch.zeros(rows, 1),
            ("next", "reward"): torch.zeros(rows),
            TERMINATED: torch.zeros(rows, dtype=torch.bool),
            ("next", "truncated"): ends,
            FEATURES: torch.nn.functional.one_hot(action, 2).float(),
        },
        {"discrete_actions": 2},
    )
    data = OfflineDataModule(log, [RandomTask(LinearTasks([0, 0], [1, 1]))], batch_size=32)
    learner = SuccessorFeatures(
        data.spec,
        network=Network(hidden=(32,)),
        discount=0.9,
        policies=4,
        learning_rates={"critic": 1e-2},
        decay={"critic": 3000},
    )
    fit(learner, data, tmp_path, 3000)
    tasks = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    values = learner.action_values(torch.zeros(2, 1), tasks)
    expected = torch.tensor([[10.0, 9.5], [9.5, 10.0]])
    torch.testing.assert_close(values, expected, rtol=0, atol=0.25)
    assert learner(torch.zeros(2, 1), tasks).tolist() == [0, 1]


# --- units and errors -----------------------------------------------------------------------------


def test_the_unit_is_the_size_of_the_log_s_features_and_is_kept(tmp_path: Path) -> None:
    """Mean and spread of what is drawn, times 1 / (1 - discount); another log changes nothing."""
    data = data_for(SuccessorFeatures)
    learner = learner_of(SuccessorFeatures, data.spec, discount=0.9)
    assert isinstance(learner, SuccessorFeatures)
    fit(learner, data, tmp_path, 1)
    column = data.log.column(FEATURES).double()
    expected = 10 * column.mean(0), 10 * column.std(0, correction=0)
    for critic in (learner.critic, learner.target_critic):
        torch.testing.assert_close((critic.mean.double(), critic.scale.double()), expected)
    before = weights(learner)["critic.scale"]
    learner.take_unit(torch.zeros(2), torch.ones(2))
    assert learner.critic.scale.equal(before)


def test_a_feature_that_never_varies_has_a_unit(tmp_path: Path) -> None:
    log = data_for(SuccessorFeatures).log
    column = log.column(FEATURES).clone()
    column[:, 1] = 7.0
    data = OfflineDataModule(log.with_columns({FEATURES: column}))
    learner = learner_of(SuccessorFeatures, data.spec, discount=0.9)
    fit(learner, data, tmp_path, 2)
    assert weights(learner)["critic.scale"][1] == pytest.approx(10.0)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    data = data_for(SuccessorFeatures)
    with pytest.raises(SpecError, match="rows have none: add RandomTask with a family LinearTasks"):
        SuccessorFeatures(OfflineDataModule(episode_log(discrete=True)).spec)
    with pytest.raises(ValueError, match="discount is 1, it must be below 1"):
        learner_of(SuccessorFeatures, data.spec, discount=1.0)
    with pytest.raises(ValueError, match="policies -1 must be at least 0"):
        learner_of(SuccessorFeatures, data.spec, policies=-1)
    with pytest.raises(ValueError, match="tasks must have 2 numbers each"):
        learner_of(SuccessorFeatures, data.spec, tasks=[[1.0]])
    with pytest.raises(ValueError, match=r"pass its weights, task \[..., K\]"):
        learner_of(SuccessorFeatures, data.spec)(torch.zeros(1, 3))
    wide = data.log.with_columns({FEATURES: torch.zeros(len(data.log), 3)})
    with pytest.raises(ValueError, match=r"tasks have 2 weights.*features of shape \[3\]"):
        fit(learner_of(SuccessorFeatures, data.spec), OfflineDataModule(wide), tmp_path, 1)
    stepped = OfflineDataModule(data.log, [NStep(n=2)])
    with pytest.raises(ValueError, match="leave the relabeler NStep out"):
        fit(learner_of(SuccessorFeatures, data.spec), stepped, tmp_path, 1)
