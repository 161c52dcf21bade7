"""Protocol buffer messages, read strictly with the standard library.

Readers of this format forgive much: numbers in too many bytes, unknown fields, bits that do not
fit. Whatever two readers may understand differently is an error here, so that what was searched is
what onnxruntime sees.
"""

from collections.abc import Iterator
from typing import NamedTuple

MAX_FIELDS = 2**18
"""Most protocol buffer fields read of one file: one takes Python some microseconds.

A transformer of 24 layers has some 50,000.
"""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Every field that these messages have in onnx.proto3 (release 1.23). One that is not listed here
# may be read by onnxruntime as something that was not searched, so it is an error.
KNOWN: dict[str, frozenset[int]] = {
    "model": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}),
    "training": frozenset({1, 2, 3, 4}),
    "graph": frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16}),
    "function": frozenset({1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
    "node": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
    "attribute": frozenset({*range(1, 12), 13, 14, 15, 20, 21, 22, 23}),
    "sparse": frozenset({1, 2, 3}),
    "tensor": frozenset({*range(1, 15), 16}),
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


class Budget:
    """How many more fields may be read of a file."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def spend(self) -> None:
        """Count one field.

        Raises:
            ValueError: It is one too many.
        """
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {MAX_FIELDS:,} fields")


def fields_of(data: memoryview, kind: str | None, budget: Budget) -> Iterator[Field]:
    """Yield the fields of one message in file order; ``kind`` says which fields it may have."""
    known = None if kind is None else KNOWN[kind]
    at, end = 0, len(data)
    while at < end:
        budget.spend()
        start = at
        key = data[at]
        key, at = (key, at + 1) if key < 0x80 else _varint(data, at)
        number, wire = key >> 3, key & 7
        # protobuf keeps 32 bits of a key: a longer one would be read as that of another field.
        if key >= 1 << 32 or number == 0 or (known is not None and number not in known):
            raise ValueError(f"byte {start} starts field {number}, which {kind or 'it'} has not")
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
    """Return the variable-length number at a position, and the position after it.

    Only the one encoding that every library writes is accepted. Readers disagree about the others
    (bytes too many, bits beyond the 64th), and what they disagree about can hide a field.
    """
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"byte {at} should continue a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            break
    if byte == 0 and shift > 7:
        raise ValueError(f"the number that ends at byte {at} is written in more bytes than needed")
    if value >> 64:
        raise ValueError(f"the number that ends at byte {at} has more than 64 bits")
    return value, at
