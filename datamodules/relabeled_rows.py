"""Adjacent rows of a log as relabelers make them, what is replaced beside it."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.keys import DRAWS, EXPERT_ACTION, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.frames import next_key
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.relabeler import Relabeler

_TOGETHER = 8192  # rows relabeled together; a posterior has a row of tasks for each
_FRAMES = 256  # where rows have images


def original(key: Key) -> Key:
    """Return the key of a replaced column: ``next.reward`` is kept as ``original.next.reward``.

    Args:
        key: The key that was replaced.

    Returns:
        ``("original", *key)``.
    """
    return ("original", key) if isinstance(key, str) else ("original", *key)


def together(log: Log) -> int:
    """Return how many rows of a log are relabeled together."""
    return _FRAMES if log.images else _TOGETHER


def relabeled_rows(
    log: Log, ready: Log, bound: Relabeler, part: range
) -> Iterator[dict[Key, Tensor]]:
    """Yield the columns of adjacent rows, relabeled, with the originals of those replaced.

    Args:
        log: What was read.
        ready: The same, with the columns and rows of the relabelers.
        bound: The relabelers.
        part: Which rows; it begins with a multiple of :func:`together`.

    Yields:
        Columns ``[M, ...]`` by key, the same keys each time.
    """
    declared = {*bound.columns, *bound.call_writes}
    filmed = {*log.images, *map(next_key, log.images)}
    kept = [key for key in log.packed_keys() if key in declared and original(key) not in log]
    sampler = ChunkSampler(ready, bound, batch_size=1)
    for start in range(part.start, part.stop, together(log)):
        rows = slice(start, min(start + together(log), part.stop))
        number = torch.arange(rows.start, rows.stop)
        draws = counters(0, torch.zeros(1, dtype=torch.int64), number)
        batch = bound(sampler.gather(number[None], draws))[0]
        values = {
            key: batch[key]
            for key in batch.keys(include_nested=True, leaves_only=True)
            if key not in ("index", DRAWS)
        }
        for key in log.keys():
            if key in filmed or key not in declared:
                _check_same(key, values.pop(key) if key in filmed else values[key], log, rows)
        _check_finite(values, start)
        yield values | {original(key): log.column(key, rows) for key in kept}


def _check_same(key: Key, value: Tensor, log: Log, rows: slice) -> None:
    if torch.equal(value, log.column(key, rows)):
        return
    problem = "a relabeler rewrites this column and does not name it in out_keys"
    fix = "Name it there: then the original can be kept."
    if value.dtype == torch.uint8:
        problem, fix = "a relabeler rewrites images, which a log keeps once", "Leave it out."
    raise LogError(problem, fix, column=key_name(key))


def _check_finite(values: Mapping[Key, Tensor], start: int) -> None:
    for key, value in values.items():
        good = torch.isfinite(value).reshape(len(value), -1).all(1)
        if key == EXPERT_ACTION:  # NaN where nobody said
            good |= value.isnan().reshape(len(value), -1).all(1)
        if not bool(good.all()):
            raise LogError(
                "the relabelers make a number that is not finite",
                "Correct their parameters, or leave the one out that writes this column.",
                column=key_name(key),
                row=start + int((~good).nonzero()[0]),
            )
