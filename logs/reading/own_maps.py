"""Column maps that a source holds itself: of logs that ``write_log`` wrote."""

import json
from pathlib import Path
from typing import Any

from hindsight_rl.logs.limits import read_json
from hindsight_rl.logs.reading.column_map import ColumnMap

_KEY = "hindsight"
_FILES = {"lerobot": f"meta/{_KEY}.json", "minari": f"{_KEY}.json"}


def own_map(format_: str, path: Path) -> ColumnMap | None:
    """Return the column map that a source holds.

    Args:
        format_: Its format.
        path: File or folder.

    Returns:
        The map, ``None`` where there is none.

    Raises:
        LogError: It is there and cannot be read.
    """
    said: Any = None
    if format_ == "parquet" and path.is_file():
        said = _of_parquet(path)
    elif format_ in _FILES and (path / _FILES[format_]).is_file():
        said = read_json(path / _FILES[format_])
    columns = said.get("columns") if isinstance(said, dict) else None
    return ColumnMap.load(columns) if isinstance(columns, dict) else None


def _of_parquet(path: Path) -> Any:
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        return json.loads(metadata.get(_KEY.encode(), b"null"))
    except Exception:  # whatever is wrong with the file, its reader says it
        return None
