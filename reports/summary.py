"""The numbers that ``hindsight inspect`` prints: what is in a log, and what looks odd about it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    EPISODE_END,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
    key_name,
)
from hindsight_rl.logs.checks import MOST_CHOICES, Array
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.packed import next_key, observed
from hindsight_rl.logs.reading.assembly import Assembly
from hindsight_rl.reports.quality import QualitySummary, quality_of, remarks_on_quality
from hindsight_rl.reports.remarks import remarks_on

_NOT_LISTED = {ACTION, REWARD, TERMINATED, TRUNCATED}
_NOT_LISTED |= {EPISODE, STEP, EPISODE_END, ("next", "achieved_goal")}


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of the population), and five quantiles of some numbers."""

    mean: float
    std: float
    min: float
    quartile_1: float
    median: float
    quartile_3: float
    max: float

    @classmethod
    def of(cls, values: Array) -> "Spread":
        """Return the spread of the finite ones of some numbers; NaN where there is none."""
        finite = values[np.isfinite(values)].astype(np.float64)
        if not len(finite):
            return cls(*[math.nan] * 7)
        quantiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1])
        return cls(float(finite.mean()), float(finite.std()), *(float(q) for q in quantiles))


@dataclass(frozen=True)
class ColumnSummary:
    """One dimension of a column.

    Args:
        key: Key of the log it belongs to.
        name: Name of the dimension.
        unit: Its unit, or an empty string.
        spread: Of its finite values.
        not_finite: Number of NaN and infinite values.
        constant: Whether all rows are equal.
        same_as: Name of an earlier dimension with the same value in every row.
        at_low: Share of rows at the lower bound (or, without bounds, at the smallest value).
        at_high: The same at the upper end. Both are ``None`` but for actions.
    """

    key: str
    name: str
    unit: str
    spread: Spread
    not_finite: int
    constant: bool
    same_as: str | None
    at_low: float | None = None
    at_high: float | None = None


@dataclass(frozen=True)
class Summary:
    """What a log holds.

    Args:
        source: Path or id as given.
        format: Format it was read as.
        transitions: Number of rows.
        episodes: Number of episodes.
        length: Spread of episode lengths, in steps.
        returns: Spread of undiscounted returns, in reward units.
        terminated: Number of episodes that reached a terminal state.
        truncated: Number of episodes that were cut.
        action_counts: Rows of each discrete action, ``None`` for continuous ones.
        action_start: Number of the first discrete action, ``None`` for continuous ones.
        action_low: Lower action bounds, if known; ``None`` where a dimension has none.
        action_high: Upper action bounds, in the same form.
        clipped_actions: Number of action entries that were clipped, ``None`` without ``clip``.
        repeated_next_observation: Cut episodes whose last next observation is not stored.
        control_rate_hz: Rows per second, if known.
        guessed: Columns that were found by their names, by field of the column map.
        images: Shape of the frames of each image column.
        entries: Kind (image, vector or discrete) and shape of each entry of the observation, and
            of how many choices it is one; empty where it is one flat column.
        offsets: What was subtracted from the numbers of a key, per dimension.
        topics: Type, messages, rate, longest gap, stamps and ages of each topic of a bag.
        columns: Every dimension.
        quality: Measures of each episode, and which episodes stand out.
        remarks: What looks odd, one sentence each.
        problems: What keeps the log from being read, one sentence each.
    """

    source: str
    format: str
    transitions: int
    episodes: int
    length: Spread
    returns: Spread
    terminated: int
    truncated: int
    action_counts: list[int] | None
    action_start: int | None
    action_low: list[float | None] | None
    action_high: list[float | None] | None
    clipped_actions: int | None
    repeated_next_observation: int
    control_rate_hz: float | None
    guessed: dict[str, list[str]]
    images: dict[str, list[int]]
    entries: dict[str, dict[str, Any]]
    offsets: dict[str, list[Any]]
    topics: dict[str, dict[str, Any]]
    columns: tuple[ColumnSummary, ...]
    quality: QualitySummary
    remarks: tuple[str, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; a number that is not finite becomes ``None``."""
        return dict(_plain(asdict(self)))


def episode_totals(assembly: Assembly) -> tuple[Array, Array]:
    """Return length in steps and undiscounted return of each episode, ``[E]`` each."""
    number = assembly.columns[EPISODE]
    reward = assembly.columns[REWARD].astype(np.float64)
    return np.bincount(number), np.bincount(number, reward)


def summarize(assembly: Assembly, problems: Sequence[LogError] = ()) -> Summary:
    """Return the numbers of a log.

    Args:
        assembly: Columns and facts, NaN and all.
        problems: What was found wrong while reading.

    Returns:
        The summary.
    """
    columns, info = assembly.columns, assembly.info
    lengths, returns = episode_totals(assembly)
    ended = columns[TERMINATED][np.cumsum(lengths) - 1]
    bounds = info.get("action") or {}
    dimensions = _dimensions(assembly)
    action = columns[ACTION]
    discrete = action.ndim == 1 and action.dtype.kind in "iu"
    quality = quality_of(assembly)
    return Summary(
        source=str(info.get("source", "memory")),
        format=str(info.get("format", "log")),
        transitions=len(action),
        episodes=len(lengths),
        length=Spread.of(lengths),
        returns=Spread.of(returns),
        terminated=int(ended.sum()),
        truncated=int((~ended).sum()),
        action_counts=_counts(action, info) if discrete else None,
        action_start=int(info.get("action_start") or 0) if discrete else None,
        action_low=bounds.get("low"),
        action_high=bounds.get("high"),
        clipped_actions=info.get("clipped_actions"),
        repeated_next_observation=int(info.get("repeated_next_observation", 0)),
        control_rate_hz=info.get("control_rate_hz"),
        guessed=dict(assembly.guessed),
        images={
            key_name(key): list(values.shape[1:])
            for key, values in columns.items()
            if _is_image(values) and "next" not in key
        },
        entries=_entries(assembly),
        offsets=dict(info.get("offset") or {}),
        topics=dict((info.get("recording") or {}).get("topics") or {}),
        columns=tuple(dimensions),
        quality=quality,
        remarks=(
            *remarks_on(assembly, lengths, ended),
            *remarks_on_quality(quality, lengths),
        ),
        problems=tuple(str(problem) for problem in problems),
    )


def _is_image(values: Array) -> bool:
    return bool(values.dtype == np.uint8) and values.ndim > 2


def _entries(assembly: Assembly) -> dict[str, dict[str, Any]]:
    choices = assembly.info.get("observation_choices") or {}
    found: dict[str, dict[str, Any]] = {}
    for key in observed(assembly.columns):
        if isinstance(key, str):  # one flat column
            continue
        values, name = assembly.columns[key], key[1]
        kind = "image" if values.dtype == np.uint8 else "vector"
        about: dict[str, Any] = {"kind": kind, "shape": list(values.shape[1:])}
        if values.dtype.kind == "i":
            count = choices.get(name) or int(values.max()) + 1
            about |= {"kind": "discrete", "n": count}
        found[name] = about
    return found


def _counts(action: Array, info: dict[str, Any]) -> list[int]:
    known = int(info.get("discrete_actions", 0))
    number = action - int(info.get("action_start") or 0)
    valid = number[(number >= 0) & (number < MOST_CHOICES)]
    return [int(count) for count in np.bincount(valid, minlength=known)]


def _dimensions(assembly: Assembly) -> list[ColumnSummary]:
    seen_keys = observed(assembly.columns)
    hidden = {*_NOT_LISTED, *seen_keys, *map(next_key, seen_keys)}
    rest = (key for key in assembly.columns if key not in hidden)
    listed = [*seen_keys, ACTION, REWARD, *rest]
    names, units = assembly.info.get("names") or {}, assembly.info.get("units") or {}
    bounds = assembly.info.get("action") or {}
    seen: dict[bytes, str] = {}
    result: list[ColumnSummary] = []
    for key in listed:
        values = assembly.columns[key]
        if values.ndim > 2 or (key == ACTION and values.ndim == 1):
            continue
        flat = values.reshape(len(values), -1)
        label = key_name(key)
        numbered = [label] if values.ndim == 1 else [f"{label}[{i}]" for i in range(flat.shape[1])]
        for i, name in enumerate(names.get(label, numbered)):
            unit = units.get(label, [""] * flat.shape[1])[i]
            ends = _at_ends(flat[:, i], bounds, i) if key == ACTION else (None, None)
            result.append(_dimension(label, name, unit, flat[:, i], seen, ends))
    return result


def _dimension(
    key: str,
    name: str,
    unit: str,
    values: Array,
    seen: dict[bytes, str],
    ends: tuple[float | None, float | None],
) -> ColumnSummary:
    spread = Spread.of(values)
    digest = hashlib.sha256(values.tobytes()).digest()
    constant = spread.min == spread.max
    same_as = None if constant else seen.get(digest)
    seen.setdefault(digest, f"{key} {name}")
    not_finite = int((~np.isfinite(values)).sum())
    return ColumnSummary(key, name, unit, spread, not_finite, constant, same_as, *ends)


def _at_ends(values: Array, bounds: dict[str, Any], dimension: int) -> tuple[float, float]:
    """Return the shares of rows at (or beyond) the lower and the upper end."""
    low, high = bounds.get("low"), bounds.get("high")
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 0.0
    lowest, highest = (bound[dimension] if bound else None for bound in (low, high))
    lowest = finite.min() if lowest is None else lowest
    highest = finite.max() if highest is None else highest
    margin = 1e-6 * max(float(highest - lowest), 1e-12)
    return float((values <= lowest + margin).mean()), float((values >= highest - margin).mean())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
