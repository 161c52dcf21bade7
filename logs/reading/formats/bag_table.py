"""One bag by a resolved column map: its topics at each tick, cut into episodes."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import listed, nearest
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.formats.bag_messages import column_of
from hindsight_rl.logs.reading.formats.bag_pictures import is_picture
from hindsight_rl.logs.reading.formats.bag_rows import (
    Segment,
    Stamps,
    fresh_runs,
    marked,
    newest,
    ticks_of,
)
from hindsight_rl.logs.reading.formats.bag_scan import Recording
from hindsight_rl.logs.reading.formats.bag_series import (
    Series,
    check_clocks,
    decoded,
    marks,
    series_of,
    stamps_of,
)
from hindsight_rl.logs.reading.resolve import wanted
from hindsight_rl.message_fields import Column

AGE = "@age"
"""Ending of the column that holds how old a topic is at a row, seconds."""
NEXT = "@next"
_WHOLE = Segment(np.iinfo(np.int64).min, np.iinfo(np.int64).max)
_MOST_TICKS, _MOST_TICKS_EACH = 1_000_000, 1000  # in all, and for each message
_SECOND = 1e9


@dataclass
class Rows:
    """Rows of one bag.

    Args:
        values: Columns by name, ``[N, ...]``; with ``action_at: next`` what is observed has one row
            more per episode.
        lengths: Steps of each episode.
        pictured: Columns that are pictures: their values are the numbers of messages.
        names: Names of the entries of a column.
        ages: Age of each topic at each tick, seconds.
        stamps: Which stamps each topic has.
        period: Median of the seconds between ticks, ``nan`` where there is no second one.
        last: The last tick, ns; 0 where there is none.
        stale: Ticks left out because a sensor was too old.
    """

    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    pictured: set[str] = field(default_factory=set)
    names: dict[str, list[str]] = field(default_factory=dict)
    ages: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    period: float = float("nan")
    last: int = 0
    stale: int = 0


class BagReading:
    """Reads one bag.

    Args:
        bag: What it holds; the messages of the topics of the map are kept.
        columns: The resolved column map.

    Raises:
        LogError: The bag has not all of the topics.
    """

    def __init__(self, bag: Recording, columns: ColumnMap) -> None:
        self._bag, self._map, topics = bag, columns, list(bag.topics)
        self._names = wanted(columns)
        self._columns: dict[str, Column] = {}
        asked = [name.removesuffix(AGE) for name in self._names]
        for name in (*asked, *(n for n in (columns.row_at, columns.episode_marker) if n)):
            column = column_of(name, topics, bag.path)
            if column is None:
                raise LogError(
                    "the bag has no such topic",
                    f"{nearest(name, topics)}It holds: {listed(topics)}.",
                    path=bag.path,
                    column=name,
                )
            self._columns[name] = column
        self._messages = {c.topic: decoded(bag, c.topic) for c in self._columns.values()}
        self._stamps: dict[str, Stamps] = {}
        self.kinds: dict[str, str] = {}
        for topic, messages in self._messages.items():
            found = stamps_of(bag, topic, messages, columns.stamps)
            self._stamps[topic], self.kinds[topic] = found
        check_clocks(bag, self._stamps, self.kinds)

    @cached_property
    def _series(self) -> dict[str, Series]:
        names = (name for name in self._names if not name.endswith(AGE))
        return {name: self._one(name) for name in names}

    def _one(self, name: str) -> Series:
        column = self._columns[name]
        stamps = self._stamps[column.topic]
        if self._is_picture(column):
            order = np.argsort(stamps, kind="stable")
            return Series(stamps[order], order, [])
        return series_of(self._messages[column.topic], stamps, column, self._bag.path)

    def _is_picture(self, column: Column) -> bool:
        return not column.steps and is_picture(self._bag.topics[column.topic])

    def rows(self) -> Rows:
        """Return the rows.

        Returns:
            All episodes of the bag, one after the other; there may be none.

        Raises:
            LogError: A field is not there, or holds no numbers.
        """
        made = Rows(stamps=self.kinds)
        found, made.stale = self._runs()
        runs = [run for run in found if len(run) > self._ahead]
        made.lengths = [len(run) - self._ahead for run in runs]
        every = np.concatenate([np.zeros(0, np.int64), *runs])
        made.ages = self._ages(every)
        for name, series in self._series.items():
            made.values[name] = series.values[newest(series.stamps, every)]
            made.names[name] = series.names
            if self._is_picture(self._columns[name]):
                made.pictured.add(name)
        for name in (name for name in self._names if name.endswith(AGE)):
            made.values[name] = made.ages[self._columns[name.removesuffix(AGE)].topic]
        if self._ahead:
            self._look_ahead(made, runs)
        steps = np.concatenate([np.zeros(0, np.int64), *map(np.diff, runs)])
        made.period = float(np.median(steps)) / _SECOND if len(steps) else float("nan")
        made.last = int(every[-1]) if len(every) else 0
        return made

    @property
    def _ahead(self) -> int:
        """Ticks that an action is read later than what is observed."""
        return int(self._map.action_at == "next")

    def _segments(self) -> list[Segment]:
        name = self._map.episode_marker
        if not name:
            return [_WHOLE]
        column = self._columns[name]
        messages, stamps = self._messages[column.topic], self._stamps[column.topic]
        return marked(*marks(messages, stamps, column, self._bag.path))

    def _runs(self) -> tuple[list[Stamps], int]:
        """Return the ticks of each run in which no sensor is too old, and how many are left out."""
        given, needed = None, [series.stamps for series in self._series.values()]
        needed += [self._sorted(name) for name in self._names if name.endswith(AGE)]
        if self._map.row_at:
            given = self._sorted(self._map.row_at)
        else:
            self._check_span(needed)
        found, stale = list[Stamps](), 0
        for segment in self._segments():
            ticks = ticks_of(segment, needed, self._map.control_rate_hz, given)
            runs = fresh_runs(self._sensed(ticks), self._map.max_age)
            found += [ticks[run] for run in runs]
            stale += len(ticks) - sum(run.stop - run.start for run in runs)
        return found, stale

    def _check_span(self, needed: list[Stamps]) -> None:
        """Raise for a grid of far more ticks than there are messages: a stamp is wrong."""
        span = (max(int(s[-1]) for s in needed) - min(int(s[0]) for s in needed)) / _SECOND
        ticks, messages = span * (self._map.control_rate_hz or 0.0), sum(map(len, needed))
        if ticks > _MOST_TICKS and ticks > _MOST_TICKS_EACH * messages:
            raise LogError(
                f"{ticks:,.0f} rows between the first and the last of {messages:,} stamps, "
                f"{span:,.0f} s",
                "A stamp is wrong, or the rate: set `stamps: receive`, or correct control_rate_hz.",
                path=self._bag.path,
            )

    def _sorted(self, name: str) -> Stamps:
        """Return the stamps of a topic, ascending."""
        return np.sort(self._stamps[self._columns[name.removesuffix(AGE)].topic])

    def _sensed(self, ticks: Stamps) -> list[NDArray[np.float64]]:
        """Return the ages of what is observed and commanded: a goal may be as old as it is."""
        names = [*columns_in(self._map.observation), *columns_in(self._map.action)]
        return [
            self._age(self._series[name].stamps, ticks) for name in names if name in self._series
        ]

    def _ages(self, ticks: Stamps) -> dict[str, NDArray[np.float64]]:
        """Return the age of each topic, of the field whose last message is oldest."""
        found: dict[str, NDArray[np.float64]] = {}
        for name in self._names:
            topic = self._columns[name.removesuffix(AGE)].topic
            stamps = self._sorted(name) if name.endswith(AGE) else self._series[name].stamps
            age = self._age(stamps, ticks)
            found[topic] = np.maximum(found.get(topic, age), age)
        return found

    @staticmethod
    def _age(stamps: Stamps, ticks: Stamps) -> NDArray[np.float64]:
        return (ticks - stamps[newest(stamps, ticks)]) / _SECOND

    def _look_ahead(self, made: Rows, runs: list[Stamps]) -> None:
        """Give actions the value of the following tick; what is observed has one row more."""
        starts = np.cumsum([0, *map(len, runs)])[:-1]
        drop_first = np.ones(sum(map(len, runs)), bool)
        drop_first[starts] = False
        drop_last = np.ones(len(drop_first), bool)
        drop_last[[start + len(run) - 1 for start, run in zip(starts, runs, strict=True)]] = False
        for name in columns_in(self._map.action):
            made.values[f"{name}{NEXT}"] = made.values[name][drop_first]
            made.names[f"{name}{NEXT}"] = made.names[name]
        both = ("observation", "achieved_goal", "task")
        keep = {name for of in both for name in columns_in(getattr(self._map, of))}
        for name in self._names:
            if name not in keep:
                made.values[name] = made.values[name][drop_last]
