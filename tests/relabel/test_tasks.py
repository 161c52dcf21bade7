"""Goal reaching as a family of tasks: reward, termination, prior."""

import math

import pytest
import torch
from episode_logs import episode_log
from tensordict import TensorDict

from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.tasks import GoalReaching

NEXT_ACHIEVED = ("next", "achieved_goal")


def steps(*reached: list[float]) -> TensorDict:
    """Return a batch of steps that led to these points."""
    points = torch.tensor(reached)
    return TensorDict({"next": {"achieved_goal": points}}, batch_size=[len(points)])


def test_sparse_reward_is_0_at_or_within_the_radius() -> None:
    """Distances 0, 5 (the radius itself, a 3-4-5 triangle), and 5.1 to goal (0, 0)."""
    batch = steps([0.0, 0.0], [3.0, 4.0], [5.1, 0.0])
    family, goal = GoalReaching(radius=5.0), torch.zeros(3, 2)
    assert family.reward(batch, goal).tolist() == [0, 0, -1]
    assert family.terminated(batch, goal).tolist() == [True, True, False]


def test_dense_reward_is_minus_the_distance() -> None:
    batch = steps([0.0, 0.0], [3.0, 4.0])
    family = GoalReaching(radius=1.0, kind="dense")
    assert family.reward(batch, torch.zeros(2, 2)).tolist() == [0, -5]
    assert family.terminated(batch, torch.zeros(2, 2)).tolist() == [True, False]


def test_tasks_that_go_on_never_terminate() -> None:
    family = GoalReaching(radius=5.0, ends=False)
    batch = steps([0.0, 0.0])
    assert family.reward(batch, torch.zeros(1, 2)).tolist() == [0]
    assert family.terminated(batch, torch.zeros(1, 2)).tolist() == [False]


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_pairwise_scores_every_row_under_every_task(kind: str) -> None:
    """Rows [2, 3, Z] against tasks [5, Z] give [2, 3, 5]; each entry is the elementwise one."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 3, 2, generator=generator)
    batch = TensorDict({"next": {"achieved_goal": points}}, batch_size=[2, 3])
    tasks = torch.randn(5, 2, generator=generator)
    family = GoalReaching(radius=1.0, kind=kind)
    reward = family.reward(batch, tasks, pairwise=True)
    ends = family.terminated(batch, tasks, pairwise=True)
    assert reward.shape == ends.shape == (2, 3, 5)
    for number, task in enumerate(tasks):
        each = task.expand(2, 3, 2)
        torch.testing.assert_close(reward[..., number], family.reward(batch, each))
        assert ends[..., number].equal(family.terminated(batch, each))


def test_prior_is_uniform_over_the_drawable_states() -> None:
    log = episode_log([4, 6], goals=True).with_rows(torch.arange(4, 10))
    family = GoalReaching().prepare(log)
    draws = counters(5, torch.zeros(1, dtype=torch.int64), torch.arange(6000))
    goals = family.sample(draws)
    assert goals.shape == (1, 6000, 2)
    reached = log.column(NEXT_ACHIEVED)
    counts = [int((goals[0] == point).all(-1).sum()) for point in reached]
    assert counts[:4] == [0] * 4
    statistic = sum((count - 1000) ** 2 / 1000 for count in counts[4:])
    assert statistic < 25.745  # chi-square, 5 degrees of freedom, 1 - 1e-4
    prior = family.log_prior(goals)
    assert prior.shape == (1, 6000) and (prior == -math.log(6)).all()


def test_unbound_family_has_no_prior() -> None:
    with pytest.raises(ValueError, match="GoalReaching has no prior yet: call prepare"):
        GoalReaching().sample(torch.zeros(1, 3, dtype=torch.int64))


def test_radius_must_be_positive() -> None:
    with pytest.raises(ValueError, match="radius is 0, it must be above 0"):
        GoalReaching(radius=0)
