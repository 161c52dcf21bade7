"""Reward-conditioned policies: BC, ReturnTask and ColumnWeight, no learner of their own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.losses import weighted_nll
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.advantage import LinearAdvantage
from hindsight_rl.relabel.column_weight import ColumnWeight
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.training.learner import Learner


def bandit() -> Log:
    """Return 300 episodes of one step: action a earns a, each as often, whatever is observed."""
    actions = torch.arange(3).repeat(100)
    log = episode_log([1] * 300, reward=actions.tolist(), discrete=True)
    return log.with_columns({"action": actions})


GATED = Network(hidden=(32,), gate_task=True)


def learned(relabel: list[Relabeler], folder: Path, **arguments: object) -> Learner:
    data = OfflineDataModule(bandit(), relabel, batch_size=64, updates_per_step=50)
    options = {"network": GATED, "learning_rates": {"actor": 1e-2}} | arguments
    learner = learner_of(BC, data.spec, **options)
    fit(learner, data, folder, 300)
    return learner


def answers(learner: Learner, asked: list[float]) -> Tensor:
    observation = torch.tensor(learner.spec.whole.mean).expand(len(asked), 3)
    return learner(observation, torch.tensor(asked).unsqueeze(-1))


@pytest.mark.parametrize("weighted", [False, True])
def test_policy_does_what_earns_what_is_asked(weighted: bool, tmp_path: Path) -> None:
    """p(a | return) is 1 for the action that earns it; weights change how much is learned."""
    weight: list[Relabeler] = [ColumnWeight()] if weighted else []
    learner = learned([ReturnTask(), *weight], tmp_path)
    assert answers(learner, [0.0, 1.0, 2.0]).tolist() == [0, 1, 2]


def test_policy_does_what_has_the_advantage_that_is_asked(tmp_path: Path) -> None:
    """Nothing observed tells returns apart, so advantages are about -1, 0 and 1."""
    steps = [LinearAdvantage(ridge=1.0), ReturnTask(of="advantage"), ColumnWeight("advantage")]
    learner = learned(steps, tmp_path, network=replace(GATED, task_scale=(1.0,)))
    assert answers(learner, [-1.0, 0.0, 1.0]).tolist() == [0, 1, 2]


def test_loss_is_the_weighted_likelihood_under_the_return() -> None:
    """Of five rows: return to go as task, min(exp(z), 20) as weight."""
    log = episode_log([3, 2], reward=[1.0, 2.0, 4.0, 8.0, 16.0])
    data = OfflineDataModule(log, [ReturnTask(), ColumnWeight()])
    learner = learner_of(BC, data.spec)
    batch = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
    value = torch.tensor([7.0, 6.0, 4.0, 24.0, 16.0])
    assert batch["task"].squeeze(-1).equal(value)
    weight = ((value - value.mean()) / value.std(correction=0)).exp()
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"], value.unsqueeze(-1))
    torch.testing.assert_close(
        learner.losses(batch).terms["actor"], weighted_nll(log_prob, weight).mean()
    )


def test_exported_policy_takes_the_command(tmp_path: Path) -> None:
    learner = learned([ReturnTask()], tmp_path)
    export_policy(learner.eval(), tmp_path / "policy.onnx")
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    observation = torch.tensor(learner.spec.whole.mean).numpy()
    for asked in (0.0, 1.0, 2.0):
        assert policy.act(observation, torch.tensor([asked]).numpy()) == int(asked)
