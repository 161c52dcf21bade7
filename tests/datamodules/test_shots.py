"""Shots: rows of a row's own task, never of its own episode where they are to be adapted to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log, leaves
from small_fits import LEARNERS, learner_of
from torch import Tensor

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.datamodules.shots import TaskRows, Tasks
from hindsight_rl.keys import TASK_ID
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.returns import ScaleReward
from hindsight_rl.windows import Shots

LENGTHS = (4, 6, 3, 5, 2, 7, 4)
TASKS = (0, 1, 0, 2, 1, 0, 1)  # episode 3 is alone in its task
REWARD = ("next", "reward")
KEYS = (
    ("support", "observation"),
    ("support", *REWARD),
    ("support", "next", "observation"),
    ("query", "action"),
)


def log_of(tasks: tuple[float, ...] = TASKS, **options: bool) -> Log:
    log = episode_log(LENGTHS, **options)
    return log.with_columns({TASK_ID: torch.tensor(tasks)[log.column("episode")].float()})


def batch_of(log: Log, shots: Shots, updates: int = 40, **options: Any) -> Any:
    found = TaskRows(log, shots, KEYS)
    ready = log.with_rows(found.rows)
    return ChunkSampler(ready, Compose(), batch_size=16, beside=(found,), **options).chunk(
        0, updates
    )


def rows_in(log: Log, observation: Tensor) -> Tensor:
    """Return which rows of the log observations are; a walk never comes to the same place twice."""
    equal = (observation.unsqueeze(-2) == log.column("observation")).all(-1)
    assert (equal.sum(-1) == 1).all()
    return equal.long().argmax(-1)


def test_support_is_of_other_episodes_of_the_task_and_the_query_of_its_own() -> None:
    log = log_of()
    batch = batch_of(log, Shots(5, 3, 2))
    episode, task = log.column("episode"), torch.tensor(TASKS)
    own = batch["episode"].unsqueeze(-1)
    support = rows_in(log, batch["support", "observation"])
    assert support.shape == (40, 16, 5)
    assert (task[episode[support]] == task[own]).all() and (episode[support] != own).all()
    assert batch["support", REWARD].equal(log.column(REWARD)[support])
    following = batch["support", "next", "observation"]
    assert following.equal(log.column(("next", "observation"))[support])
    mine = [log.column("action")[episode == number] for number in range(7)]
    for number, action in zip(own.flatten(), batch["query", "action"].flatten(0, 1), strict=True):
        assert action.shape == (3, 2)
        assert (action.unsqueeze(1) == mine[int(number)]).all(-1).any(1).all()


def test_all_that_may_be_drawn_is_drawn_about_equally_often() -> None:
    """Of task 0, beside episode 0: episodes 2 and 5, and of each episode every row."""
    log = log_of()
    batch = batch_of(log, Shots(4, 1, 4), updates=400)
    chosen = batch["episode"] == 0
    rows = rows_in(log, batch["support", "observation"][chosen]).flatten()
    count = torch.bincount(rows, minlength=len(log))
    episodes = {2: slice(10, 13), 5: slice(20, 27)}
    assert int(count.sum()) == sum(int(count[rows].sum()) for rows in episodes.values())
    for rows_of in episodes.values():
        share = count[rows_of] / count.sum()
        expected = 0.5 / (rows_of.stop - rows_of.start)
        spread = (expected / float(count.sum())) ** 0.5
        assert (share - expected).abs().max() < 4 * spread


@pytest.mark.parametrize(("episodes", "most"), [(1, 1), (2, 2)])
def test_support_is_of_so_many_episodes_at_most(episodes: int, most: int) -> None:
    log = log_of()
    batch = batch_of(log, Shots(6, 1, episodes))
    found = log.column("episode")[rows_in(log, batch["support", "observation"])]
    several = [len(each.unique()) for each in found.flatten(0, 1)]
    assert max(several) == most


def test_lone_episodes_are_read_in_order_only() -> None:
    """Row 13 is of episode 3, alone in its task: it is never drawn, and its support its own."""
    log = log_of()
    assert set(range(13, 18)).isdisjoint(batch_of(log, Shots(2, 1))["index"].unique().tolist())
    found = TaskRows(log, Shots(2, 1), KEYS)
    sampler = ChunkSampler(log, Compose(), batch_size=1, beside=(found,))
    batch = sampler.gather(torch.tensor([[13]]), torch.zeros(1, 1, 3, dtype=torch.int64))
    assert set(rows_in(log, batch["support", "observation"]).flatten().tolist()) <= set(
        range(13, 18)
    )


def test_held_out_rows_are_supported_by_rows_trained_on_and_never_the_other_way() -> None:
    log = log_of()
    held = torch.tensor([0, 5])
    rows = (~torch.isin(log.column("episode"), held)).nonzero().squeeze(1)
    training = log.with_rows(rows)
    batch = batch_of(training.with_rows(rows), Shots(4, 2))
    seen = log.column("episode")[rows_in(log, batch["support", "observation"])]
    assert not torch.isin(seen, held).any()
    found = TaskRows(training, Shots(4, 2), KEYS)
    sampler = ChunkSampler(training, Compose(), batch_size=1, beside=(found,))
    one = sampler.gather(torch.tensor([[0]]), torch.zeros(1, 1, 3, dtype=torch.int64))
    assert (log.column("episode")[rows_in(log, one["support", "observation"])] == 2).all()
    own = one["query", "action"].flatten(0, 2)
    assert (own.unsqueeze(1) == log.column("action")[:4]).all(-1).any(1).all()


def test_rows_that_a_relabeler_left_out_are_no_shots() -> None:
    log = log_of()
    rows = torch.arange(0, len(log), 2)
    batch = batch_of(log.with_rows(rows), Shots(4, 2))
    assert (rows_in(log, batch["support", "observation"]) % 2 == 0).all()


def test_sources_are_tasks_where_no_column_says_more() -> None:
    parts = [episode_log((3, 4), seed=1), episode_log((5, 2), seed=2), episode_log((4,), seed=3)]
    log = Log.concatenate(parts, [1.0, 1.0, 1.0])
    assert Tasks.of(log).task.tolist() == [0, 0, 1, 1, 2]
    numbered = log.with_columns({TASK_ID: torch.ones(len(log))})
    with pytest.raises(LogError, match="all episodes are of one task"):
        Tasks.of(numbered)


def test_shots_depend_on_seed_update_and_row_alone() -> None:
    log = log_of()
    whole = batch_of(log, Shots(3, 2), updates=6)
    again = batch_of(log, Shots(3, 2), updates=6)
    other = batch_of(log, Shots(3, 2), updates=6, seed=1)
    assert all(value.equal(again[key]) for key, value in leaves(whole).items())
    assert not whole["support", "observation"].equal(other["support", "observation"])
    several = batch_of(log, Shots(3, 2), updates=6, seeds=2)
    for key, value in leaves(several).items():
        assert value[:, 0].equal(whole[key]) and value[:, 1].equal(other[key]), key
    found = TaskRows(log, Shots(3, 2), KEYS)
    ready = log.with_rows(found.rows)
    for rank in (0, 1):
        half = ChunkSampler(ready, Compose(), batch_size=16, beside=(found,), process=(rank, 2))
        part = half.chunk(0, 6)
        for key, value in leaves(part).items():
            assert value.equal(whole[key][:, 8 * rank : 8 * rank + 8]), key


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((0, 1, 2, 3, 4, 5, 6), "none of its 7 tasks has two episodes that may be drawn"),
        ((1, 1, 1, 1, 1, 1, 1), "all episodes are of one task, and the learner adapts to one of"),
        ((0, 0, 1, 1, float("nan"), 2, 2), r"column 'task_id', row 18: is nan in an episode that"),
    ],
)
def test_tasks_that_cannot_be_adapted_to(tasks: tuple[float, ...], message: str) -> None:
    with pytest.raises(LogError, match=message):
        TaskRows(log_of(tasks), Shots(2, 1), KEYS)


def test_a_task_that_changes_within_an_episode_is_an_error() -> None:
    log = log_of()
    task = log.column(TASK_ID).clone()
    task[6] = 7.0
    wrong = log.with_columns({TASK_ID: task})
    with pytest.raises(LogError, match=r"column 'task_id', row 6: is 7\.0 in an episode that beg"):
        Tasks.of(wrong)
    wide = log.with_columns({TASK_ID: task.unsqueeze(-1).expand(-1, 2)})
    with pytest.raises(LogError, match=r"rows have shape \[2\], and a task has one number"):
        Tasks.of(wide)


def test_a_log_that_says_nothing_of_tasks_is_an_error() -> None:
    with pytest.raises(
        LogError, match=r"Call its column of task numbers task_id .*columns.extra '\[task_i"
    ):
        Tasks.of(episode_log())


def test_a_relabeler_that_rewrites_single_rows_does_not_go_with_shots() -> None:
    """One that finds a column for the whole log does: shots hold what it found."""
    data = OfflineDataModule(log_of(), [ScaleReward(2.0)])
    learner = learner_of(LEARNERS["MAMLBC"], data.spec)
    learner.in_keys = (*learner.in_keys, ("support", *REWARD))
    data.serve(learner)
    found = next(data.in_order())["support"]
    rows = rows_in(data.log, found["observation"])
    assert found[REWARD].equal(2.0 * log_of().column(REWARD)[rows])
    goals = OfflineDataModule(log_of(task=True, goals=True), [FutureGoal()])
    with pytest.raises(LogError, match=r"reads a support of 'next.reward', and FutureGoal rewri"):
        goals.serve(learner).batch_keys()


def test_task_numbers_come_from_files(tmp_path: Path) -> None:
    log = log_of()
    last = log.column(("next", "truncated")) | log.column(("next", "terminated"))
    np.savez(
        tmp_path / "log.npz",
        observation=log.column("observation").numpy(),
        action=log.column("action").numpy(),
        reward=log.column(REWARD).numpy(),
        terminated=np.zeros(len(log), bool),
        truncated=last.numpy(),
        task_id=log.column(TASK_ID).numpy(),
    )
    data = OfflineDataModule(tmp_path / "log.npz", columns="{extra: task_id}")
    assert Tasks.of(data.log).task.tolist() == list(TASKS)
