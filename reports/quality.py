"""Quality of episodes as ``hindsight inspect`` shows it: numbers, and what stands out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from hindsight_rl.keys import ACTION, EPISODE
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.packed import observed
from hindsight_rl.logs.reading.assembly import Assembly
from hindsight_rl.relabel.episode_quality import (
    STANDS_OUT,
    EpisodeQuality,
    Episodes,
    measure_episodes,
)

FEWEST = 10
"""Episodes of which some can stand out: of fewer, median and deviation say little."""
_MOST_SHARE = 0.2  # more episodes than this are no exceptions, the log is of several kinds
_NAMED = 5  # episodes that a sentence names


@dataclass(frozen=True)
class Measure:
    """One measure of every episode.

    Args:
        name: See :class:`hindsight_rl.Quality`.
        median: Of the episodes.
        min: Smallest.
        max: Largest.
        values: ``[E]``.
    """

    name: str
    median: float
    min: float
    max: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Standout:
    """An episode that stands out.

    Args:
        episode: Its number, from 0.
        measure: By which it does.
        value: Of the measure.
        score: Robust standard deviations from the median.
    """

    episode: int
    measure: str
    value: float
    score: float


@dataclass(frozen=True)
class QualitySummary:
    """The quality of a log's episodes.

    Args:
        measures: Each measure that the log allows.
        stand_out: Episodes, those that are furthest out first, measure by measure.
        left_out: Why a measure is not there, by name.
        lag_steps: Steps after which the state answers the action, ``None`` where it was not found.
        lag_ms: The same in milliseconds, ``None`` without a control rate.
        lag_limit: Largest lag that was looked for, in steps.
    """

    measures: tuple[Measure, ...]
    stand_out: tuple[Standout, ...]
    left_out: dict[str, str]
    lag_steps: int | None
    lag_ms: float | None
    lag_limit: int


def quality_of(assembly: Assembly) -> QualitySummary:
    """Return the quality of the episodes of a log.

    Args:
        assembly: Columns and facts; numbers that are not finite leave their dimension out.

    Returns:
        The numbers.
    """
    columns, info = assembly.columns, assembly.info
    rows = len(columns[ACTION])
    real = [columns[key] for key in observed(columns)]
    real = [values for values in real if values.dtype.kind == "f" and values.ndim == 2]
    state = np.concatenate(real, axis=1) if len(real) > 1 else real[0] if real else None
    rate = info.get("control_rate_hz")
    found = measure_episodes(
        Episodes(
            torch.empty(rows, 0) if state is None else torch.from_numpy(state),
            torch.from_numpy(columns[ACTION]),
            torch.from_numpy(np.bincount(columns[EPISODE])),
            info.get("action"),
            rate,
        )
    )
    ms = None if found.lag is None or not rate else 1000.0 * found.lag / rate
    return QualitySummary(
        tuple(_measure(name, values.numpy()) for name, values in found.values.items()),
        tuple(_stand_out(found)),
        found.left_out,
        found.lag,
        ms,
        found.lag_limit,
    )


def _measure(name: str, values: Array) -> Measure:
    middle, low, high = float(np.median(values)), float(values.min()), float(values.max())
    return Measure(name, middle, low, high, tuple(values.tolist()))


def _stand_out(found: EpisodeQuality) -> list[Standout]:
    result: list[Standout] = []
    for name, scores in found.scores.items():
        far = (scores >= STANDS_OUT).nonzero()[:, 0]
        if len(scores) < FEWEST or len(far) > _MOST_SHARE * len(scores):
            continue
        values = found.values[name]
        order = far[scores[far].argsort(descending=True, stable=True)].tolist()
        result += [Standout(i, name, float(values[i]), float(scores[i])) for i in order]
    return result


class _Words(NamedTuple):
    """What to say of one episode, of several, and of their numbers."""

    one: str
    several: str
    numbers: str
    unit: Literal["times", "%", ""]


_WORDS = {
    "jerk": _Words(
        "moves jerkily", "move jerkily", "{} times the usual jerk of the state", "times"
    ),
    "action_jerk": _Words(
        "has jerky actions", "have jerky actions", "{} times the usual jerk", "times"
    ),
    "stillness": _Words("stands still", "stand still", "{} of the time (usually {})", "%"),
    "saturation": _Words(
        "has many actions at a bound", "have many actions at a bound", "{} (usually {})", "%"
    ),
    "short": _Words("is short", "are short", "{} steps (usually {})", ""),
    "long": _Words("is long", "are long", "{} steps (usually {})", ""),
    "end_pose": _Words(
        "ends elsewhere than the others",
        "end elsewhere than the others",
        "{} times the usual distance from the median end",
        "times",
    ),
    "lag": _Words(
        "answers its actions at another time",
        "answer their actions at another time",
        "after {} steps (usually {})",
        "",
    ),
}


def remarks_on_quality(quality: QualitySummary, lengths: Array) -> list[str]:
    """Return what stands out, one sentence for each measure.

    Args:
        quality: The numbers.
        lengths: ``[E]`` steps of each episode.

    Returns:
        Sentences.
    """
    remarks = []
    for measure in quality.measures:
        found = [one for one in quality.stand_out if one.measure == measure.name]
        if measure.name == "length":
            steps = float(np.median(lengths))
            for name, side in (("short", -1), ("long", 1)):
                numbers = {
                    i.episode: float(lengths[i.episode]) for i in found if i.value * side > 0
                }
                remarks += _sentences(name, numbers, steps)
        else:
            numbers = {one.episode: one.value for one in found}
            remarks += _sentences(measure.name, numbers, measure.median)
    return remarks


def _sentences(name: str, numbers: Mapping[int, float], usual: float) -> list[str]:
    """Return the sentence about episodes, those that are furthest out first; none of none."""
    if not numbers:
        return []
    words, several = _WORDS[name], len(numbers) > 1
    low, high = (_said(end(numbers.values()), usual, words.unit) for end in (min, max))
    ends = low if low == high else f"{low.removesuffix(' %')} to {high}"
    said = words.numbers.format(ends, _said(usual, usual, words.unit))
    listed = [str(number) for number in sorted([*numbers][:_NAMED])]
    if len(numbers) > _NAMED:
        who = f"{', '.join(listed)} and {len(numbers) - _NAMED} more"
    else:
        who = " and ".join(filter(None, (", ".join(listed[:-1]), listed[-1])))
    verb = words.several if several else words.one
    return [f"Episode{'s' if several else ''} {who} {verb}: {said}."]


def _said(value: float, usual: float, unit: str) -> str:
    if unit == "times":
        ratio = value / usual if usual > 0 else math.inf
        return f"{ratio:.2g}" if ratio < 100 else "over 100"
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:,.0f}"
