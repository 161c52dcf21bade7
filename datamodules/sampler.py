"""The sampler: chunks of K batches, each a function of (seed, update number, row)."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.counter_grid import CounterGrid
from hindsight_rl.datamodules.priorities import PriorityColumn
from hindsight_rl.keys import COMPANION, DRAWS, IMPORTANCE
from hindsight_rl.logs.frames import next_key
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.relabeler import Relabeler


class Gathers(Protocol):
    """Gathers further rows that a learner reads with each row of a batch."""

    def attach(self, batch: TensorDict) -> TensorDict:
        """Set them in their batch ``[...]``, and return it."""


def chunk_size(position: int, updates_per_step: int, marks: Sequence[int], stop: int | None) -> int:
    """Return how many updates the chunk that starts at ``position`` holds.

    A chunk never crosses a multiple of a mark, nor ``stop``: whatever happens every so many updates
    (a checkpoint, an evaluation) happens at exactly that many.

    Args:
        position: Updates done before the chunk.
        updates_per_step: Largest chunk, K.
        marks: Intervals in updates, each at least 1.
        stop: Updates at which training ends, ``None`` for no end.

    Returns:
        Between 1 and ``updates_per_step``.
    """
    ends = [position + updates_per_step]
    ends += [(position // mark + 1) * mark for mark in marks]
    if stop is not None and stop > position:
        ends.append(stop)
    return min(ends) - position


class ChunkSampler:
    """Yields TensorDicts of shape ``[K, B]`` for ever.

    The position is asked for when iteration starts, so a prefetching loop or a resume cannot shift
    it; from there chunks follow each other without gaps.

    Args:
        log: The log, its columns and drawable rows as the relabelers left them.
        relabel: Bound relabeler; names the companion rows.
        batch_size: B, rows per update over all ranks.
        updates_per_step: K, updates per chunk at most.
        seed: Seed of every draw.
        position: Returns the number of updates done.
        marks: Intervals in updates that no chunk may cross.
        stop: Updates at which training ends.
        process: This process's number from 0, and how many there are: each draws its slice of the
            rows.
        seeds: Number of seeds trained at once, S; each is served what a run of its own would draw,
            with ``seed``, ``seed + 1`` and so on.
        prefetch: Draw and read the next chunk in a thread of its own while this one is used. The
            batches are the same.
        beside: What gathers further rows that the learner reads with each row.
        passes: Update at which shuffled passes over all rows begin, each row once before any comes
            again; ``None`` draws rows with replacement.
        priorities: By which rows are drawn, and weighted against it; ``None``: each as often.

    Raises:
        ValueError: ``batch_size`` cannot be divided by the number of processes, or no row can be
            drawn.
    """

    def __init__(
        self,
        log: Log,
        relabel: Relabeler,
        *,
        batch_size: int,
        updates_per_step: int = 1,
        seed: int = 0,
        position: Callable[[], int] = lambda: 0,
        marks: Sequence[int] = (),
        stop: int | None = None,
        process: tuple[int, int] = (0, 1),
        seeds: int = 1,
        prefetch: bool = False,
        beside: Sequence[Gathers] = (),
        passes: int | None = None,
        priorities: PriorityColumn | None = None,
    ) -> None:
        rank, world_size = process
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} cannot be shared by {world_size} processes")
        self._log, self._relabel = log, relabel
        self._updates_per_step, self._position = updates_per_step, position
        self._marks, self._stop, self._seeds = tuple(marks), stop, range(seed, seed + seeds)
        self._prefetch, self._beside = prefetch, tuple(beside)
        reads = relabel.companion_reads
        filmed = {*log.images, *map(next_key, log.images)}
        self._film_companions = bool(filmed if reads is None else filmed.intersection(reads))
        share = batch_size // world_size
        self._rows = torch.arange(rank * share, (rank + 1) * share)
        self._priorities, self._drawable = priorities, log.rows
        self._draw_index = (
            _row_drawer(log, priorities) if passes is None else _row_passes(log, passes, batch_size)
        )

    def __iter__(self) -> Iterator[TensorDict]:
        places = self._places()
        if not self._prefetch:
            yield from (self.chunk(*place) for place in places)
            return
        with ThreadPoolExecutor(1, "prefetch") as background:
            ahead = background.submit(self.chunk, *next(places))
            for place in places:
                ready = ahead.result()
                ahead = background.submit(self.chunk, *place)
                yield ready

    def _places(self) -> Iterator[tuple[int, int]]:
        """Yield first update and number of updates of one chunk after the other."""
        position = self._position()
        while True:
            size = chunk_size(position, self._updates_per_step, self._marks, self._stop)
            yield position, size
            position += size

    def chunk(self, position: int, size: int, stream: str = "train") -> TensorDict:
        """Return the batches of updates ``position`` to ``position + size``.

        Args:
            position: First update.
            size: Number of updates.
            stream: Name of the stream of draws.

        Returns:
            TensorDict ``[size, B]``, or ``[size, S, B]`` for several seeds, with the log's keys,
            ``index``, ``draws`` and companions, and ``importance`` where rows have priorities.
        """
        updates = torch.arange(position, position + size)
        grid = CounterGrid(self._seeds, updates, self._rows).fork(stream)
        index, draws = self._draw_index(grid.fork("index")), grid.counters()
        if len(self._seeds) == 1:
            index, draws = index.squeeze(1), draws.squeeze(1)
        batch = self.gather(index, draws)
        if self._priorities is None:
            return batch
        return batch.set(IMPORTANCE, self._priorities.weight(index, updates, self._drawable))

    def gather(self, index: Tensor, draws: Tensor) -> TensorDict:
        """Return the rows and their companions in one gather.

        Args:
            index: ``[K, B]`` int64.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            TensorDict ``[K, B]``.
        """
        batch = self._rows_and_companions(index, draws)
        for part in self._beside:
            batch = part.attach(batch)
        return batch

    def _rows_and_companions(self, index: Tensor, draws: Tensor) -> TensorDict:
        others = self._relabel.companions(index, draws)
        if not others:
            return self._log.gather(index).set(DRAWS, draws)
        # Companions have images only where a relabeler reads them: they would be most of the bytes.
        rows = torch.stack([index, *others.values()])
        parts = self._log.gather(rows, images=self._film_companions).unbind(0)
        companions = TensorDict(dict(zip(others, parts[1:], strict=True)), index.shape)
        batch = parts[0] if self._film_companions else self._log.attach_images(parts[0])
        return batch.set(DRAWS, draws).set(COMPANION, companions)


def _row_passes(log: Log, first: int, width: int) -> Callable[[CounterGrid], Tensor]:
    """Return the function from counters to row numbers ``[K, S, B]`` int64 of shuffled passes."""
    rows = log.drawable()
    _check_drawable(len(rows))
    return lambda draws: rows[draws.passes(len(rows), first, width)]


def _check_drawable(count: int) -> None:
    if not count:
        raise ValueError("no row of the log can be drawn: the split or a filter kept none")


def _row_drawer(log: Log, priorities: PriorityColumn | None) -> Callable[[CounterGrid], Tensor]:
    """Return the function from counters to row numbers ``[K, S, B]`` int64."""
    rows, count = log.rows, len(log) if log.rows is None else len(log.rows)
    _check_drawable(count)
    if priorities is not None:
        return lambda draws: priorities.draw(draws.fine_uniform(), rows)
    if len(log.sources) == 1:
        if rows is None:
            return lambda draws: draws.integers(count)
        return lambda draws: rows[draws.integers(count)]
    starts = torch.tensor([source.start for source in log.sources])
    stops = torch.tensor([source.stop for source in log.sources])
    if rows is not None:
        starts, stops = torch.searchsorted(rows, starts), torch.searchsorted(rows, stops)
    weight = torch.tensor([source.weight for source in log.sources]).double()
    weight = torch.where(stops > starts, weight, 0.0)
    shares = (weight.cumsum(0) / weight.sum())[:-1].float()

    def draw(draws: CounterGrid) -> Tensor:
        source = torch.searchsorted(shares, draws.uniform(draw=1), right=True)
        number = starts[source] + draws.integers((stops - starts)[source])
        return number if rows is None else rows[number]

    return draw
