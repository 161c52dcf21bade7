"""Rows of several origins: a replay for each, read as one log in which each has its share."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.keys import EPISODE, EPISODE_END, ORIGIN, ORIGINS, STEP, Key
from hindsight_rl.logs.folder import Source
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import PackedColumns
from hindsight_rl.logs.rows import StackedRows
from hindsight_rl.ports import Episodes

if TYPE_CHECKING:
    from hindsight_rl.datamodules.imagined_rows import ImaginedRows
    from hindsight_rl.datamodules.sources.log import LogSource

_SUM = 1e-6  # by which shares may miss 1, as 0.33, 0.33 and 0.34 do in binary


class Replays:
    """The replays of all origins, read as one log.

    With shares each origin has its own replay. A row of a batch comes from an origin with the
    probability of its share, and from each of its rows alike, both drawn from the counter (seed,
    update, row); the log has a column ``origin``. An origin that holds no rows yet is not drawn.
    Without shares all origins are one replay, in which every row is drawn as often as any other.

    Args:
        replays: Replay of each origin, in the order in which rows are numbered; without shares the
            same one for all. A log may stand for a replay: its rows stay, and no checkpoint holds
            them.
        mix: Share of each origin, see :func:`check_mix`; ``None`` for none.
    """

    def __init__(
        self, replays: Mapping[str, Replay | Log], mix: Mapping[str, float] | None
    ) -> None:
        self._logs = {name: part for name, part in replays.items() if isinstance(part, Log)}
        self._replays = {name: part for name, part in replays.items() if isinstance(part, Replay)}
        self._mix = mix
        for log in self._logs.values():
            for replay in self._replays.values():
                replay.begin(log.blocks[0].columns)

    @property
    def _parts(self) -> dict[str, Replay]:
        """Replays by where they lie in a checkpoint and a folder: one alone has no name."""
        return {"": next(iter(self._replays.values()))} if self._mix is None else self._replays

    @property
    def log(self) -> Log:
        """The rows as a log, nothing copied; it holds until the next :meth:`append`."""
        logs = self._logs | {origin: part.log for origin, part in self._parts.items()}
        return logs[""] if self._mix is None else stacked(logs, self._mix)

    @property
    def real(self) -> Log:
        """The rows that were played, all but imagined ones, as a log."""
        logs = self._logs | {name: p.log for name, p in self._parts.items() if name != "imagined"}
        if self._mix is None or len(logs) == 1:
            return next(iter(logs.values()))
        return stacked(logs, self._mix)

    def append(self, origin: str, episodes: Episodes) -> None:
        """Add episodes; the oldest of the same replay go where there are too many rows.

        Args:
            origin: Where they come from.
            episodes: The episodes.

        Raises:
            LogError: Columns differ from those before, or an episode is longer than the capacity.
        """
        replay = self._replays[origin]
        replay.append(episodes.columns, episodes.lengths)
        for other in self._replays.values():
            other.begin_like(replay)

    def clear(self) -> None:
        """Drop all rows of all replays."""
        for replay in self._parts.values():
            replay.clear()

    def leave_out(self, key: Key) -> None:
        """Drop a column of all replays, see :meth:`Replay.leave_out`."""
        for replay in self._parts.values():
            replay.leave_out(key)

    def to_file(self, folder: str | Path) -> None:
        """Move all rows into files, see :meth:`Replay.to_file`; each origin's in a folder."""
        for name, replay in self._parts.items():
            replay.to_file(Path(folder) / name)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: that of the replay, or of each by origin."""
        states = {name: replay.state_dict() for name, replay in self._parts.items()}
        return states[""] if self._mix is None else states

    def load_state_dict(
        self, state: Mapping[str, Any], folder: str | Path | None, *, cut: bool
    ) -> None:
        """Take over the rows of a checkpoint with the same shares.

        Args:
            state: What :meth:`state_dict` returned.
            folder: Where the rows lie if they lie in files.
            cut: Cut off what the files got after the checkpoint; needed to go on.

        Raises:
            LogError: They are rows of another kind, too many, or lie elsewhere.
        """
        for name, replay in self._parts.items():
            place = None if folder is None else Path(folder) / name
            replay.load_state_dict(state[name] if name else state, place, cut=cut)


def stacked(logs: Mapping[str, Log], mix: Mapping[str, float]) -> Log:
    """Return the logs of several replays as one, with ``origin``; rows are not copied.

    Args:
        logs: By origin: rows in one block, where episodes lie in a second. Some may be empty.
        mix: Share of each origin; sources of a log share its share by rows and weight.

    Returns:
        A log with episodes renumbered, whose sources are those of the origins.
    """
    held = list(logs.values())
    sources: list[Source] = []
    shifts: list[dict[int, int]] = []
    start = episodes = 0
    for origin, log in logs.items():
        place = log.blocks[1].columns
        shifts.append({place[EPISODE].start: episodes, place[EPISODE_END].start: start})
        whole = sum(source.weight for source in log.sources)
        for part in log.sources:
            share = mix[origin] * part.weight / whole
            sources.append(Source(start + part.start, start + part.stop, share, part.name))
        start, episodes = start + len(log), episodes + (log.episodes if len(log) else 0)
    origins = [torch.full((len(log),), ORIGINS.index(origin)) for origin, log in logs.items()]
    blocks = (
        _stacked_block([log.blocks[0] for log in held], [{}] * len(held)),
        _stacked_block([log.blocks[1] for log in held], shifts),
        PackedColumns.pack({ORIGIN: torch.cat(origins)}),
    )
    info = held[-1].info | {"source": [source.name for source in sources]}
    return Log(blocks, info, tuple(sources), rows=_stacked_rows(held))


def _stacked_rows(logs: Sequence[Log]) -> Tensor | None:
    """Return the row numbers ``[M]`` int64 that may be drawn of logs one after another."""
    if all(log.rows is None for log in logs):
        return None
    starts = [sum(len(log) for log in logs[:number]) for number in range(len(logs))]
    return torch.cat([log.drawable() + start for log, start in zip(logs, starts, strict=True)])


def with_places_apart(log: Log, keys: Sequence[Key]) -> Log:
    """Return some columns of a log as :func:`stacked` takes them; of a large one in files.

    Args:
        log: The log.
        keys: The columns that are kept; where episodes lie is kept, too.

    Returns:
        A copy with two blocks: the columns, and where episodes lie.
    """
    on_disk = bool(log.info.get("memory_mapped"))
    blocks = tuple(
        PackedColumns.pack({key: log.column(key) for key in part}, on_disk=on_disk)
        for part in (keys, (EPISODE, STEP, EPISODE_END))
    )
    return Log(blocks, log.info, log.sources, rows=log.rows, digest=log.hash())


def _stacked_block(
    blocks: Sequence[PackedColumns], shifts: Sequence[Mapping[int, int]]
) -> PackedColumns:
    return PackedColumns(StackedRows([b.matrix for b in blocks], shifts), blocks[0].columns)


def check_mix(mix: Mapping[str, float], origins: Sequence[str]) -> None:
    """Raise on shares that do not say how often each origin is drawn.

    Args:
        mix: Share of each origin.
        origins: Those there are.

    Raises:
        ValueError: An origin is unknown or has no share, a share is not in (0, 1], or they do not
            sum to 1.
    """
    here = " and ".join(repr(origin) for origin in origins)
    for origin, share in mix.items():
        if origin not in origins:
            more = ": give --data.source LOG" if origin == "log" else ""
            raise ValueError(f"mix names {origin!r}, and rows come from {here} here{more}")
        if not 0 < share <= 1:
            raise ValueError(
                f"mix gives {origin!r} a share of {share:g}, it must be above 0 and at most 1"
            )
    for origin in origins:
        if origin not in mix:
            raise ValueError(f"mix gives no share to {origin!r}, and rows come from {here}")
    if not math.isclose(sum(mix.values()), 1.0, abs_tol=_SUM):
        raise ValueError(f"the shares of mix sum to {sum(mix.values()):g}, they must sum to 1")


def warn_of_undrawn(log: Log) -> None:
    """Say so where relabelers leave no row of an origin to draw: the others get its share.

    Args:
        log: What :func:`stacked` returned, with the relabelers' columns and drawable rows.
    """
    if log.rows is None:
        return
    for source in log.sources:
        kept = (log.rows >= source.start) & (log.rows < source.stop)
        if source.stop > source.start and not kept.any():
            warnings.warn(
                f"{source.name}: the relabelers leave none of its {source.stop - source.start} "
                f"rows to draw, so its share of {source.weight:g} in mix goes to the others",
                stacklevel=2,
            )


def replays_of(
    facts: dict[str, Any],
    log: "LogSource | None",
    mix: dict[str, float] | None,
    capacity: int,
    imagined: "ImaginedRows | None",
) -> Replays:
    """Return the empty replays of what is collected, of a log and of what is imagined.

    Args:
        facts: Of the environment, for a log.
        log: The source, ``None`` for none.
        mix: Shares of the origins.
        capacity: Rows that are collected; of all where there are no shares.
        imagined: What a model imagines, ``None`` for nothing.

    Returns:
        The replays.
    """
    info = facts | ({} if log is None else log.facts)
    replays = {"collected": Replay(capacity, info)}
    if log is not None and mix is None:
        log.check_fits(capacity)
        replays = {"log": replays["collected"]} | replays
    elif log is not None:
        replays = {"log": Replay(len(log), info | {"source": log.name})} | replays
    if imagined is not None:
        replays["imagined"] = Replay(imagined.capacity, info | {"source": "imagined"})
    return Replays(replays, mix)
