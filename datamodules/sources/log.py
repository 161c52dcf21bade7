"""A log as a source of episodes: read, and compared with the environment that comes after it."""

import math
import warnings
from pathlib import Path
from typing import Any

import torch

from hindsight_rl.datamodules.offline import check_sources
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.episodes import Collected
from hindsight_rl.entries import are_numbered
from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.keys import (
    ACTION,
    ACTION_LOG_PROB,
    BY_EXPERT,
    EXPERT_ACTION,
    OBSERVATION,
    REWARD,
    STEP,
    TASK,
    Key,
)
from hindsight_rl.logs.action_bounds import open_ends
from hindsight_rl.logs.checks import ROUNDING
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_logs
from hindsight_rl.logs.reading.column_map import ColumnMap

ColumnMaps = ColumnMap | str | list[ColumnMap | str | None] | None

_OTHER_ENV = (
    "Set data.env (and env) to the environment of the log; a configuration that collects puts a "
    "log into its replay, and one for logs (bc, iql, sac) reads it alone."
)
_OTHER_UNITS = "Map the log's actions to the environment's: action_scale, action_low, action_high."


class LogSource:
    """The episodes of a log, with the columns that are collected; further ones are left.

    Args:
        source: File, folder or dataset id, a list of them, or a :class:`Log`.
        columns: Column map, or one for each source.
        collector: Collects the episodes that come after.

    Raises:
        LogError: It cannot be read, or holds what the environment would not give.

    Attributes:
        name: The log, for messages.
        hash: Hash of the log.
        facts: Names and units of its columns, where it states them.
        episodes: Number of its episodes.
    """

    def __init__(
        self, source: str | Path | list[str] | Log, columns: ColumnMaps, collector: Collector
    ) -> None:
        check_sources(source, columns, None)
        log = source if isinstance(source, Log) else read_logs(source, columns)
        name = log.sources[0].name
        if log.rows is not None:
            raise LogError(
                f"{len(log.rows)} of its {len(log)} rows may be drawn, and a replay draws all",
                "Give the log without the relabeler that chose them.",
                path=name,
            )
        _check_shapes(log, collector, name)
        _check_names(log, collector, name)
        _check_actions(log, collector, name)
        _check_labels(log, collector, name)
        self._log, self._collector = log, collector
        self.name, self.hash, self.episodes = name, log.hash(), log.episodes
        self.facts = {fact: log.info[fact] for fact in ("names", "units") if log.info.get(fact)}
        if "names" in self.facts:  # those that only count say less than the environment's
            stated = {k: n for k, n in self.facts["names"].items() if not are_numbered(n, k)}
            self.facts["names"] = self.facts["names"] | collector.info.get("names", {}) | stated

    def __len__(self) -> int:
        return len(self._log)

    def unstated(self) -> str:
        """Return why it is not known how likely its actions were, "" where it is."""
        return "" if ACTION_LOG_PROB in self._log else f"{self.name} has no such column"

    def check_fits(self, capacity: int) -> None:
        """Raise on a replay that would drop some of the rows at once.

        Args:
            capacity: Rows that the replay holds.

        Raises:
            LogError: There are more.
        """
        if len(self) > capacity:
            raise LogError(
                f"{len(self)} rows do not fit a capacity of {capacity}",
                f"Set capacity to {len(self)} and the rows to be collected, or give a smaller log.",
                path=self.name,
            )

    def collect(
        self, policy: object, first: int, count: int, log: object | None = None
    ) -> Collected:
        """Return episodes of the log.

        Args:
            policy: Not used: who acted in a log is past.
            first: Number of the first episode.
            count: How many, at least 1.
            log: Not used.

        Returns:
            The episodes; of their success nothing is known.

        Raises:
            LogError: A column is missing.
            ValueError: The log does not hold so many episodes.
        """
        if not (0 <= first < first + count <= self.episodes):
            raise ValueError(
                f"{self.name}: episodes {first} to {first + count} of {self.episodes} are asked for"
            )
        ends = self._log.episode_ends()
        lengths = (self._log.column(STEP)[ends] + 1)[first : first + count]
        rows = slice(int(ends[first] + 1 - lengths[0]), int(ends[first + count - 1]) + 1)
        columns = {key: self._column(key, rows) for key in self._collector.keys}
        number = torch.arange(count).repeat_interleave(lengths)
        returns = torch.zeros(count, dtype=torch.float64)
        returns.index_add_(0, number, columns[REWARD].double())
        return Collected(columns, lengths, returns.numpy(), None)

    def _column(self, key: Key, rows: slice) -> torch.Tensor:
        """Return rows of a column; demonstrations are labelled by what was executed."""
        labelled = EXPERT_ACTION in self._log
        if key == EXPERT_ACTION and not labelled:
            return self._log.column(ACTION, rows).float()
        if key == BY_EXPERT and key not in self._log:
            return torch.full((len(self._log.column(STEP, rows)),), not labelled)
        found = self._log.column(key, rows)
        return found > 0.5 if key == BY_EXPERT else found


def _check_labels(log: Log, collector: Collector, name: str) -> None:
    """Raise where an expert corrects, and nothing says what it would have done in the log."""
    if collector.expert is None:
        return
    if EXPERT_ACTION not in log and not collector.expert.demonstrations:
        raise LogError(
            "the log has no column 'expert_action', and rows beside it are labelled by an expert",
            "If the expert itself acted, set data.collection.expert.demonstrations true; else "
            "label the log first: hindsight relabel LOG --expert EXPERT --output LABELLED.",
            path=name,
        )
    if EXPERT_ACTION in log and log.shape(EXPERT_ACTION) != log.shape(ACTION):
        raise LogError(
            f"'expert_action' has shape {list(log.shape(EXPERT_ACTION))}, and actions "
            f"{list(log.shape(ACTION))}",
            "Give an expert's action as actions are given.",
            path=name,
        )


def _check_shapes(log: Log, collector: Collector, name: str) -> None:
    """Check that observations and tasks are in the form in which episodes are collected."""
    if log.observed != [OBSERVATION] or log.info.get("offset"):
        what = "is less an offset" if log.info.get("offset") else "has entries"
        raise LogError(
            f"the log's observation {what}, and episodes beside it are collected as one row of "
            "numbers as the environment shows them",
            "Fit to the log alone (OfflineDataModule), or name flat columns without an offset.",
            path=name,
        )
    shapes: dict[Key, Any] = {OBSERVATION: collector.interface.observation_shape}
    if collector.task_shape is not None:
        shapes[TASK] = collector.task_shape
    for key, here in shapes.items():
        if log.shape(key) != tuple(here):
            raise LogError(
                f"the log's '{key}' has shape {list(log.shape(key))}, that of {collector.name} "
                f"{list(here)}",
                _OTHER_ENV,
                path=name,
            )


def _check_names(log: Log, collector: Collector, name: str) -> None:
    """Raise on observations whose entries are not the environment's, in its order."""
    try:
        collector.interface.compare_names(log.info.get("names") or {})
    except RolloutError as error:
        raise LogError(str(error).rstrip("."), _OTHER_ENV, path=name) from error
    rates = [
        float(info["control_rate_hz"])
        for info in (log.info, collector.info)
        if info.get("control_rate_hz") is not None
    ]
    if len(rates) == 2 and not math.isclose(*rates, rel_tol=1e-6):
        warnings.warn(
            f"{name}: the log has {rates[0]:g} rows per second, and {collector.name} "
            f"{rates[1]:g} frames: make sure that a step takes as long in both",
            stacklevel=2,
        )


def _check_actions(log: Log, collector: Collector, name: str) -> None:
    """Raise on actions of another kind, or in other units, than the environment's."""
    first = log.column(ACTION, slice(1))
    choices = collector.info.get("discrete_actions")
    there = "choices" if not first.is_floating_point() else f"numbers {list(first.shape[1:])}"
    here = "choices" if choices else f"numbers {list(collector.interface.action_shape)}"
    if there != here:
        raise LogError(
            f"the log's actions are {there}, those of {collector.name} {here}",
            _OTHER_ENV,
            path=name,
        )
    if choices:
        start = float(collector.info.get("action_start", 0))
        low, high = torch.tensor(start), torch.tensor(start + choices - 1)
    else:
        bounds = collector.info["action"]
        low, high = (open_ends(bounds[side], side) for side in ("low", "high"))
        _check_bounds(log, low, high, collector.name, name)
    for action in log.drawn(ACTION):
        outside = (action < low - ROUNDING * (1 + low.abs())) | (
            action > high + ROUNDING * (1 + high.abs())
        )
        if outside.any():
            worst = action[outside].double().abs().max().item()
            raise LogError(
                f"the log holds an action of {worst:g}, outside those of {collector.name}, "
                f"{low.tolist()} to {high.tolist()}",
                _OTHER_UNITS,
                path=name,
            )
    if not choices:
        _warn_of_units(log, low, high, collector.name, name)


def _check_bounds(log: Log, low: torch.Tensor, high: torch.Tensor, env: str, name: str) -> None:
    """Raise on bounds that the log states and the environment does not have."""
    stated = log.info.get("action") or {}
    for side, bound in (("low", low), ("high", high)):
        known = stated.get(side)
        if known is None:
            continue
        # A side that the log leaves open agrees with none but an open one of the environment.
        if not torch.allclose(open_ends(known, side), bound, rtol=1e-5):
            raise LogError(
                f"the log's actions have the {side} bound {known}, those of {env} {bound.tolist()}",
                _OTHER_UNITS,
                path=name,
            )


def _warn_of_units(log: Log, low: torch.Tensor, high: torch.Tensor, env: str, name: str) -> None:
    """Say so where only the actions themselves could be compared, which may be too small."""
    stated = log.info.get("action") or {}
    if stated.get("low") is not None and stated.get("high") is not None:
        return
    ends = [(action.amin().item(), action.amax().item()) for action in log.drawn(ACTION)]
    least, most = min(end[0] for end in ends), max(end[1] for end in ends)
    warnings.warn(
        f"{name}: the log does not state its action bounds. Its actions, {least:.4g} to "
        f"{most:.4g}, are taken to be in the units of {env}, {low.min():.4g} to {high.max():.4g}: "
        "give action_low and action_high in the column map (data.columns) to have that checked",
        stacklevel=2,
    )
