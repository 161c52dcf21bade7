"""Columns of a log as Arrow's, span by span, so that a log larger than memory can be written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hindsight_rl.keys import Key, key_name
from hindsight_rl.logs.log import Log

_TYPES = {"f": pa.float32(), "i": pa.int64(), "b": pa.bool_()}


def schema_of(
    log: Log, names: Mapping[Key, str], offsets: Mapping[str, Any], *, lists_of_one: bool = True
) -> pa.Schema:
    """Return the schema of a table of a log.

    Args:
        log: The log.
        names: Name of each key that is written.
        offsets: What was subtracted, by key; such columns are of float64 again.
        lists_of_one: A vector of one number is a list, too; else it is the number.

    Returns:
        Vectors are lists of a fixed length.
    """
    fields = []
    for key, name in names.items():
        kind = _TYPES[log.column(key, slice(1)).numpy().dtype.kind]
        kind = pa.float64() if _label(key) in offsets else kind
        width = int(np.prod(log.shape(key)))
        listed = bool(log.shape(key)) and (width > 1 or lists_of_one)
        fields.append((name, pa.list_(kind, width) if listed else kind))
    return pa.schema(fields)


def tables(
    log: Log,
    names: Mapping[Key, str],
    schema: pa.Schema,
    offsets: Mapping[str, Any],
    spans: Sequence[slice],
) -> Iterator[pa.Table]:
    """Yield the rows of a log as tables.

    Args:
        log: The log.
        names: Name of each key that is written.
        schema: Of the tables.
        offsets: What was subtracted, by key, and is added again.
        spans: Rows of each table.

    Yields:
        Tables of adjacent rows.
    """
    for rows in spans:
        columns = []
        for key, name in names.items():
            values = log.column(key, rows).numpy()
            if (offset := offsets.get(_label(key))) is not None:
                values = values.astype(np.float64) + np.reshape(offset, values.shape[1:])
            kind = schema.field(name).type
            if not pa.types.is_fixed_size_list(kind):
                columns.append(pa.array(values.reshape(-1), kind))
                continue
            flat = pa.array(values.reshape(-1), kind.value_type)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, kind.list_size))
        yield pa.Table.from_arrays(columns, schema=schema)


def _label(key: Key) -> str:
    """Return what the offset of a key is called: next ones are as those of now."""
    name = key_name(key)
    return "task" if "achieved_goal" in name else name.removeprefix("next.")
