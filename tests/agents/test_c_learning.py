"""CLearning: its loss by hand, what it converges to on a chain, whom gradients reach, errors."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, log_for, whole_log
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.c_learning import CLearning
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.spec import SpecError
from hindsight_rl.tasks.family import GoalReaching

REACHED, TERMINATED = ("next", "achieved_goal"), ("next", "terminated")


def case(*, discrete: bool = False, **arguments: Any) -> tuple[CLearning, TensorDict]:
    """Return a learner and a batch of every row of a log."""
    data = data_for(CLearning, log_for(CLearning, discrete=discrete))
    learner = learner_of(CLearning, data.spec, **arguments)
    assert isinstance(learner, CLearning)
    return learner, whole_log(learner, data)


def told(learner: CLearning, logit: Tensor, target: Tensor) -> None:
    """Have the classifiers answer by the goal's first number, an index into ``[E, G]``."""
    for critic, table in ((learner.critic, logit), (learner.target_critic, target)):

        def answer(_: Tensor, action: Tensor | None, goal: Tensor, table: Tensor = table) -> Tensor:
            value = table[:, goal[..., 0].long()]
            return value if action is not None else value.unsqueeze(-1).expand(*value.shape, 3)

        critic.forward = answer


# --- the classifier -------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_loss_of_one_row(discrete: bool) -> None:
    """Two classifiers of goals 0 (reached) and 1 (random); targets say ratios 3 and e, so 3 - 0.3.

    L = sum_k 0.1 softplus(-l_k0) + 0.9 * 2 softplus(-l_k1) + softplus(l_k1).
    """
    learner, batch = case(discrete=discrete, discount=0.9)
    logit = torch.tensor([[1.0, 0.0], [0.0, -1.0]], requires_grad=True)
    told(learner, logit, torch.tensor([[0.0, 2.0], [5.0, math.log(2.0)]]))
    row = batch[:1].clone()
    row[REACHED], row["task"] = torch.zeros(1, 2), torch.ones(1, 2)
    row[TERMINATED] = torch.zeros(1, dtype=torch.bool)
    loss, metrics = learner.critic_loss(row)
    soft = torch.nn.functional.softplus(torch.tensor([-1.0, 0.0, 0.0, 1.0, -1.0]))
    first = 0.1 * soft[0] + 1.8 * soft[1] + soft[2]
    second = 0.1 * soft[1] + 1.8 * soft[3] + soft[4]
    torch.testing.assert_close(loss, first + second)
    assert metrics["critic/ratio"].item() == pytest.approx(2.0)
    assert metrics["critic/accuracy"].item() == pytest.approx(0.5 * (0.5 + 0.5))
    loss.backward()
    slope = torch.sigmoid(torch.tensor([1.0, 0.0, -1.0]))
    expected = [
        [-0.1 * (1 - slope[0]), -1.8 * 0.5 + 0.5],
        [-0.1 * 0.5, -1.8 * slope[0] + slope[2]],
    ]
    torch.testing.assert_close(logit.grad, torch.tensor(expected))


def test_ratio_is_limited_and_nothing_is_ahead_of_an_end() -> None:
    learner, batch = case(discount=0.9)
    told(learner, torch.zeros(2, 2), torch.full((2, 2), 50.0))
    row = batch[:1].clone()
    row[REACHED], row["task"] = torch.zeros(1, 2), torch.ones(1, 2)
    assert learner.ahead(row).item() == pytest.approx(10.0)
    found = {}
    for ends in (False, True):
        row[TERMINATED] = torch.tensor([ends])
        found[ends] = learner.critic_loss(row)[0].item()
    assert found[False] == pytest.approx(2 * math.log(2) * (0.1 + 9.0 + 1.0), rel=1e-5)
    assert found[True] == pytest.approx(2 * math.log(2) * (0.1 + 1.0), rel=1e-5)


def ring(states: int = 4, rows: int = 1200) -> Log:
    """Return random steps back and forth on a ring of states, one-hot; what is reached, too."""
    generator = torch.Generator().manual_seed(0)
    action = torch.randint(2, (rows,), generator=generator)
    state = torch.cat([torch.zeros(1, dtype=torch.int64), (2 * action - 1).cumsum(0)]) % states
    hot = torch.eye(states)[state]
    ends = torch.arange(rows) % 100 == 99
    return Log.from_columns(
        {
            "observation": hot[:-1],
            "action": action,
            "episode": torch.arange(rows) // 100,
            ("next", "observation"): hot[1:],
            REACHED: hot[1:],
            ("next", "reward"): torch.zeros(rows),
            TERMINATED: torch.zeros(rows, dtype=torch.bool),
            ("next", "truncated"): ends,
        },
        {"discrete_actions": 2},
    )


def test_ratio_converges_to_that_of_the_policy(tmp_path: Path) -> None:
    """On a ring of 4 the best way to a goal is known: so is how likely it is ahead of each action.

    From the goal's neighbour one action leads there, and then away and back for ever: p_future =
    (1 - g) (1 + g^2 + ...) = 1 / (1 + g), g = 0.5; the other way, three steps: g^2 times that.
    The marginal is 1/4, so that ratios go up to 2.67, beyond 1 / (1 - g).
    """
    discount = 0.5
    data = OfflineDataModule(
        ring(), [RandomTask(GoalReaching(radius=0.1, ends=False))], batch_size=64
    )
    learner = CLearning(
        data.spec,
        network=Network(hidden=(32, 32)),
        discount=discount,
        max_ratio=10.0,
        tau=0.05,
        learning_rates={"critic": 1e-2},
        decay={"critic": 3000},
    )
    fit(learner, data, tmp_path, 3000)
    hot = torch.eye(4)
    ratio = learner.logits(hot[[0]], hot[[1]]).exp()[0]
    near = 1 / (1 + discount)
    expected = 4 * torch.tensor([discount**2 * near, near])
    torch.testing.assert_close(ratio, expected, rtol=0.12, atol=0.0)
    every = [(s, g) for s in range(4) for g in range(4) if (g - s) % 2]
    chosen = learner(hot[[s for s, _ in every]], hot[[g for _, g in every]])
    assert chosen.tolist() == [int((g - s) % 4 == 1) for s, g in every]


# --- the policy -----------------------------------------------------------------------------------


def test_policy_climbs_the_least_log_probability() -> None:
    learner, batch = case()
    loss = learner.losses(batch).terms["actor"]
    action, _ = learner.actor.draw(batch["observation"], batch["noise", "now"], batch["task"])
    logit = learner.critic(batch["observation"], action, batch["task"])
    cost = -torch.log(torch.sigmoid(logit))
    torch.testing.assert_close(loss, cost.amax(0).mean())
    assert loss > cost.mean()


def test_noise_is_for_continuous_actions_alone() -> None:
    assert case()[0].noise == {"now": 2, "next": 2}
    learner, batch = case(discrete=True)
    assert learner.noise == {} and set(learner.losses(batch).terms) == {"critic"}
    best = learner.critic(batch["observation"], None, batch["task"]).amin(0).argmax(-1)
    assert learner(batch["observation"], batch["task"]).equal(best)


# --- errors ---------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    data = data_for(CLearning)
    with pytest.raises(
        SpecError, match="rows have none: add RandomTask with a family GoalReaching"
    ):
        CLearning(OfflineDataModule(episode_log(goals=True)).spec)
    with pytest.raises(ValueError, match="discount is 1, it must be below 1"):
        learner_of(CLearning, data.spec, discount=1.0)
    with pytest.raises(ValueError, match="temperature is 0"):
        learner_of(CLearning, data.spec, temperature=0.0)
    learner, batch = case()
    wide = batch.copy().set(REACHED, torch.zeros(len(batch), 3))
    with pytest.raises(ValueError, match=r"goals have shape \[2\].*reached has \[3\]"):
        learner.losses(wide)
