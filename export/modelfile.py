"""An ONNX file as bytes: read under a limit, hashed, searched for external data.

An ONNX file is one protocol buffer message. The few facts needed before a file may be trusted to
onnxruntime are read here with the standard library, so that a robot can check a policy without the
``onnx`` package.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from hindsight_rl.export.contract import KEY, Contract, ContractError, parse
from hindsight_rl.export.protobuf import Budget, Field, fields_of

MAX_BYTES = 2**28
"""Largest file read unless the caller says otherwise: 256 MiB."""
_MAX_DEPTH = 64
_METADATA, _OPSETS = 14, 8

# Which fields of which message hold which message, as far as a tensor can lie below it
# (onnx.proto3). A tensor's own field 13 lists where its data lies outside the file, and its field
# 14 says that it does.
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
    "tensor": {13: "external", 14: "location"},
}


def read_model(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a policy file.

    Args:
        path: The file.
        max_bytes: Largest size accepted.

    Returns:
        The whole file.

    Raises:
        ContractError: There is no such file, it is no regular one, it cannot be read, or it is
            larger than ``max_bytes``.
    """
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # A pipe would be waited for, and a device may never end.
            raise ContractError(f"{path}: a pipe or a device. Give the ONNX file itself.")
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


def read_policy(data: bytes, path: str | Path) -> tuple[Contract, bytes]:
    """Return the contract in the bytes of a policy file, and the bytes that may be run.

    What is run is what was searched and hashed: every field of the model but its metadata.

    Args:
        data: The file's bytes.
        path: Where they came from, for messages.

    Returns:
        The contract, and a model without metadata for onnxruntime.

    Raises:
        ContractError: The bytes are no ONNX file; they hold no contract, two, or one that is not
            valid; tensors lie outside the file; graph or weights are not those exported.
    """
    try:
        budget = Budget()
        fields = list(fields_of(memoryview(data), "model", budget))
        outside = list(_external(fields, "model", 0, budget))
        texts = [text for key, text in _metadata(fields, budget) if key == KEY]
        graph = b"".join(field.raw for field in fields if field.number != _METADATA)
        version = _opset(fields, budget)
    except ValueError as error:
        raise ContractError(f"{path}: not an ONNX file ({error}).") from error
    if outside:
        raise ContractError(
            f"{path}: keeps tensors outside the file ({outside[0]}), which is an error because it "
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
    measured = _hash(graph)
    if contract["model_hash"] != measured or contract["opset"] != version:
        raise ContractError(
            f"{path}: graph or weights changed after the export (they hash to {measured}, and the "
            f"contract says {contract['model_hash']}). Export the checkpoint again with "
            "'hindsight export'."
        )
    return contract, graph


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
    fields = fields_of(memoryview(data), "model", Budget())
    return _hash(b"".join(field.raw for field in fields if field.number != _METADATA))


def metadata(data: bytes) -> list[tuple[str, str]]:
    """Return the metadata entries of a model in file order, duplicates included.

    Args:
        data: The file's bytes.

    Returns:
        Pairs of key and text.

    Raises:
        ValueError: The bytes are no protocol buffer message.
    """
    budget = Budget()
    return _metadata(fields_of(memoryview(data), "model", budget), budget)


def opset(data: bytes) -> int:
    """Return the version of the standard ONNX operator set that a model needs.

    Args:
        data: The file's bytes.

    Returns:
        The version.

    Raises:
        ValueError: The bytes are no protocol buffer message, or name no standard operator set.
    """
    budget = Budget()
    return _opset(fields_of(memoryview(data), "model", budget), budget)


def external_data(data: bytes) -> list[str]:
    """Return the entries that place a tensor's data outside the file.

    Args:
        data: The file's bytes.

    Returns:
        Texts ``key=value``, such as ``location=weights.bin``; an empty list if there are none.

    Raises:
        ValueError: The bytes are no protocol buffer message, are nested deeper than 64 levels, hold
            more than ``MAX_FIELDS`` fields, or a field that onnx.proto3 does not know or that is
            not written as every protocol buffer library writes it.
    """
    budget = Budget()
    fields = fields_of(memoryview(data), "model", budget)
    return list(_external(fields, "model", 0, budget))


def _hash(graph: bytes) -> str:
    return f"sha256:{hashlib.sha256(graph).hexdigest()}"


def _metadata(fields: Iterable[Field], budget: Budget) -> list[tuple[str, str]]:
    """Return the metadata among the fields of a model."""
    return [_pair(field.content(), budget) for field in fields if field.number == _METADATA]


def _opset(fields: Iterable[Field], budget: Budget) -> int:
    """Return the version of the standard operator set among the fields of a model."""
    for field in fields:
        if field.number != _OPSETS:
            continue
        entry = {part.number: part for part in fields_of(field.content(), None, budget)}
        domain = entry[1].text() if 1 in entry else ""
        if domain in ("", "ai.onnx") and 2 in entry and isinstance(entry[2].value, int):
            return entry[2].value
    raise ValueError("no standard operator set is named")


def _external(fields: Iterable[Field], kind: str, depth: int, budget: Budget) -> Iterator[str]:
    """Yield where the tensors below the fields of one message lie, as far as outside the file."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    children = _CHILDREN[kind]
    for field in fields:
        child = children.get(field.number)
        if child is None:
            continue
        if child == "external":
            yield "=".join(_pair(field.content(), budget))
        elif child == "location":
            # 0 is the default, inside the file. protobuf keeps 32 of the bits, so none may be set.
            if field.value != 0:
                yield f"data_location={field.value if isinstance(field.value, int) else '?'}"
        else:
            inner = fields_of(field.content(), child, budget)
            yield from _external(inner, child, depth + 1, budget)


def _pair(data: memoryview, budget: Budget) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    parts = {field.number: field.text() for field in fields_of(data, None, budget)}
    return parts.get(1, ""), parts.get(2, "")
