"""Goal reaching as a family of tasks: reward, termination, prior."""

import math

import pytest
import torch
from episode_logs import episode_log
from tensordict import TensorDict

from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.inverse import InverseRL
from hindsight_rl.relabel.tasks import DiscreteTasks, GoalReaching, LinearTasks, TaskFamily

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


# --- linear and discrete tasks --------------------------------------------------------------------

CORNERS = [[0.0, 0.0], [3.0, 4.0]]


def many_draws(count: int = 4000) -> torch.Tensor:
    return counters(5, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]


def test_linear_reward_is_the_inner_product() -> None:
    batch, family = steps([1.0, 2.0], [3.0, 4.0]), LinearTasks([-1, -1], [1, 1])
    tasks = torch.tensor([[1.0, 0.5], [-1.0, 1.0]])
    assert family.reward(batch, tasks).tolist() == [2, 1]
    assert family.reward(batch, tasks, pairwise=True).tolist() == [[2, 1], [5, 1]]
    assert family.terminated(batch, tasks, pairwise=True).tolist() == [[False] * 2] * 2
    assert family.terminated(batch, tasks).tolist() == [False] * 2


def test_linear_prior_is_uniform_over_the_box() -> None:
    family = LinearTasks([-1, 2, 0], [1, 2, 4])
    tasks = family.sample(many_draws())
    torch.testing.assert_close(tasks.mean(0), torch.tensor([0.0, 2, 2]), rtol=0, atol=0.08)
    torch.testing.assert_close(
        tasks.std(0), torch.tensor([2.0, 0, 4]) / math.sqrt(12), rtol=0, atol=0.04
    )
    assert abs(float(torch.corrcoef(tasks[:, [0, 2]].T)[0, 1])) < 0.06
    outside = torch.tensor([[0.0, 2, 1], [0, 2, 5], [0, 1, 1]])
    assert family.log_prior(outside).tolist() == [0, -math.inf, -math.inf]
    assert bool((family.log_prior(tasks) == 0).all())


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0], [1, 1], "low has 1 weights and high 2: give as many"),
        ([], [], "low has 0 weights and high 0"),
        ([1.0], [0.0], r"high \[0.0\] is below low \[1.0\]"),
    ],
)
def test_a_box_that_is_none_is_refused(low: list, high: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearTasks(low, high)


def test_another_number_of_features_is_refused() -> None:
    log = episode_log(goals=True)
    assert LinearTasks([0, 0], [1, 1]).prepare(log).in_keys == (NEXT_ACHIEVED,)
    with pytest.raises(ValueError, match=r"2 weights for features of shape \[3\]: give"):
        LinearTasks([0, 0], [1, 1], features="observation").prepare(log)


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


@pytest.mark.parametrize(
    "family",
    [LinearTasks([-1, -1], [1, 1]), DiscreteTasks(GoalReaching(radius=0.5), CORNERS)],
    ids=["linear", "discrete"],
)
def test_families_go_with_inverse_rl(family: TaskFamily) -> None:
    log = episode_log(goals=True)
    bound = InverseRL(family, candidates=7).prepare(log)
    batch = bound(log.gather(torch.arange(20)[None]).set("draws", many_draws(20)[None]))
    torch.testing.assert_close(batch["next", "reward"], bound.family.reward(batch, batch["task"]))
    chosen = (batch["task"].unsqueeze(-2) == bound.choices).all(-1).any(-1)
    assert bool(chosen.all())
