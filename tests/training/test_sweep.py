"""LogPass: columns over whole episodes, swept when due, joined by row, kept in the checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, equal, fit, learner_of, weights
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import NStep, ReturnToGo, ScaleReward
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.training.sweep import LogPass

CPU = torch.device("cpu")
DISCOUNT, LAMBDA = 0.9, 0.7


class Swept(Learner):
    """A learner that regresses V on the TD(lambda) return and clones by the swept advantage."""

    in_keys = ("observation", "action")

    def __init__(
        self, spec: Any = None, *, hidden: Any = (8, 8), every: int = 25, **learner: Any
    ) -> None:
        super().__init__(spec, **learner)
        network = Network(hidden=hidden)
        self.actor, self.value = Policy(self.spec, network), ValueNet(self.spec, network)
        self.log_pass = LogPass(every=every, value=self.value, discount=DISCOUNT, lambda_=LAMBDA)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``."""
        task = batch.get("task", None)
        value = (batch["lambda_return"] - self.value(batch["observation"], task)).square().mean()
        log_prob = self.actor.log_prob(batch["observation"], batch["action"], task)
        return LossTerms({"value": value, "actor": -(batch["advantage"] * log_prob).mean()}, {})


def plain_loop(log: Log, value: nn.Module) -> tuple[Tensor, Tensor]:
    """Return TD(lambda) targets and raw advantages of every row, one step at a time."""
    task = log.column("task") if "task" in log else None
    with torch.no_grad():
        now = value(log.column("observation"), task).double().tolist()
        following = value(log.column(("next", "observation")), task).double().tolist()
    reward = log.column(("next", "reward")).double().tolist()
    terminated = log.column(("next", "terminated")).tolist()
    end = log.column("episode_end").tolist()
    target = [0.0] * len(log)
    for row in reversed(range(len(log))):
        if terminated[row]:
            target[row] = reward[row]
        elif row == end[row]:
            target[row] = reward[row] + DISCOUNT * following[row]
        else:
            mixed = (1 - LAMBDA) * following[row] + LAMBDA * target[row + 1]
            target[row] = reward[row] + DISCOUNT * mixed
    found = torch.tensor(target, dtype=torch.float64)
    return found, found - torch.tensor(now, dtype=torch.float64)


def swept(log: Log, relabel: list[Any] | None = None) -> tuple[Learner, OfflineDataModule]:
    data = OfflineDataModule(log, relabel, batch_size=16, updates_per_step=8)
    learner = learner_of(Swept, data.spec)
    assert learner.log_pass is not None
    learner.log_pass.sweep(data, 0, CPU)
    return learner, data


@pytest.mark.parametrize("options", [{}, {"task": True}])
def test_columns_equal_a_plain_loop(options: dict[str, bool]) -> None:
    log = episode_log(**options)
    learner, _ = swept(log)
    target, advantage = plain_loop(log, learner.value)
    columns = learner.log_pass.columns
    torch.testing.assert_close(columns["lambda_return"], target.float())
    expected = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-5)
    torch.testing.assert_close(columns["advantage"], expected.float(), rtol=1e-5, atol=1e-5)


def test_advantage_is_standardised_over_the_log() -> None:
    learner, _ = swept(episode_log())
    advantage = learner.log_pass.columns["advantage"]
    assert advantage.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert advantage.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)


def test_raw_advantage_stays_in_reward_units() -> None:
    log = episode_log()
    learner, data = swept(log)
    log_pass = LogPass(
        every=1, value=learner.value, discount=DISCOUNT, lambda_=LAMBDA, scaling="raw"
    )
    log_pass.sweep(data, 0, CPU)
    _, advantage = plain_loop(log, learner.value)
    torch.testing.assert_close(log_pass.columns["advantage"], advantage.float())


def test_equal_advantages_are_zero() -> None:
    """Rewards of 1 in one-step episodes that all terminate, V = 0: nothing to tell apart."""
    log = episode_log([1] * 4, reward=[1.0] * 4).with_columns(
        {("next", "terminated"): torch.ones(4, dtype=torch.bool)}
    )
    log_pass = LogPass(every=1, value=lambda o, _: o[:, 0] * 0, discount=0.9, lambda_=0.9)
    log_pass.sweep(OfflineDataModule(log, batch_size=4), 0, CPU)
    assert log_pass.columns["advantage"].tolist() == [0.0] * 4
    assert log_pass.columns["lambda_return"].tolist() == [1.0] * 4


def test_sweep_sees_relabeled_rewards() -> None:
    log = episode_log()
    doubled = log.with_columns({("next", "reward"): 2 * log.column(("next", "reward"))})
    learner, _ = swept(log, [ScaleReward(2.0)])
    target, _ = plain_loop(doubled, learner.value)
    torch.testing.assert_close(learner.log_pass.columns["lambda_return"], target.float())


def test_sweep_in_many_batches_equals_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes that lie across the border of two batches are whole again."""
    learner, data = swept(episode_log())
    whole = dict(learner.log_pass.columns)
    in_order = data.in_order
    monkeypatch.setattr(data, "in_order", lambda: in_order(batch_size=5))
    learner.log_pass.sweep(data, 0, CPU)
    for name, column in learner.log_pass.columns.items():
        torch.testing.assert_close(column, whole[name])


def test_columns_join_a_chunk_by_row_number() -> None:
    learner, data = swept(episode_log())
    chunk = data.on_after_batch_transfer(data._sampler().chunk(0, 3), 0)
    keys = set(chunk.keys(True))
    found = learner.log_pass.attach(chunk)
    for name, column in learner.log_pass.columns.items():
        assert found[name].shape == (3, 16) and found[name].equal(column[chunk["index"]])
    assert set(chunk.keys(True)) == keys


def test_columns_carry_no_gradient() -> None:
    learner, _ = swept(episode_log())
    assert not any(column.requires_grad for column in learner.log_pass.columns.values())


def test_sweep_is_exact_in_mixed_precision() -> None:
    """Under autocast to bfloat16 the columns are those of float32."""
    learner, data = swept(episode_log())
    expected = dict(learner.log_pass.columns)
    with torch.autocast("cpu", torch.bfloat16):
        learner.log_pass.sweep(data, 0, CPU)
    for name, column in learner.log_pass.columns.items():
        assert column.equal(expected[name])


def test_rows_of_several_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="rows span several: leave the relabeler NStep out"):
        swept(episode_log(), [NStep(3)])


@pytest.mark.parametrize("goal", [FutureGoal(), FinalGoal(fraction=0.5)])
def test_goals_drawn_row_by_row_are_refused(goal: Any) -> None:
    with pytest.raises(ValueError, match="a reward of its own: leave FutureGoal and FinalGoal out"):
        swept(episode_log(goals=True, task=True), [ReturnToGo(), goal])


def test_return_as_task_may_be_swept() -> None:
    """The reward stays that of the log: one sum, whatever the policy is conditioned on."""
    learner, _ = swept(episode_log(), [ReturnTask(discount=0.99)])
    assert len(learner.log_pass.columns["advantage"]) == 47


def test_held_out_and_filtered_rows_do_not_shape_the_advantage() -> None:
    """Other rewards in rows that are never drawn leave the drawn rows' columns as they are."""
    log = episode_log()
    data = OfflineDataModule(log, [TopFraction(0.5)], validation=0.3, batch_size=16)
    rows = data.log.drawable()
    assert 0 < len(rows) < 33
    found = []
    for shift in (0.0, 1000.0):
        reward = log.column(("next", "reward")) + shift
        reward[rows] = log.column(("next", "reward"))[rows]
        data.log = data.log.with_columns({("next", "reward"): reward})
        log_pass = LogPass(every=1, value=lambda o, _: o[:, 0], discount=0.9, lambda_=0.7)
        log_pass.sweep(data, 0, CPU)
        found.append(log_pass.columns["advantage"])
    assert found[0][rows].equal(found[1][rows]) and not found[0].equal(found[1])
    assert found[0][rows].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert found[0][rows].std(correction=0).item() == pytest.approx(1.0, abs=1e-4)


# --- when it is due -------------------------------------------------------------------------------


def test_due_before_the_first_update_and_at_every_multiple() -> None:
    learner, data = swept(episode_log())
    log_pass = LogPass(every=25, value=learner.value, discount=0.9, lambda_=0.9)
    times = []
    for update in range(60):
        if log_pass.due(update):
            log_pass.sweep(data, update, CPU)
            times.append(update)
            assert not log_pass.due(update)
    assert times == [0, 25, 50]


def test_first_sweep_may_be_late() -> None:
    """Where training starts elsewhere, as from a checkpoint without columns, it sweeps at once."""
    learner, data = swept(episode_log())
    log_pass = LogPass(every=25, value=learner.value, discount=0.9, lambda_=0.9)
    assert log_pass.due(37)
    log_pass.sweep(data, 37, CPU)
    assert [update for update in range(37, 80) if log_pass.due(update)] == [50, 75]


@pytest.mark.parametrize("updates_per_step", [1, 7, 64])
def test_fitting_sweeps_on_time_with_the_value_of_that_time(
    updates_per_step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever K: at updates 0, 25 and 50, and what is attached between them stays."""
    log = episode_log()
    data = OfflineDataModule(log, batch_size=16, updates_per_step=updates_per_step)
    learner = learner_of(Swept, data.spec)
    sweep, seen = learner.log_pass.sweep, []

    def spy(datamodule: Any, updates: int, *where: Any) -> None:
        sweep(datamodule, updates, *where)
        expected, _ = plain_loop(log, learner.value)
        torch.testing.assert_close(learner.log_pass.columns["lambda_return"], expected.float())
        seen.append((updates, learner.log_pass.columns["lambda_return"]))

    monkeypatch.setattr(learner.log_pass, "sweep", spy)
    fit(learner, data, tmp_path, 60)
    assert [updates for updates, _ in seen] == [0, 25, 50]
    assert learner.log_pass.swept_at == 50
    assert learner.log_pass.columns["lambda_return"] is seen[-1][1]
    assert not seen[0][1].equal(seen[1][1])


# --- the checkpoint -------------------------------------------------------------------------------


def test_columns_are_part_of_the_checkpoint(tmp_path: Path) -> None:
    data = data_for(Swept)
    learner = learner_of(Swept, data.spec)
    trainer = fit(learner, data, tmp_path, 30)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    payload = torch.load(tmp_path / "some.ckpt", weights_only=True)
    other = learner_of(Swept, data.spec, weight_seed=1)
    other.on_load_checkpoint(payload)
    assert other.log_pass.swept_at == 25
    for name, column in learner.log_pass.columns.items():
        assert other.log_pass.columns[name].equal(column)


def test_checkpoint_without_columns_leaves_the_pass_as_it_is() -> None:
    learner, _ = swept(episode_log())
    before = learner.log_pass.columns
    learner.on_load_checkpoint({})
    assert learner.log_pass.columns is before


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"every": -1}, "sweep_every is -1, it must be at least 0"),
        ({"discount": 1.1}, r"discount 1.1 and lambda_ 0.9 must lie in \[0, 1\]"),
        ({"lambda_": -0.1}, r"lambda_ -0.1 must lie in \[0, 1\]"),
    ],
)
def test_argument_out_of_range_is_refused(changed: dict[str, Any], message: str) -> None:
    arguments = {"every": 1, "discount": 0.9, "lambda_": 0.9} | changed
    with pytest.raises(ValueError, match=message):
        LogPass(value=lambda observation, task: observation[:, 0], **arguments)


def test_each_seed_begins_with_its_own_sweep_whatever_was_looked_at_before(tmp_path: Path) -> None:
    """A look at held-out rows sweeps with the first seed, before there are others."""
    ends = []
    for looks in (0, 2):
        data = data_for(Swept, validation=0.3)
        learner = learner_of(Swept, data.spec, seeds=2, hidden=(4,))
        fit(learner, data, tmp_path / str(looks), 10, num_sanity_val_steps=looks)
        columns = learner.log_pass.columns["advantage"]
        assert columns.shape == (2, 47) and not columns[0].equal(columns[1])
        ends.append([weights(learner) for _ in learner.each_seed()])
    for one, two in zip(*ends, strict=True):
        assert equal(one, two)
