"""Filling a column map from the names that a source holds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import LONGEST_NAME, MOST_STARS
from hindsight_rl.logs.problems import listed, missing_column
from hindsight_rl.logs.reading.column_map import DELIMITERS, SHIFTED, ColumnMap

Names = Mapping[str, tuple[str, ...]]

# Names seen in D4RL, RLlib, d3rlpy, imitation, tianshou and LeRobot logs; the first one held wins.
# A lone ``terminal`` is read as ``done``: imitation sets it at time limits too.
COMMON_NAMES: Names = {
    "observation": (
        *("observation", "observations", "obs", "state", "states"),
        *("observation_*", "observation[*]", "obs_*", "obs[*]", "state_*"),
    ),
    "action": ("action", "actions", "acts", "act", "action_*", "action[*]", "act_*"),
    "reward": ("reward", "rewards", "rews", "rew"),
    "next_observation": (
        *("next_observation", "next_observations", "next_obs", "new_obs", "obs_next"),
        *("next_observation_*", "next_observation[*]", "next_obs_*", "new_obs_*", "next_state_*"),
    ),
    "terminated": ("terminated", "terminateds", "terminals", "terminations"),
    "truncated": ("truncated", "truncateds", "timeouts", "truncations"),
    "done": ("done", "dones", "terminal"),
    "episode": ("episode", "episode_id", "episode_index", "eps_id"),
    "episode_end": ("episode_end",),
    "split_indices": ("split_indices",),
    "step": ("step", "timestep", "t", "frame_index"),
    "task": ("desired_goal", "desired_goals"),
    "achieved_goal": ("achieved_goal", "achieved_goals"),
    "next_achieved_goal": ("next_achieved_goal", "next_achieved_goals"),
    # Never guessed: read where they are asked for.
    "image": (),
    "success": (),
    "action_log_prob": (),
    "extra": (),
}
# Fields that may name several columns.
_SEVERAL = {name for name, hint in get_type_hints(ColumnMap).items() if list[str] in get_args(hint)}


def resolve(
    columns: ColumnMap, held: Sequence[str], path: Path | str, names: Names = COMMON_NAMES
) -> ColumnMap:
    """Return a map in which observation, action and reward are given and every column exists.

    Args:
        columns: The map as its owner wrote it.
        held: Names of the columns that the source holds.
        path: The source, for messages.
        names: Candidate names of each field, best first.

    Returns:
        The map with patterns expanded and fields left out filled where a usual name is held.

    Raises:
        LogError: A column given does not exist, a pattern stands for several where one is needed,
            or a needed column cannot be guessed.
    """
    found: dict[str, Any] = {}
    for field in COMMON_NAMES:
        value = getattr(columns, field)
        if isinstance(value, (str, list)) and value != SHIFTED:
            found[field] = expand(value, held, path)
            if field not in _SEVERAL:
                found[field] = _only(found[field], field, str(value), path)
        elif value is None and field not in _settled(columns, found, names):
            found[field] = _guess(names.get(field, ()), held)
    filled = replace(columns, **{field: value for field, value in found.items() if value})
    for field in ("observation", "action", "reward"):
        if getattr(filled, field) is None:
            raise _nothing_for(field, held, path)
    return filled


def wanted(columns: ColumnMap) -> list[str]:
    """Return the names of the columns that a resolved map reads, each once."""
    names: list[str] = []
    for field in COMMON_NAMES:
        value = getattr(columns, field)
        if isinstance(value, str) and value != SHIFTED:
            names.append(value)
        elif isinstance(value, list):
            names += value
    return list(dict.fromkeys(names))


def _settled(columns: ColumnMap, found: Mapping[str, Any], names: Names) -> set[str]:
    """Fields that may not be guessed any more, given those given or found so far."""
    settled: set[str] = set()
    for field in ("observation", "achieved_goal"):
        given = getattr(columns, field)
        # A stored `next_obs` belongs to `obs`, not to whatever else is taken for the observation.
        if given and given not in names.get(field, ()):
            settled |= {f"next_{field}"}
    if any(getattr(columns, name) or found.get(name) for name in DELIMITERS):
        settled |= set(DELIMITERS)
    if any(getattr(columns, name) or found.get(name) for name in ("terminated", "truncated")):
        settled |= {"done"}
    return settled | ({"terminated", "truncated"} if columns.done else set())


def expand(value: str | list[str], held: Sequence[str], path: Path | str) -> str | list[str]:
    """Return the columns that a field of a map names.

    Args:
        value: A name or several, ``*`` standing for a number.
        held: Columns of the source.
        path: The source, for messages.

    Returns:
        One name where the value is that of a column, or else a list.

    Raises:
        LogError: The source has no such column.
    """
    entries = value if isinstance(value, list) else [value]
    names: list[str] = []
    for entry in entries:
        hits = _matching(entry, held)
        if not hits:
            raise missing_column(entry, held, path)
        names += hits
    return names[0] if value in held else names


def _only(found: str | list[str], field: str, value: str, path: Path | str) -> str:
    """Return the one column that a pattern stands for."""
    names = [found] if isinstance(found, str) else found
    if len(names) > 1:
        raise LogError(
            f"{field}: '{value}' stands for {len(names)} columns where one is needed",
            f"Name one of them: {listed(names)}.",
            path=path,
        )
    return names[0]


def _matching(name: str, held: Sequence[str]) -> list[str]:
    if name in held:
        return [name]
    if "*" not in name:
        return []
    if name.count("*") > MOST_STARS or "**" in name:
        raise LogError(
            f"'*' stands for more than {MOST_STARS} numbers, or two lie side by side",
            "Name the columns in a list.",
            column=name,
        )
    pattern = re.compile("([0-9]+)".join(re.escape(part) for part in name.split("*")))
    # Trying a pattern takes time that grows with a power of the length of the name.
    short = (column for column in held if len(column) <= LONGEST_NAME)
    hits = [(match.groups(), column) for column in short if (match := pattern.fullmatch(column))]
    return [column for _, column in sorted(hits, key=lambda hit: [int(n) for n in hit[0]])]


def _guess(candidates: Sequence[str], held: Sequence[str]) -> str | list[str] | None:
    for candidate in candidates:
        hits = _matching(candidate, held)
        if hits:
            return hits[0] if candidate in held else hits
    return None


def _nothing_for(field: str, held: Sequence[str], path: Path | str) -> LogError:
    mend = f"Name it in the column map: `{field}: COLUMN`. The source holds: {listed(held)}."
    if field == "reward":
        mend += " A log without rewards is read with `reward: 0.0`."
    return LogError(f"no column looks like the {field}", mend, path=path)
