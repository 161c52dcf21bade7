"""Codecs of Zarr chunks: which are read, and to how many bytes a chunk unpacks before it does.

Codecs are named by the file, and some of them run what the file says (``pickle``). So those that
turn bytes into numbers and do nothing else are listed here, and any other is an error.
"""

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

PLAIN_DTYPE = re.compile(r"[<>|]?[biuf][1248]")
"""Types of numbers and flags, as NumPy writes them."""

_PACKERS = ("blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma")
_FILTERS = (
    *("delta", "shuffle", "fixedscaleoffset", "quantize", "astype"),
    *("crc32", "crc32c", "adler32", "fletcher32"),
)
_TYPED = ("dtype", "astype", "encode_dtype", "decode_dtype")
_PACKERS_3 = ("blosc", "zstd", "gzip")
_BLOSC, _SIZE = struct.Struct("<4x3I"), struct.Struct("<I")
_GZIP = 47  # of zlib: a header of either kind
_STEP = 1 << 20
_LARGER = 8  # times that filters may make the bytes of a chunk more


class CodecError(Exception):
    """A codec that is not read, or a chunk that does not unpack to what it should."""


def packer_of_2(compressor: Any, filters: Any) -> tuple[str | None, bool]:
    """Return what unpacks the chunks of an array of version 2.

    Args:
        compressor: As the metadata say, ``None`` for none.
        filters: Likewise.

    Returns:
        Name of the compressor, ``None`` where there is none; whether filters change the size.

    Raises:
        CodecError: One of them is not read.
    """
    listed = filters if isinstance(filters, list) else [filters] if filters is not None else []
    for one in listed:
        name = _named(one, "id")
        if name not in _FILTERS:
            raise CodecError(_unknown(f"the filter '{name}'", name))
        for field in _TYPED:
            if field in one and not PLAIN_DTYPE.fullmatch(str(one[field])):
                raise CodecError(f"the filter '{name}' makes values of type {one[field]!r:.50}")
    if compressor is None:
        return None, bool(listed)
    name = _named(compressor, "id")
    if name not in _PACKERS:
        raise CodecError(_unknown(f"the compressor '{name}'", name))
    return name, bool(listed)


def packer_of_3(codecs: Any) -> tuple[str | None, int]:
    """Return what unpacks the chunks of an array of version 3.

    Args:
        codecs: The chain, as the metadata say, without shards.

    Returns:
        Name of the compressor, ``None`` where there is none; bytes of checksums behind it.

    Raises:
        CodecError: One of them is not read, or there are several compressors.
    """
    names = [_named(one, "name") for one in codecs] if isinstance(codecs, list) else []
    packed: str | None = None
    check = 0
    for name in names:
        if name in _PACKERS_3 and packed is None and not check:
            packed = name
        elif name == "crc32c":
            check += 4
        elif name not in ("transpose", "bytes"):
            raise CodecError(_unknown(f"the codec '{name}'", name))
    if "bytes" not in names:
        raise CodecError("its codecs make no bytes")
    return packed, check


def _named(one: Any, field: str) -> str:
    if isinstance(one, str) and field == "name":
        return one
    name = one.get(field) if isinstance(one, Mapping) else None
    if not isinstance(name, str):
        raise CodecError(f"a codec without a name ({one!r:.50})")
    return name[:50]


def _unknown(what: str, name: str) -> str:
    why = "which unpickles, that is, runs what the file says" if "pickle" in name else ""
    return f"{what}, {why or 'which is none of those that are read'}"


def check_unpacked(data: bytes, packer: str | None, size: int, *, loose: bool = False) -> None:
    """Check that a chunk unpacks to as many bytes as it should, before anything does.

    Args:
        data: The chunk as it is stored.
        packer: What unpacks it, ``None`` for nothing.
        size: Bytes that it should have then.
        loose: Filters may make it smaller or larger.

    Raises:
        CodecError: It is cut, or unpacks to another size.
    """
    found = _unpacked(data, packer, _LARGER * size)
    if found != size and not (loose and 0 < found <= _LARGER * size):
        raise CodecError(f"unpacks to {_said(found, _LARGER * size)} where {size:,} are due")


def _said(found: int, most: int) -> str:
    return f"more than {most:,} bytes" if found > most else f"{found:,} bytes"


def _unpacked(data: bytes, packer: str | None, most: int) -> int:
    """Return how many bytes a chunk unpacks to, ``most + 1`` where it is more."""
    try:
        if packer is None:
            return len(data)
        if packer == "blosc":  # its library reads behind the end of a chunk that is cut
            size, _, held = _BLOSC.unpack_from(data)
            if held != len(data):
                raise CodecError(f"is of {len(data):,} bytes where {held:,} were written")
            return min(int(size), most + 1)
        if packer == "lz4":
            return min(int(_SIZE.unpack_from(data)[0]), most + 1)
        return _zstd(data, most) if packer == "zstd" else _streamed(data, packer, most)
    except (struct.error, ValueError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise CodecError(f"cannot be unpacked ({str(error)[:100]})") from error


def _zstd(data: bytes, most: int) -> int:
    import zstandard

    try:
        size = zstandard.frame_content_size(data)
        if size >= 0:
            return min(int(size), most + 1)
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return _counted(iter(lambda: reader.read(_STEP), b""), most)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _streamed(data: bytes, packer: str, most: int) -> int:
    """Return the size of a stream that does not say it, found by unpacking it piece by piece."""
    if packer in ("zlib", "gzip"):
        return _counted(_inflated(data), most)
    stream = bz2.BZ2Decompressor() if packer == "bz2" else lzma.LZMADecompressor()
    return _counted(_pieces(stream, data), most)


def _pieces(stream: "bz2.BZ2Decompressor | lzma.LZMADecompressor", data: bytes) -> Iterator[bytes]:
    yield stream.decompress(data, _STEP)
    while not stream.eof:
        if stream.needs_input:
            raise EOFError("it is cut")
        yield stream.decompress(b"", _STEP)
    _check_end(stream.unused_data)


def _inflated(data: bytes) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP)
    yield stream.decompress(data, _STEP)
    while not stream.eof:
        if not stream.unconsumed_tail:
            raise EOFError("it is cut")
        yield stream.decompress(stream.unconsumed_tail, _STEP)
    _check_end(stream.unused_data)


def _check_end(rest: bytes) -> None:
    if rest:
        raise ValueError("more lies behind its end")


def _counted(pieces: Iterator[bytes], most: int) -> int:
    found = 0
    for piece in pieces:
        found += len(piece)
        if found > most:
            return most + 1
    return found
