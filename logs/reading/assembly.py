"""From the columns of any source to the columns of a log: one path for every format.

Episodes, then observations, goals, rewards, flags and actions, each checked as it is made. No row
is dropped; what had to be repeated or was asked to be clipped is counted in ``info``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    EPISODE,
    EPISODE_END,
    NEXT_ACHIEVED,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    STEP,
    TASK,
    TERMINATED,
    TRUNCATED,
    Key,
)
from hindsight_rl.logs import checks
from hindsight_rl.logs.agreement import Agreement
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.limits import check_room
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.actions import Actions, scaled
from hindsight_rl.logs.reading.column_map import SHIFTED
from hindsight_rl.logs.reading.episodes import Episodes, delimit, ends, stored_rows
from hindsight_rl.logs.reading.equal_ends import warn_of_equal_ends
from hindsight_rl.logs.reading.extras import ACTION_LOG_PROB, SUCCESS, extras
from hindsight_rl.logs.reading.last_rows import observed_last
from hindsight_rl.logs.reading.table import Table

# What an image or a further column cannot be called.
_KEYS = (
    *(OBSERVATION, ACTION, TASK, ACHIEVED, EPISODE, STEP, EPISODE_END),
    *(SUCCESS, ACTION_LOG_PROB, "next", "index", "draws", "companion", "noise"),
)


@dataclass(frozen=True)
class Assembly:
    """Columns of a log by key, ``[N, ...]`` numpy arrays; its facts; guessed columns by field."""

    columns: dict[Key, Array]
    info: dict[str, Any]
    guessed: Mapping[str, list[str]] = field(default_factory=dict)


def assemble(table: Table, findings: Problems) -> Assembly:
    """Return the columns and facts of a log.

    Args:
        table: Columns of the source.
        findings: Where it came from; decides whether the first problem is raised.

    Returns:
        Columns that ``Log.from_columns`` takes.

    Raises:
        LogError: Something is wrong with the source, see docs/logs.md.
    """
    given = table.columns
    ended = observed_last(table, findings) if given.last_row == "observation" else None
    table = ended[0] if ended else table
    actions = scaled(table, findings)
    rows = len(actions.values)
    episodes = ended[1] if ended else delimit(table, rows, findings)
    if given.step:
        checks.same_length(table.values[given.step], [rows], given.step, findings)
        checks.runs_forward(table.values[given.step], episodes.lengths, given.step, findings)
    terminated, truncated = ends(table, episodes, findings)
    warn_of_equal_ends(
        terminated[episodes.ends], episodes.lengths, findings.path, given, findings.guessed
    )
    cut = truncated & ~terminated
    maker = _Maker(table, episodes, findings)
    columns: dict[Key, Array] = {EPISODE: episodes.number}
    columns |= maker.steps(OBSERVATION, "observation", NEXT_OBSERVATION, "next_observation")
    if given.achieved_goal:
        columns |= maker.steps(ACHIEVED, "achieved_goal", NEXT_ACHIEVED, "next_achieved_goal")
    elif given.next_achieved_goal:
        columns[NEXT_ACHIEVED] = maker.later("next_achieved_goal")
    if given.task:
        columns[TASK] = maker.task()
    columns |= maker.images() | {ACTION: actions.values, REWARD: maker.reward()}
    columns |= {TERMINATED: terminated, TRUNCATED: truncated}
    columns |= extras(table, actions, episodes, {*_KEYS, *columns}, findings)
    if NEXT_OBSERVATION in maker.repeated:
        facts = {"repeated_next_observation": int(cut.sum())}
    else:
        _no_leaked_reset(table, columns, episodes.ends[cut[episodes.ends]], findings)
        facts = {"repeated_next_observation": 0}
    if episodes.parted:
        facts["parted_episodes"] = episodes.parted
    return Assembly(columns, facts | actions.info | _facts(table, columns, actions, findings))


class _Maker:
    """Makes the columns of one table.

    ``repeated`` collects the next-step keys whose last row of an episode repeats this step's.
    """

    def __init__(self, table: Table, episodes: Episodes, findings: Problems) -> None:
        self.table, self.episodes, self.findings = table, episodes, findings
        self.rows = int(episodes.lengths.sum())
        self.repeated: set[Key] = set()

    def vectors(self, field: str) -> Array:
        """Return the joined columns of a field, ``[N or N + E, D]`` float32; images unchanged."""
        named = getattr(self.table.columns, field)
        joined = isinstance(named, list)
        parts = []
        for name in named if joined else [named]:
            values = checks.numeric(self.table.values[name], name, self.findings)
            checks.same_length(
                values, [self.rows, self.rows + self.episodes.count], name, self.findings
            )
            if not joined and values.dtype == np.uint8 and values.ndim > 2:
                return values
            values = checks.as_float32(values, name, self.findings)
            parts.append(values.reshape(len(values), -1) if joined or values.ndim == 1 else values)
        return _joined(parts, str(named), self.findings)

    def steps(self, key: Key, field: str, next_key: Key, next_field: str) -> dict[Key, Array]:
        """Return a column at each step and one step later; images as frames of whole episodes."""
        values = self.vectors(field)
        stored = getattr(self.table.columns, next_field)
        if values.dtype == np.uint8 and stored in (None, SHIFTED):
            return {key: self._whole(values, next_key)}
        now = self._without(values, self.episodes.ends + 1)
        if stored not in (None, SHIFTED):
            after = self.later(next_field)
            if after.shape != now.shape:
                raise self.findings.error(
                    f"entries of shape {list(after.shape[1:])} where {field} has "
                    f"{list(now.shape[1:])}",
                    "Name the column that belongs to it.",
                    str(stored),
                )
        elif len(values) > self.rows:
            after = self._without(values, self._starts())
        else:
            after = np.concatenate([now[1:], now[-1:]])
            after[self.episodes.ends] = now[self.episodes.ends]
            self.repeated.add(next_key)
        return {key: now, next_key: after}

    def later(self, field: str) -> Array:
        """Return a column that is stored one step later only, ``[N, D]``."""
        # It may have the extra row; then the first one is surplus.
        return self._without(self.vectors(field), self._starts())

    def _whole(self, frames: Array, next_key: Key) -> Array:
        """Return the frames ``[N + E, ...]``; what an episode led to repeats if it is not there."""
        if len(frames) > self.rows:
            return frames
        self.repeated.add(next_key)
        ends = self.episodes.ends
        return np.insert(frames, ends + 1, frames[ends], axis=0)

    def images(self) -> dict[Key, Array]:
        """Return further image columns, each named by the last part of its name."""
        named = self.table.columns.image or []
        found: dict[Key, Array] = {}
        for name in [named] if isinstance(named, str) else named:
            frames, key = self.table.values[name], name.replace(".", "/").rpartition("/")[2]
            counts = [self.rows, self.rows + self.episodes.count]
            checks.same_length(frames, counts, name, self.findings)
            if frames.dtype != np.uint8:
                raise self.findings.error(
                    f"an image column of {frames.dtype}, not of uint8",
                    "Name it where numbers are meant, as an observation say.",
                    name,
                )
            if key in found or key in _KEYS:
                raise self.findings.error(
                    f"its images would be called '{key}', as another column is",
                    "Rename the column.",
                    name,
                )
            found[key] = self._whole(frames, ("next", key))
        return found

    def _starts(self) -> Array:
        return np.asarray(self.episodes.ends + 1 - self.episodes.lengths)

    def _without(self, values: Array, at: Array) -> Array:
        """Return ``[N, ...]``: without one row per episode, if there is one more than actions."""
        if len(values) == self.rows:
            return values
        keep = np.ones(len(values), bool)
        keep[at + np.arange(self.episodes.count)] = False
        return values[keep]

    def task(self) -> Array:
        """Return the task ``[N, Z]`` float32."""
        values = self._without(self.vectors("task"), self.episodes.ends + 1)
        if not self.table.columns.one_hot_task:
            return values
        name = str(self.table.columns.task)
        number = checks.as_scalars(values, name, self.findings)
        whole = checks.choices(number, None, name, self.findings)
        count = max(len(self.table.facts.get("task_names", ())), int(whole.max()) + 1)
        held = sum(column.nbytes for column in self.table.values.values())
        check_room(4 * count * len(whole), held, self.findings.path, name)
        vectors = np.zeros((len(whole), count), np.float32)
        vectors[np.arange(len(whole)), whole] = 1
        return vectors

    def reward(self) -> Array:
        """Return the reward ``[N]`` float32."""
        name = self.table.columns.reward
        if not isinstance(name, str):
            return np.full(self.rows, name, np.float32)
        values = self.table.values[name]
        checks.same_length(values, [self.rows], name, self.findings)
        return checks.as_scalars(
            checks.as_float32(values, name, self.findings), name, self.findings
        )


def _joined(parts: list[Array], name: str, findings: Problems) -> Array:
    if len(parts) == 1:
        return parts[0]
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise findings.error(
            f"columns of {', '.join(map(str, lengths))} rows cannot be joined",
            "Join columns of one length.",
            name,
        )
    return np.concatenate(parts, axis=1)


def _no_leaked_reset(
    table: Table, columns: dict[Key, Array], cut: Array, findings: Problems
) -> None:
    """Refuse next observations that were taken after the environment had been reset.

    At a cut the last next observation is bootstrapped from. Where it equals the first observation
    of the following episode, and is further away than ordinary steps go, it was written after the
    reset. (Without the second condition a continuous recording cut into pieces would be refused.)
    """
    now = columns[OBSERVATION]
    if now.dtype == np.uint8:
        return
    after = columns[NEXT_OBSERVATION]
    inside = np.flatnonzero(np.diff(columns[EPISODE]) == 0)
    cut = cut[cut + 1 < len(now)]
    if len(cut) < 2 or not len(inside) or now.ndim != 2:
        return
    leaked = _agreement(table, now, after)[cut].all(axis=1)
    with np.errstate(invalid="ignore"):
        stride = (np.abs(after - now) / np.maximum(now.std(axis=0), 1e-12)).max(axis=1)
    far = np.median(stride[cut]) > np.quantile(stride[inside], 0.95)
    if 2 * leaked.sum() > len(cut) and far:
        findings.report(
            f"at {int(leaked.sum())} of {len(cut)} cut episodes the next observation is already "
            "the first one of the next episode",
            "Set `next_observation: shifted`, which repeats the last observation there.",
            str(table.columns.next_observation),
            int(cut[leaked][0]),
        )


def _agreement(table: Table, now: Array, after: Array) -> Array:
    """Return where next observations are the observation of the following row, ``[N - 1, D]``."""
    names = table.columns.observation, table.columns.next_observation
    if all(names) and SHIFTED not in names:
        # As they were written: of numbers of 32 bits nobody knows how many digits they had.
        stored, following = (stored_rows(table, name) for name in names if name)
        if len(stored) == len(following):
            now, after = stored, following
    return Agreement(now, after)(now[1:], after[:-1])


def _facts(
    table: Table, columns: dict[Key, Array], actions: Actions, findings: Problems
) -> dict[str, Any]:
    given, facts = table.columns, table.facts
    rate = given.control_rate_hz or facts.get("control_rate_hz")
    info: dict[str, Any] = {
        "names": {key: _names(table, str(key), columns[key], findings) for key in _named(columns)},
        "units": {key: list(unit) for key, unit in (given.units or {}).items()},
        "control_rate_hz": float(rate) if rate else None,
    }
    for key, unit in info["units"].items():
        _same_count("units", key, unit, info["names"].get(key, []), findings)
    info |= {name: facts[name] for name in ("task_names", "environment") if facts.get(name)}
    return info


def _named(columns: dict[Key, Array]) -> list[Key]:
    return [key for key in (OBSERVATION, ACTION, TASK) if key in columns and columns[key].ndim < 3]


def _names(table: Table, field: str, values: Array, findings: Problems) -> list[str]:
    """Names of the dimensions: as given, as the source says, as its columns, or numbered."""
    width = 1 if values.ndim == 1 else values.shape[1]
    numbered = [f"{field}[{i}]" for i in range(width)] if values.ndim > 1 else [field]
    named = getattr(table.columns, field)
    if (table.columns.names or {}).get(field):
        names = list((table.columns.names or {})[field])
        _same_count("names", field, names, numbered, findings)
        return names
    if field == "task" and table.columns.one_hot_task:
        said = list(table.facts.get("task_names") or [])
    elif isinstance(named, list):
        said = [part for name in named for part in _part_names(table, name)]
    else:
        said = list((table.facts.get("names") or {}).get(named) or [])
    return said if len(said) == width else numbered


def _part_names(table: Table, name: str) -> list[str]:
    """Names of the dimensions of one of several joined columns."""
    width = table.values[name][0].size if len(table.values[name]) else 0
    said = list((table.facts.get("names") or {}).get(name) or [])
    if len(said) == width:
        return said
    return [name] if width == 1 else [f"{name}[{i}]" for i in range(width)]


def _same_count(
    what: str, key: str, given: list[str], expected: list[str], findings: Problems
) -> None:
    if len(given) != len(expected):
        raise findings.error(
            f"{len(given)} {what} for {len(expected)} dimensions of {key}",
            f"Correct {what} in the column map.",
        )
