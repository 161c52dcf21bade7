"""Relabeling as inverse RL over whole trajectories."""

from typing import Any

import pytest
import torch
from episode_logs import drawn, episode_log, relabeled
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.posterior import task_posterior
from hindsight_rl.relabel import inverse_trajectory, units
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

NEXT_ACHIEVED = ("next", "achieved_goal")
REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
LENGTHS = [3, 10, 4]


class Linear(TaskFamily):
    """Rewards are inner products of weights and where a step led; the prior favours the first."""

    in_keys = (NEXT_ACHIEVED,)

    def sample(self, draws: Tensor) -> Tensor:
        return torch.ones((*draws.shape[:-1], 2))

    def log_prior(self, task: Tensor) -> Tensor:
        return torch.where(task[..., 0] > 0, 1.0, 0.0)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        features = batch[NEXT_ACHIEVED]
        return features @ task.T if pairwise else (features * task).sum(-1)

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        return torch.zeros_like(self.reward(batch, task, pairwise=pairwise), dtype=torch.bool)


WEIGHTS = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]


def sums(log: Any) -> Tensor:
    reached = log.column(NEXT_ACHIEVED)
    return torch.stack([reached[log.column("episode") == e].sum(0) for e in range(len(LENGTHS))])


@pytest.mark.parametrize("together", [1, 7, 1 << 22])
def test_posterior_is_that_of_summed_rewards(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, prior, log Z and temperature, whatever is computed together."""
    monkeypatch.setattr(units, "_TOGETHER", together)
    monkeypatch.setattr(inverse_trajectory, "_BLOCK", together)
    log, tasks = episode_log(LENGTHS, goals=True), torch.tensor(WEIGHTS)
    scores = sums(log) @ tasks.T
    for options in ({}, {"partition": False}, {"temperature": 5.0}):
        bound = InverseRL(Linear(), tasks=WEIGHTS, **options).prepare(log)
        expected = task_posterior(scores, torch.tensor([1.0, 0.0, 0.0]), **options)
        torch.testing.assert_close(bound.posterior, expected)
        torch.testing.assert_close(bound.scores(log), scores)


def test_tasks_are_drawn_with_the_probabilities_of_the_posterior() -> None:
    log = episode_log(LENGTHS, goals=True)
    chunk, bound = drawn(log, InverseRL(Linear(), tasks=WEIGHTS, temperature=8.0), updates=400)
    batch = bound(chunk)
    posterior = bound.relabelers[0].posterior
    assert 0.02 < float(posterior.min()) and float(posterior.max()) < 0.9
    for episode in range(len(LENGTHS)):
        task = batch["task"][chunk["episode"] == episode]
        share = torch.stack([(task == torch.tensor(w)).all(-1).float().mean() for w in WEIGHTS])
        torch.testing.assert_close(share, posterior[episode], rtol=0, atol=0.06)


def test_reward_and_termination_are_those_of_the_new_task() -> None:
    log = episode_log(LENGTHS, goals=True)
    family = GoalReaching(radius=0.3)
    batch = relabeled(log, InverseRL(family, candidates=20), updates=20)
    torch.testing.assert_close(batch[REWARD], family.reward(batch, batch["task"]))
    assert torch.equal(batch[TERMINATED], family.terminated(batch, batch["task"]))
    assert 0 < float((batch[REWARD] == 0).float().mean()) < 1


def test_a_trajectory_gets_goals_it_came_to() -> None:
    """Three walks far apart; goals are places that were reached: each walk gets its own."""
    log = episode_log(LENGTHS, goals=True)
    place = log.column(NEXT_ACHIEVED) + 100.0 * log.column("episode")[:, None]
    log = log.with_columns({NEXT_ACHIEVED: place, "achieved_goal": place})
    batch = relabeled(log, InverseRL(GoalReaching(kind="dense"), candidates=30), updates=50)
    nearest = (batch["task"][..., 0] / 100).round()
    assert torch.equal(nearest.long(), batch["episode"])


def test_rows_that_may_not_be_drawn_decide_nothing() -> None:
    """Neither about the tasks nor about log Z; their own posterior is there for validation."""
    log = episode_log(LENGTHS, goals=True)
    inside = log.with_rows((log.column("episode") != 1).nonzero().squeeze(1))
    bound = InverseRL(Linear(), tasks=WEIGHTS).prepare(inside)
    scores = sums(log) @ torch.tensor(WEIGHTS).T
    mask = torch.tensor([True, False, True])
    expected = task_posterior(scores, torch.tensor([1.0, 0.0, 0.0]), mask=mask)
    torch.testing.assert_close(bound.posterior, expected)
    reached = InverseRL(candidates=200).prepare(inside).choices
    held_out = log.column(NEXT_ACHIEVED)[log.column("episode") == 1]
    assert not bool((reached[:, None] == held_out).all(-1).any())


def test_fraction_keeps_the_other_rows() -> None:
    log = episode_log(LENGTHS, goals=True, task=True)
    chunk, bound = drawn(log, InverseRL(fraction=0.25), updates=200)
    kept = (bound(chunk)["task"] == chunk["task"]).all(-1)
    assert 0.7 < float(kept.float().mean()) < 0.8
    assert torch.equal(bound(chunk)[REWARD][kept], chunk[REWARD][kept])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"candidates": 0}, "at least one task to choose"),
        ({"tasks": []}, "at least one task to choose"),
        ({"temperature": 0.0}, "temperature is 0.0, it must be above 0"),
        ({"temperature": float("inf")}, "temperature is inf, it must be above 0 and finite"),
        ({"partition": "running"}, "it must be true or false; .* use TransitionInverseRL"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InverseRL(**arguments)


def test_a_fraction_without_a_task_to_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="rows have no 'task' that the others could keep"):
        relabeled(episode_log(goals=True), InverseRL(fraction=0.5))
    log = episode_log(goals=True)
    log = log.with_columns({"task": torch.zeros(len(log), 3)})
    with pytest.raises(ValueError, match=r"have tasks of shape \[3\] .* here have shape \[2\]"):
        relabeled(log, InverseRL(Linear(), tasks=WEIGHTS, fraction=0.5))
