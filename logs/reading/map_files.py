"""Where column maps come from: packaged ones, YAML files, and maps written out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hindsight_rl import configs
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import nearest
from hindsight_rl.logs.reading.column_values import yaml_values

MOST_LETTERS = 1 << 20
"""Letters of a column map at most."""


def short_names() -> list[str]:
    """Return the names of the packaged column maps."""
    return sorted(path.stem for folder in _log_folders() for path in folder.glob("*.yaml"))


def _log_folders() -> list[Path]:
    # An editable install adds a marker to the path that is no folder.
    folders = [Path(entry) / "logs" for entry in configs.__path__]
    return [folder for folder in folders if folder.is_dir()]


def packaged(name: str) -> Path:
    """Return the file of a packaged map.

    Args:
        name: Its short name.

    Returns:
        A YAML file.

    Raises:
        LogError: There is none of this name.
    """
    for folder in _log_folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = short_names()
    raise LogError(
        f"there is no packaged column map {name!r}",
        f"{nearest(name, known)}Give the path of a .yaml file or one of: {', '.join(known)}.",
    )


def mapping_of(text: str | None, path: Path | None) -> Mapping[str, Any]:
    """Return the fields that a text, or else a YAML file, holds.

    Args:
        text: A map written out, or ``None``.
        path: A YAML file, where there is no text.

    Returns:
        The fields by name, not checked yet.

    Raises:
        LogError: It cannot be read, or is no mapping.
    """
    import yaml  # part of the train install only; a map given in Python does without

    known = short_names()
    try:
        values = yaml_values(_text(path) if path else str(text)[: MOST_LETTERS + 1])
    # A date that does not exist is a ValueError, an impossible key a TypeError.
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        fix = "Write it as '{observation: obs, action: acts}'."
        if path:
            fix = f"{nearest(path.stem, known)}Give a YAML file or one of: {', '.join(known)}."
        raise LogError(f"the column map cannot be read ({reason})", fix, path=path) from error
    if not isinstance(values, Mapping):
        raise LogError(
            "the column map is no mapping", "Write lines such as `observation: obs`.", path=path
        )
    return values


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    with path.open(encoding="utf-8") as file:
        text = file.read(MOST_LETTERS + 1)
    if len(text) > MOST_LETTERS:
        raise ValueError(f"more than {MOST_LETTERS:,} letters")
    return text
