"""Filling a column map from the names that a source holds."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import LONGEST_NAME, MOST_STARS
from hindsight_rl.logs.problems import listed, missing_column
from hindsight_rl.logs.reading.column_map import DELIMITERS, LEFT_OUT, SHIFTED, ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.groups import check_groups
from hindsight_rl.logs.reading.known_layouts import known_layout

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
    "episode": ("episode", "episode_id", "episode_index", "eps_id"),
    "episode_end": ("episode_end", "episode_terminals"),
    "episode_start": ("episode_start", "episode_starts"),
    "split_indices": ("split_indices", "episode_ends"),
    "terminated": (
        *("terminated", "terminateds", "terminals", "terminations", "termination"),
        "is_terminal",
    ),
    "truncated": (
        *("truncated", "truncateds", "timeouts", "truncations", "truncation", "timeout"),
        "is_truncated",
    ),
    "done": ("done", "dones", "terminal", "dones_float", "is_done"),
    "step": ("step", "timestep", "t", "frame_index"),
    "task": ("desired_goal", "desired_goals"),
    "achieved_goal": ("achieved_goal", "achieved_goals"),
    "next_achieved_goal": ("next_achieved_goal", "next_achieved_goals"),
    "action_log_prob": ("action_log_prob",),
    "expert_action": ("expert_action", "expert_action_*", "expert_action[*]"),
    # Never guessed: read where they are asked for.
    "continues": (),
    "image": (),
    "success": (),
    "context": (),
    "extra": (),
}
NEEDED = ("observation", "action", "reward")
"""Fields without which there is no log."""

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
    if names is COMMON_NAMES:
        acts = columns.action or any(matching(name, held) for name in names["action"])
        check_groups(_named(columns, held), bool(acts), held, path, names)
    found: dict[str, Any] = {}
    for field in COMMON_NAMES:
        value = getattr(columns, field)
        if isinstance(value, dict):
            found[field] = {
                entry: named if named == SHIFTED else expand(named, held, path)
                for entry, named in value.items()
            }
        elif isinstance(value, (str, list)) and value not in (LEFT_OUT, SHIFTED):
            found[field] = expand(value, held, path)
            if field not in _SEVERAL:
                found[field] = _only(found[field], field, str(value), path)
        elif value == LEFT_OUT and field not in _settled(columns, found, names):
            found[field] = _guess(names.get(field, ()), held, path)
    empty = {field: None for field in COMMON_NAMES if getattr(columns, field) == LEFT_OUT}
    filled = replace(columns, **empty | {field: value for field, value in found.items() if value})
    if names is COMMON_NAMES:
        filled = known_layout(columns, filled, held, path, names)
    for field in NEEDED:
        if getattr(filled, field) is None:
            raise _nothing_for(field, held, path)
    return filled


def wanted(columns: ColumnMap) -> list[str]:
    """Return the names of the columns that a resolved map reads, each once."""
    fields = (getattr(columns, field) for field in COMMON_NAMES)
    return list(dict.fromkeys(name for value in fields for name in columns_in(value)))


def _named(columns: ColumnMap, held: Sequence[str]) -> list[str]:
    """Return the columns held that the fields of a map stand for."""
    return [column for name in wanted(columns) for column in matching(name, held)]


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
    # Beside `truncated` alone a `done` says what is terminated; else it says nothing more.
    if any(getattr(columns, name) or found.get(name) for name in ("terminated", "continues")):
        settled |= {"done"}
    if columns.continues or columns.done:
        settled |= {"terminated"}
    return settled | ({"truncated"} if columns.done and columns.done_means else set())


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
        hits = matching(entry, held)
        if not hits:
            raise missing_column(entry, held, path)
        _warn_of_gaps(entry, hits, path)
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


def matching(name: str, held: Sequence[str]) -> list[str]:
    """Return the columns that a name stands for, ``*`` in it being a number, in numeric order."""
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


def _warn_of_gaps(name: str, found: Sequence[str], path: Path | str) -> None:
    """Warn of columns that are numbered with gaps: most likely one is missing."""
    if name.count("*") != 1 or name in found:
        return
    before, after = name.split("*")
    numbers = [int(column[len(before) : len(column) - len(after)]) for column in found]
    for one, other in pairwise(numbers):
        if other > one + 1:
            warnings.warn(
                f"{path}: '{name}' stands for {len(found)} columns with a gap, {one} is "
                f"followed by {other}. If none is missing, name them in a list",
                stacklevel=2,
            )
            return


def _guess(
    candidates: Sequence[str], held: Sequence[str], path: Path | str
) -> str | list[str] | None:
    for candidate in candidates:
        hits = matching(candidate, held)
        if hits:
            _warn_of_gaps(candidate, hits, path)
            return hits[0] if candidate in held else hits
    return None


def _nothing_for(field: str, held: Sequence[str], path: Path | str) -> LogError:
    fix = f"Name it in the column map: `{field}: COLUMN`. The source holds: {listed(held)}."
    if field == "reward":
        fix += " A log without rewards is read with `reward: 0.0`."
    return LogError(f"no column looks like the {field}", fix, path=path)
