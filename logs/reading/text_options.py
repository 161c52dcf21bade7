"""How a text file is written: what a column map may say of it, and what contradicts itself."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

TEXT_OPTIONS = (
    *("delimiter", "decimal_point", "comment"),
    *("null_values", "true_values", "false_values"),
)
"""Fields of the column map that only text files have a use for."""

BAG_OPTIONS = ("row_at", "action_at", "episode_marker", "max_age", "stamps")
"""Fields of the column map that only bags have a use for."""

DEMONSTRATION_OPTIONS = ("filter_key",)
"""Fields of the column map that only demonstrations have a use for."""

ZARR_OPTIONS = ("missing_chunks",)
"""Fields of the column map that only Zarr stores have a use for."""

PACKED = (".gz", ".bz2", ".zst", ".lz4")
"""Endings of text files that are unpacked as they are read."""


def contradictions(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the options of a text file, and what to do about it.

    Args:
        values: Fields of a column map, each of its type.

    Yields:
        Problem and fix.
    """
    for name in ("delimiter", "decimal_point"):
        if len(values[name].encode()) > 1:
            yield f"{name}: {values[name]!r} is not one character", "Give one, such as ','."
    if values["delimiter"] and values["delimiter"] == (values["decimal_point"] or "."):
        yield (
            f"{values['delimiter']!r} is between cells and before decimals",
            "Correct delimiter or decimal_point.",
        )
    words = [set(values[name] or []) for name in ("null_values", "true_values", "false_values")]
    twice = set().union(*(one & two for one, two in combinations(words, 2)))
    if twice:
        yield (
            f"{min(twice)!r} is in two of null_values, true_values and false_values",
            "Keep it in one.",
        )
