"""What was guessed of a source: said wherever a guess may be what is wrong."""

from collections.abc import Mapping

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.column_map import LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, NEEDED, matching


def guessed_fields(given: ColumnMap, resolved: ColumnMap) -> dict[str, list[str]]:
    """Return the columns that were found by their names, by field.

    Args:
        given: The column map as its owner wrote it.
        resolved: The same with what was found.

    Returns:
        Names of columns of each field that was left out and is filled.
    """
    left_out = (field for field in COMMON_NAMES if getattr(given, field) == LEFT_OUT)
    found = ((field, getattr(resolved, field)) for field in left_out)
    return {
        field: [value] if isinstance(value, str) else value
        for field, value in found
        if value and isinstance(value, (str, list))
    }


def sentences(guessed: Mapping[str, list[str]]) -> dict[str, str]:
    """Return what to say of each column that was guessed, also of several that are joined."""
    said: dict[str, str] = {}
    for field, names in guessed.items():
        for name in (*names, ", ".join(names), str(names)):
            said.setdefault(name, _sentence(name, field))
    return said


def said_of(error: LogError, given: ColumnMap) -> LogError:
    """Return an error of a reader, with a guess named where the column was only guessed.

    Args:
        error: What a reader raised before it could hand over its columns.
        given: The column map as its owner wrote it.

    Returns:
        The same error, or one that says more.
    """
    named = [name for field in COMMON_NAMES for name in columns_in(getattr(given, field))]
    if error.column is None or any(matching(name, [error.column]) for name in named):
        return error
    for field, candidates in COMMON_NAMES.items():
        hit = any(matching(candidate, [error.column]) for candidate in candidates)
        said = f"`{field}: " in error.fix  # as an error about a known layout does
        if hit and not said and getattr(given, field) == LEFT_OUT:
            more = f"{error.fix} {_sentence(error.column, field)}"
            return LogError(
                error.problem, more, path=error.path, column=error.column, row=error.row
            )
    return error


def _sentence(name: str, field: str) -> str:
    none = "" if field in NEEDED else f", or `{field}: null` if there is none"
    return f"That '{name}' is `{field}` was guessed: write `{field}: COLUMN`{none}."
