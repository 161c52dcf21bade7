"""Returns as a family of tasks: an episode is judged when it is over."""

import math

import pytest
import torch
from episode_logs import episode_log, relabeled

from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.posterior import task_posterior
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.tasks.returns import ReturnTasks

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")


def three_episodes() -> Log:
    """Return episodes of returns 3, 6 and 0, of 2, 1 and 3 steps."""
    return episode_log([2, 1, 3], reward=[1.0, 2.0, 6.0, 1.0, 1.0, -2.0], goals=True)


def test_sparse_reward_asks_for_at_least_the_return() -> None:
    """Last steps are rows 1, 2 and 5; all others get 0. Asked for 3: enough, more, too little."""
    log = three_episodes()
    family = ReturnTasks(kind="sparse").prepare(log)
    batch = log.gather(torch.arange(6))
    assert family.reward(batch, torch.full((6, 1), 3.0)).tolist() == [0, 0, 0, 0, 0, -1]
    pairs = family.reward(batch, torch.tensor([[-1.0], [6.0]]), pairwise=True)
    assert pairs.T.tolist() == [[0] * 6, [0, -1, 0, 0, 0, -1]]


def test_sparse_reward_with_horizon_asks_for_at_most_the_steps() -> None:
    """A return of 0 or more: within one step, two and three."""
    log = three_episodes()
    family = ReturnTasks(horizon=True, kind="sparse").prepare(log)
    tasks = torch.tensor([[0.0, 1], [0, 2], [0, 3]])
    pairs = family.reward(log.gather(torch.arange(6)), tasks, pairwise=True)
    assert pairs.T.tolist() == [[0, -1, 0, 0, 0, -1], [0, 0, 0, 0, 0, -1], [0] * 6]


def test_dense_reward_is_the_distance_in_standard_deviations() -> None:
    """Rows have returns 3, 3, 6, 0, 0, 0: mean 2, variance 5; lengths 2, 2, 1, 3, 3, 3: 5 / 9."""
    log = three_episodes()
    batch, task = log.gather(torch.arange(6)), torch.tensor([[1.0, 3.0]])
    of_return = [0, 2 / math.sqrt(5), 5 / math.sqrt(5), 0, 0, 1 / math.sqrt(5)]
    of_length = [0, 3 / math.sqrt(5), 6 / math.sqrt(5), 0, 0, 0]
    family = ReturnTasks().prepare(log)
    assert family.reward(batch, task[:, :1].expand(6, 1)).tolist() == pytest.approx(
        [-x for x in of_return]
    )
    both = ReturnTasks(horizon=True).prepare(log).reward(batch, task, pairwise=True)
    expected = [-x - y for x, y in zip(of_return, of_length, strict=True)]
    assert both[:, 0].tolist() == pytest.approx(expected)


def test_returns_are_discounted() -> None:
    """Discount .5: 1 + 2 / 2 = 2, 6, 1 + 1 / 2 - 2 / 4 = 1."""
    family = ReturnTasks(discount=0.5, kind="sparse").prepare(three_episodes())
    tasks = family.sample(counters(1, torch.zeros(1, dtype=torch.int64), torch.arange(50)))
    assert sorted(tasks.unique().tolist()) == [1, 2, 6]


def test_distances_from_returns_without_spread_are_in_reward_units() -> None:
    log = episode_log([2, 1], reward=[1.0, 2.0, 3.0])
    family = ReturnTasks().prepare(log)
    reward = family.reward(log.gather(torch.arange(3)), torch.full((3, 1), 5.0))
    assert reward.tolist() == [0, -2, -2]


def test_prior_is_that_of_the_rows_that_may_be_drawn() -> None:
    """Rows 1 to 5: one with return 3 in 2 steps, one with 6 in 1, three with 0 in 3."""
    log = three_episodes().with_rows(torch.arange(1, 6))
    family = ReturnTasks(horizon=True).prepare(log)
    tasks = family.sample(counters(1, torch.zeros(1, dtype=torch.int64), torch.arange(6000)))[0]
    counts = [int((tasks == torch.tensor(t)).all(-1).sum()) for t in ([3, 2], [6, 1], [0, 3])]
    assert sum(counts) == 6000
    expected = [1200, 1200, 3600]
    statistic = sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True))
    assert statistic < 18.421  # chi-square, 2 degrees of freedom, 1 - 1e-4
    assert family.log_prior(tasks).unique().tolist() == pytest.approx([-math.log(5)])


def test_tasks_end_when_the_log_says_so() -> None:
    log = three_episodes()
    family, batch = ReturnTasks().prepare(log), log.gather(torch.arange(6))
    ends = log.column(TERMINATED)
    assert ends.any() and not ends.all()
    assert family.terminated(batch, torch.zeros(6, 1)).equal(ends)
    pairs = family.terminated(batch, torch.zeros(2, 1), pairwise=True)
    assert pairs.shape == (6, 2) and pairs.T.equal(torch.stack([ends, ends]))


def test_posterior_is_that_of_the_distance_of_returns() -> None:
    """The score of an episode is the last step's reward, whatever its length."""
    log = three_episodes()
    choices = torch.tensor([[3.0], [6.0], [0.0]])
    bound = InverseRL(ReturnTasks(), tasks=choices.tolist(), temperature=0.5).prepare(log)
    scores = -torch.cdist(choices, choices) / math.sqrt(5)
    torch.testing.assert_close(bound.scores(log), scores)
    torch.testing.assert_close(bound.posterior, task_posterior(scores, temperature=0.5))


def test_with_little_temperature_every_episode_gets_its_own_return() -> None:
    """As final goals are the limit of goal reaching (T7)."""
    log = three_episodes()
    batch = relabeled(log, InverseRL(ReturnTasks(), candidates=60, temperature=1e-3), updates=20)
    own = torch.tensor([3.0, 6.0, 0.0])[batch["episode"]]
    assert batch["task"][..., 0].equal(own)
    assert (batch[REWARD] == 0).all()


def test_random_returns_are_judged_by_the_family() -> None:
    log = three_episodes()
    family = ReturnTasks(kind="sparse").prepare(log)
    batch = relabeled(log, RandomTask(ReturnTasks(kind="sparse")), updates=20)
    assert batch[REWARD].equal(family.reward(batch, batch["task"]))
    assert set(batch[REWARD].flatten().tolist()) == {0.0, -1.0}


def test_unbound_family_knows_no_returns() -> None:
    batch = three_episodes().gather(torch.arange(6))
    with pytest.raises(
        ValueError, match="ReturnTasks judges by the returns of a log: call prepare"
    ):
        ReturnTasks().reward(batch, torch.zeros(6, 1))
    with pytest.raises(ValueError, match="no prior yet, it is taken from a log: call prepare"):
        ReturnTasks().sample(torch.zeros(1, 3, dtype=torch.int64))


def test_discount_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"discount is 1.5, it must lie in \[0, 1\]"):
        ReturnTasks(discount=1.5)
