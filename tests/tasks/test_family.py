"""Goals and discrete sets as families of tasks: reward, termination, prior."""

import math
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching

NEXT_ACHIEVED = ("next", "achieved_goal")


def steps(*reached: list[float]) -> TensorDict:
    """Return a batch of steps that led to these points."""
    points = torch.tensor(reached)
    return TensorDict({"next": {"achieved_goal": points}}, batch_size=[len(points)])


def many_draws(count: int = 4000) -> torch.Tensor:
    """Return the counters of as many rows, ``[count, 3]``."""
    return counters(5, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]


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
    with pytest.raises(ValueError, match="no prior yet, it is taken from a log: call prepare"):
        GoalReaching().sample(torch.zeros(1, 3, dtype=torch.int64))


def test_radius_must_be_positive() -> None:
    with pytest.raises(ValueError, match="radius is 0, it must be above 0"):
        GoalReaching(radius=0)


def test_effort_costs_its_price_and_is_no_part_of_the_place() -> None:
    """At (3, 4) with effort 2: -5 - 0.1 * 2 from the origin, -0.2 at the goal itself."""
    family = GoalReaching(radius=1.0, kind="dense", effort=0.1)
    batch = steps([3.0, 4.0, 2.0], [0.0, 0.0, 0.0])
    goals = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    expected = torch.tensor([[-5.2, -0.2], [0.0, -5.0]])
    torch.testing.assert_close(family.reward(batch, goals, pairwise=True), expected)
    torch.testing.assert_close(family.reward(batch, goals), torch.tensor([-5.2, -5.0]))
    assert family.terminated(batch, goals, pairwise=True).tolist() == [[False, True], [True, False]]
    reached = batch["next", "achieved_goal"]
    assert torch.equal(family.task_of(reached, many_draws(2)), reached[:, :2])


def test_priors_of_goals_with_effort_are_places() -> None:
    log = episode_log([4], goals=True)  # of two numbers: a place of one, and effort
    drawn = GoalReaching(kind="dense", effort=0.05).prepare(log).sample(many_draws())
    assert drawn.shape == (4000, 1)
    assert set(drawn.flatten().tolist()) == set(log.column(NEXT_ACHIEVED)[:, 0].tolist())


@pytest.mark.parametrize(("effort", "kind"), [(-0.1, "dense"), (0.1, "sparse")])
def test_a_price_without_a_use_is_an_error(effort: float, kind: Any) -> None:
    with pytest.raises(ValueError, match="must not be negative, and needs a dense reward"):
        GoalReaching(kind=kind, effort=effort)


# --- the margin as part of the task ---------------------------------------------------------------


def test_a_task_with_margin_says_its_own_radius() -> None:
    """At distance 5: reached within 5 and 6, not within 4. Dense: -5 whatever the margin."""
    batch = steps([3.0, 4.0], [3.0, 4.0], [3.0, 4.0])
    tasks = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 5.0], [0.0, 0.0, 6.0]])
    family = GoalReaching(radius=(0.0, 10.0))
    assert family.reward(batch, tasks).tolist() == [-1, 0, 0]
    assert family.terminated(batch, tasks).tolist() == [False, True, True]
    dense = GoalReaching(radius=(0.0, 10.0), kind="dense", ends=False)
    assert dense.reward(batch, tasks).tolist() == [-5, -5, -5]
    assert not dense.terminated(batch, tasks).any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(0, 2), st.floats(0.01, 2))
def test_wider_margins_are_reached_sooner(seed: int, low: float, width: float) -> None:
    """Reward 0 just where the distance is within the margin; elementwise and pairwise agree."""
    generator = torch.Generator().manual_seed(seed)
    points, goals = torch.randn(2, 7, 3, generator=generator)
    batch = TensorDict({"next": {"achieved_goal": points}}, batch_size=[7])
    family = GoalReaching(radius=(low, low + width))
    tasks = torch.cat([goals, low + width * torch.rand(7, 1, generator=generator)], -1)
    reward = family.reward(batch, tasks, pairwise=True)
    assert reward.shape == (7, 7) and reward.diagonal().equal(family.reward(batch, tasks))
    near = torch.cdist(points[None], goals[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
    clear = (near - tasks[:, 2 + 1]).abs() > 1e-5
    assert (reward == (near <= tasks[:, 3]).float() - 1)[clear].all()
    assert family.terminated(batch, tasks, pairwise=True).equal(reward == 0)
    wider = tasks + torch.tensor([0.0, 0.0, 0.0, 0.5])
    assert (family.reward(batch, wider, pairwise=True) >= reward).all()


def test_prior_of_goal_and_margin_is_uniform_over_both() -> None:
    log = episode_log([6], goals=True)
    family = GoalReaching(radius=(0.5, 1.5)).prepare(log)
    tasks = family.sample(many_draws(6000))
    assert tasks.shape == (6000, 3)
    reached = log.column(NEXT_ACHIEVED)
    counts = [int((tasks[:, :2] == point).all(-1).sum()) for point in reached]
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 25.745
    margin = tasks[:, 2].sort().values
    # Kolmogorov-Smirnov at 1e-4: sqrt(-ln(5e-5) / 2 / 6000) = 0.0287.
    assert (margin - 0.5 - torch.arange(6000) / 6000).abs().max() < 0.0287
    first = (tasks[:, :2] == reached[0]).all(-1)
    assert abs(tasks[first, 2].mean() - 1.0) < 4 * 1 / math.sqrt(12 * int(first.sum()))
    prior = family.log_prior(torch.tensor([[0.0, 0, 0.4], [0, 0, 0.5], [0, 0, 1.5], [0, 0, 1.6]]))
    assert prior.exp().tolist() == pytest.approx([0, 1 / 6, 1 / 6, 0])


def test_a_place_names_a_task_that_it_fulfils() -> None:
    draws, places = many_draws(5), torch.arange(10.0).view(5, 2)
    assert GoalReaching().task_of(places, draws).equal(places)
    family = GoalReaching(radius=(0.5, 1.5))
    task = family.task_of(places, draws)
    assert task[:, :2].equal(places) and len(task[:, 2].unique()) == 5
    batch = TensorDict({"next": {"achieved_goal": places}}, batch_size=[5])
    assert family.reward(batch, task).tolist() == [0] * 5
    assert bool((family.log_prior(task) > -math.inf).all())


@pytest.mark.parametrize("radius", [(1.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0,), (0.0, 1.0, 2.0)])
def test_a_range_of_radii_that_is_none_is_refused(radius: tuple[float, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"radius is \[.*\]: a range has two numbers, low and high"
    ):
        GoalReaching(radius=radius)


# --- discrete tasks -------------------------------------------------------------------------------

CORNERS = [[0.0, 0.0], [3.0, 4.0]]


def test_a_discrete_task_is_the_task_it_names() -> None:
    family = DiscreteTasks(GoalReaching(radius=1.0), CORNERS)
    batch = steps([0.0, 0.0], [3.0, 4.0])
    both = torch.eye(2)
    assert family.reward(batch, both, pairwise=True).tolist() == [[0, -1], [-1, 0]]
    assert family.reward(batch, both.flip(0)).tolist() == [-1, -1]
    assert family.terminated(batch, both).tolist() == [True, True]


def test_discrete_prior_follows_the_weights() -> None:
    family = DiscreteTasks(GoalReaching(), [*CORNERS, [9.0, 9.0]], [1, 2, 1])
    share = family.sample(many_draws()).mean(0)
    torch.testing.assert_close(share, torch.tensor([0.25, 0.5, 0.25]), rtol=0, atol=0.03)
    torch.testing.assert_close(
        family.log_prior(torch.eye(3)).exp(), torch.tensor([0.25, 0.5, 0.25])
    )


@pytest.mark.parametrize(
    ("tasks", "weights"), [([], None), (CORNERS, [1.0]), (CORNERS, [1.0, 0.0])]
)
def test_a_set_without_tasks_or_chances_is_refused(tasks: list, weights: list | None) -> None:
    with pytest.raises(ValueError, match="give at least one task, and one weight above 0 for each"):
        DiscreteTasks(GoalReaching(), tasks, weights)


def test_what_was_reached_names_no_discrete_task() -> None:
    family = DiscreteTasks(GoalReaching(), CORNERS)
    with pytest.raises(ValueError, match="no task of DiscreteTasks is fulfilled by getting somewh"):
        FutureGoal(family).prepare(episode_log(goals=True))
