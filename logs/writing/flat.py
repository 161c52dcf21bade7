"""What every format has to say of a log: its columns by name, its column map, its provenance."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    ACTION_LOG_PROB,
    CONTEXT,
    EPISODE,
    EPISODE_END,
    EXPERT_ACTION,
    NEXT_ACHIEVED,
    REWARD,
    STEP,
    TASK,
    TERMINATED,
    TRUNCATED,
    Key,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import next_key

MAP_KEY = "hindsight"
"""Name under which a file holds its column map and provenance, as JSON."""
FIELDS: dict[Key, str] = {
    ACTION: "action",
    REWARD: "reward",
    TERMINATED: "terminated",
    TRUNCATED: "truncated",
    EPISODE: "episode",
    STEP: "step",
    TASK: "task",
    ACHIEVED: "achieved_goal",
    NEXT_ACHIEVED: "next_achieved_goal",
    ACTION_LOG_PROB: "action_log_prob",
    EXPERT_ACTION: "expert_action",
    CONTEXT: "context",
    "success": "success",
}
"""Fields of a column map by the keys they become."""


def written_keys(log: Log) -> list[Key]:
    """Return the keys of the columns that are written, images apart.

    Args:
        log: The log.

    Returns:
        All but numbers of rows, which mean nothing elsewhere.
    """
    return [key for key in log.packed_keys() if key != EPISODE_END]


def column_map(log: Log, names: Mapping[Key, str]) -> dict[str, Any]:
    """Return the column map of a log whose columns have these names.

    Args:
        log: The log.
        names: Name of each key that is written.

    Returns:
        Fields of a column map, plain values.
    """
    found: dict[str, Any] = {
        field: names[key] for key, field in FIELDS.items() if key in names and key in log
    }
    entries = log.info.get("entries")
    for field, of in (("observation", lambda key: key), ("next_observation", next_key)):
        named = {str(key[-1]): names[of(key)] for key in log.observed if of(key) in names}
        if named:
            found[field] = named if entries else next(iter(named.values()))
    images = [names[key] for key in log.images if isinstance(key, str) and key not in log.observed]
    found |= {"image": images} if images else {}
    known = {*FIELDS, *log.observed, *map(next_key, log.observed)}
    further = [
        name
        for key, name in names.items()
        if key not in {*known, *log.images} and isinstance(key, str) and not log.shape(key)
    ]
    return found | ({"extra": further} if further else {}) | facts(log)


def facts(log: Log) -> dict[str, Any]:
    """Return what a column map says of a log beside its columns.

    Args:
        log: The log.

    Returns:
        Names, units, bounds or numbers of choices, offsets and the control rate, where known.
    """
    info, action = log.info, log.info.get("action") or {}
    found: dict[str, Any] = {}
    for name in ("names", "units", "offset", "observation_choices", "control_rate_hz"):
        found |= {name: info[name]} if info.get(name) else {}
    for side in ("low", "high"):
        found |= {f"action_{side}": action[side]} if action.get(side) else {}
    if count := info.get("discrete_actions"):
        found |= {"action_count": count, "action_start": info.get("action_start", 0)}
    return found


def provenance(log: Log) -> dict[str, Any]:
    """Return where a log came from: hash, facts (how it was relabeled among them), version."""
    return {
        "hash": log.hash(),
        "rows": len(log),
        "episodes": log.episodes,
        "sources": [[s.start, s.stop, s.weight, s.name] for s in log.sources],
        "drawable_rows": len(log.drawable()),
        "info": log.info,
        "hindsight_rl": version("hindsight-rl"),
    }


def stated(log: Log, columns: Mapping[str, Any]) -> str:
    """Return the JSON text that a written log holds about itself."""
    return json.dumps({"columns": columns, "provenance": provenance(log)})
