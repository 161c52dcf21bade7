"""Checks of what a contract's entries hold, each naming the entry at fault and the fix."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

KEY = "hindsight.contract"
"""Metadata key of an ONNX file under which its contract lies."""
MAX_SIZE = 2**24
"""Most numbers in one row of an input, a state or an answer."""

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
}
_EXPORT = "Export the checkpoint again with 'hindsight export'."


class ContractError(ValueError):
    """A policy file that must not be run as it stands; the message names the entry and the fix."""


def fail(place: str, problem: str) -> NoReturn:
    """Raise a ContractError about an entry.

    Args:
        place: Where it lies, such as ``action.low``.
        problem: A clause that follows the place.

    Raises:
        ContractError: Always.
    """
    raise ContractError(f"{KEY}: {place} {problem}. {_EXPORT}")


def entry(entries: Mapping[str, Any], name: str, kind: Any, within: str = "") -> Any:
    """Return an entry that must be there and of a kind.

    Args:
        entries: Where it lies.
        name: Its name.
        kind: A type, or several; ``bool`` is a number only where it is named.
        within: Place of the entries.

    Returns:
        The entry; a number is finite.

    Raises:
        ContractError: It is missing, of another kind, or not finite.
    """
    place = f"{within}.{name}" if within else name
    if name not in entries:
        fail(place, "is missing")
    value, kinds = entries[name], kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        fail(place, f"is of type {type(value).__name__}, and must be {_KINDS[kinds[0]]}")
    if isinstance(value, (int, float)):
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            fail(place, "is not finite, or beyond what a float64 holds")
    return value


def optional(entries: Mapping[str, Any], name: str, kind: Any, within: str = "") -> Any:
    """Return an entry as :func:`entry` does, or ``None`` where it is missing or null."""
    return None if entries.get(name) is None else entry(entries, name, kind, within)


def sizes(entries: Mapping[str, Any], name: str, place: str, *, empty: bool) -> tuple[int, ...]:
    """Return the shape in an entry.

    Args:
        entries: Where it lies.
        name: Its name.
        place: Place of the entries.
        empty: Whether it may be ``[]``, a single number.

    Returns:
        The sizes, each positive, whose product is at most ``MAX_SIZE``.

    Raises:
        ContractError: It is missing, or something else.
    """
    shape = entry(entries, name, list, place)
    if not (shape or empty) or not all(type(size) is int and size > 0 for size in shape):
        fail(f"{place}.{name}", f"is {str(shape)[:80]}, and must list positive sizes")
    if len(shape) > 8 or math.prod(shape) > MAX_SIZE:
        fail(f"{place}.{name}", f"is {str(shape)[:80]}: more than {MAX_SIZE:,} numbers in a row")
    return tuple(shape)


def words(entries: Mapping[str, Any], column: str, place: str, shape: Sequence[int]) -> None:
    """Check an optional list of one text per dimension.

    Args:
        entries: Where it lies.
        column: Its name.
        place: Of the entries, such as ``action``, for messages.
        shape: Of what it names.

    Raises:
        ContractError: It is something else.
    """
    found = entries.get(column)
    if found is None:
        return
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        fail(f"{place}.{column}", "must be a list of texts, or null")
    if len(found) != math.prod(shape):
        fail(f"{place}.{column}", f"has {len(found)} entries, and {place} has {math.prod(shape)}")


def floats(
    entries: Mapping[str, Any],
    column: str,
    place: str,
    shape: Sequence[int],
    *,
    open_ends: bool = False,
) -> NDArray[np.float64] | None:
    """Return an optional list of one number per dimension.

    Args:
        entries: Where it lies.
        column: Its name.
        place: Place of the entries.
        shape: Shape it must have.
        open_ends: Allow null inside it; it is returned as NaN.

    Returns:
        The numbers, each within the range of float32; ``None`` where there is no list.

    Raises:
        ContractError: It is something else.
    """
    values = entries.get(column)
    if values is None:
        return None
    try:
        array = np.array(_filled(values), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        fail(f"{place}.{column}", "must be numbers, or null")
    if array.shape != tuple(shape):
        fail(f"{place}.{column}", f"has shape {list(array.shape)}, and {place} has {list(shape)}")
    given = array[~np.isnan(array)] if open_ends else array
    if not (np.abs(given) <= np.finfo(np.float32).max).all():
        fail(f"{place}.{column}", "must be finite in float32")
    return array


def _filled(values: Any) -> Any:
    """Return nested lists with NaN in the place of every null; NaN itself is no JSON."""
    if isinstance(values, list):
        return [_filled(value) for value in values]
    if isinstance(values, float) and math.isnan(values):
        return math.inf
    if values is None:
        return math.nan
    if isinstance(values, (str, bool)):
        raise TypeError("not a number")
    return values
