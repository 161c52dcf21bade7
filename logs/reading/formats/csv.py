"""Delimited text (.csv, .tsv, compressed or not): a header line, then one transition per line."""

import codecs
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import check_count, check_memory
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.formats.arrow import to_numpy
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table, unreadable
from hindsight_rl.logs.reading.text_options import PACKED

_HEADER = 1 << 20  # bytes that the header lies within
_PIECE = 16 << 20
_DELIMITERS = ",;\t"
# Arrow's own, which giving further words would replace.
_TRUE, _FALSE = ("1", "true", "True", "TRUE"), ("0", "false", "False", "FALSE")


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a text file.

    Args:
        path: The file, compressed where its name ends in .gz, .bz2, .zst or .lz4.
        columns: Column map. Without ``delimiter`` it is the most frequent one of comma, semicolon
            and tab in the header.

    Returns:
        The table.

    Raises:
        LogError: No text, lines of unequal length, a repeated or missing column, an empty cell.
    """
    table = _parsed(path, columns)
    held = [name.strip() for name in table.column_names]
    twice = next((name for name, count in Counter(held).items() if count > 1), None)
    if twice is not None:
        raise LogError("two columns of this name", "Rename one.", path=path, column=twice)
    table = table.rename_columns(held)
    resolved = resolve(columns, held, path)
    values = {name: to_numpy(table[name], name, path) for name in wanted(resolved)}
    return Table(resolved, values, held=tuple(held))


def _parsed(path: Path, columns: ColumnMap) -> pa.Table:
    """Return all columns of a file as Arrow reads them."""
    header = b""
    try:
        _check_unpacked(path)
        text = None if not columns.comment else _without(columns.comment, path)
        with _opened(path, text) as file:
            header = file.read(_HEADER)
        delimiter = _delimiter(header, columns, path)
        with _opened(path, text) as file:
            return pa.csv.read_csv(
                file,
                parse_options=pa.csv.ParseOptions(delimiter=delimiter),
                convert_options=_conversion(columns),
            )
    except LogError:
        raise
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        hash_line = re.match(r"CSV parse error: Expected .*: *#", str(error))
        if not columns.comment and (hash_line or header.startswith(b"#")):
            raise LogError(
                "a line that starts with '#' is no row",
                "If such lines are comments, set `comment: '#'` in the column map.",
                path=path,
            ) from error
        raise unreadable(path, "comma-separated text", error) from error


def _opened(path: Path, text: bytes | None) -> pa.NativeFile:
    """Return the file, or the text in place of it, opened and unpacked as it is read."""
    return pa.input_stream(str(path)) if text is None else pa.BufferReader(text)


def _check_unpacked(path: Path) -> None:
    """Raise an error for a compressed file that unpacks to more than one of its size can mean."""
    if path.suffix.lower() not in PACKED:
        return
    unpacked, held = 0, path.stat().st_size
    with _opened(path, None) as file:
        while piece := len(file.read(_PIECE)):
            unpacked += piece
            check_memory(unpacked, held, path)


def _without(comment: str, path: Path) -> bytes:
    """Return the text of a file without lines that begin with the mark of a comment."""
    mark = comment.encode()
    with _opened(path, None) as file:
        lines = file.read().removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    return b"".join(line for line in lines if not line.lstrip().startswith(mark))


def _delimiter(text: bytes, columns: ColumnMap, path: Path) -> str:
    """Return the character between cells, given how the file begins."""
    strict = "strict" if len(text) < _HEADER else "ignore"  # the header may be cut within a letter
    header = b"".join(text.lstrip().splitlines()[:1]).decode("utf-8-sig", strict)
    candidates = [mark for mark in _DELIMITERS if mark != columns.decimal_point]
    delimiter = columns.delimiter or max(candidates, key=header.count)
    check_count(header.count(delimiter) + 1, "columns", path)
    return delimiter


def _conversion(columns: ColumnMap) -> pa.csv.ConvertOptions:
    return pa.csv.ConvertOptions(
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=["", *(columns.null_values or [])],
        true_values=[*_TRUE, *(columns.true_values or [])],
        false_values=[*_FALSE, *(columns.false_values or [])],
        decimal_point=columns.decimal_point or ".",
    )
