"""Decisions that are made once per row."""

import pytest
import torch
from episode_logs import bind, drawn, episode_log, relabeled
from small_logs import same
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.keys import COMPANION, DRAWS
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters, fork
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.once import Once
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.returns import NStep, ReturnToGo
from hindsight_rl.tasks.family import GoalReaching

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
CHAINS = {
    "FutureGoal": [FutureGoal(GoalReaching(0.8))],
    "margin": [FutureGoal(GoalReaching((0.2, 0.9)))],
    "RandomTask": [RandomTask(GoalReaching(0.8), fraction=0.5)],
    "InverseRL": [InverseRL(GoalReaching(0.8), candidates=9, temperature=5.0)],
    "two": [FutureGoal(fraction=0.5), FinalGoal(fraction=0.3)],
}


def goal_log() -> Log:
    return episode_log(task=True, goals=True)


def labels(batch: TensorDict) -> dict[int, tuple[float, ...]]:
    """Return task, reward and termination of every row; each row must have one of them only."""
    flat = batch.reshape(-1)
    columns = torch.stack([flat[REWARD], flat[TERMINATED].float()], dim=-1)
    numbers = torch.cat([flat["task"], columns], dim=-1).tolist()
    found: dict[int, tuple[float, ...]] = {}
    for row, label in zip(flat["index"].tolist(), map(tuple, numbers), strict=True):
        assert found.setdefault(row, label) == label
    return found


@pytest.mark.parametrize("name", CHAINS)
def test_a_row_has_one_label_in_any_update_seed_batch_and_chunk(name: str) -> None:
    log = goal_log()
    once = Once(CHAINS[name])
    first = labels(relabeled(log, once, updates=32))
    assert len(first) == len(log)
    for options in ({"updates": 3, "seed": 7}, {"updates": 1, "batch_size": 500}):
        other = labels(relabeled(log, once, **options))
        assert all(first[row] == label for row, label in other.items())
    ready, bound = bind(log, Compose([once]))
    sampler = ChunkSampler(ready, bound, batch_size=16, seeds=3, seed=2)
    several = labels(bound(sampler.chunk(5, 4)))
    assert all(first[row] == label for row, label in several.items())
    every = torch.arange(len(log))[None]
    ordered = labels(bound(sampler.gather(every, torch.zeros(1, len(log), 3, dtype=torch.int64))))
    assert ordered == first


@pytest.mark.parametrize("name", CHAINS)
def test_without_it_rows_are_decided_anew_and_another_seed_decides_otherwise(name: str) -> None:
    log = goal_log()
    with pytest.raises(AssertionError):
        labels(relabeled(log, *CHAINS[name], updates=32))
    first, second = (
        labels(relabeled(log, Once(CHAINS[name], seed), updates=32)) for seed in (0, 1)
    )
    assert 0.2 < sum(first[row] != second[row] for row in first) / len(first)


def test_labels_are_those_of_draws_of_seed_and_row() -> None:
    """As if update 0 of a run of this seed had drawn row r of the log as its row r."""
    log, parts = goal_log(), [FutureGoal()]
    rows = torch.arange(len(log))
    draws = counters(5, torch.zeros(1, dtype=torch.int64), rows)
    ready, bound = bind(log, Compose(parts))
    expected = bound(ChunkSampler(ready, bound, batch_size=1).gather(rows[None], draws))
    found = labels(relabeled(log, Once(parts, seed=5), updates=32))
    assert found == labels(expected)


class Drawn(Relabeler):
    """Keeps the counters it was given."""

    def __call__(self, batch: TensorDict) -> TensorDict:
        return batch.copy().set("seen", batch[DRAWS])


def test_later_parts_and_the_batch_keep_their_own_draws() -> None:
    chunk, bound = drawn(goal_log(), Once([FutureGoal()]), Drawn())
    batch = bound(chunk)
    assert batch[DRAWS].equal(chunk[DRAWS]) and COMPANION not in batch.keys()
    assert batch["seen"].equal(fork(chunk[DRAWS], 1))
    alone = Once([FutureGoal()]).prepare(goal_log())
    chunk.set(COMPANION, TensorDict({"0/goal": chunk[COMPANION, "0/0/goal"]}, chunk.batch_size))
    assert alone(chunk)[DRAWS].equal(chunk[DRAWS])


def test_decisions_of_several_parts_are_independent() -> None:
    """Two equal relabelers in a row draw from streams of their own, as in any chain."""

    class Goals(FutureGoal):
        def __call__(self, batch: TensorDict) -> TensorDict:
            return batch.copy().set(f"{self.discount}", batch[DRAWS])

    batch = relabeled(goal_log(), Once([Goals(discount=0.25), Goals(discount=0.5)]))
    assert not batch["0.25"].equal(batch["0.5"])


def test_what_parts_declare_and_prepare_is_kept() -> None:
    log = goal_log()
    chain = [TopFraction(0.5), ReturnToGo(), FutureGoal()]
    once, compose = Once(chain, seed=3).prepare(log), Compose(chain).prepare(log)
    assert isinstance(once, Once) and once.seed == 3
    assert once.call_writes == compose.call_writes == ("task", REWARD, TERMINATED)
    assert once.companion_reads == compose.companion_reads == (("next", "achieved_goal"),)
    assert once.rows is not None and compose.rows is not None and once.rows.equal(compose.rows)
    assert same(TensorDict(once.columns, [len(log)]), TensorDict(compose.columns, [len(log)]))


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ([Once([FutureGoal()]), ReturnToGo()], "put ReturnToGo before FutureGoal"),
        ([Once([FutureGoal()]), NStep(3)], "FutureGoal and NStep together have no meaning"),
        ([Once([FutureGoal(), ReturnToGo()])], "put ReturnToGo before FutureGoal"),
    ],
)
def test_order_without_meaning_is_refused(chain: list[Relabeler], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compose(chain).prepare(goal_log())


def test_no_parts_change_nothing() -> None:
    chunk, bound = drawn(goal_log(), Once())
    assert same(bound(chunk), chunk)


def test_input_is_not_written_to() -> None:
    chunk, bound = drawn(goal_log(), Once([FutureGoal()]))
    before: Tensor = chunk.clone()
    bound(chunk)
    assert same(chunk, before)
