"""Bags of ROS 2 (MCAP, sqlite3) and plain MCAP: topics become columns, messages become rows.

A bag has no rows. The column map says at which rate, or at which topic's messages, there shall be
one; each holds the newest message of every topic at that time (``bag_rows``), and how old it is.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import listed, nearest
from hindsight_rl.logs.reading.cameras import check_cameras
from hindsight_rl.logs.reading.column_map import DELIMITERS, LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.formats.bag_file import Topic
from hindsight_rl.logs.reading.formats.bag_messages import column_of, decoder
from hindsight_rl.logs.reading.formats.bag_pictures import STUB, frames_of, is_picture
from hindsight_rl.logs.reading.formats.bag_scan import (
    WHOLE,
    Recording,
    about_topics,
    bags_in,
    scan,
    stated_map,
)
from hindsight_rl.logs.reading.formats.bag_table import AGE, NEXT, BagReading, Rows
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, resolve
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.message_fields import numbers_in

_EPISODE = "episode"
_SECOND = 1e9


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the rows of one bag, or of a folder of bags, each at least one episode.

    Args:
        path: File or folder.
        columns: Column map; columns are ``TOPIC.field``. Our own recordings hold theirs.

    Returns:
        The table, with names of joints, the rate and what is known of the recording.

    Raises:
        LogError: No bag, a topic or a field is not there, messages of an unknown type, or nothing
            says at what rate there shall be rows.
    """
    bags = bags_in(path)
    if not columns.given().keys() - {"format"} and (said := stated_map(bags[0][0])):
        columns = ColumnMap.load(said)
    asked = _asked(columns)
    recordings = [scan(files, path, lambda topic: _bytes_of(topic, asked)) for files in bags]
    if not any(one.messages for one in recordings):
        lost = [sentence for one in recordings for sentence in one.losses.sentences]
        raise LogError("the bag holds no message", " ".join([*lost, "Record again."]), path=path)
    held = _held(recordings, asked, path)
    if columns.reward == LEFT_OUT:
        columns = replace(columns, reward=0.0)
    resolved = resolve(columns, held, path, {})
    _check_rows(resolved, recordings, path)
    cameras = {name for one in recordings for name in one.topics if is_picture(one.topics[name])}
    check_cameras(resolved, cameras.__contains__, path)
    made = [BagReading(one, resolved).rows() for one in recordings]
    return _joined(made, recordings, resolved, held, path)


def overview(path: Path) -> dict[str, Any]:
    """Return the topics of a source and what was lost, for looking before there is a column map.

    Args:
        path: File or folder.

    Returns:
        ``topics`` by name, see :func:`about_topics`; ``bags``; ``lost``, sentences.

    Raises:
        LogError: It is no bag.
    """
    found = [scan(files, path, lambda topic: 0) for files in bags_in(path)]
    lost = [sentence for one in found for sentence in one.losses.sentences]
    return {"bags": len(found), "topics": about_topics(found), "lost": lost}


def _asked(columns: ColumnMap) -> list[str]:
    """Return all columns that a map names, as it names them."""
    named = [name for field in COMMON_NAMES for name in columns_in(getattr(columns, field))]
    return [*(name.removesuffix(AGE) for name in named), *_asked_topics(columns)]


def _asked_topics(columns: ColumnMap) -> list[str]:
    return [name for name in (columns.row_at, columns.episode_marker) if name]


def _bytes_of(topic: Topic, asked: list[str]) -> int:
    """Return how many bytes are kept of each message of a topic: none, its stamp, or all."""
    rests = [name[len(topic.name) :] for name in asked if name.startswith(topic.name)]
    rests = [rest for rest in rests if rest[:1] in ("", ".", "[")]
    if not rests:
        return 0
    return STUB if is_picture(topic) and not any(rests) else WHOLE


def _held(recordings: list[Recording], asked: list[str], path: Path) -> list[str]:
    """Return the names of columns that there are, and those asked for of topics that there are."""
    found: dict[str, None] = {}
    topics: dict[str, Recording] = {}
    for one in recordings:
        topics |= {name: one for name in one.topics if name not in topics}
    for name, one in sorted(topics.items()):
        if is_picture(one.topics[name]):
            found |= {name: None, f"{name}{AGE}": None}
        try:
            message = decoder(one.topics[name], one.path)(one.first[name])
        except Exception:  # said where the topic is asked for
            continue
        found |= dict.fromkeys(f"{name}{rest}" for rest in numbers_in(message))
        found[f"{name}{AGE}"] = None
    for name in asked:
        if "*" not in name and column_of(name, list(topics), path) is not None:
            found[name] = None
    return list(found)


def _check_rows(columns: ColumnMap, recordings: list[Recording], path: Path) -> None:
    """Raise where nothing says at what rate there shall be rows, or a topic is not there."""
    topics = about_topics(recordings)
    for field in ("row_at", "episode_marker"):
        name = getattr(columns, field)
        if name and column_of(name, list(topics), path) is None:
            raise LogError(
                f"{field}: no such topic",
                f"{nearest(name, list(topics))}It holds: {listed(list(topics))}.",
                path=path,
                column=name,
            )
    if columns.control_rate_hz is None and not columns.row_at:
        rates = (f"{name} {about['rate_hz'] or 0:.4g} Hz" for name, about in topics.items())
        raise LogError(
            "a bag has no rows, and the column map does not say at what rate there shall be some",
            "Write `control_rate_hz: 50`, or `row_at: TOPIC` for a row at each of its messages. "
            f"Topics: {listed(list(rates))}.",
            path=path,
        )
    given = [name for name in DELIMITERS if getattr(columns, name) not in (None, False, LEFT_OUT)]
    if given:
        raise LogError(
            f"{given[0]} is given, and a bag is an episode, or has `episode_marker: TOPIC.field`",
            "Remove it from the column map.",
            path=path,
        )


def _joined(
    made: list[Rows], bags: list[Recording], columns: ColumnMap, held: list[str], path: Path
) -> Table:
    """Return the table of all bags."""
    names = made[0].values
    lengths = [length for rows in made for length in rows.lengths]
    if not lengths:
        raise LogError(
            "no row is left",
            "All topics of the map must have messages at the same time, within one episode"
            f"{' and no older than max_age' if columns.max_age else ''}.",
            path=path,
        )
    values = {name: _concatenated(name, made, bags, columns) for name in names}
    values[_EPISODE] = np.repeat(np.arange(len(lengths)), lengths)
    columns = replace(columns, episode=_EPISODE)
    if columns.action_at == "next":
        action = columns.action
        following = [f"{name}{NEXT}" for name in columns_in(action)]
        columns = replace(columns, action=following if isinstance(action, list) else following[0])
    periods = [rows.period for rows in made if rows.period > 0]
    rate = columns.control_rate_hz or (float(f"{1 / np.median(periods):.4g}") if periods else None)
    recording = _facts(made, bags, rate)
    facts = {"control_rate_hz": rate, "names": made[0].names, "recording": recording}
    for sentence in recording["lost"]:
        warnings.warn(sentence, stacklevel=2)
    return Table(columns, values, facts, held=tuple(held))


def _concatenated(
    name: str, made: list[Rows], bags: list[Recording], columns: ColumnMap
) -> NDArray[Any]:
    pictured = {name in rows.pictured for rows in made}
    if pictured == {True, False}:
        raise LogError("pictures in some bags and not in others", "Read them apart.", column=name)
    if pictured == {True}:
        return frames_of(name, bags, [rows.values[name] for rows in made], columns)
    first = made[0]
    for rows, bag in zip(made, bags, strict=True):
        here, there = rows.values[name].shape[1:], first.values[name].shape[1:]
        if here != there or rows.names.get(name) != first.names.get(name):
            raise LogError(
                f"{rows.names.get(name) or list(here)} where {bags[0].path} has "
                f"{first.names.get(name) or list(there)}",
                "Name the same entries of all bags, such as TOPIC.position[elbow].",
                path=bag.path,
                column=name,
            )
    return np.concatenate([rows.values[name] for rows in made])


def _facts(made: list[Rows], bags: list[Recording], rate: float | None) -> dict[str, Any]:
    """Return what is known of the recording, as plain values."""
    topics = about_topics(bags)
    for name in {name for rows in made for name in rows.ages}:
        ages = np.concatenate([rows.ages.get(name, np.zeros(0)) for rows in made])
        kinds = sorted({rows.stamps[name] for rows in made if name in rows.stamps})
        topics[name]["stamps"] = " and ".join(kinds)
        if len(ages):
            topics[name]["age_s"] = {
                "median": round(float(np.median(ages)), 6),
                "max": round(float(ages.max()), 6),
            }
    lost = [sentence for bag in bags for sentence in bag.losses.sentences]
    counts = [bag.losses.messages for bag in bags]
    seconds = sum(
        max(0, bag.losses.until - rows.last) / _SECOND for bag, rows in zip(bags, made, strict=True)
    )
    return {
        "bags": len(bags),
        "topics": topics,
        "lost": lost,
        "lost_messages": None if None in counts else sum(filter(None, counts)),
        "lost_rows": round(seconds * rate) if rate and lost else 0,
        "stale_rows": sum(rows.stale for rows in made),
    }
