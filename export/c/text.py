"""Pieces of C: numbers, arrays, indices, names and texts."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 96
_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while main".split()
)


class Index:
    """A sum of loop variables, each times a stride.

    Args:
        strides: By variable.
    """

    def __init__(self, strides: Mapping[str, int]) -> None:
        self._strides = {name: step for name, step in strides.items() if step}

    def text(self, offset: int = 0) -> str:
        """Return it as C, moved by an offset."""
        terms = [name if step == 1 else f"{step} * {name}" for name, step in
                 self._strides.items()]  # fmt: skip
        if offset or not terms:
            terms.insert(0, str(offset))
        return " + ".join(terms).replace("+ -", "- ")

    def __str__(self) -> str:
        return self.text()


def number(value: Any) -> str:
    """Return a number as a C constant that is read back as it."""
    value = np.asarray(value)
    kind = value.dtype
    if kind.kind in "iub":
        whole = int(value)
        if whole == -(2**63):
            return "INT64_MIN"
        return str(whole) if abs(whole) < 2**31 else f"INT64_C({whole})"
    real = float(value)
    if math.isnan(real):
        return "NAN"
    if math.isinf(real):
        return "INFINITY" if real > 0 else "-INFINITY"
    suffix = "f" if kind == np.float32 else ""
    shortest = str(value.astype(np.float32)) if suffix else repr(real)
    return shortest + suffix if any(mark in shortest for mark in ".e") else f"{shortest}.0{suffix}"


def literal(values: NDArray[Any] | Sequence[Any]) -> str:
    """Return numbers as the inside of an initialiser, in lines of a readable length."""
    return wrapped([number(value) for value in np.asarray(values).reshape(-1)])


def wrapped(words: Sequence[str]) -> str:
    """Return words, with commas between them, in lines of a readable length."""
    lines, line = [], " "
    for word in words:
        if len(line) + len(word) + 2 > WIDTH:
            lines.append(line)
            line = " "
        line += f" {word},"
    return "\n".join([*lines, line])


def array(kind: str, name: str, values: NDArray[Any] | Sequence[Any], static: bool = True) -> str:
    """Return the definition of a constant array."""
    flat = np.asarray(values).reshape(-1)
    where = "static " if static else ""
    return f"{where}const {kind} {name}[{flat.size}] = {{\n{literal(flat)}\n}};"


def text(value: str) -> str:
    """Return a text as a C constant: ASCII, everything else by its bytes in octal."""
    found = ""
    for byte in value.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        found += chr(byte) if plain else f"\\{byte:03o}"
    return f'"{found}"'


def comment(value: str) -> str:
    """Return a text that may stand in a comment.

    A file may come from anybody: a line that ends in a backslash, or in the trigraph of one, would
    join a star and a slash that stand apart.
    """
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in value)
    return re.sub(r"\?(?=\?)", "? ", plain.replace("*/", "* /").replace("/*", "/ *"))


def identifier(value: str) -> str:
    """Return a name as C may have it.

    Args:
        value: Any text.

    Returns:
        Letters, digits and underscores.

    Raises:
        ValueError: Nothing of it may stand in a name of C, or C has the word itself.
    """
    found = re.sub(r"[^A-Za-z0-9_]+", "_", value).strip("_")
    if not found or not found[0].isalpha() or found in _KEYWORDS:
        raise ValueError(f"'{value}' is no name of C: letters, digits and underscores are")
    return found
