"""Keys of batches and logs, and their names in print: what the rooms call a column."""

Key = str | tuple[str, ...]

ORIGIN: Key = "origin"
"""Where a row comes from: ``[]`` int64, its place in :data:`ORIGINS`; see ``data.mix``."""

ORIGINS = ("log", "collected")
"""What a row's origin may be. Their numbers stay: a new origin goes to the end."""


def key_name(key: Key) -> str:
    """Return the printed name of a key: ``("next", "reward")`` is ``next.reward``."""
    return key if isinstance(key, str) else ".".join(key)


def key_of(name: str) -> Key:
    """Return the key of a printed name, the inverse of :func:`key_name`."""
    parts = tuple(name.split("."))
    return parts[0] if len(parts) == 1 else parts


def is_below(key: Key, outer: Key) -> bool:
    """Return whether a key is another one, or one of its entries."""
    path, wanted = (part if isinstance(part, tuple) else (part,) for part in (key, outer))
    return path[: len(wanted)] == wanted
