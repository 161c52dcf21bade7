"""The sampler: chunks of K batches, each a function of (seed, update number, row)."""

from collections.abc import Callable, Iterator, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.log import Log
from hindsight_rl.maths.draws import counters, fork, integers, uniform
from hindsight_rl.relabel.relabeler import COMPANION, DRAWS, Relabeler


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
        rank: This process.
        world_size: Number of processes; each draws its slice of the rows.
        copies: Number of copies of the learner, S; copy s is served what ``seed + s`` draws.

    Raises:
        ValueError: ``batch_size`` cannot be divided by ``world_size``, or no row can be drawn.
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
        rank: int = 0,
        world_size: int = 1,
        copies: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} cannot be shared by {world_size} processes")
        self._log, self._relabel, self._seed = log, relabel, seed
        self._updates_per_step, self._position = updates_per_step, position
        self._marks, self._stop, self._copies = tuple(marks), stop, copies
        share = batch_size // world_size
        self._rows = torch.arange(rank * share, (rank + 1) * share)
        self._draw_index = _row_drawer(log)

    def __iter__(self) -> Iterator[TensorDict]:
        position = self._position()
        while True:
            size = chunk_size(position, self._updates_per_step, self._marks, self._stop)
            yield self.chunk(position, size)
            position += size

    def chunk(self, position: int, size: int, stream: str = "train") -> TensorDict:
        """Return the batches of updates ``position`` to ``position + size``.

        Args:
            position: First update.
            size: Number of updates.
            stream: Name of the stream of draws.

        Returns:
            TensorDict ``[size, B]``, or ``[size, S, B]`` for several copies, with the log's keys,
            ``index``, ``draws`` and companions.
        """
        updates = torch.arange(position, position + size)
        seeds = range(self._seed, self._seed + self._copies)
        each = [counters(seed, updates, self._rows) for seed in seeds]
        draws = each[0] if self._copies == 1 else torch.stack(each, dim=1)
        draws = fork(draws, stream)
        return self.gather(self._draw_index(fork(draws, "index")), draws)

    def gather(self, index: Tensor, draws: Tensor) -> TensorDict:
        """Return the rows and their companions in one gather.

        Args:
            index: ``[K, B]`` int64.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            TensorDict ``[K, B]``.
        """
        others = self._relabel.companions(index, draws)
        if not others:
            return self._log.gather(index).set(DRAWS, draws)
        parts = self._log.gather(torch.stack([index, *others.values()])).unbind(0)
        companions = TensorDict(dict(zip(others, parts[1:], strict=True)), index.shape)
        return parts[0].set(DRAWS, draws).set(COMPANION, companions)


def _row_drawer(log: Log) -> Callable[[Tensor], Tensor]:
    """Return the function from counters ``[..., 3]`` to row numbers ``[...]``."""
    rows, count = log.rows, len(log) if log.rows is None else len(log.rows)
    if not count:
        raise ValueError("no row of the log can be drawn: the split or a filter kept none")
    if len(log.sources) == 1:
        if rows is None:
            return lambda draws: integers(draws, count)
        return lambda draws: rows[integers(draws, count)]
    starts = torch.tensor([source.start for source in log.sources])
    stops = torch.tensor([source.stop for source in log.sources])
    if rows is not None:
        starts, stops = torch.searchsorted(rows, starts), torch.searchsorted(rows, stops)
    weight = torch.tensor([source.weight for source in log.sources]).double()
    weight = torch.where(stops > starts, weight, 0.0)
    shares = (weight.cumsum(0) / weight.sum())[:-1].float()

    def draw(draws: Tensor) -> Tensor:
        source = torch.searchsorted(shares, uniform(draws, draw=1), right=True)
        number = starts[source] + integers(draws, (stops - starts)[source])
        return number if rows is None else rows[number]

    return draw
