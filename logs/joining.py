"""Several logs read as one: alike in columns and facts, episodes renumbered."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hindsight_rl.keys import EPISODE, EPISODE_END, Key, key_name
from hindsight_rl.logs.common_facts import SourceFacts, joint_facts
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import Source
from hindsight_rl.logs.frames import joined
from hindsight_rl.logs.packed import PackedColumns
from hindsight_rl.logs.rows import StackedRows

if TYPE_CHECKING:
    from hindsight_rl.logs.log import Log


def joined_logs(logs: Sequence["Log"], weights: Sequence[float]) -> "Log":
    """Return one log of several, see :meth:`Log.concatenate`.

    Args:
        logs: Logs with the same columns, whose facts agree.
        weights: One positive number per log.

    Returns:
        The log.

    Raises:
        LogError: Keys, shapes, dtypes or facts differ, or a weight is not positive.
    """
    sources, shifts = _places(logs, weights)
    info = joint_facts([SourceFacts(log.sources[0].name, log.info) for log in logs])
    info |= {"source": [source.name for source in sources]}
    drawable = None
    if any(log.rows is not None for log in logs):
        rows = [log.drawable() + s.start for log, s in zip(logs, sources, strict=True)]
        drawable = torch.cat(rows)
    mapped = _lie_alike(logs)
    if not mapped:
        info.pop("memory_mapped", None)
    return replace(
        logs[0],
        blocks=(_stacked(logs, shifts) if mapped else _copied(logs, shifts),),
        info=info,
        sources=tuple(sources),
        images=joined([log.images for log in logs], mapped=mapped),
        rows=drawable,
        digest=None,
        promise=None,
        folder=None,
        members=tuple(logs) if mapped else (),
        frame_stack=1,
    )


def _places(
    logs: Sequence["Log"], weights: Sequence[float]
) -> tuple[list[Source], list[dict[Key, int]]]:
    """Return where each log lies in the joined one, and what its numbers of rows grow by."""
    sources: list[Source] = []
    shifts: list[dict[Key, int]] = []
    start = episodes = 0
    for log, weight in zip(logs, weights, strict=True):
        name = log.sources[0].name
        check_alike(logs[0], log, name)
        if not weight > 0:
            raise LogError(f"weight {weight} is not positive", "Give a number above 0.", path=name)
        shifts.append({EPISODE: episodes, EPISODE_END: start})
        sources.append(Source(start, start + len(log), float(weight), name))
        start, episodes = start + len(log), episodes + log.episodes
    return sources, shifts


def _stacked(logs: Sequence["Log"], shifts: Sequence[dict[Key, int]]) -> PackedColumns:
    """Return the columns of logs that lie alike, each where it is."""
    columns = logs[0].blocks[0].columns
    words = [{columns[key].start: by for key, by in shift.items()} for shift in shifts]
    return PackedColumns(StackedRows([log.blocks[0].matrix for log in logs], words), columns)


def _copied(logs: Sequence["Log"], shifts: Sequence[dict[Key, int]]) -> PackedColumns:
    """Return the columns of all logs, copied together in memory."""
    packed: dict[Key, Tensor] = {}
    for key in logs[0].packed_keys():
        values = [log.column(key) for log in logs]
        if key in (EPISODE, EPISODE_END):
            values = [v + shift[key] for v, shift in zip(values, shifts, strict=True)]
        packed[key] = torch.cat(values)
    return PackedColumns.pack(packed)


def _lie_alike(logs: Sequence["Log"]) -> bool:
    """Return whether all logs are memory-mapped with the same columns at the same places."""
    columns = list(logs[0].blocks[0].columns.items())
    return all(
        bool(log.info.get("memory_mapped"))
        and len(log.blocks) == 1
        and list(log.blocks[0].columns.items()) == columns
        for log in logs
    )


def _same_kind(first: "Log", other: "Log", key: Key) -> bool:
    same_dtype = first.column(key, slice(1)).dtype == other.column(key, slice(1)).dtype
    whole = [key in log.images and log.images[key].whole for log in (first, other)]
    return same_dtype and first.shape(key) == other.shape(key) and whole[0] == whole[1]


def check_alike(first: "Log", other: "Log", name: str) -> None:
    """Check that the columns of a log are those of another.

    Args:
        first: The log it must go with.
        other: The log.
        name: Its name, for messages.

    Raises:
        LogError: Keys, shapes or dtypes differ.
    """
    for key in dict.fromkeys([*first.keys(), *other.keys()]):
        if key not in first or key not in other or not _same_kind(first, other, key):
            raise LogError(
                "this source does not have the shape and dtype of the first one",
                "Mixed sources need the same columns, shapes and dtypes: fix its column map.",
                path=name,
                column=key_name(key),
            )
