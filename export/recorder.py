"""Recordings as MCAP: every viewer of robots opens them, and ``read_log`` reads them back as a log.

The file holds its own column map, so nothing has to be said to read it. It is written record by
record, without chunks or index: of a robot that loses its power, all steps are there that the
system had written to the disk.

Reference:
    MCAP file format, version 0 (mcap.dev/spec).
"""

import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.contract import Contract, bounds
from hindsight_rl.export.feed import Observation

STEP, EPISODE, HELD = "/step", "/episode", "/held"
_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _METADATA, _DATA_END = 1, 2, 3, 4, 5, 12, 15
_FLUSH_NS = 500_000_000


class McapWriter:
    """Writes messages of JSON to a file.

    Args:
        file: An empty binary file.
        metadata: What a reader finds before the first message, under the name ``hindsight``.
    """

    def __init__(self, file: BinaryIO, metadata: Mapping[str, str]) -> None:
        self._file = file
        self._channels: dict[str, int] = {}
        self._sequence = 0
        file.write(_MAGIC)
        self._record(_HEADER, _text("") + _text("hindsight"))
        pairs = b"".join(_text(name) + _text(value) for name, value in metadata.items())
        self._record(_METADATA, _text("hindsight") + _sized(pairs))

    def write(self, topic: str, stamp: int, message: Mapping[str, Any]) -> None:
        """Write a message.

        Args:
            topic: Its topic.
            stamp: When, ns since 1970.
            message: Plain values that JSON can hold; all of a topic have the same fields.
        """
        if topic not in self._channels:
            self._open(topic, message)
        data = json.dumps(message, separators=(",", ":")).encode()
        number = self._channels[topic]
        head = struct.pack("<HIQQ", number, self._sequence & 0xFFFFFFFF, stamp, stamp)
        self._sequence += 1
        self._record(_MESSAGE, head + data)

    def close(self) -> None:
        """Write the end of the file; it stays open."""
        self._record(_DATA_END, struct.pack("<I", 0))
        self._record(_FOOTER, struct.pack("<QQI", 0, 0, 0))
        self._file.write(_MAGIC)

    def _open(self, topic: str, message: Mapping[str, Any]) -> None:
        number = len(self._channels) + 1
        self._channels[topic] = number
        schema = json.dumps(_schema(message)).encode()
        name = f"hindsight{topic.replace('/', '.')}"
        described = _text(name) + _text("jsonschema") + _sized(schema)
        self._record(_SCHEMA, struct.pack("<H", number) + described)
        about = _text(topic) + _text("json") + _sized(b"")
        self._record(_CHANNEL, struct.pack("<HH", number, number) + about)

    def _record(self, kind: int, body: bytes) -> None:
        self._file.write(struct.pack("<BQ", kind, len(body)) + body)


class Recorder:
    """Records the steps of a loop, as one episode or, where readings were bad, several.

    Args:
        path: A file ending in ``.mcap`` that does not exist yet.
        contract: Of the policy: names, bounds and offsets go into the recording's column map.
        rate: Steps a second; that of the contract if ``None``.
        clock: Nanoseconds since 1970.

    Raises:
        ValueError: The file is of another kind, is there already, or the policy sees images.
    """

    def __init__(
        self,
        path: Path | str,
        contract: Contract,
        rate: float | None = None,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        path = Path(path)
        if path.suffix.lower() != ".mcap":
            raise ValueError(f"{path}: a recording is an MCAP file. End it in .mcap.")
        if path.exists():
            raise ValueError(f"{path}: is there already. Choose another name.")
        columns = loop_columns(contract, rate)
        # Under its name at once, unlike other files: what is there when the power fails must stay.
        self._file = path.open("xb")
        self._clock = clock
        self._writer = McapWriter(self._file, {"columns": json.dumps(columns)})
        self._open, self._flushed, self._last = False, 0, 0

    def step(
        self, observation: Observation, action: Any, task: ArrayLike | None, **numbers: float
    ) -> None:
        """Record a step.

        Args:
            observation: What the policy saw, as :meth:`OnnxPolicy.act` takes it.
            action: What was sent.
            task: The task, or ``None``.
            **numbers: Further ones, such as ``late_us``.
        """
        now = self._clock()
        if not self._open:
            self._mark(now, True)
        shown: dict[str, Any] = {"observation": plain(observation), "action": plain(action)}
        shown |= {} if task is None else {"task": plain(task)}
        self._writer.write(STEP, now, shown | numbers)
        self._last = now
        if now - self._flushed > _FLUSH_NS:
            self._file.flush()
            self._flushed = now

    def gap(self, reason: str) -> None:
        """Record a tick at which the policy was not asked: the episode ends before it."""
        now = self._clock()
        if self._open:
            self._mark(now, False)
        self._writer.write(HELD, now, {"reason": reason})

    def close(self) -> None:
        """End the episode and the file."""
        if self._open:
            self._mark(max(self._clock(), self._last + 1), False)
        self._writer.close()
        self._file.close()

    def __enter__(self) -> Self:
        """Return the recorder; it is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _mark(self, stamp: int, recording: bool) -> None:
        self._writer.write(EPISODE, stamp, {"recording": recording})
        self._open = recording


def loop_columns(contract: Contract, rate: float | None) -> dict[str, Any]:
    """Return the column map of a recording of a loop, in plain types.

    Args:
        contract: Of the policy.
        rate: Steps a second; that of the contract if ``None``.

    Returns:
        Fields of a column map.

    Raises:
        ValueError: The policy sees images.
    """
    seen, action, task = contract["observation"], contract["action"], contract["task"]
    entries = seen.get("entries")
    # A file of release 0.1 has one vector, and does not say that it is one.
    parts = entries if entries else {"": {"kind": "vector"} | seen}
    if any(part["kind"] == "image" for part in parts.values()):
        raise ValueError("a policy that sees images is not recorded as MCAP: record its topics")
    found: dict[str, Any] = {
        "observation": {name: f"{STEP}.observation.{name}" for name in entries}
        if entries
        else f"{STEP}.observation",
        "action": f"{STEP}.action",
        "row_at": STEP,
        "episode_marker": f"{EPISODE}.recording",
    }
    rate = rate or contract["control_rate_hz"]
    found |= {"control_rate_hz": rate} if rate else {}
    found |= {} if task is None else {"task": f"{STEP}.task"}
    choices = {name: part["n"] for name, part in parts.items() if part["kind"] == "discrete"}
    found |= {"observation_choices": choices} if entries and choices else {}
    named = {f"observation.{name}" if name else "observation": part for name, part in parts.items()}
    named |= {"action": action} | ({} if task is None else {"task": {"kind": "vector"} | task})
    real = {key: part for key, part in named.items() if part["kind"] in ("vector", "continuous")}
    for fact, of in (("names", named), ("units", named), ("offset", {**named, "action": {}})):
        stated = {key: part[fact] for key, part in real.items() if key in of and of[key].get(fact)}
        found |= {fact: stated} if stated else {}
    return found | action_columns(contract)


def action_columns(contract: Contract) -> dict[str, Any]:
    """Return what a column map says of a policy's actions: bounds, or numbers of the choices."""
    action = contract["action"]
    if action["kind"] == "discrete":
        return {"action_count": action["n"], "action_start": action.get("start", 0)}
    low, high = bounds(contract)
    found: dict[str, Any] = {}
    for side, ends in (("low", low), ("high", high)):
        stated = [float(end) if np.isfinite(end) else None for end in ends]
        found |= {f"action_{side}": stated} if any(end is not None for end in stated) else {}
    return found


def write_episodes(
    file: BinaryIO,
    columns: Mapping[str, NDArray[Any]],
    column_map: Mapping[str, Any],
    stamps: Sequence[int],
) -> None:
    """Write episodes that were played as a recording.

    Args:
        file: An empty binary file.
        columns: ``[N, ...]`` by usual names, episodes one after the other, ``episode`` among them.
        column_map: What has to be said of them beside usual names, see :class:`Columns`.
        stamps: ``[N]`` when each step was, ns since 1970, ascending.

    Raises:
        ValueError: A column is of images.
    """
    kept = {name: values for name, values in columns.items() if name not in ("episode", "step")}
    wide = next((name for name, values in kept.items() if values.ndim > 2), None)
    if wide is not None:
        raise ValueError(f"{wide} is images, which are not recorded as MCAP: record as .npz")
    writer = McapWriter(file, {"columns": json.dumps(_mapped(kept, column_map))})
    episode = columns["episode"]
    for row, stamp in enumerate(stamps):
        if row == 0 or episode[row] != episode[row - 1]:
            writer.write(EPISODE, stamp, {"recording": True})
        message: dict[str, Any] = {}
        for name, values in kept.items():
            *outer, last = name.split(".", 1)
            place = message.setdefault(outer[0], {}) if outer else message
            place[last] = values[row].tolist()
        writer.write(STEP, stamp, message)
        if row + 1 == len(stamps) or episode[row] != episode[row + 1]:
            writer.write(EPISODE, stamp + 1, {"recording": False})
    writer.close()


def plain(value: Any) -> Any:
    """Return arrays as lists, by entry where there are several."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return np.asarray(value).tolist()


def _mapped(kept: Mapping[str, Any], column_map: Mapping[str, Any]) -> dict[str, Any]:
    """Return the column map of a recording of episodes, given that of their columns."""
    fields = {"desired_goal": "task"}
    found: dict[str, Any] = {"row_at": STEP, "episode_marker": f"{EPISODE}.recording"}
    for name in kept:
        outer, dot, entry = name.partition(".")
        field = fields.get(outer, outer)
        if dot:
            found.setdefault(field, {})[entry] = f"{STEP}.{name}"
        else:
            found[field] = f"{STEP}.{name}"
    told = ("action_low", "action_high", "action_count", "action_start", "control_rate_hz")
    return found | {name: column_map[name] for name in told if name in column_map}


def _schema(value: Any) -> dict[str, Any]:
    """Return the JSON Schema of a plain value."""
    if isinstance(value, Mapping):
        inner = {name: _schema(entry) for name, entry in value.items()}
        return {"type": "object", "properties": inner}
    if isinstance(value, list):
        return {"type": "array", "items": _schema(value[0]) if value else {}}
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    return {"type": next((name for kind, name in kinds if isinstance(value, kind)), "null")}


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _text(text: str) -> bytes:
    return _sized(text.encode())
