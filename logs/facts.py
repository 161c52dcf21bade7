"""The facts of a log (``Log.info``): what each must be, checked where a file says them."""

import math
from collections.abc import Callable, Mapping
from typing import Any


def check_info(info: Any) -> None:
    """Raise an error for facts that no writer of logs writes.

    Facts that are not known here are kept as they are.

    Args:
        info: The facts, by name.

    Raises:
        ValueError: One is of another kind; names it.
    """
    if not isinstance(info, Mapping):
        raise ValueError(f"info is of type {type(info).__name__}")
    for name, good in _KINDS.items():
        value = info.get(name)
        if value is not None and not good(value):
            raise ValueError(f"info: {name} is {str(value)[:100]}")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**1000 and math.isfinite(value)


def _is_rate(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**31


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _are_texts_by_key(value: Any) -> bool:
    lists = value.values() if isinstance(value, Mapping) else [None]
    return all(_are_texts(entry) for entry in lists)


def _are_numbers(value: Any) -> bool:
    """Return whether a value is a list of numbers, or of such lists."""
    return isinstance(value, list) and all(_is_number(v) or _are_numbers(v) for v in value)


def _are_by_key(value: Any, good: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and good(entry) for key, entry in value.items()
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    "action_start": _is_whole,
    "action": lambda value: isinstance(value, Mapping),
    "clipped_actions": _is_count,
    "control_rate_hz": _is_rate,
    "discrete_actions": _is_count,
    "environment": lambda value: isinstance(value, str),
    "names": _are_texts_by_key,
    "observation_choices": lambda value: _are_by_key(value, _is_count),
    "offset": lambda value: _are_by_key(value, _are_numbers),
    "parted_episodes": _is_count,
    "repeated_next_observation": _is_count,
    "task_family": lambda value: isinstance(value, str),
    "task_names": _are_texts,
    "units": _are_texts_by_key,
}
