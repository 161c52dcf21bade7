"""Sources of one group per episode (robomimic, Isaac Lab): an error unless the map says so.

Columns of several groups would be joined side by side, so that a dozen demonstrations became one of
twelve times as many actions.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import listed

Names = Mapping[str, tuple[str, ...]]

_FLAGS = ("reward", "terminated", "truncated", "done", "episode_end")
_SHARED = (*_FLAGS, "episode", "episode_start", "split_indices")
_NUMBERED = re.compile(r"(.*?)[_.\[]?([0-9]+)\]?")


def check_groups(
    read: Sequence[str], has_action: bool, held: Sequence[str], path: Path | str, names: Names
) -> None:
    """Check that no columns of groups are joined that each hold an episode.

    Groups are of one log all the same (two arms, say) where a reward, a flag or a number of the
    episode lies beside them.

    Args:
        read: Columns that the column map names.
        has_action: Whether the actions are named, or have a usual name.
        held: Names of the columns that the source holds.
        path: The source, for messages.
        names: Usual names of each field.

    Raises:
        LogError: Columns of several groups are read, or the actions lie in them and none is named.
    """
    for groups in (_groups(held, names), _numbers(held, names)):
        if len(set(groups.values())) < 2:
            continue
        shared = {name for field in _SHARED for name in names[field]}
        if any(name in shared for name in held if name not in groups):
            continue
        touched = list(dict.fromkeys(groups[name] for name in read if name in groups))
        if len(touched) > 1 or not (touched or has_action):
            every = list(dict.fromkeys(groups.values()))
            action = next(n for n in held if groups.get(n) == every[0] and _is_action(n, names))
            raise LogError(
                f"each of {len(every)} groups holds an episode ({listed(every[:3])}"
                f"{', ...' if len(every) > 3 else ''}), and columns of different ones cannot be "
                "joined",
                "Read them all with `format: demonstrations` in the column map, which then names "
                "columns as within a group (HDF5); or read one alone: name its columns, as in "
                f"`action: {action}`.",
                path=path,
            )


def _groups(held: Sequence[str], names: Names) -> dict[str, str]:
    """Return the group of each column that lies in one of several episodes side by side."""
    roles: dict[str, set[str]] = defaultdict(set)
    for name in held:
        for group, child in _above(name):
            roles[group] |= {field for field in names if child in names[field]}
    wanted = {"observation", *_FLAGS}
    episodes = [group for group, own in roles.items() if "action" in own and own & wanted]
    siblings: dict[str, list[str]] = defaultdict(list)
    for group in episodes:
        siblings[group.rpartition("/")[0]].append(group)
    several = {group for beside in siblings.values() if len(beside) > 1 for group in beside}
    inside = ((name, group) for name in held for group, _ in _above(name) if group in several)
    return dict(inside)


def _above(name: str) -> Iterator[tuple[str, str]]:
    """Yield each group above a column, and what leads from there to the column."""
    parts = name.split("/")
    for depth in range(1, len(parts)):
        yield "/".join(parts[:depth]), parts[depth]


def _numbers(held: Sequence[str], names: Names) -> dict[str, str]:
    """Return the number of each column whose name ends in that of an episode (d3rlpy 2)."""
    numbers, roles = dict[str, str](), defaultdict[str, set[str]](set)
    for name in held:
        match = _NUMBERED.fullmatch(name)
        if match and "/" not in name:
            fields = {field for field in names if match[1] in names[field]}
            if fields:
                numbers[name] = f"..._{match[2]}"
                roles[numbers[name]] |= fields
    episodes = {n for n, own in roles.items() if "action" in own and own & {*_FLAGS}}
    return {name: number for name, number in numbers.items() if number in episodes}


def _is_action(name: str, names: Names) -> bool:
    match = _NUMBERED.fullmatch(name)
    parts = [*name.split("/"), match[1] if match else ""]
    return any(part in names["action"] for part in parts)
