"""SAC finds what is known: soft values of a small process, a best density, an entropy."""

import functools
from pathlib import Path

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner

REWARD, TERMINATED, TRUNCATED = (("next", key) for key in ("reward", "terminated", "truncated"))


def steps(learner: Learner, batch: TensorDict, count: int, rate: float) -> None:
    """Take updates on one batch, at a rate that falls to 0, targets following at once."""
    optimizer = learner.configure_optimizers()
    rates = [group["lr"] and rate for group in optimizer.param_groups]
    pairs = list(zip(learner.target_critic.parameters(), learner.critic.parameters(), strict=True))
    for step in range(count):
        for group, at in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = at * (1 - step / count)
        optimizer.zero_grad()
        torch.stack(list(learner.losses(batch).terms.values())).sum().backward()
        optimizer.step()
        with torch.no_grad():
            for target, online in pairs:
                target.copy_(online)


def decision_process(states: int = 4, actions: int = 3, outcomes: int = 3) -> TensorDict:
    """Return a random one: every action in every state, with equally likely next states.

    Shapes are ``[S, A, J]``; every fifth pair of state and action ends the episode.
    """
    generator = torch.Generator().manual_seed(3)
    shape = (states, actions, outcomes)
    ends = (torch.arange(states * actions) % 5 == 4).view(states, actions, 1)
    reward = torch.randn(states, actions, 1, generator=generator)
    return TensorDict(
        {
            "state": torch.arange(states).view(-1, 1, 1).expand(shape),
            "action": torch.arange(actions).view(1, -1, 1).expand(shape),
            "next": torch.randint(states, shape, generator=generator),
            "reward": reward.expand(shape),
            "terminated": ends.expand(shape),
        },
        batch_size=shape,
    )


def soft_optimum(process: TensorDict, discount: float, alpha: float) -> Tensor:
    """Return soft-optimal values ``[S, A]`` by value iteration."""
    q = torch.zeros(process.shape[:2])
    for _ in range(300):
        value = alpha * torch.logsumexp(q / alpha, -1)
        ahead = torch.where(process["terminated"], 0.0, value[process["next"]])
        q = (process["reward"] + discount * ahead).mean(-1)
    return q


def test_soft_values_of_a_small_process_are_found() -> None:
    """All transitions of a random decision process, alpha held: soft Q-iteration's fixed point.

    Q = r + g E[alpha logsumexp(Q' / alpha)], and the policy is softmax(Q / alpha).
    """
    discount, alpha = 0.8, 0.5
    process = decision_process()
    rows = process.flatten()
    states = torch.eye(process.shape[0])
    log = episode_log([1] * len(rows), discrete=True).with_columns(
        {
            "observation": states[rows["state"]],
            ("next", "observation"): states[rows["next"]],
            "action": rows["action"],
            REWARD: rows["reward"],
            TERMINATED: rows["terminated"],
            TRUNCATED: ~rows["terminated"],
        }
    )
    learner = learner_of(
        SAC,
        OfflineDataModule(log).spec,
        network=Network(hidden=()),
        discount=discount,
        initial_temperature=alpha,
        learning_rates={"temperature": 0.0},
    )
    data = OfflineDataModule(log)
    steps(learner, whole_log(learner, data), 800, 0.03)
    assert learner.temperature().item() == pytest.approx(alpha)
    expected = soft_optimum(process, discount, alpha)
    for q in learner.critic(states, None):
        torch.testing.assert_close(q, expected, rtol=0, atol=1e-2)
    policy = torch.softmax(learner.scores(states), -1)
    torch.testing.assert_close(policy, torch.softmax(expected / alpha, -1), rtol=0, atol=1e-2)


class Hill(nn.Module):
    """Q(s, a) = -height * sum over dimensions of (a - summit)^2, the same in every state."""

    def __init__(self, height: float, summit: list[float]) -> None:
        super().__init__()
        self.height, self.summit = height, torch.tensor(summit)

    def forward(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        return -self.height * (action - self.summit).square().sum(-1).unsqueeze(0)


def test_policy_reaches_its_optimum_on_a_quadratic() -> None:
    """For Q = -h |a - c|^2 and a held alpha the best density is exp(Q / alpha).

    It is normal, with the spread sqrt(alpha / (2 h)) in environment units while that is far from
    the bounds, and policy units are half of those here ([-2, 2] and [-1, 3]). So h = 2 and
    alpha = .04 give .1 and .05. The policy has u normal and a = tanh(u): at m = tanh(mean) its
    spread is that of u times 1 - m^2.
    """
    data = data_for(SAC, episode_log())
    learner = learner_of(SAC, data.spec, network=Network(hidden=()), initial_temperature=0.04)
    learner.critic = Hill(2.0, [0.5, 0.0])
    batch = whole_log(learner, data)
    rows = torch.arange(len(batch))
    optimizer = torch.optim.Adam(learner.actor.parameters(), lr=0.1)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        noise = normals(counters(step, torch.zeros(1, dtype=torch.int64), rows)[0], 2)
        batch["noise", "now"] = noise
        optimizer.zero_grad()
        learner.actor_loss(batch)[0].backward()
        optimizer.step()
    found = learner.actor(batch["observation"])
    spread = found.log_std.exp() * (1 - found.mode.square())
    torch.testing.assert_close(spread.detach(), torch.full_like(spread, 0.05), rtol=0.15, atol=0)
    summit = learner.critic.summit.expand(len(batch), 2)
    torch.testing.assert_close(learner(batch["observation"]).detach(), summit, rtol=0, atol=0.04)


def test_random_actions_are_enough_to_learn_from(tmp_path: Path) -> None:
    """One step each, rewarded by -|a - wanted(s)|^2, from actions all over the bounds.

    Through the trainer, everything learned: the policy is far better than the log, and its entropy
    is near the target of -2, whose cost it bears.
    """
    generator = torch.Generator().manual_seed(5)
    count, (low, high) = 2000, torch.tensor([LOW, HIGH])
    seen = 2 * torch.rand(count, 3, generator=generator) - 1
    action = low + (high - low) * torch.rand(count, 2, generator=generator)
    wanted, ends = seen[:, :2], torch.ones(count, dtype=torch.bool)
    reward = -(action - wanted).square().sum(-1)
    log = episode_log([1] * count).with_columns(
        {
            "observation": seen,
            ("next", "observation"): seen,
            "action": action,
            REWARD: reward,
            TERMINATED: ends,
            TRUNCATED: ~ends,
        }
    )
    data = OfflineDataModule(log, batch_size=128, updates_per_step=50)
    optimizer = functools.partial(torch.optim.Adam, lr=1e-2)
    learner = learner_of(
        SAC,
        data.spec,
        network=Network(hidden=(32, 32)),
        initial_temperature=0.2,
        optimizer=optimizer,
    )
    fit(learner, data, tmp_path, 200)
    assert reward.mean() < -4
    assert -(learner(seen) - wanted).square().sum(-1).mean() > -0.4
    entropy = learner.losses(whole_log(learner, data)).metrics["actor/entropy"]
    assert entropy.item() == pytest.approx(-2.0, abs=0.8)
