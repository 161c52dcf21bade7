"""A log as one parquet file; column map and provenance lie in its metadata."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from hindsight_rl.files import write_whole
from hindsight_rl.keys import key_name
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.writing.arrays import schema_of, tables
from hindsight_rl.logs.writing.flat import MAP_KEY, column_map, stated, written_keys
from hindsight_rl.logs.writing.frames import (
    PICTURE,
    image_keys,
    last_frames,
    led_to,
    pictures,
    spans,
)


def write(log: Log, path: Path, rate: float | None, *, overwrite: bool) -> None:
    """Write a log as a parquet file; images as PNG.

    Args:
        log: The log.
        path: File ending in ``.parquet``.
        rate: Rows per second, where the log does not know it.
        overwrite: Whether a file may lie there.

    Raises:
        LogError: Images are no pictures.
    """
    images = image_keys(log)
    names = {key: key_name(key) for key in written_keys(log)}
    shown = {key: key_name(key) for key in images}
    columns = column_map(log, names | shown)
    columns |= {} if rate is None else {"control_rate_hz": rate}
    offsets = columns.get("offset") or {}
    schema = schema_of(log, names, offsets)
    whole = schema
    for name in (*shown.values(), *(f"next.{shown[key]}" for key in led_to(log))):
        whole = whole.append(pa.field(name, PICTURE))
    whole = whole.with_metadata({MAP_KEY: stated(log, columns)})
    path.parent.mkdir(parents=True, exist_ok=True)

    def put(file: object) -> None:
        with pyarrow.parquet.ParquetWriter(file, whole) as writer:
            rows_of = spans(log)
            for rows, table in zip(
                rows_of, tables(log, names, schema, offsets, rows_of), strict=True
            ):
                for key, name in shown.items():
                    table = table.append_column(name, pictures(log, key, rows))
                for key in led_to(log):
                    table = table.append_column(f"next.{shown[key]}", last_frames(log, key, rows))
                writer.write_table(table)

    write_whole(path, put)
