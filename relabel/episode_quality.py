"""What the columns of a log say about the quality of its episodes, and which stand out.

The equations are in :mod:`hindsight_rl.maths.quality` and :mod:`hindsight_rl.maths.response`; here
they meet the columns of a log. The state is every real number that is observed: images, choices
and constant columns do not count.

An episode stands out where it lies five robust standard deviations (median and MAD over the log)
from the median. A robust standard deviation is at least what :data:`RULES` says: twice the usual
jerk, 30 points more stillness or saturation, 1.5 times the usual length, or 5 steps more lag are
the least that stands out, however equal the other episodes are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.quality import (
    end_distances,
    episode_means,
    jerk,
    medians,
    robust_scores,
    saturation,
    speeds,
)
from hindsight_rl.maths.response import episode_lags, response
from hindsight_rl.relabel.episode_columns import Column, Part, column_of, parts_of

STANDS_OUT = 5.0
"""Robust standard deviations from the median at which an episode stands out."""
STILL = 0.1
"""Share of the log's usual speed below which state and action count as still."""
_MOTION_SECONDS, _LAG_SECONDS = 0.1, 0.5
_RESPONSE_ROWS, _RESPONSE_WORK = 10_000, 1_000_000_000
_MOST_CHOICES = 32  # discrete actions of which each is a signal
_SHORTEST = 4  # steps that have a third difference

Found = Tensor | str
"""A measure ``[E]``, or why there is none."""


class Rule(NamedTuple):
    """How a measure is judged."""

    least: float
    """Smallest robust standard deviation, in units of the measure (of its logarithm)."""
    logarithm: bool = False
    """Whether logarithms are judged: ratios count."""
    both: bool = False
    """Whether small values stand out, too."""


RULES = {
    "jerk": Rule(math.log(2.0) / STANDS_OUT, logarithm=True),
    "action_jerk": Rule(math.log(2.0) / STANDS_OUT, logarithm=True),
    "stillness": Rule(0.3 / STANDS_OUT),
    "saturation": Rule(0.3 / STANDS_OUT),
    "length": Rule(1.0, both=True),
    "end_pose": Rule(2.0 / STANDS_OUT),
    "lag": Rule(1.0, both=True),
}
"""Every measure, in the order in which they are printed."""
_LENGTH = math.log(1.5) / STANDS_OUT  # the measure of the length is a score already


@dataclass(frozen=True)
class Episodes:
    """What is measured.

    Args:
        state: ``[N, D]`` float; D may be 0.
        action: ``[N, A]`` float, or ``[N]`` integers.
        lengths: ``[E]`` int64, steps of each episode.
        bounds: Of the action, as the facts of a log have them: ``low`` and ``high``, each a list
            with ``None`` where a dimension has none, or ``None``; ``None`` for no bounds at all.
        control_rate_hz: Steps per second, where known.
        counted: ``[E]`` bool, episodes that shape spreads and medians; all unless given.
    """

    state: Tensor
    action: Tensor
    lengths: Tensor
    bounds: Mapping[str, Sequence[float | None] | None] | None = None
    control_rate_hz: float | None = None
    counted: Tensor | None = None


@dataclass(frozen=True)
class EpisodeQuality:
    """Measures of each episode.

    Args:
        values: ``[E]`` float64 by name, in the order of :data:`RULES`.
        scores: ``[E]`` float64 by name: robust standard deviations from the median, above 0 on the
            side that is worse; where both sides are, the magnitude.
        left_out: Why a measure is not there, by name.
        lag: Of the whole log, in steps; ``None`` where it was not found.
        lag_limit: Largest lag that was looked for, in steps.
    """

    values: dict[str, Tensor]
    scores: dict[str, Tensor]
    left_out: dict[str, str]
    lag: int | None
    lag_limit: int

    def score(self) -> Tensor:
        """Return minus the largest score of any measure, ``[E]``, at most 0: higher is better."""
        return -torch.stack(list(self.scores.values())).amax(0).clamp_min(0.0)


def measure_episodes(given: Episodes, most: int | None = None) -> EpisodeQuality:
    """Return the measures of a log.

    Args:
        given: Its columns.
        most: Largest lag, in steps; unless given half a second, between 5 and 25 steps, or 10
            steps where the control rate is not known.

    Returns:
        The measures.
    """
    counted = torch.ones(len(given.lengths), dtype=torch.bool)
    counted = counted if given.counted is None else given.counted
    span, half = _spans(given.control_rate_hz)
    parts = list(parts_of(given.lengths))
    state = column_of(given.state, parts, counted, span)
    real = given.action.is_floating_point()
    action = column_of(given.action, parts, counted, span) if real else None
    limit = half if most is None else most
    long = given.lengths >= _SHORTEST
    jerks = _jerk(state, parts, long, counted)
    ordinary = counted
    if isinstance(jerks, Tensor):
        ordinary = counted & (_scores(jerks, RULES["jerk"], counted) < STANDS_OUT)
    log_lag, lags = _lags(given, state, parts, ordinary, limit)
    found: dict[str, Found] = {
        "jerk": jerks,
        "action_jerk": "actions are choices"
        if action is None
        else _jerk(action, parts, long, counted),
        "stillness": _stillness(state, action, parts, span),
        "saturation": _saturation(given, parts),
        "length": robust_scores(given.lengths.double().log(), _LENGTH, counted),
        "end_pose": _end_pose(state, given.lengths, counted),
        "lag": lags,
    }
    values = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    return EpisodeQuality(
        values,
        {name: _scores(value, RULES[name], counted) for name, value in values.items()},
        {name: why for name, why in found.items() if isinstance(why, str)},
        log_lag,
        limit,
    )


def _spans(rate: float | None) -> tuple[int, int]:
    """Return the steps over which motion is measured, and the largest lag."""
    if not rate:
        return 1, 10
    return max(1, round(_MOTION_SECONDS * rate)), min(25, max(5, round(_LAG_SECONDS * rate)))


def _jerk(column: Column, parts: Sequence[Part], long: Tensor, counted: Tensor) -> Found:
    """Return the jerk of each episode; those that are too short have the median of the others."""
    if not column.moves:
        return "nothing changes within an episode"
    if not bool((long & counted).any()):
        return f"no episode has {_SHORTEST} steps"
    found = torch.cat(
        [
            jerk(column.chosen(rows), episode, count, column.spread, column.weight)
            for rows, episode, count in parts
        ]
    )
    return torch.where(long, found, medians(found[long & counted])[0])


def _stillness(state: Column, action: Column | None, parts: Sequence[Part], span: int) -> Found:
    """Return the share of steps at which neither the state nor a real action moves."""
    if not state.moves:
        return "nothing changes within an episode"
    found = []
    for part in parts:
        slow, of = _slow(state, part, span)
        if action is not None and action.moves:
            slow &= _slow(action, part, span)[0]
        found.append(episode_means(slow, of, part.held))
    return torch.cat(found)


def _slow(column: Column, part: Part, span: int) -> tuple[Tensor, Tensor]:
    """Return which rows hardly move ``[M]``, and their episodes."""
    chosen = column.chosen(part.rows)
    speed, of = speeds(chosen, part.episode, span, column.usual, column.weight)
    return speed < STILL, of


def _saturation(given: Episodes, parts: Sequence[Part]) -> Found:
    if not given.action.is_floating_point():
        return "actions are choices"
    low, high = (_ends(given, side) for side in ("low", "high"))
    if not (low.isfinite() | high.isfinite()).any():
        return "no action bounds are given"
    shares = [saturation(given.action[rows], of, count, low, high) for rows, of, count in parts]
    return torch.cat(shares)


def _ends(given: Episodes, side: str) -> Tensor:
    """Return one side of the bounds ``[A]``, infinite where there is none."""
    none = -math.inf if side == "low" else math.inf
    ends = (given.bounds or {}).get(side) or [None] * given.action.shape[1]
    return torch.tensor([none if end is None else end for end in ends], dtype=torch.float64)


def _end_pose(state: Column, lengths: Tensor, counted: Tensor) -> Found:
    if not len(state.kept):
        return "no real number that is observed changes"
    return end_distances(state.chosen(lengths.cumsum(0) - 1), state.spread, counted)


def _lags(
    given: Episodes, state: Column, parts: Sequence[Part], ordinary: Tensor, most: int
) -> tuple[int | None, Found]:
    """Return the lag of the log, where there is one, and that of each episode.

    Ordinary episodes ``[E]`` bool say how the state answers: noise of a wild one would hide it.
    """
    action = given.action
    if not action.is_floating_point():
        first, choices = int(action.min()), int(action.max()) + 1 - int(action.min())
        if choices > _MOST_CHOICES:
            return None, f"there are more than {_MOST_CHOICES} choices of action"
        action = torch.nn.functional.one_hot(action.long() - first, choices).float()
    # Some of them, evenly spaced, say as much as all.
    width = 2 * len(state.kept) + 1
    wanted = min(_RESPONSE_ROWS, max(20 * width, _RESPONSE_WORK // width**2))
    every = max(1, round(len(action) / wanted))
    chosen = ordinary & ((ordinary.cumsum(0) - 1) % every == 0)
    number = torch.arange(len(given.lengths)).repeat_interleave(given.lengths)
    rows = chosen[number].nonzero()[:, 0]
    known = response(action[rows], state.standardised(rows), number[rows], most)
    if known is None:
        return None, "the state's changes do not follow the actions"
    found = [
        episode_lags(action[rows], state.standardised(rows), of, count, known)
        for rows, of, count in parts
    ]
    lags, clear = (torch.cat(column) for column in zip(*found, strict=True))
    # One wild episode moves the sums of the log, but no median.
    lag = int(lags[clear].median()) if bool(clear.any()) else known.lag
    return lag, torch.where(clear, lags, lag).double()


def _scores(values: Tensor, rule: Rule, counted: Tensor) -> Tensor:
    if rule.logarithm:
        # 0 has no logarithm, and a millionth of the median is no jerk.
        least = max(1e-6 * float(medians(values[counted])[0]), 1e-300)
        values = values.clamp_min(least).log()
    found = robust_scores(values, rule.least, counted)
    return found.abs() if rule.both else found
