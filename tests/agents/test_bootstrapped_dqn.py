"""BootstrappedDQN: its loss by hand, who learns from what, priors, the head as a task, the vote."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.agents.bootstrapped_dqn import BootstrappedDQN
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.keys import COUNTS
from hindsight_rl.maths.draws import counters, uniforms
from hindsight_rl.maths.ensembles import row_mask, votes
from hindsight_rl.tasks.commands import OneOf


def case(**arguments: Any) -> tuple[BootstrappedDQN, TensorDict]:
    """Return a learner, and a batch of every row of a log with who learns from it."""
    data = data_for(BootstrappedDQN)
    learner = learner_of(BootstrappedDQN, data.spec, **{"heads": 4} | arguments)
    assert isinstance(learner, BootstrappedDQN)
    return learner, learner.complete(whole_log(learner, data))


@pytest.mark.parametrize("double", [False, True])
def test_loss_by_hand(double: bool) -> None:
    """Each head regresses on its own next value; rows that are not its own count nothing."""
    learner, batch = case(double=double, huber=None, prior=2.0)
    with torch.no_grad():
        for weight in learner.target_critic.parameters():
            weight *= -1.0
    state, following = batch["observation"], batch["next", "observation"]
    total = torch.zeros(())
    for head in range(4):
        prior = 2.0 * learner.prior_critic(following, None)[0, ..., head]
        now = learner.critic(following, None)[0, ..., head] + prior
        ahead = learner.target_critic(following, None)[0, ..., head] + prior
        best = (now if double else ahead).argmax(-1, keepdim=True)
        open_ended = (~batch["next", "terminated"]).float()
        y = batch["next", "reward"] + 0.99 * open_ended * ahead.gather(-1, best).squeeze(-1)
        q = learner.critic(state, None) + 2.0 * learner.prior_critic(state, None)
        own = q[0, ..., head].gather(-1, batch["action"].unsqueeze(-1)).squeeze(-1)
        total = total + (batch[COUNTS][:, head] * 0.5 * (y.detach() - own).square()).mean()
    assert_close(learner.critic_loss(batch)[0], total)


def test_a_head_learns_from_its_rows_alone() -> None:
    learner, batch = case()
    mask = row_mask(batch["index"], 4)
    assert torch.equal(batch[COUNTS].movedim(-1, 0).bool(), mask)
    out = batch[~mask[2]]
    loss, _ = learner.critic_loss(out)
    (slope,) = torch.autograd.grad(loss, learner.critic.members[0][-1].weight)
    slope = slope.unflatten(0, (-1, 4))  # [n, K, H]
    assert not slope[:, 2].any() and slope[:, [0, 1, 3]].abs().sum() > 0


def test_the_prior_is_the_critic_as_it_began_and_never_moves(tmp_path: Path) -> None:
    data = data_for(BootstrappedDQN)
    learner = learner_of(BootstrappedDQN, data.spec, heads=4, target_every=1)
    before = {name: value.clone() for name, value in learner.critic.state_dict().items()}
    fit(learner, data, tmp_path, 8)
    after = learner.prior_critic.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    first = learner.critic.members[0][0].weight
    assert not torch.allclose(first, learner.prior_critic.members[0][0].weight)
    target = learner.target_critic.members[0][0].weight
    assert torch.equal(first, target)  # it follows; the prior does not


def test_heads_agree_on_rows_and_differ_elsewhere_by_their_priors(tmp_path: Path) -> None:
    """After a fit heads' spread far from the log is many times that on it."""
    data = data_for(BootstrappedDQN)
    learner = learner_of(
        BootstrappedDQN, data.spec, heads=6, prior=3.0, discount=0.0, share=1.0, huber=None
    )
    fit(learner, data, tmp_path, 600)
    log = data.log
    seen, action = log.column("observation"), log.column("action")

    def spread(observation: Tensor) -> float:
        value = learner.of_heads(learner.critic, observation, None)
        return float(value.std(-1).gather(-1, action[:, None]).mean())

    with torch.no_grad():
        assert spread(seen + 30.0) > 3.0 * spread(seen)


def test_a_task_names_the_head_and_zeros_none() -> None:
    data = data_for(BootstrappedDQN)
    log = data.log.with_columns({"task": torch.eye(4)[data.log.column("episode") % 4]})
    tasked = OfflineDataModule(log)
    learner = learner_of(BootstrappedDQN, tasked.spec, heads=4)
    assert learner.spec.task is None and "task" not in learner.read_keys
    assert learner.fresh(0).task_is_head
    seen = log.column("observation")[:5]
    every = learner.of_heads(learner.critic, seen, None)
    for head in range(4):
        assert_close(learner.action_values(seen, torch.eye(4)[head].expand(5, 4)), every[..., head])
    assert_close(learner.action_values(seen, torch.zeros(5, 4)), every.mean(-1))
    assert learner(seen).equal(votes(every).argmax(-1))
    assert learner(seen, torch.eye(4)[1].expand(5, 4)).equal(every[..., 1].argmax(-1))


def test_tasks_of_something_else_are_refused() -> None:
    spec = OfflineDataModule(episode_log(discrete=True, task=True)).spec
    with pytest.raises(ValueError, match=r"shape \[2\], and there are 4 heads: .*count 4"):
        learner_of(BootstrappedDQN, spec, heads=4, task_is_head=True)
    learner = learner_of(BootstrappedDQN, spec, heads=4)  # goals, say, which are inputs
    assert learner.spec.task is not None
    with pytest.raises(ValueError, match="heads 1 must be at least 2"):
        learner_of(BootstrappedDQN, spec, heads=1)


def test_votes_by_hand() -> None:
    """Of three heads two want action 1; a tie of four heads goes to the larger mean."""
    value = torch.tensor([[0.0, 1.0], [0.0, 0.1], [9.0, 0.0]])
    assert votes(value.T).argmax().item() == 1
    tied = torch.tensor([[0.0, 1.0], [0.0, 1.0], [9.0, 0.0], [1.0, 0.0]])
    assert votes(tied.T).argmax().item() == 0
    assert_close(votes(value.T).sum(), torch.tensor(1.0 + 0.5 / 3))


def test_one_head_collects_for_a_whole_episode_and_the_file_votes(tmp_path: Path) -> None:
    data = IteratedDataModule(
        "CartPole-v1",
        collection=Collection(
            2, 4, max_episode_steps=6, num_envs=2, sample=False, command=OneOf(4)
        ),
        batch_size=16,
        updates_per_step=4,
        seed=3,
    )
    learner = learner_of(BootstrappedDQN, data.spec, heads=4)
    fit(learner, data, tmp_path, 40)
    log = data.log
    task, episode = log.column("task"), log.column("episode")
    starts = task[log.column("step") == 0]
    assert torch.equal(task, starts[episode]) and len(starts[2:].unique(dim=0)) > 1
    path = tmp_path / "policy.onnx"
    export_policy(learner, path)
    seen = log.column("observation")[:7].numpy()
    with torch.no_grad():
        expected = learner(torch.from_numpy(seen)).tolist()
    assert OnnxPolicy(path).act(seen).tolist() == expected


def test_chance_that_a_thompson_sample_is_the_better_arm() -> None:
    """P(Beta(2, 1) > Beta(1, 2)) = 5/6: the larger of two draws above the smaller of two others."""
    draws = uniforms(counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(40_000))[0], 4)
    won = draws[:, :2].amax(-1) > draws[:, 2:].amin(-1)
    assert won.double().mean().item() == pytest.approx(5 / 6, abs=4 * (5 / 36 / 40_000) ** 0.5)
