"""Entries of a nested observation: their one order, their names, which are goals or images.

Readers of logs and environments follow the same rules, so that a policy gets its inputs in the
order of its log:

- entries come in the order of the space (``gymnasium.spaces.Dict`` sorts a plain dictionary by
  key and keeps any other order), each dictionary in turn: paths are compared, never joined texts;
- ``desired_goal`` is the task and ``achieved_goal`` what was reached, never the observation; beside
  one of them the observation is the entry ``observation`` where there is one, or else all others;
- an entry that looks like an image is never flattened unasked.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Entry = tuple[str, ...]
"""Keys that lead to an entry; empty where the observation is no dictionary."""

PREFIX = "observations"
"""How the names of entries begin, as Minari calls them."""

_OBSERVATION, _DESIRED, _ACHIEVED = "observation", "desired_goal", "achieved_goal"
_CHANNELS = (1, 3, 4)
_SMALLEST_SIDE = 8  # a smaller [H, W, 3] of real numbers is more likely a table of points
_SHOWN = 40


class Roles(NamedTuple):
    """Which entries are observed, asked for, and achieved; each in the order of the space."""

    observation: tuple[Entry, ...]
    task: tuple[Entry, ...]
    achieved: tuple[Entry, ...]


def roles(paths: Sequence[Entry]) -> Roles:
    """Return which entry of an observation is what.

    Args:
        paths: All entries, in the order of the space.

    Returns:
        The entries by role; each is of one role at most.
    """
    task = tuple(path for path in paths if path[:1] == (_DESIRED,))
    achieved = tuple(path for path in paths if path[:1] == (_ACHIEVED,))
    rest = tuple(path for path in paths if path not in (*task, *achieved))
    inner = tuple(path for path in rest if path[:1] == (_OBSERVATION,))
    return Roles(inner if inner and (task or achieved) else rest, task, achieved)


def is_whole(paths: Sequence[Entry]) -> bool:
    """Return whether entries are a single array of its own, which keeps its shape and has no name.

    Args:
        paths: Entries of one role.

    Returns:
        Whether nothing is joined.
    """
    alone = ((), (_OBSERVATION,), (_DESIRED,), (_ACHIEVED,))
    return len(paths) == 1 and paths[0] in alone


def entry_name(path: Entry) -> str:
    """Return the name of an entry: ``("arm", "q")`` is ``observations/arm/q``."""
    return "/".join((PREFIX, *path))


def map_of(paths: Sequence[Entry]) -> str:
    """Return the column map of a Minari log that keeps entries apart, by name.

    Args:
        paths: The entries, in the order of the space.

    Returns:
        ``{arm/q: observations/arm/q, top: observations/top}``.
    """
    return "{" + ", ".join(f"{'/'.join(path)}: {entry_name(path)}" for path in paths) + "}"


def dimension_names(path: Entry, size: int) -> list[str]:
    """Return the names of the numbers of an entry: its own, or with ``[i]`` where it has several.

    Args:
        path: The entry.
        size: How many numbers it has.

    Returns:
        ``size`` names.
    """
    name = entry_name(path)
    return [name] if size == 1 else [f"{name}[{i}]" for i in range(size)]


def is_image(shape: Sequence[int], dtype: str) -> bool:
    """Return whether an entry looks like an image.

    Args:
        shape: Of one observation.
        dtype: Name of its type, such as ``uint8``.

    Returns:
        True for bytes of two or more dimensions, and for real numbers ``[H, W, C]`` or
        ``[C, H, W]`` with 1, 3 or 4 channels and sides of at least 8.
    """
    if dtype == "uint8":
        return len(shape) >= 2
    if not dtype.startswith("float") or len(shape) != 3:
        return False
    last, first = shape[-1] in _CHANNELS, shape[0] in _CHANNELS
    return (last and min(shape[:2]) >= _SMALLEST_SIDE) or (
        first and min(shape[1:]) >= _SMALLEST_SIDE
    )


def are_numbered(names: Sequence[str] | None, key: str) -> bool:
    """Return whether names only count the dimensions (``observation[0]``), or there are none.

    Args:
        names: Names of dimensions.
        key: What they belong to: ``observation``, ``action`` or ``task``.

    Returns:
        Whether they say nothing.
    """
    counted = names and ([key] if len(names) == 1 else [f"{key}[{i}]" for i in range(len(names))])
    return not names or list(names) == counted


def mismatch(policy: Sequence[str], here: Sequence[str]) -> str | None:
    """Return how the names of a policy differ from those of an environment.

    Args:
        policy: Names of the policy's inputs; ``observations/`` in front of them does not matter.
        here: Names of what the environment shows.

    Returns:
        A clause that names both, or ``None`` where they agree in content and order.
    """
    given, shown = _bare(policy), _bare(here)
    if given == shown:
        return None
    how = "in another order" if sorted(given) == sorted(shown) else "others"
    return f"shows [{_listed(shown)}], and the policy takes {how}: [{_listed(given)}]"


def _bare(names: Iterable[str]) -> list[str]:
    return [name.removeprefix(f"{PREFIX}/") for name in names]


def _listed(names: Sequence[Any]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
