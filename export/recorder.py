"""Recordings as MCAP: every viewer of robots opens them, and ``read_log`` reads them back as a log.

The file holds its own column map, so nothing has to be said to read it. Numbers are messages of
JSON; what cameras see are topics of their own, pictures as ROS 2 has them.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.contract import Contract, bounds
from hindsight_rl.export.feed import Observation
from hindsight_rl.export.mcap import ENCODINGS, McapWriter

STEP, EPISODE, HELD = "/step", "/episode", "/held"
CAMERA = "/camera/"
"""How topics of pictures begin."""
_SYNTAX = re.compile(r"[.\[\]]")
_FLUSH_NS = 500_000_000


class Recorder:
    """Records the steps of a loop, as one episode or, where readings were bad, several.

    Args:
        path: A file ending in ``.mcap`` that does not exist yet.
        contract: Of the policy: names, bounds and offsets go into the recording's column map.
        rate: Steps a second; that of the contract if ``None``.
        clock: Nanoseconds since 1970.

    Raises:
        ValueError: The file is of another kind or is there already, or pictures have other channels
            than one, three or four.
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
        topics = columns["observation"] if isinstance(columns["observation"], dict) else {}
        self._cameras = [name for name, topic in topics.items() if topic == f"{CAMERA}{name}"]
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
        seen: Any = observation
        if isinstance(observation, Mapping):
            seen = {entry_name(name): value for name, value in observation.items()}
            for name in self._cameras:
                self._writer.picture(f"{CAMERA}{name}", now, np.asarray(seen.pop(name)))
        shown: dict[str, Any] = {"observation": plain(seen), "action": plain(action)}
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
        ValueError: The policy sees pictures of other channels, or two entries would have one name.
    """
    seen, action, task = contract["observation"], contract["action"], contract["task"]
    entries = _entries(contract)
    # A file of release 0.1 has one vector, and does not say that it is one.
    parts = entries if entries else {"": {"kind": "vector"} | seen}
    for name, part in parts.items():
        if part["kind"] == "image" and part["shape"][-1] not in ENCODINGS:
            raise ValueError(
                f"observation.{name} is pictures of {part['shape'][-1]} channels, and pictures of "
                "1, 3 and 4 are recorded as MCAP: record its topics"
            )
    found: dict[str, Any] = {
        "observation": {
            name: f"{CAMERA}{name}" if part["kind"] == "image" else f"{STEP}.observation.{name}"
            for name, part in entries.items()
        }
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


def entry_name(name: str) -> str:
    """Return the name of an entry in a recording, where dots and brackets lead to fields."""
    return _SYNTAX.sub("/", name)


def _entries(contract: Contract) -> dict[str, Any]:
    """Return the entries that a policy sees by their names in a recording."""
    entries: Mapping[str, Any] = contract["observation"].get("entries") or {}
    found = {entry_name(name): part for name, part in entries.items()}
    if len(found) < len(entries):
        raise ValueError(f"two of the entries {sorted(entries)} would have one name in a recording")
    return found


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
        ValueError: A column of images is of another type or has other channels.
    """
    kept = {name: values for name, values in columns.items() if name not in ("episode", "step")}
    cameras = {
        name: f"{CAMERA}{entry_name(name)}" for name, values in kept.items() if values.ndim > 2
    }
    for name in cameras:
        if kept[name].dtype != np.uint8 or kept[name].shape[3:] not in {(n,) for n in ENCODINGS}:
            raise ValueError(
                f"{name} is {kept[name].dtype} {list(kept[name].shape[1:])}, and no picture that "
                "is recorded as MCAP (uint8 [H, W, C] of 1, 3 or 4 channels): record as .npz"
            )
    writer = McapWriter(file, {"columns": json.dumps(_mapped(kept, cameras, column_map))})
    episode = columns["episode"]
    for row, stamp in enumerate(stamps):
        if row == 0 or episode[row] != episode[row - 1]:
            writer.write(EPISODE, stamp, {"recording": True})
        for name, topic in cameras.items():
            writer.picture(topic, stamp, kept[name][row])
        message: dict[str, Any] = {}
        for name, values in kept.items():
            if name in cameras:
                continue
            outer, dot, entry = name.partition(".")
            place = message.setdefault(outer, {}) if dot else message
            place[entry_name(entry) if dot else outer] = values[row].tolist()
        writer.write(STEP, stamp, message)
        if row + 1 == len(stamps) or episode[row] != episode[row + 1]:
            writer.write(EPISODE, stamp + 1, {"recording": False})
    writer.close()


def plain(value: Any) -> Any:
    """Return arrays as lists, by entry where there are several."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return np.asarray(value).tolist()


def _mapped(
    kept: Mapping[str, Any], cameras: Mapping[str, str], column_map: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the column map of a recording of episodes, given that of their columns."""
    fields = {"desired_goal": "task"}
    found: dict[str, Any] = {"row_at": STEP, "episode_marker": f"{EPISODE}.recording"}
    for name in kept:
        outer, dot, entry = name.partition(".")
        field, entry = fields.get(outer, outer), entry_name(entry)
        place = cameras.get(name, f"{STEP}.{outer}.{entry}" if dot else f"{STEP}.{outer}")
        if dot:
            found.setdefault(field, {})[entry] = place
        else:
            found[field] = place
    told = ("action_low", "action_high", "action_count", "action_start", "control_rate_hz")
    return found | {name: column_map[name] for name in told if name in column_map}
