"""Random tasks: draws of the prior, judged by the family."""

import pytest
import torch
from episode_logs import drawn, episode_log, relabeled

from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
GOALS = DiscreteTasks(GoalReaching(radius=1.0), [[0.0, 0.0], [1.0, 2.0]], [1.0, 3.0])


def test_tasks_are_drawn_from_the_prior_whatever_the_row() -> None:
    batch = relabeled(episode_log(goals=True), RandomTask(GOALS), updates=400)
    share = batch["task"].reshape(-1, 2).mean(0)
    torch.testing.assert_close(share, torch.tensor([0.25, 0.75]), rtol=0, atol=0.03)
    torch.testing.assert_close(batch[REWARD], GOALS.reward(batch, batch["task"]))
    assert torch.equal(batch[TERMINATED], GOALS.terminated(batch, batch["task"]))


def test_goals_are_states_that_were_reached() -> None:
    log = episode_log(goals=True)
    task = relabeled(log, RandomTask(), updates=10)["task"].reshape(-1, 1, 2)
    reached = log.column(("next", "achieved_goal"))
    assert bool((task == reached).all(-1).any(-1).all()) and len(task.unique(dim=0)) > 10


def test_fraction_keeps_the_other_rows() -> None:
    chunk, bound = drawn(episode_log(goals=True, task=True), RandomTask(fraction=0.25), updates=200)
    kept = (bound(chunk)["task"] == chunk["task"]).all(-1)
    assert 0.7 < float(kept.float().mean()) < 0.8
    assert torch.equal(bound(chunk)[REWARD][kept], chunk[REWARD][kept])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="fraction is -1, it must lie"):
        RandomTask(fraction=-1)
    with pytest.raises(ValueError, match="rows have no 'task' that the others could keep"):
        relabeled(episode_log(goals=True), RandomTask(fraction=0.5))
