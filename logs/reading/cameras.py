"""Cameras in a column map: where their frames may stand, and of which size they are kept."""

from collections.abc import Callable
from pathlib import Path

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.resolve import COMMON_NAMES

# Fields that may name cameras, and how; an entry of the observation does as the observation.
_FILMED = (("image", str), ("image", list), ("observation", str), ("next_observation", str))


def filmed(columns: ColumnMap) -> set[str]:
    """Return the columns that may be of cameras by where a map names them."""
    found: set[str] = set()
    for field in COMMON_NAMES:
        value = getattr(columns, field)
        for part in value.values() if isinstance(value, dict) else [value]:
            if (field, type(part)) in _FILMED:
                found |= set(columns_in(part))
    return found


def check_cameras(columns: ColumnMap, is_camera: Callable[[str], bool], path: Path) -> None:
    """Check that no camera stands where numbers are meant: its frames would be flattened.

    Args:
        columns: Column map.
        is_camera: Returns whether a column is of a camera.
        path: The source, for messages.

    Raises:
        LogError: One does.
    """
    for field in COMMON_NAMES:
        value = getattr(columns, field)
        for part in value.values() if isinstance(value, dict) else [value]:
            for name in columns_in(part):
                if is_camera(name) and (field, type(part)) not in _FILMED:
                    raise LogError(
                        f"a camera among the columns of '{field}'",
                        f"Name it beside them: `image: {name}`; or as an entry of its own: "
                        f"`observation: {{camera: {name}}}`.",
                        path=path,
                        column=name,
                    )


def kept_size(columns: ColumnMap, recorded: tuple[int, int], name: str) -> tuple[int, int]:
    """Return height and width of the frames that are kept.

    Args:
        columns: Column map.
        recorded: Height and width that were recorded.
        name: The column, for messages.

    Returns:
        Those of ``resize``, or those recorded.

    Raises:
        LogError: ``resize`` is larger.
    """
    if columns.resize is None:
        return recorded
    height, width = columns.resize
    if height > recorded[0] or width > recorded[1]:
        raise LogError(
            f"resize is {columns.resize}, larger than the {list(recorded)} that was recorded",
            "Give at most that.",
            column=name,
        )
    return height, width
