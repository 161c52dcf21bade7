"""What a Minari dataset holds, found before Minari's own reader allocates anything."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import pyarrow as pa
import pyarrow.dataset
from PIL import Image

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import UNQUESTIONED, check_count, check_memory, files_below
from hindsight_rl.logs.reading.formats.hdf5 import check_datasets, datasets

HDF5 = "main_data.hdf5"


def check_stored(folder: Path, metadata: Mapping[str, Any]) -> int | None:
    """Check that the episodes of a dataset are those of its metadata, and not too large.

    Args:
        folder: Its ``data`` folder.
        metadata: What ``metadata.json`` says.

    Returns:
        Rows that are stored, one more than steps in each episode; ``None`` in HDF5, where Minari
        reads each array whole.

    Raises:
        LogError: More or fewer episodes than promised, values in other files, pipes or devices
            among the files, or more than the limit.
    """
    files = files_below(folder)
    if metadata.get("data_format") == "hdf5":
        names, rows = _check_hdf5(folder / HDF5), None
    else:
        names = [path.name for path in folder.iterdir() if path.is_dir()]
        rows = _check_arrow(folder, sum(file.stat().st_size for file in files))
    stored = sum(bool(re.fullmatch("(episode_)?[0-9]+", name)) for name in names)
    check_count(stored, "episodes", folder)
    promised = metadata.get("total_episodes")
    if type(promised) is not int or stored != promised:
        raise LogError(
            f"{stored} episodes where metadata.json promises {str(promised)[:50]}",
            "The dataset is cut or was appended to: write or fetch it again.",
            path=folder,
        )
    return rows


def _check_hdf5(path: Path) -> list[str]:
    """Return the names of the groups of a file."""
    with h5py.File(path, "r") as file:
        found = [dataset for _, dataset in datasets(file, path, links=False)]
        for dataset in found:
            if dataset.external or dataset.is_virtual:
                raise LogError(
                    "its values lie in another file",
                    "Copy them into this one.",
                    path=path,
                    column=dataset.name,
                )
        check_datasets(found, path)
        held = path.stat().st_size
        needed = sum(_unpacked(dataset, held) for dataset in found)
        check_memory(needed, held, path)
        return list(file)


def _unpacked(dataset: h5py.Dataset, held: int) -> int:
    """Return the bytes of what rows of any length unpack to: compressed images, or text."""
    images = dataset.dtype.kind == "u" and dataset.ndim == 2
    if not images and dataset.dtype.kind != "O":
        return 0
    # Rows may share what they point to, so that a few of them may be larger than the file.
    step, needed = max(1, min(1024, UNQUESTIONED // max(1, held))), 0
    rows = dataset.shape[0] if dataset.ndim else 0
    for start in range(0, rows, step):
        for row in dataset[start : start + step]:
            needed += _image_size(bytes(row)) if not isinstance(row, str) else 4 * len(row)
            check_memory(needed, held, Path(dataset.file.filename), dataset.name)
    return needed


def _image_size(row: bytes) -> int:
    """Return the bytes of the pixels of an image, or those of something else."""
    try:
        with Image.open(io.BytesIO(row)) as image:
            return image.width * image.height * len(image.getbands())
    except (OSError, ValueError, SyntaxError):
        return len(row)


def _check_arrow(folder: Path, held: int) -> int:
    """Return the rows of all episodes."""
    needed = rows = 0
    for part in folder.iterdir():
        if part.is_dir():
            ignored = ["_", ".", "metadata.json"]
            kind = "parquet" if any(part.glob("*.parquet")) else "arrow"
            data = pa.dataset.dataset(str(part), format=kind, ignore_prefixes=ignored)
            count = data.count_rows()
            needed += count * sum(_width(field.type) for field in data.schema)
            rows += count
    check_memory(needed, held, folder)
    return rows


def _width(kind: Any) -> int:
    """Return the bytes of a value in memory, of one of any length those of its place."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size * _width(kind.value_type))
    if pa.types.is_struct(kind):
        return sum(_width(kind.field(i).type) for i in range(kind.num_fields))
    try:
        return int(kind.bit_width + 7) // 8
    except ValueError:
        return 16
