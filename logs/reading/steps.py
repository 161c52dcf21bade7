"""Columns at each step and one step later: vectors, images of whole episodes, choices."""

import numpy as np

from hindsight_rl.keys import OBSERVATION, TASK, Key, key_name
from hindsight_rl.logs import checks
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.choice_checks import choices, observed_choices
from hindsight_rl.logs.limits import check_memory
from hindsight_rl.logs.packed import next_key
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.column_map import Named
from hindsight_rl.logs.reading.dimensions import offset_of
from hindsight_rl.logs.reading.entries import observed_columns
from hindsight_rl.logs.reading.episodes import Episodes
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.logs.reading.whole_frames import whole_frames


class Steps:
    """Makes the columns of one table.

    Args:
        table: Columns of the source.
        episodes: Its episodes.
        findings: Where it came from; decides whether the first problem is raised.

    Attributes:
        repeated: The next-step keys whose last row of an episode repeats this step's.
        choices: How many choices each entry has that is a number of one, by name of the entry.
    """

    def __init__(self, table: Table, episodes: Episodes, findings: Problems) -> None:
        self.table, self.episodes, self.findings = table, episodes, findings
        self.rows = int(episodes.lengths.sum())
        self.repeated: set[Key] = set()
        self.choices: dict[str, int] = {}

    def observed(self) -> dict[Key, Array]:
        """Return what is observed, at each step and one step later."""
        found: dict[Key, Array] = {}
        for key, named, after in observed_columns(self.table.columns):
            found |= self.pair(key, named, after)
        return found

    def pair(self, key: Key, named: Named, after: Named | None) -> dict[Key, Array]:
        """Return a column at each step and one step later; images as frames of whole episodes.

        Args:
            key: Of the log.
            named: Its column or columns.
            after: Those of one step later; ``None``: the following row, and in the last row of an
                episode what lies behind it, or that row again.

        Returns:
            ``[N, ...]`` by key; images without stored next ones ``[N + E, ...]`` under one key.

        Raises:
            LogError: A column is wrong, or the two have different shapes.
        """
        following = next_key(key)
        values = self.values(key, named)
        if values.dtype == np.uint8 and after is None:
            return {key: self._whole(values, following)}
        now = self._without(values, self.episodes.ends + 1)
        if after is not None:
            # It may have the extra row; then the first one is surplus.
            later = self._without(self.values(key, after), self._starts())
            if later.shape != now.shape or later.dtype != now.dtype:
                here, there = list(now.shape[1:]), list(later.shape[1:])
                if here == there:
                    here, there = [*here, str(now.dtype)], [*there, str(later.dtype)]
                raise self.findings.error(
                    f"entries of shape {there} where {key_name(key)} has {here}",
                    "Name the column that belongs to it.",
                    str(after),
                )
        elif len(values) > self.rows:
            later = self._without(values, self._starts())
        else:
            later = np.concatenate([now[1:], now[-1:]])
            later[self.episodes.ends] = now[self.episodes.ends]
            self.repeated.add(following)
        return {key: now, following: later}

    def later(self, key: Key, named: Named) -> Array:
        """Return a column that is stored one step later only, ``[N, D]``."""
        return self._without(self.values(key, named), self._starts())

    def values(self, key: Key, named: Named) -> Array:
        """Return one column or several joined ones.

        Args:
            key: Of the log: says what is subtracted, and whether the numbers are choices.
            named: The column or columns.

        Returns:
            ``[N or N + E, D]`` float32; images unchanged, uint8; choices int64.

        Raises:
            LogError: A column holds no numbers, or is of another length.
        """
        names = named if isinstance(named, list) else [named]
        parts = [self._numbers(name) for name in names]
        if not isinstance(named, list):
            count = self._choices_of(key)
            if count is not None:
                return self._chosen(key, parts[0], count, named)
            if parts[0].dtype == np.uint8 and parts[0].ndim > 2:
                return parts[0]
            return self._relative(key, [parts[0]], names, parts[0].shape[1:] or (1,))
        _same_rows(parts, str(named), self.findings)
        flat = [part.reshape(len(part), -1) for part in parts]
        return self._relative(key, flat, names, (sum(part.shape[1] for part in flat),))

    def _numbers(self, name: str) -> Array:
        values = checks.numeric(self.table.values[name], name, self.findings)
        counts = [self.rows, self.rows + self.episodes.count]
        checks.same_length(values, counts, name, self.findings)
        return values

    def _relative(
        self, key: Key, parts: list[Array], names: list[str], shape: tuple[int, ...]
    ) -> Array:
        """Return numbers less their offset, joined, ``[N or N + E, *shape]`` float32."""
        label = "task" if "achieved_goal" in key else key_name(key).removeprefix("next.")
        given = label in (self.table.columns.offset or {})
        offset = offset_of(self.table, label, shape, self.findings).reshape(-1)
        made, start = [], 0
        for name, part in zip(names, parts, strict=True):
            size = part[0].size if len(part) else 1
            if given:  # in float64, before anything is rounded
                part = part.astype(np.float64)
                part = part - offset[start : start + size].reshape(part.shape[1:])
            single = checks.as_float32(part, name, self.findings, label)
            made.append(single.reshape(len(part), -1))
            start += size
        joined = made[0] if len(made) == 1 else np.concatenate(made, axis=1)
        return joined.reshape(len(joined), *shape)

    def _choices_of(self, key: Key) -> int | None:
        """Return how many choices an entry has, 0 where that is not known, ``None`` for others."""
        columns = self.table.columns
        if (
            isinstance(key, str)
            or key[0] != OBSERVATION
            or not isinstance(columns.observation, dict)
        ):
            return None
        named, given = columns.observation[key[1]], columns.observation_choices or {}
        stated: int | None = None
        if isinstance(named, str):
            stated = self.table.facts.get("choices", {}).get(named)
        if key[1] in given:
            return given[key[1]] or stated or 0
        return stated

    def _chosen(self, key: Key, values: Array, count: int, name: str) -> Array:
        """Return numbers of a choice as int64, ``[N]``, or ``[N, ...]`` where there are several."""
        if values.size == len(values):
            values = values.reshape(len(values))
        whole = observed_choices(values, count or None, name, self.findings)
        entry = key[1]
        self.choices[entry] = max(self.choices.get(entry, 0), count or int(whole.max()) + 1)
        return whole

    def images(self, taken: tuple[Key, ...]) -> dict[Key, Array]:
        """Return further image columns, each named by the last part of its name.

        Args:
            taken: Keys that none can have.

        Returns:
            ``[N + E, ...]`` uint8 by key.

        Raises:
            LogError: A column is no image, or would be called as another one is.
        """
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
            if key in found or key in taken:
                raise self.findings.error(
                    f"its images would be called '{key}', as another column is",
                    f"Rename the column, or name it as an entry: `observation: {{NAME: {name}}}`.",
                    name,
                )
            found[key] = self._whole(frames, next_key(key))
        return found

    def _whole(self, frames: Array, following: Key) -> Array:
        """Return the frames ``[N + E, ...]``; what an episode led to repeats if it is not there."""
        if len(frames) > self.rows:
            return frames
        self.repeated.add(following)
        ends = self.episodes.ends
        if not isinstance(frames, np.memmap):
            return np.insert(frames, ends + 1, frames[ends], axis=0)
        return whole_frames(frames, frames, ends, ends)

    def _starts(self) -> Array:
        return np.asarray(self.episodes.ends + 1 - self.episodes.lengths)

    def _without(self, values: Array, at: Array) -> Array:
        """Return ``[N, ...]``: without one row per episode, if there is one more than actions."""
        if len(values) == self.rows:
            return values
        keep = np.ones(len(values), bool)
        keep[at + np.arange(self.episodes.count)] = False
        return values[keep]

    def task(self, named: Named) -> Array:
        """Return the task ``[N, Z]`` float32."""
        values = self._without(self.values(TASK, named), self.episodes.ends + 1)
        if not self.table.columns.one_hot_task:
            return values
        name = str(named)
        number = checks.as_scalars(values, name, self.findings)
        whole = choices(number, None, name, self.findings)
        count = max(len(self.table.facts.get("task_names", ())), int(whole.max()) + 1)
        held = sum(column.nbytes for column in self.table.values.values())
        check_memory(4 * count * len(whole), held, self.findings.path, name)
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


def _same_rows(parts: list[Array], name: str, findings: Problems) -> None:
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise findings.error(
            f"columns of {', '.join(map(str, lengths))} rows cannot be joined",
            "Join columns of one length.",
            name,
        )
