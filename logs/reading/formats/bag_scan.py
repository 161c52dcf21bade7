"""Bags of a source and what each holds: topics, receive times, the messages that are asked for."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import check_memory, read_text, regular_file
from hindsight_rl.logs.reading.column_values import yaml_values
from hindsight_rl.logs.reading.formats.bag_file import (
    EXTRA,
    Losses,
    Message,
    Topic,
    mcap_messages,
)
from hindsight_rl.logs.reading.formats.bag_sqlite import sqlite_messages
from hindsight_rl.logs.reading.table import natural

ENDINGS = (".mcap", ".db3")
METADATA = "hindsight"
"""Name of the metadata record of our own recordings; its ``columns`` is their column map."""
WHOLE = 1 << 62
"""Bytes of a message at most."""
_PACKED = (".mcap.zstd", ".db3.zstd", ".mcap.zst", ".db3.zst")
_SPLIT = re.compile(r"(.*)_(\d+)")
_SECOND = 1e9
_CHECKED_EVERY = 16 << 20  # bytes


@dataclass
class Recording:
    """One bag.

    Args:
        path: Its file or folder.
        files: Its files in order.
        topics: Each topic by name.
        received: Receive times (ns) of all messages by topic, in the order of the file.
        kept: The messages of the topics that were asked for.
        brief: Topics of which only the first bytes of each message were kept.
        first: The first message of each topic.
        losses: What was lost.
        metadata: Metadata records by name.
        distribution: Release of ROS that wrote it, "" where the bag does not say.
    """

    path: Path
    files: list[Path]
    topics: dict[str, Topic] = field(default_factory=dict)
    received: dict[str, list[int]] = field(default_factory=dict)
    kept: dict[str, list[bytes]] = field(default_factory=dict)
    brief: set[str] = field(default_factory=set)
    first: dict[str, bytes] = field(default_factory=dict)
    losses: Losses = field(default_factory=Losses)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def messages(self) -> int:
        """Messages that were found."""
        return sum(map(len, self.received.values()))


def bags_in(path: Path) -> list[list[Path]]:
    """Return the files of each bag of a source.

    A folder is one bag where rosbag2 wrote its metadata or numbered its files; other files are each
    a bag, and a folder of bags has as many as there are.

    Args:
        path: File or folder.

    Returns:
        Files of each bag, in order.

    Raises:
        LogError: There is none, files are missing, or they are compressed as a whole.
    """
    if path.is_file():
        return [[path]]
    entries = natural(path.iterdir())
    packed = next((entry for entry in entries if entry.name.endswith(_PACKED)), None)
    if packed is not None:
        raise LogError(
            "the file is compressed as a whole", "Unpack it first: zstd -d FILE.", path=packed
        )
    files = [regular_file(entry) for entry in entries if entry.suffix in ENDINGS]
    if files:
        stated = _stated(path)
        missing = [
            name for name in stated.get("relative_file_paths") or [] if not _there(path, name)
        ]
        if missing:
            raise LogError(
                f"metadata.yaml lists {missing[0]}, which is not there",
                "Copy the bag again, or remove metadata.yaml to read the files there are.",
                path=path,
            )
        return [files] if stated or _numbered(files) else [[file] for file in files]
    found = [bag for entry in entries if entry.is_dir() for bag in bags_of(entry)]
    if not found:
        raise LogError("the folder holds no bag", "Give a .mcap or .db3 file.", path=path)
    return found


def bags_of(folder: Path) -> list[list[Path]]:
    """Return the bags of a folder within a folder, none where it holds none."""
    held = any(entry.suffix in ENDINGS for entry in folder.iterdir())
    return bags_in(folder) if held else []


def scan(files: list[Path], path: Path, keep: Callable[[Topic], int]) -> Recording:
    """Return what a bag holds.

    Args:
        files: Its files in order.
        path: The source that they belong to.
        keep: Returns how many bytes of each message of a topic are wanted, ``WHOLE`` for all.

    Returns:
        The recording.

    Raises:
        LogError: A file is of another kind, or a topic has messages of two types.
    """
    one = files[0] if len(files) == 1 else files[0].parent
    found = Recording(one, files)
    wanted = dict[str, int]()
    held, total, checked = sum(file.stat().st_size for file in files), 0, 0
    for file in files:
        for topic, received, data in messages_of(file, found.losses, found.metadata):
            name = topic.name
            if name not in found.topics:
                found.topics[name], found.first[name] = topic, data
                found.received[name], found.kept[name] = [], []
                wanted[name] = keep(topic)
                if 0 < wanted[name] < WHOLE:
                    found.brief.add(name)
            elif found.topics[name].type != topic.type:
                raise LogError(
                    f"messages of two types, {found.topics[name].type} and {topic.type}",
                    "Leave the topic out, or record them apart.",
                    path=file,
                    column=name,
                )
            found.received[name].append(received)
            if wanted[name]:
                found.kept[name].append(data[: wanted[name]])
                total += len(found.kept[name][-1])
                if total > checked + _CHECKED_EVERY:
                    check_memory(total, held, file)
                    checked = total
    _check_promised(found)
    return found


def messages_of(
    file: Path, losses: Losses, metadata: dict[str, dict[str, str]]
) -> Iterator[Message]:
    """Yield the messages of a file of either kind."""
    if file.suffix == ".db3":
        return sqlite_messages(regular_file(file), losses)
    try:
        import mcap.records  # noqa: F401
    except ImportError as error:
        raise LogError("MCAP files need mcap", f"{EXTRA}.", path=file) from error
    return mcap_messages(regular_file(file), losses, metadata)


def stated_map(file: Path) -> str:
    """Return the column map that one of our own recordings states, "" for others."""
    metadata = dict[str, dict[str, str]]()
    if file.suffix != ".db3":
        with closing(messages_of(file, Losses(), metadata)) as found:  # type: ignore[type-var]
            next(found, None)  # it lies before the first message
    return metadata.get(METADATA, {}).get("columns", "")


def about_topics(recordings: list[Recording]) -> dict[str, dict[str, Any]]:
    """Return type, number of messages, rate and longest gap of each topic of some bags.

    Args:
        recordings: The bags.

    Returns:
        By topic, plain values: ``rate_hz`` and ``longest_gap_s`` are ``None`` for lone messages.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({name for one in recordings for name in one.topics}):
        times = [np.sort(one.received[name]) for one in recordings if name in one.topics]
        gaps = np.concatenate([np.diff(part) for part in times]) / _SECOND
        topic = next(one.topics[name] for one in recordings if name in one.topics)
        seconds = float(gaps.sum())
        found[name] = {
            "type": topic.type or topic.encoding,
            "messages": sum(map(len, times)),
            "rate_hz": round(len(gaps) / seconds, 6) if seconds > 0 else None,
            "longest_gap_s": round(float(gaps.max()), 6) if len(gaps) else None,
        }
    return found


def _stated(folder: Path) -> dict[str, Any]:
    """Return what metadata.yaml says, nothing where rosbag2 did not come to write it."""
    file = folder / "metadata.yaml"
    if not file.is_file():
        return {}
    try:
        said = yaml_values(read_text(file))["rosbag2_bagfile_information"]
    except Exception as error:  # cut by the loss of power, as the bag may be
        raise LogError(
            "metadata.yaml cannot be read",
            "Remove it: the bag is read without.",
            path=file,
        ) from error
    if not isinstance(said, dict) or said.get("compression_mode", "").lower() == "message":
        raise LogError(
            "its messages are compressed one by one",
            "Convert it: ros2 bag convert, with no compression or that of MCAP.",
            path=folder,
        )
    return said


def _check_promised(found: Recording) -> None:
    """Note messages that metadata.yaml counts and the files do not hold."""
    folder = found.files[0].parent
    if found.path != folder and len(found.files) == 1 and not (folder / "metadata.yaml").exists():
        return
    promised = _stated(folder).get("message_count")
    if isinstance(promised, int) and promised > found.messages:
        lost = promised - found.messages
        found.losses.sentences.append(
            f"{folder}: {lost:,} of {promised:,} messages that metadata.yaml counts are lost"
        )
        found.losses.messages = lost


def _there(folder: Path, name: Any) -> bool:
    return isinstance(name, str) and (folder / name).is_file()


def _numbered(files: list[Path]) -> bool:
    """Return whether files are the parts of one bag: one stem, numbered in their order."""
    parts = [_SPLIT.fullmatch(file.stem) for file in files]
    stems = {part[1] for part in parts if part}
    numbers = [int(part[2]) for part in parts if part]
    return len(stems) == 1 and numbers == list(range(len(files)))
