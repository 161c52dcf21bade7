"""Training and held-out rows: whole episodes go to one side or the other."""

import hashlib

import torch

from hindsight_rl.keys import EPISODE
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.rows import SPAN, in_file
from hindsight_rl.maths.draws import counters, fork, uniform


def split_by_episode(log: Log, share: float, seed: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return training and held-out rows; whole episodes go to one side or the other.

    Rows that may not be drawn from the log are on neither side. Of a memory-mapped log the row
    numbers lie in temporary files.

    Args:
        log: The log.
        share: Share of episodes held out, in [0, 1); at least one of each side where share > 0.
        seed: Seed of the choice.

    Returns:
        Two ``[M]`` int64 tensors of row numbers in order; the first ``None`` where it is all rows.

    Raises:
        LogError: A share above 0 with fewer than two episodes.
    """
    if share == 0:
        return log.rows, torch.empty(0, dtype=torch.int64)
    seen = torch.zeros(log.episodes, dtype=torch.bool)
    for episode in log.drawn(EPISODE):
        seen[episode] = True
    candidates = seen.nonzero().squeeze(1)
    count = len(candidates)
    if count < 2:
        raise LogError("a log of one episode cannot be split", "Set validation to 0.")
    zero = torch.zeros(1, dtype=torch.int64)
    key = uniform(fork(counters(seed, zero, torch.arange(count)), "split"))[0]
    chosen = key.argsort(stable=True)[: min(count - 1, max(1, round(share * count)))]
    held = torch.zeros(log.episodes, dtype=torch.bool)
    held[candidates[chosen]] = True
    return _side(log, ~held), _side(log, held)


def _side(log: Log, wanted: torch.Tensor) -> torch.Tensor:
    """Return the drawable rows ``[M]`` int64 of the episodes ``[E]`` bool that are wanted."""
    size = sum(int(wanted[episode].sum()) for episode in log.drawn(EPISODE))
    mapped = bool(log.info.get("memory_mapped"))
    found = in_file([size], torch.int64) if mapped else torch.empty(size, dtype=torch.int64)
    start = done = 0
    for episode in log.drawn(EPISODE):
        at = wanted[episode].nonzero().squeeze(1)
        rows = at + start if log.rows is None else log.rows[start : start + len(episode)][at]
        found[done : done + len(rows)] = rows
        start, done = start + len(episode), done + len(rows)
    return found


def rows_hash(rows: torch.Tensor | None, count: int) -> str:
    """Return the hash of row numbers; all of them by name or as ``None`` agree.

    Args:
        rows: ``[M]`` int64, ``None`` for the first ``count``.
        count: Rows of the log.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for start in range(0, count if rows is None else len(rows), SPAN):
        stop = min(start + SPAN, count)
        part = torch.arange(start, stop) if rows is None else rows[start : start + SPAN]
        digest.update(part.numpy().data)
    return digest.hexdigest()[:16]


def with_target(held_out: torch.Tensor, labelled: torch.Tensor | None) -> torch.Tensor:
    """Return the held-out rows ``[M]`` that have a target, so that something is validated.

    Args:
        held_out: Row numbers ``[H]`` int64.
        labelled: Flags ``[N]`` of the rows that have one, ``None`` for all.

    Returns:
        Row numbers ``[M]`` int64.

    Raises:
        LogError: There are held-out rows, and none has a target.
    """
    if labelled is None or not len(held_out):
        return held_out
    kept = held_out[labelled[held_out]]
    if not len(kept):
        raise LogError(
            f"none of the {len(held_out)} held-out rows has a label, so nothing is validated",
            "Set validation to 0, label rows of more episodes, or choose another seed.",
        )
    return kept
