"""The sampler: draws depend on (seed, update, row) alone, and chunks end where they must."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import bind, episode_log
from hypothesis import given
from hypothesis import strategies as st
from small_logs import five, pictures, same, small
from tensordict import TensorDict

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sampler import ChunkSampler, chunk_size
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.returns import NStep, ReturnToGo

UPDATES = 130
MARKS = (50, 13)
intervals = st.integers(1, 300)


def sampler_of(log: Log, relabel: Relabeler | None = None, **options: Any) -> ChunkSampler:
    ready, bound = bind(log, relabel or Compose())
    return ChunkSampler(ready, bound, **({"batch_size": 8, "seed": 3} | options))


def stream(sampler: ChunkSampler, updates: int = UPDATES) -> TensorDict:
    """Return the batches of that many updates, ``[updates, B]``."""
    chunks: list[TensorDict] = []
    for chunk in sampler:
        chunks.append(chunk)
        if sum(map(len, chunks)) >= updates:
            return torch.cat(chunks)[:updates]
    raise AssertionError("the sampler ended by itself")


def test_batches_do_not_depend_on_updates_per_step() -> None:
    log, relabel = (
        episode_log(goals=True, task=True),
        Compose([FutureGoal(), FinalGoal(fraction=0.5)]),
    )
    one = stream(sampler_of(log, relabel, updates_per_step=1))
    for size in (7, 64):
        other = sampler_of(log, relabel, updates_per_step=size, marks=MARKS, stop=UPDATES)
        assert same(stream(other), one)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_what_one_process_draws(world_size: int) -> None:
    log, relabel = episode_log(goals=True), FutureGoal()
    whole = stream(sampler_of(log, relabel, updates_per_step=7))
    parts = [
        stream(sampler_of(log, relabel, updates_per_step=7, process=(rank, world_size)))
        for rank in range(world_size)
    ]
    assert all(part.batch_size == (UPDATES, 8 // world_size) for part in parts)
    assert same(torch.cat(parts, dim=1), whole)


def test_resumed_stream_continues() -> None:
    log = episode_log()
    whole = stream(sampler_of(log, updates_per_step=16))
    rest = stream(sampler_of(log, updates_per_step=64, position=lambda: 37), UPDATES - 37)
    assert same(rest, whole[37:])


def test_position_is_asked_for_when_iteration_starts() -> None:
    done = 0
    sampler = sampler_of(episode_log(), position=lambda: done)
    done = 5
    chunks = iter(sampler)
    first = next(chunks)
    done = 90  # a loop that reads ahead counts later than it draws
    assert same(first, sampler.chunk(5, 1)) and same(next(chunks), sampler.chunk(6, 1))


def test_chunk_is_one_batch_per_update() -> None:
    sampler = sampler_of(episode_log())
    whole = sampler.chunk(10, 3)
    assert whole.batch_size == (3, 8)
    assert same(whole, torch.cat([sampler.chunk(number, 1) for number in (10, 11, 12)]))


def test_seeds_and_streams_draw_differently() -> None:
    log = episode_log()
    chunk = sampler_of(log).chunk(0, 4)["index"]
    assert not sampler_of(log, seed=4).chunk(0, 4)["index"].equal(chunk)
    assert not sampler_of(log).chunk(0, 4, stream="probe")["index"].equal(chunk)


@pytest.mark.parametrize("depth", [1, 3])
def test_n_steps_lead_to_the_images_n_steps_on(depth: int) -> None:
    log = small(camera=pictures(7))  # frames 0 1 2 (3) | 4 5 (6)
    data = OfflineDataModule(log, [NStep(2)], batch_size=8, frame_stack=depth)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 4), 0)
    last = torch.tensor([1, 2, 2, 4, 4])[batch["index"]]
    assert torch.equal(batch["next", "camera"], data.log.gather(last)["next", "camera"])
    assert torch.equal(batch["camera"], data.log.gather(batch["index"])["camera"])


def test_companions_have_images_only_where_they_are_read() -> None:
    goals = {"achieved_goal": torch.zeros(5, 2), ("next", "achieved_goal"): torch.zeros(5, 2)}
    log = Log.from_columns(five(camera=pictures(7)) | goals)
    for part, held in ((FinalGoal(), False), (FutureGoal(), False), (NStep(2), True)):
        chunk = sampler_of(log, Compose([ReturnToGo(), part])).chunk(0, 2)
        assert all(("camera" in row.keys()) == held for row in chunk["companion"].values())


def test_companions_come_with_every_key() -> None:
    log = episode_log(goals=True)
    chunk = sampler_of(log, Compose([ReturnToGo(), FinalGoal()])).chunk(0, 5)
    companions = chunk["companion"]
    assert set(companions.keys()) == {"1/goal"}
    assert same(companions["1/goal"], bind(log, ReturnToGo())[0].gather(chunk["episode_end"]))


def test_several_seeds_are_served_what_single_runs_draw() -> None:
    log, relabel = episode_log(goals=True), FutureGoal()
    three = sampler_of(log, relabel, seeds=3).chunk(5, 2)
    assert three.batch_size == (2, 3, 8)
    for number in range(3):
        assert same(three[:, number], sampler_of(log, relabel, seed=3 + number).chunk(5, 2))


# --- the next chunk in the background -------------------------------------------------------------


def test_prefetching_changes_no_batch() -> None:
    log, relabel = episode_log(goals=True), FutureGoal()
    options: dict[str, Any] = {"updates_per_step": 7, "marks": MARKS, "position": lambda: 9}
    plain = stream(sampler_of(log, relabel, **options))
    assert same(stream(sampler_of(log, relabel, prefetch=True, **options)), plain)


def test_one_chunk_is_drawn_ahead_and_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, drawn = sampler_of(episode_log(), updates_per_step=4, prefetch=True), list[Any]()
    plain = sampler.chunk

    def chunk(position: int, size: int) -> TensorDict:
        drawn.append((position, size, threading.current_thread().name))
        return plain(position, size)

    monkeypatch.setattr(sampler, "chunk", chunk)
    chunks = iter(sampler)
    assert not drawn  # a loop that only asks for an iterator reads nothing
    next(chunks)
    chunks.close()  # waits for what is under way
    assert [(position, size) for position, size, _ in drawn] == [(0, 4), (4, 4)]
    assert all(name.startswith("prefetch") for _, _, name in drawn)
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_an_error_in_the_background_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = sampler_of(episode_log(), prefetch=True)
    chunks = iter(sampler)
    next(chunks)
    monkeypatch.setattr(sampler, "chunk", lambda *_: 1 / 0)
    next(chunks)  # drawn before
    with pytest.raises(ZeroDivisionError):
        next(chunks)


# --- where chunks end -----------------------------------------------------------------------------


@given(
    st.integers(0, 10_000),
    st.integers(1, 128),
    st.lists(intervals, max_size=4),
    st.none() | st.integers(1, 20_000),
)
def test_chunk_never_crosses_a_mark_and_is_as_long_as_it_may_be(
    position: int, updates_per_step: int, marks: list[int], stop: int | None
) -> None:
    size = chunk_size(position, updates_per_step, marks, stop)
    assert 1 <= size <= updates_per_step
    ends = {position + updates_per_step} | ({stop} if stop else set())

    def must_end(update: int) -> bool:
        return update in ends or any(update % mark == 0 for mark in marks)

    assert must_end(position + size)
    assert not any(must_end(position + done) for done in range(1, size))


@given(st.integers(1, 70), st.lists(intervals, max_size=3), st.integers(1, 700))
def test_chunks_land_on_every_multiple_and_on_the_end(
    updates_per_step: int, marks: list[int], stop: int
) -> None:
    position, seen = 0, set()
    while position < stop:
        position += chunk_size(position, updates_per_step, marks, stop)
        seen.add(position)
    assert position == stop
    assert seen >= {at for mark in marks for at in range(mark, stop + 1, mark)}


def test_iteration_follows_the_marks_and_the_end() -> None:
    """K 7, a mark every 10, an end at 24: 7, 3 | 7, 3 | 4 | and on past the end, whole again."""
    chunks = iter(sampler_of(episode_log(), updates_per_step=7, marks=[10], stop=24))
    assert [len(next(chunks)) for _ in range(6)] == [7, 3, 7, 3, 4, 6]


# --- which rows -----------------------------------------------------------------------------------


def chi_square(index: torch.Tensor, rows: list[int]) -> float:
    """Return the statistic of equal probabilities over these rows; no other may occur."""
    counts = torch.bincount(index.flatten(), minlength=max(rows) + 1).double()
    assert set(counts.nonzero()[:, 0].tolist()) == set(rows)
    expected = index.numel() / len(rows)
    return float(((counts[rows] - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("rows", [None, [3, 4, 9, 20, 21, 46]])
def test_rows_are_drawn_uniformly(rows: list[int] | None) -> None:
    log = episode_log()
    log = log if rows is None else log.with_rows(torch.tensor(rows))
    index = sampler_of(log, batch_size=100).chunk(0, 100)["index"]
    # Quantiles of chi-square at 1 - 1e-4 for 5 and 46 degrees of freedom.
    limit = 25.745 if rows else 87.6
    assert chi_square(index, rows or list(range(47))) < limit


def mixed(weights: list[float], rows: torch.Tensor | None = None) -> Log:
    """Return sources of 4, 30 and 6 rows."""
    parts = [episode_log([size], seed=size) for size in (4, 30, 6)]
    return Log.concatenate(parts, weights).with_rows(rows)


def shares(log: Log) -> list[float]:
    """Return which share of 10,000 draws fell to each source."""
    index = sampler_of(log, batch_size=100).chunk(0, 100)["index"].flatten()
    edges = torch.tensor([source.start for source in log.sources])
    source = torch.searchsorted(edges, index, right=True) - 1
    return (torch.bincount(source, minlength=3) / len(index)).tolist()


def test_sources_are_drawn_by_weight_whatever_their_size() -> None:
    """Four standard deviations of a share are below 0.02."""
    assert shares(mixed([1.0, 1.0, 2.0])) == pytest.approx([0.25, 0.25, 0.5], abs=0.02)


def test_rows_of_a_source_are_drawn_uniformly() -> None:
    log = mixed([1.0, 1.0, 2.0])
    index = sampler_of(log, batch_size=100).chunk(0, 100)["index"]
    last = index[index >= 34] - 34
    assert chi_square(last, list(range(6))) < 25.745


def test_source_without_drawable_rows_leaves_its_share_to_the_others() -> None:
    """Rows 30 to 33 of the second source and all of the third are left."""
    log = mixed([5.0, 1.0, 3.0], torch.arange(30, 40))
    assert shares(log) == pytest.approx([0.0, 0.25, 0.75], abs=0.02)
    assert shares(mixed([5.0, 1.0, 3.0], torch.arange(4))) == [1, 0, 0]


def test_memory_mapped_log_gives_equal_batches(tmp_path: Path) -> None:
    log, relabel = episode_log(goals=True), Compose([FinalGoal(), FutureGoal()])
    log.save(tmp_path / "log")
    mapped = Log.load(tmp_path / "log")
    assert mapped.info["memory_mapped"]
    assert same(stream(sampler_of(mapped, relabel)), stream(sampler_of(log, relabel)))


# --- errors ---------------------------------------------------------------------------------------


def test_batch_size_must_be_divisible_by_ranks() -> None:
    with pytest.raises(ValueError, match="batch_size 8 cannot be shared by 3 processes"):
        sampler_of(episode_log(), process=(0, 3))


def test_log_without_drawable_rows_is_refused() -> None:
    log = episode_log().with_rows(torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="no row of the log can be drawn: the split or a filter"):
        sampler_of(log)
