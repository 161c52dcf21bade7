"""C in the making: lines, constants, helper functions, and loops over tensors."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.c.graph import Node, Tensor
from hindsight_rl.export.c.memory import C_TYPES, Plan, pool_of, scratch_of
from hindsight_rl.export.c.text import Index, array, number

Strides = Sequence[int]


@dataclass(frozen=True)
class Operand:
    """Where numbers are read or written.

    Attributes:
        array: Name of a C array; "" for a single constant.
        offset: Of its first number.
        text: A single constant.
        type: In C.
    """

    array: str
    offset: int
    text: str
    type: str

    def at(self, index: Index | str | int = 0) -> str:
        """Return one of its numbers."""
        return self.text or f"{self.array}[{_sum(self.offset, index)}]"

    def address(self, index: Index) -> str:
        """Return where one of its numbers lies."""
        moved = index.text(self.offset)
        return self.array if moved == "0" else f"{self.array} + {moved}"

    @property
    def pointer(self) -> str:
        """Where its first number lies."""
        return self.address(Index({}))

    def moved(self, by: int) -> "Operand":
        """Return the same, beginning later."""
        return Operand(self.array, self.offset + by, self.text, self.type)


class Code:
    """The body of a function, and what it needs.

    Args:
        plan: Where tensors lie.

    Attributes:
        lines: Of the body.
        constants: C text of each constant array by name, in order.
        helpers: C text of each helper function by name, in order.
    """

    def __init__(self, plan: Plan) -> None:
        self._places: Mapping[str, tuple[str, int]] = plan.places
        self._depth = 1
        self._names: dict[str, str] = {}
        self.lines: list[str] = []
        self.constants: dict[str, str] = {}
        self.helpers: dict[str, str] = {}

    def line(self, text: str) -> None:
        """Add a line; braces at its ends indent what follows."""
        if text.startswith("}"):
            self._depth -= 1
        self.lines.append("  " * self._depth + text)
        if text.endswith("{"):
            self._depth += 1

    def helper(self, name: str, text: str) -> str:
        """Have a function that the body calls; return its name."""
        self.helpers.setdefault(name, text)
        return name

    def operand(self, tensor: Tensor, *, whole: bool = False) -> Operand:
        """Return where a tensor is read or written.

        Args:
            tensor: The tensor.
            whole: Whether a single constant is an array too, because its address is needed.

        Returns:
            Its place; of a constant of one number the number itself.
        """
        pool = pool_of(tensor)
        if tensor.value is None:
            name, offset = self._places[tensor.name]
            return Operand(name, offset, "", C_TYPES[pool])
        if tensor.size == 1 and not whole:
            return Operand("", 0, number(tensor.value.reshape(-1)[0]), C_TYPES[pool])
        return Operand(self.constant(tensor.value), 0, "", C_TYPES[pool])

    def scratch(self, node: Node) -> Operand:
        """Return the memory that a node may work in, as the plan has it."""
        name, offset = self._places[scratch_of(node)]
        return Operand(name, offset, "", C_TYPES[name])

    def constant(self, value: NDArray[Any]) -> str:
        """Have an array of constants; return its name. Equal ones are written once."""
        flat = np.ascontiguousarray(value).reshape(-1)
        pool = pool_of(Tensor("constant", flat.dtype, flat.shape))
        key = hashlib.sha256(pool.encode() + flat.tobytes()).hexdigest()
        if key not in self._names:
            name = self._names[key] = f"c{len(self._names)}"
            self.constants[name] = array(C_TYPES[pool], name, flat)
        return self._names[key]

    def loops(
        self,
        shape: Sequence[int],
        strides: Sequence[Strides],
        body: Callable[[list[Index]], Sequence[str]],
        variable: str = "n",
    ) -> None:
        """Add nested loops over all numbers of a shape.

        Args:
            shape: Of the loops.
            strides: One list for every operand: how far it moves in each dimension.
            body: From the index of every operand to lines.
            variable: First letter of the loop variables.
        """
        sizes, steps = collapsed(shape, strides)
        names = [f"{variable}{place}" for place in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            self.line(f"for ({name} = 0; {name} < {size}; ++{name}) {{")
        for text in body([Index(dict(zip(names, step, strict=True))) for step in steps]):
            self.line(text)
        for _ in names:
            self.line("}")

    def loop_variables(self) -> list[str]:
        """Return the names of all loop variables that the body uses."""
        found = {line.split("(", 1)[1].split(" ", 1)[0] for line in self.lines if "for (" in line}
        return sorted(found)

    def note(self, node: Node) -> None:
        """Add a comment on what follows."""
        shapes = ", ".join(_shape(each) for each in node.inputs if each is not None)
        results = ", ".join(_shape(each) for each in node.outputs if each is not None)
        self.line(f"/* {node.kind}: {shapes} -> {results} */")


def contiguous(shape: Sequence[int]) -> list[int]:
    """Return how far each dimension of a whole array moves."""
    found = [1] * len(shape)
    for place in reversed(range(len(shape) - 1)):
        found[place] = found[place + 1] * shape[place + 1]
    return found


def broadcast(shape: Sequence[int], to: Sequence[int]) -> list[int]:
    """Return how far an array moves in each dimension of the shape that it is repeated to."""
    missing = len(to) - len(shape)
    steps = contiguous(shape)
    return [0] * missing + [0 if size == 1 else step for size, step in
            zip(shape, steps, strict=True)]  # fmt: skip


def collapsed(
    shape: Sequence[int], strides: Sequence[Strides]
) -> tuple[list[int], list[list[int]]]:
    """Return the fewest loops that visit the same numbers in the same order."""
    kept = [place for place, size in enumerate(shape) if size != 1]
    sizes = [shape[place] for place in kept]
    steps = [[each[place] for place in kept] for each in strides]
    place = len(sizes) - 2
    while place >= 0:
        if all(each[place] == each[place + 1] * sizes[place + 1] for each in steps):
            sizes[place] *= sizes.pop(place + 1)
            for each in steps:
                del each[place]
        place -= 1
    return sizes, steps


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(str(size) for size in tensor.shape)}]"


def _sum(offset: int, index: Index | str | int) -> str:
    """Return an index that begins at an offset."""
    if isinstance(index, Index):
        return index.text(offset)
    if isinstance(index, int):
        return str(offset + index)
    return f"{offset} + {index}" if offset else index
