"""What every family promises, and what every relabeler makes of any family."""

from collections.abc import Callable

import pytest
import torch
from episode_logs import drawn, episode_log
from tensordict import TensorDict

from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.goals import EpisodeGoal, FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching, TaskFamily
from hindsight_rl.tasks.linear import LinearTasks
from hindsight_rl.tasks.returns import ReturnTasks

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
CORNERS = [[0.0, 0.0], [3.0, 4.0]]
GOALS: dict[str, Callable[[], TaskFamily]] = {
    "sparse goals": lambda: GoalReaching(0.8),
    "dense goals": lambda: GoalReaching(0.8, kind="dense", ends=False),
    "margins": lambda: GoalReaching((0.3, 1.2)),
}
FAMILIES = GOALS | {
    "discrete": lambda: DiscreteTasks(GoalReaching(0.8), CORNERS, [1.0, 2.0]),
    "linear": lambda: LinearTasks([-1, -1], [1, 1]),
    "white": lambda: LinearTasks([-1, -1], [1, 1], features="achieved_goal", whiten=True),
    "returns": ReturnTasks,
    "returns and steps": lambda: ReturnTasks(0.9, horizon=True, kind="sparse"),
}
RELABELERS = {
    "RandomTask": RandomTask,
    "InverseRL": lambda family, fraction: InverseRL(family, candidates=7, fraction=fraction),
}
GOAL_RELABELERS = {kind.__name__: kind for kind in (FutureGoal, FinalGoal, EpisodeGoal)}
PAIRS = [(a, b) for a in RELABELERS for b in FAMILIES]
PAIRS += [(a, b) for a in GOAL_RELABELERS for b in GOALS]


def log_with_tasks(width: int) -> Log:
    """Return a log whose own tasks have the width of the family's, and occur nowhere else."""
    log = episode_log(goals=True)
    return log.with_columns({"task": torch.full((len(log), width), 99.0)})


def some_tasks(family: TaskFamily, count: int) -> torch.Tensor:
    draws = counters(5, torch.zeros(1, dtype=torch.int64), torch.arange(count))
    return family.sample(draws)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_pairwise_is_elementwise_for_every_pair(name: str) -> None:
    """Rows [2, 3] against tasks [5, Z] give [2, 3, 5], in reward, termination and the prior."""
    log = episode_log(goals=True)
    family = FAMILIES[name]().prepare(log)
    batch, tasks = log.gather(torch.tensor([[0, 8, 20], [21, 27, 29]])), some_tasks(family, 5)
    reward = family.reward(batch, tasks, pairwise=True)
    ends = family.terminated(batch, tasks, pairwise=True)
    assert reward.shape == ends.shape == (2, 3, 5)
    assert reward.dtype == torch.float32 and ends.dtype == torch.bool
    for number, task in enumerate(tasks):
        each = task.expand(2, 3, -1)
        torch.testing.assert_close(reward[..., number], family.reward(batch, each))
        assert ends[..., number].equal(family.terminated(batch, each))
    assert family.log_prior(tasks).shape == (5,)
    assert bool((family.log_prior(tasks) > -torch.inf).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_task_depends_on_its_counter_alone(name: str) -> None:
    family = FAMILIES[name]().prepare(episode_log(goals=True))
    assert some_tasks(family, 9)[:4].equal(some_tasks(family, 4))
    assert len(some_tasks(family, 50).unique(dim=0)) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_binding_leaves_the_original_unbound(name: str) -> None:
    family = FAMILIES[name]()
    before = {key: str(value) for key, value in vars(family).items()}
    assert family.prepare(episode_log(goals=True)) is not family
    assert {key: str(value) for key, value in vars(family).items()} == before


@pytest.mark.parametrize(("relabeler", "name"), PAIRS)
def test_relabelers_rewrite_reward_and_termination_by_the_family(relabeler: str, name: str) -> None:
    """Rows that keep their task keep both; the others have those of the new task."""
    family = FAMILIES[name]()
    width = some_tasks(family.prepare(episode_log(goals=True)), 1).shape[-1]
    kind: Callable[..., Relabeler] = (RELABELERS | GOAL_RELABELERS)[relabeler]
    chunk, bound = drawn(log_with_tasks(width), kind(family, fraction=0.5), updates=8)
    batch: TensorDict = bound(chunk)
    kept = (batch["task"] == 99.0).all(-1)
    assert 0.4 < kept.float().mean() < 0.6
    judge = bound.relabelers[0].family  # type: ignore[attr-defined]
    expected = torch.where(kept, chunk[REWARD], judge.reward(batch, batch["task"]))
    torch.testing.assert_close(batch[REWARD], expected)
    ends = torch.where(kept, chunk[TERMINATED], judge.terminated(batch, batch["task"]))
    assert batch[TERMINATED].equal(ends)
