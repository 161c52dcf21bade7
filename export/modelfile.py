"""An ONNX file as bytes: read under a limit, hashed, searched for external data.

An ONNX file is one protocol buffer message. The few facts needed before a file may be trusted to
onnxruntime are read here with the standard library, so that a robot can check a policy without the
``onnx`` package.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hindsight_rl.export.contract import KEY, Contract, ContractError, parse

MAX_BYTES = 2**28
"""Largest file read unless the caller says otherwise: 256 MiB."""

_MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_METADATA, _OPSETS = 14, 8

# Which fields of which message hold which message, as far as a tensor can lie below it
# (onnx.proto3). A tensor's own field 13 lists where its data lies outside the file.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}


class Field(NamedTuple):
    """One field of a message: its number, wire type, value, and all its bytes."""

    number: int
    wire: int
    value: int | memoryview
    raw: memoryview

    def content(self) -> memoryview:
        """Return the bytes of a length-delimited field.

        Returns:
            A view.

        Raises:
            ValueError: The field holds a number.
        """
        if isinstance(self.value, int):
            raise ValueError(f"field {self.number} has wire type {self.wire}")
        return self.value

    def text(self) -> str:
        """Return the bytes of a length-delimited field as text."""
        return str(self.content(), "utf-8")


def read_model(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a policy file.

    Args:
        path: The file.
        max_bytes: Largest size accepted.

    Returns:
        The whole file.

    Raises:
        ContractError: There is no such file, it cannot be read, or it is larger than ``max_bytes``.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ContractError(
            f"{path}: no such file. Give the ONNX file that 'hindsight export' wrote."
        ) from error
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(data) > max_bytes:
        raise ContractError(
            f"{path}: larger than the limit of {max_bytes} bytes. "
            "If the file is to be trusted, raise max_bytes."
        )
    return data


def read_contract(data: bytes, path: str | Path) -> Contract:
    """Return the contract in the bytes of a policy file, which holds for exactly these bytes.

    Args:
        data: The file's bytes.
        path: Where they came from, for messages.

    Returns:
        The contract.

    Raises:
        ContractError: The bytes are no ONNX file; they hold no contract, two, or one that is not
            valid; tensors lie outside the file; graph or weights are not those exported.
    """
    try:
        outside, measured = external_data(data), model_hash(data)
        texts = [text for key, text in metadata(data) if key == KEY]
        version = opset(data)
    except ValueError as error:
        raise ContractError(f"{path}: not an ONNX file ({error}).") from error
    if outside:
        raise ContractError(
            f"{path}: keeps tensors outside the file ({outside[0]}), which is refused because it "
            "makes a policy read other files. Export to a single file."
        )
    if len(texts) != 1:
        raise ContractError(
            f"{path}: holds {len(texts)} entries '{KEY}', and a policy file holds one. "
            "Give the file that 'hindsight export' wrote, unchanged."
        )
    try:
        contract = parse(texts[0])
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error
    if contract["model_hash"] != measured or contract["opset"] != version:
        raise ContractError(
            f"{path}: graph or weights changed after the export (they hash to {measured}, and the "
            f"contract says {contract['model_hash']}). Export the checkpoint again with "
            "'hindsight export'."
        )
    return contract


def model_hash(data: bytes) -> str:
    """Return ``sha256:...`` over every field of a model but its metadata: graph, weights, opsets.

    The contract lies in the metadata and holds this hash, hence the exception. Entries that others
    add to the metadata change nothing a policy computes, and do not change the hash.

    Args:
        data: The file's bytes.

    Returns:
        The hash in hexadecimal digits.

    Raises:
        ValueError: The bytes are no protocol buffer message.
    """
    digest = hashlib.sha256()
    for field in _fields(memoryview(data)):
        if field.number != _METADATA:
            digest.update(field.raw)
    return f"sha256:{digest.hexdigest()}"


def metadata(data: bytes) -> list[tuple[str, str]]:
    """Return the metadata entries of a model in file order, duplicates included.

    Args:
        data: The file's bytes.

    Returns:
        Pairs of key and text.

    Raises:
        ValueError: The bytes are no protocol buffer message.
    """
    entries = [field for field in _fields(memoryview(data)) if field.number == _METADATA]
    return [_pair(entry.content()) for entry in entries]


def opset(data: bytes) -> int:
    """Return the version of the standard ONNX operator set that a model asks for.

    Args:
        data: The file's bytes.

    Returns:
        The version.

    Raises:
        ValueError: The bytes are no protocol buffer message, or name no standard operator set.
    """
    for field in _fields(memoryview(data)):
        if field.number != _OPSETS:
            continue
        entry = {part.number: part for part in _fields(field.content())}
        domain = entry[1].text() if 1 in entry else ""
        if domain in ("", "ai.onnx") and 2 in entry and isinstance(entry[2].value, int):
            return entry[2].value
    raise ValueError("no standard operator set is named")


def external_data(data: bytes) -> list[str]:
    """Return the entries that place a tensor's data outside the file.

    Args:
        data: The file's bytes.

    Returns:
        Texts ``key=value``, such as ``location=weights.bin``; an empty list if there are none.

    Raises:
        ValueError: The bytes are no protocol buffer message, or nested deeper than 64 levels.
    """
    return list(_external(memoryview(data), "model", 0))


def _external(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    children = _CHILDREN[kind]
    for field in _fields(data):
        child = children.get(field.number)
        if child == "external":
            yield "=".join(_pair(field.content()))
        elif child is not None:
            yield from _external(field.content(), child, depth + 1)


def _pair(data: memoryview) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    parts = {field.number: field.text() for field in _fields(data)}
    return parts.get(1, ""), parts.get(2, "")


def _fields(data: memoryview) -> Iterator[Field]:
    """Yield the fields of one message in file order."""
    at, end = 0, len(data)
    while at < end:
        start = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
            value, at = int.from_bytes(data[at : at + size], "little"), at + size
        elif wire == _BYTES:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"byte {start} starts a field of unknown wire type {wire}")
        if at > end:
            raise ValueError(f"the field that starts at byte {start} is cut off")
        yield Field(number, wire, value, data[start:at])


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the variable-length number at a position, and the position after it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"byte {at} should continue a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
