"""Arrays of a Zarr store, versions 2 and 3: what describes them, and their rows, a block at a time.

zarr unpacks the chunks; their files are read here, so that a chunk that is missing, cut, or larger
than it should be is an error before it is unpacked. zarr itself takes a missing chunk for one of
its fill value, because its writers leave such chunks out.
"""

import itertools
import json
import math
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_count
from hindsight_rl.logs.reading.formats.zarr_codecs import (
    PLAIN_DTYPE,
    CodecError,
    check_unpacked,
    packer_of_2,
    packer_of_3,
)
from hindsight_rl.logs.reading.formats.zarr_files import ZarrFiles

EXTRA = "pip install 'hindsight-rl[train,zarr]'"
_BLOCK = 64 << 20  # bytes of the rows that are unpacked together, at least one chunk
_SLACK = 1 << 16  # bytes that a chunk may be larger packed than unpacked, beside twice its size
_ABSENT = 2**64 - 1  # place and size of a chunk that its shard leaves out
_WRITE = "Write the array again with zarr's default codecs."


@dataclass(frozen=True)
class ZarrArray:
    """One array, as its metadata describe it.

    Args:
        files: Of the store.
        name: Its folder in the store.
        metadata: What describes it, as JSON has it.
        shape: Of the array.
        dtype: Of its numbers.
        chunks: Shape of what lies in one file.
        packer: What unpacks a chunk.
        check: Bytes of checksums behind a packed chunk.
        loose: Filters may change the size of a chunk.
        inner: Shape of the chunks in a shard, empty where there are none.
        index: Bytes of a shard's index, and whether it lies at the end.
    """

    files: ZarrFiles
    name: str
    metadata: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    packer: str | None
    check: int = 0
    loose: bool = False
    inner: tuple[int, ...] = ()
    index: tuple[int, bool] = (0, True)
    absent: list[str] = field(default_factory=list, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk in memory, whole even where the array ends within it."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def blocks(self, *, fill: bool) -> Iterator[tuple[slice, Array]]:
        """Yield the rows in order, some whole chunks at a time.

        Args:
            fill: Take chunks that are missing for ones of the fill value; ``absent`` lists them.

        Yields:
            Rows and their values.

        Raises:
            LogError: A chunk is missing, cut or damaged.
        """
        rows, step = self.shape[0], self.chunks[0]
        others = [-(-n // c) for n, c in zip(self.shape[1:], self.chunks[1:], strict=True)]
        check_count(-(-rows // step) * math.prod(others), "chunks", self.files.path)
        together = max(1, _BLOCK // (self.chunk_bytes * math.prod(others)))
        for first in range(0, rows, step * together):
            span = slice(first, min(rows, first + step * together))
            numbers = range(first // step, -(-span.stop // step))
            places = itertools.product(numbers, *map(range, others))
            held = {
                key: data
                for place in places
                if (data := self._chunk(key := self._key(place), fill)) is not None
            }
            yield span, self._unpacked(held, span)

    def _key(self, place: tuple[int, ...]) -> str:
        if self.metadata.get("zarr_format") == 2:
            separator = str(self.metadata.get("dimension_separator") or ".")
            return separator.join(map(str, place))
        encoding = self.metadata["chunk_key_encoding"]
        default = encoding["name"] == "default"
        usual = "/" if default else "."
        separator = str(encoding.get("configuration", {}).get("separator", usual))
        return separator.join([*(["c"] if default else []), *map(str, place)])

    def _chunk(self, key: str, fill: bool) -> bytes | None:
        """Return the bytes of a chunk, checked; ``None`` where it may be missing and is."""
        place = f"{self.name}/{key}"
        size = self.files.size(place)
        if size is None:
            self._miss(place, fill)
            return None
        most = 2 * self.chunk_bytes + self.index[0] + _SLACK
        if size > most:
            raise self.error(f"the chunk {key} is of {size:,} bytes, at most {most:,} are due")
        data = self.files.read(place)
        try:
            if self.inner:
                self._check_shard(data, place, fill)
            else:
                self._check(data, self.chunks)
        except CodecError as error:
            raise self.error(f"the chunk {key} {error}") from error
        return data

    def _miss(self, place: str, fill: bool) -> None:
        self.absent.append(place)
        if not fill:
            raise LogError(
                f"the chunk {place} is not there: it was lost, or all of it is the fill value "
                f"{self.metadata.get('fill_value')!r:.20}, which zarr leaves out",
                "Fetch the store again; or, where nothing was lost, write in the column map "
                "`missing_chunks: fill`.",
                path=self.files.path,
                column=self.name,
            )
        if self.metadata.get("fill_value") is None:
            raise self.error(f"the chunk {place} is not there, and there is no fill value")

    def _check(self, data: bytes, shape: tuple[int, ...]) -> None:
        packed = data[: len(data) - self.check]
        size = math.prod(shape) * self.dtype.itemsize
        check_unpacked(packed, self.packer, size, loose=self.loose)

    def _check_shard(self, data: bytes, place: str, fill: bool) -> None:
        """Check the chunks that lie in one file by the index of their places."""
        size, at_end = self.index
        if len(data) < size:
            raise CodecError("is cut: it has no index")
        body = data[len(data) - size :] if at_end else data[:size]
        count = math.prod(o // i for o, i in zip(self.chunks, self.inner, strict=True))
        for number, (start, length) in enumerate(struct.iter_unpack("<QQ", body[: 16 * count])):
            if (start, length) == (_ABSENT, _ABSENT):
                if self._lies_within(place, number):
                    self._miss(f"{place}, its part {number}", fill)
            elif start + length > len(data):
                raise CodecError("is cut: its index names bytes behind its end")
            else:
                self._check(data[start : start + length], self.inner)

    def _lies_within(self, place: str, number: int) -> bool:
        """Return whether a chunk of a shard holds anything of the array, and not its border."""
        words = place[len(self.name) + 1 :].replace("/", ".").split(".")
        outer = [int(word) for word in words if word != "c"]
        counts = [o // i for o, i in zip(self.chunks, self.inner, strict=True)]
        within = np.unravel_index(number, counts)
        starts = (
            o * c + int(w) * i
            for o, c, w, i in zip(outer, self.chunks, within, self.inner, strict=True)
        )
        return all(start < n for start, n in zip(starts, self.shape, strict=True))

    def _unpacked(self, held: Mapping[str, bytes], rows: slice) -> Array:
        import zarr
        from zarr.abc.buffer import Buffer
        from zarr.buffer import cpu
        from zarr.storage import MemoryStore

        version = self.metadata["zarr_format"]
        files = {".zarray" if version == 2 else "zarr.json": json.dumps(self.metadata).encode()}
        buffers: dict[str, Buffer] = {
            key: cpu.Buffer.from_bytes(data) for key, data in {**files, **held}.items()
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = zarr.open_array(MemoryStore(buffers), mode="r", zarr_format=version)
                values = np.asarray(array[rows])
        except Exception as error:  # any way of being broken is the same to the caller
            place = f"{self.files.path}, column '{self.name}', rows from {rows.start}"
            raise unreadable(place, "chunks of Zarr", error) from error
        if values.dtype.kind != self.dtype.kind or values.shape[1:] != self.shape[1:]:
            raise self.error(f"it unpacks to {values.dtype} {list(values.shape[1:])}")
        return values.astype(self.dtype.newbyteorder("="), copy=False)

    def error(self, problem: str) -> LogError:
        """Return the error of this array."""
        fix = "The store is cut, damaged or of another format: write or fetch it again."
        return LogError(problem, fix, path=self.files.path, column=self.name)


def described(files: ZarrFiles, name: str, metadata: Any) -> ZarrArray:
    """Return an array that can be read.

    Args:
        files: Of the store.
        name: Its folder in the store.
        metadata: What its ``.zarray`` or ``zarr.json`` says.

    Returns:
        The array.

    Raises:
        LogError: The metadata are damaged, it holds no plain numbers, or a codec is not read.
    """
    path = files.path
    try:
        made = _version_2 if metadata.get("zarr_format") == 2 else _version_3
        array = made(files, name, metadata)
    except CodecError as error:
        raise LogError(str(error), _WRITE, path=path, column=name) from error
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise unreadable(f"{path}, column '{name}'", "the metadata of an array", error) from error
    if not array.shape:
        raise LogError("a single value, no column", "Name another.", path=path, column=name)
    return array


def _version_2(files: ZarrFiles, name: str, metadata: Mapping[str, Any]) -> ZarrArray:
    packer, loose = packer_of_2(metadata.get("compressor"), metadata.get("filters"))
    shape = _sizes(metadata["shape"])
    chunks = _sizes(metadata["chunks"], len(shape), least=1)
    if metadata.get("dimension_separator") not in (None, ".", "/"):
        raise ValueError("an unknown dimension_separator")
    return ZarrArray(
        files, name, metadata, shape, _dtype(metadata["dtype"]), chunks, packer, loose=loose
    )


def _version_3(files: ZarrFiles, name: str, metadata: Mapping[str, Any]) -> ZarrArray:
    if metadata["zarr_format"] != 3 or metadata["chunk_grid"]["name"] != "regular":
        raise ValueError("neither version 2 nor 3 with a regular grid")
    shape, codecs = _sizes(metadata["shape"]), metadata["codecs"]
    chunks = _sizes(metadata["chunk_grid"]["configuration"]["chunk_shape"], len(shape), least=1)
    encoding = metadata["chunk_key_encoding"]
    separator = encoding.get("configuration", {}).get("separator", ".")
    if encoding["name"] not in ("default", "v2") or separator not in (".", "/"):
        raise ValueError("unknown names of chunks")
    kind = metadata["data_type"]
    kind = {"bool": "bool_"}.get(kind, kind) if isinstance(kind, str) else "object"
    dtype = _dtype(np.dtype(getattr(np, kind, object)).str)
    inner: tuple[int, ...] = ()
    index = 0, True
    if isinstance(codecs, list) and len(codecs) == 1 and _is_shard(codecs[0]):
        shard = codecs[0]["configuration"]
        inner = _sizes(shard["chunk_shape"], len(shape), least=1)
        if any(outer % part for outer, part in zip(chunks, inner, strict=True)):
            raise ValueError("shards are no multiple of their chunks")
        count = math.prod(o // i for o, i in zip(chunks, inner, strict=True))
        index = _index_bytes(shard, count), shard.get("index_location", "end") == "end"
        codecs = shard["codecs"]
    packer, check = packer_of_3(codecs)
    return ZarrArray(
        files, name, metadata, shape, dtype, chunks, packer, check, inner=inner, index=index
    )


def _is_shard(codec: Any) -> bool:
    return isinstance(codec, Mapping) and codec.get("name") == "sharding_indexed"


def _index_bytes(shard: Mapping[str, Any], count: int) -> int:
    """Return the bytes of a shard's index."""
    packer, check = packer_of_3(shard["index_codecs"])
    first = shard["index_codecs"][0]
    if packer or first.get("configuration", {}).get("endian") != "little":
        raise CodecError("the index of its shards is written in a way that is not read")
    return 16 * count + check


def _dtype(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, str) or not PLAIN_DTYPE.fullmatch(kind):
        raise CodecError(f"no plain numeric array ({kind!r:.50})")
    return np.dtype(kind)


def _sizes(value: Any, count: int | None = None, least: int = 0) -> tuple[int, ...]:
    """Return the sides of an array or a chunk."""
    whole = isinstance(value, list) and all(type(side) is int and side >= least for side in value)
    if not whole or count not in (None, len(value)) or math.prod(value) >= 1 << 62:
        raise ValueError(f"a shape of {str(value)[:50]}")
    return tuple(value)
