"""Relabeling as inverse RL beside a learner, on ranks, and as the data grow."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from episode_logs import episode_log
from small_fits import Kept, check_resumed, fit, learner_of
from soft_logs import CORNERS, chunk_for, near
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.learned_task import LearnedTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching


def inverse(**options: Any) -> TransitionInverseRL:
    return TransitionInverseRL(GoalReaching(0.5, kind="dense"), **options)


# --- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"propose": "log"}, {"propose": "reached"}, {"tasks": CORNERS}]
)
def test_two_ranks_equal_one_with_the_joined_batch(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gloo between two threads: candidates and log Z are those of all rows."""
    relabeler = inverse(candidates=5, fraction=0.7, **options)
    chunk, bound = chunk_for(relabeler, updates=3, batch_size=12)
    whole = bound.judge(chunk)
    store, here = torch.distributed.HashStore(), threading.local()
    found: dict[int, Any] = {}

    def gather(parts: list[Tensor], value: Tensor) -> None:
        here.group.allgather([parts], [value]).wait()

    def judge(rank: int) -> None:
        here.group = torch.distributed.ProcessGroupGloo(store, rank, 2)
        found[rank] = bound.judge(chunk[:, 6 * rank : 6 * rank + 6])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    threads = [threading.Thread(target=judge, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert torch.equal(found[0].tasks, whole.tasks) and torch.equal(found[1].tasks, whole.tasks)
    joined = torch.cat([found[0].posterior, found[1].posterior], dim=1)
    torch.testing.assert_close(joined, whole.posterior, rtol=0, atol=1e-6)


# --- with a learner -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SAC, IQL])
def test_learners_with_soft_values_train_and_log_what_was_found(kind: Any, tmp_path: Path) -> None:
    parts: list[Relabeler] = [Relabeler(), Compose([inverse(candidates=4, fraction=0.5)])]
    data = OfflineDataModule(
        episode_log(task=True, goals=True), parts, batch_size=16, updates_per_step=4
    )
    learner, kept = learner_of(kind, data.spec), Kept()
    fit(learner, data, tmp_path, 8, logger=kept, log_every_n_steps=4)
    names = ("entropy", "effective_tasks", "effective_share", "changed")
    assert all(kept.steps_of(f"data/{name}") == [4, 8] for name in names)
    assert kept.lines[-1][1]["data/changed"] > 0


@pytest.mark.parametrize(
    "relabeler",
    [
        lambda: inverse(tasks=CORNERS, partition="running"),
        lambda: LearnedTask(CORNERS, GoalReaching(0.5, kind="dense"), hidden=8, scored=8),
    ],
    ids=["running log Z", "learned sampler"],
)
def test_what_is_learned_from_batches_resumes_bit_by_bit(relabeler: Any, tmp_path: Path) -> None:
    def begun() -> tuple[OfflineDataModule, SAC]:
        log = episode_log(task=True, goals=True)
        data = OfflineDataModule(log, [relabeler()], batch_size=16, updates_per_step=2)
        return data, learner_of(SAC, data.spec)

    assert check_resumed(begun, tmp_path)["0"]


def test_a_learner_without_soft_values_is_refused_before_the_first_update(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log(goals=True), [inverse()], batch_size=16)
    learner = learner_of(BC, data.spec)
    message = (
        "TransitionInverseRL judges transitions by a critic, and this learner has none: "
        "use SAC or IQL, or InverseRL, which judges whole trajectories"
    )
    with pytest.raises(ValueError, match=message):
        fit(learner, data, tmp_path, 4)
    assert learner.trainer.global_step == 0
    with pytest.raises(ValueError, match=message):
        inverse().use(None)
    InverseRL().use(None)


def test_several_seeds_of_a_learner_are_an_error() -> None:
    chunk, bound = chunk_for(inverse(tasks=CORNERS))
    with pytest.raises(ValueError, match="3 seeds of a learner .* set model.seeds to 1"):
        bound(chunk.unsqueeze(1).expand(4, 3, 64))


def test_what_is_prepared_anew_is_bound_anew() -> None:
    """As a replay grows: the copy knows the new log, wants the learner's values and no old ones."""
    relabeler = inverse(candidates=64, propose="prior")
    _, first = chunk_for(relabeler)
    chunk, second = chunk_for(relabeler)
    other = relabeler.prepare(episode_log([3, 4], task=True, goals=True, seed=5))
    other.use(near)
    assert not torch.equal(other.judge(chunk).tasks, second.judge(chunk).tasks)
    assert torch.equal(first.judge(chunk).tasks, second.judge(chunk).tasks)
