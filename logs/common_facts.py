"""Facts of several logs read as one: what all of them say, and never what only the first does.

========================================  =========================================================
fact                                      of several sources
========================================  =========================================================
counts (``repeated_next_observation``,    the sum
``clipped_actions``,
``parted_episodes``)
``discrete_actions``                      up to the last choice of all: a log need not show each
``action_start``                          equal, or an error; where it was guessed, the others', or
                                          the least
``action`` bounds, ``rate_limit``,        equal, or an error; known for some sources only: an error,
``task_family``, ``entries``,             because the rows of the others may mean something else
``observation_choices``, ``offset``
``names``, ``units``,                     equal, or an error; known for some sources only: taken,
``control_rate_hz``                       with a warning
``environment``                           equal, or left out with a warning
all others                                equal, or left out
========================================  =========================================================

Names that only count the dimensions (``observation[0]``, ``obs_0``) are not known.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hindsight_rl.entries import are_numbered
from hindsight_rl.logs.errors import LogError

_COUNTS = ("repeated_next_observation", "clipped_actions", "parted_episodes")
_STRICT = ("rate_limit", "task_family", "entries", "observation_choices", "offset")
GUESSED = "action_start_guessed"
"""Fact of a log whose first choice is only the smallest that it shows."""
_CHOICES = ("discrete_actions", "action_start", GUESSED)
_OF_THE_SOURCE = ("source", "memory_mapped")  # concerns the first alone; who joins logs sets it
_COUNTED = re.compile(r"(.*?)[\[_./]?(\d+)\]?")
_USUAL = {
    "observation": ("observation", "observations", "obs", "state", "states"),
    "action": ("action", "actions", "acts", "act"),
    "task": ("task", "tasks", "desired_goal", "goal", "goals"),
}


class SourceFacts(NamedTuple):
    """What one source says."""

    name: str
    info: Mapping[str, Any]


def joint_facts(logs: Sequence[SourceFacts]) -> dict[str, Any]:
    """Return the facts of several logs read as one.

    Args:
        logs: Name and facts of each.

    Returns:
        Facts that hold for all of them, and what says of the first where it lies.

    Raises:
        LogError: They differ in a fact that gives the rows their meaning; both are named.
    """
    first = logs[0].info
    facts = {name: first[name] for name in _OF_THE_SOURCE if name in first}
    special = {*_COUNTS, *_STRICT, *_OF_THE_SOURCE, *_CHOICES, "action", "names", "units"}
    special |= {"control_rate_hz", "environment"}
    for name in first.keys() - special:
        if all(name in log.info and log.info[name] == first[name] for log in logs):
            facts[name] = first[name]
    given = {name: [log.info[name] for log in logs if name in log.info] for name in special}
    facts |= {name: sum(given[name]) for name in _COUNTS if given[name]}
    if given["discrete_actions"] or given["action_start"]:
        facts |= _choices(logs)
    if given["action"]:
        facts["action"] = {side: _bound(logs, side) for side in ("low", "high")}
    for name in _STRICT:
        values = [log.info.get(name) for log in logs]
        value = _one(logs, values, name, one_sided=False)
        facts |= {name: value} if given[name] else {}
    for name in ("names", "units"):
        facts |= {name: _by_key(logs, name)} if given[name] else {}
    if given["control_rate_hz"]:
        rates = [log.info.get("control_rate_hz") for log in logs]
        facts["control_rate_hz"] = _one(logs, rates, "control_rate_hz", one_sided=True)
    return facts | _environment(logs)


def _choices(logs: Sequence[SourceFacts]) -> dict[str, Any]:
    """Return how many choices there are from which number on."""
    starts = [log.info.get("action_start", 0) for log in logs]
    counts = [log.info.get("discrete_actions", 0) for log in logs]
    stops = [start + count for start, count in zip(starts, counts, strict=True) if count]
    sure = [None if log.info.get(GUESSED) else s for s, log in zip(starts, logs, strict=True)]
    known = [(log, s) for log, s in zip(logs, sure, strict=True) if s is not None]
    if known:
        _one([log for log, _ in known], [s for _, s in known], "action_start", one_sided=False)
    start = known[0][1] if known else min(starts)
    for log, least in zip(logs, starts, strict=True):
        if least < start:
            raise LogError(
                f"holds the choice {least}, and those of {known[0][0].name} start at {start}",
                "Correct action_start in the column map of each.",
                path=log.name,
            )
    facts: dict[str, Any] = {"discrete_actions": max(stops) - start} if stops else {}
    facts |= {"action_start": start} if start else {}
    return facts | ({} if known else {GUESSED: True})


def _bound(logs: Sequence[SourceFacts], side: str) -> Any:
    values = [(log.info.get("action") or {}).get(side) for log in logs]
    return _one(logs, values, f"action {side}", one_sided=False)


def _by_key(logs: Sequence[SourceFacts], fact: str) -> dict[str, Any]:
    """Return names or units, by key."""
    keys = dict.fromkeys(key for log in logs for key in log.info.get(fact) or {})
    found = {}
    for key in keys:
        given = [(log.info.get(fact) or {}).get(key) for log in logs]
        known = [None if fact == "names" and _counted(names, key) else names for names in given]
        value = _one(logs, known, f"{fact} of the {key}", one_sided=True)
        found[key] = next(names for names in given if names) if value is None else value
    return found


def _counted(names: Sequence[str] | None, key: str) -> bool:
    """Return whether names say nothing but the number of the dimension, in whatever way."""
    if are_numbered(names, key) or not names:
        return True
    parts = [_COUNTED.fullmatch(name) for name in names]
    said = [(part[1], int(part[2])) for part in parts if part]
    stem = said[0][0] if said else ""
    return stem in _USUAL.get(key, ()) and said == [(stem, i) for i in range(len(names))]


def _one(logs: Sequence[SourceFacts], values: Sequence[Any], fact: str, *, one_sided: bool) -> Any:
    """Return the value that all sources state, ``None`` where none does."""
    known = [(log, value) for log, value in zip(logs, values, strict=True) if value is not None]
    if not known:
        return None
    (stating, stated), *others = known
    for log, value in others:
        if not _agree(value, stated):
            raise LogError(
                f"{fact}: {value} differs from {stated} of the first source that states it, "
                f"{stating.name}",
                "Bring all sources to the same meaning: map columns, units and scales "
                "(action_scale) of each in its own column map, or train on one.",
                path=log.name,
            )
    silent = next((log for log, value in zip(logs, values, strict=True) if value is None), None)
    if silent is None:
        return stated
    if not one_sided:
        raise LogError(
            f"{fact} is not known, and {stating.name} has {stated}",
            "Its rows may mean something else: state it for both, in the column map of each.",
            path=silent.name,
        )
    warnings.warn(
        f"{silent.name}: {fact} is not known, and taken to be that of {stating.name}, {stated}",
        stacklevel=2,
    )
    return stated


def _agree(one: Any, other: Any) -> bool:
    """Return whether two values are equal; numbers within the precision of float32."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_agree, one, other))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (one, other))
    return math.isclose(one, other, rel_tol=1e-6) if numbers else bool(one == other)


def _environment(logs: Sequence[SourceFacts]) -> dict[str, Any]:
    known = [(log.name, log.info["environment"]) for log in logs if log.info.get("environment")]
    for name, environment in known[1:]:
        if environment != known[0][1]:
            warnings.warn(
                f"{name} is of {environment}, and {known[0][0]} of {known[0][1]}: one policy is "
                "fitted to both",
                stacklevel=2,
            )
            return {}
    return {"environment": known[0][1]} if len(known) == len(logs) else {}
