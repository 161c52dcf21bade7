"""A log as one parquet file; column map and provenance lie in its metadata."""

from pathlib import Path

import pyarrow.parquet

from hindsight_rl.files import write_whole
from hindsight_rl.keys import key_name
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.writing.arrays import schema_of, tables
from hindsight_rl.logs.writing.flat import MAP_KEY, column_map, stated, written_keys


def write(log: Log, path: Path, rate: float | None, *, overwrite: bool) -> None:
    """Write a log as a parquet file.

    Args:
        log: The log.
        path: File ending in ``.parquet``.
        rate: Rows per second, where the log does not know it.
        overwrite: Whether a file may lie there.

    Raises:
        LogError: The log has images.
    """
    names = {key: key_name(key) for key in written_keys(log)}
    columns = column_map(log, names)
    columns |= {} if rate is None else {"control_rate_hz": rate}
    offsets = columns.get("offset") or {}
    schema = schema_of(log, names, offsets).with_metadata({MAP_KEY: stated(log, columns)})
    path.parent.mkdir(parents=True, exist_ok=True)

    def put(file: object) -> None:
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for table in tables(log, names, schema, offsets):
                writer.write_table(table)

    write_whole(path, put)
