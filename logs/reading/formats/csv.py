"""Comma-separated text (.csv, .tsv): a header line, then one transition per line."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import LONGEST_NAME, MOST_ENTRIES, check_count
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.formats.arrow import to_numpy
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table, unreadable


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a text file.

    Args:
        path: The file. The delimiter (comma, semicolon or tab) is the most frequent one in the
            header.
        columns: Column map.

    Returns:
        The table.

    Raises:
        LogError: No text, lines of unequal length, a repeated or missing column, an empty cell.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline(MOST_ENTRIES * LONGEST_NAME)
        delimiter = max(",;\t", key=header.count)
        check_count(header.count(delimiter) + 1, "columns", path)
        table = pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            convert_options=pa.csv.ConvertOptions(
                strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=True
            ),
        )
    except LogError:
        raise
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise unreadable(path, "comma-separated text", error) from error
    held = [name.strip() for name in table.column_names]
    twice = next((name for name, count in Counter(held).items() if count > 1), None)
    if twice is not None:
        raise LogError("two columns of this name", "Rename one.", path=path, column=twice)
    table = table.rename_columns(held)
    resolved = resolve(columns, held, path)
    values = {name: to_numpy(table[name], name, path) for name in wanted(resolved)}
    return Table(resolved, values, held=tuple(held))
