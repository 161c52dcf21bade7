"""Which tensors share memory: a plan made once, so that nothing is allocated where the code runs.

A tensor needs its place from the node that writes it to the last one that reads it. Those of the
same type whose times do not meet may have the same place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hindsight_rl.export.c.graph import CodeError, Graph, Node, Tensor

POOLS = {"float32": "f", "float64": "d", "int64": "i", "int32": "k", "uint8": "b", "bool": "b"}
"""Name of the array in which tensors of a type lie."""
BYTES = {"f": 4, "d": 8, "i": 8, "k": 4, "b": 1}
"""Bytes of a number of each array."""
C_TYPES = {"f": "float", "d": "double", "i": "int64_t", "k": "int32_t", "b": "uint8_t"}
"""C type of each array."""
SAME = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators whose output is their input, with another shape."""
_ALIGNED = 16
"""Places begin at multiples of so many numbers: 64 bytes of float."""


@dataclass(frozen=True)
class Plan:
    """Where tensors lie.

    Attributes:
        places: Array and offset of each tensor that is not constant, and of each node's scratch by
            the name that :func:`scratch_of` gives it.
        sizes: How many numbers each array needs to hold.
    """

    places: Mapping[str, tuple[str, int]]
    sizes: Mapping[str, int]


@dataclass
class _Block:
    """Memory of some tensors: ``first`` and ``last`` are numbers of nodes."""

    pool: str
    size: int
    first: int
    last: int
    offset: int = 0


def scratch_of(node: Node) -> str:
    """Return the name of the memory that a node works in; no name of a tensor begins so."""
    return f"\0{node.output().name}"


def plan(
    graph: Graph, in_place: frozenset[str], scratch: Callable[[Node], int] = lambda node: 0
) -> Plan:
    """Return a plan of memory, the larger tensors placed first.

    Args:
        graph: The graph.
        in_place: Operators that read a number of an input only to write that of the output.
        scratch: How many floats a node needs to work in, beside its inputs and outputs.

    Returns:
        The plan.
    """
    blocks: dict[str, _Block] = {}
    last = _last_reads(graph)
    for tensor in graph.inputs.values():
        blocks[tensor.name] = _block(tensor, -1, last)
    for number, node in enumerate(graph.nodes):
        if needed := scratch(node):
            blocks[scratch_of(node)] = _Block("f", needed, number, number)
        for output in node.outputs:
            if output is None:
                continue
            shared = _shared(node, output, number, blocks, in_place)
            if shared is None:
                blocks[output.name] = _block(output, number, last)
            else:
                blocks[output.name] = shared
                shared.last = max(shared.last, last.get(output.name, number))
    sizes = _place(list({id(block): block for block in blocks.values()}.values()))
    return Plan({name: (each.pool, each.offset) for name, each in blocks.items()}, sizes)


def pool_of(tensor: Tensor) -> str:
    """Return the array in which a tensor lies.

    Args:
        tensor: The tensor.

    Returns:
        Its name.

    Raises:
        CodeError: C code has no numbers of this type.
    """
    found = POOLS.get(tensor.dtype.name)
    if found is None:
        raise CodeError(f"numbers of type {tensor.dtype.name} ('{tensor.name}') have no form in C")
    return found


def _block(tensor: Tensor, number: int, last: Mapping[str, int]) -> _Block:
    return _Block(pool_of(tensor), tensor.size, number, last.get(tensor.name, number))


def _last_reads(graph: Graph) -> dict[str, int]:
    """Return the number of the last node that reads each tensor; outputs are read at the end."""
    found: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        found |= {each.name: number for each in node.inputs if each is not None}
    return found | dict.fromkeys(graph.outputs, len(graph.nodes))


def _shared(
    node: Node, output: Tensor, number: int, blocks: Mapping[str, _Block], in_place: frozenset[str]
) -> _Block | None:
    """Return the memory of an input that an output may lie in."""
    if node.kind in SAME:
        first = node.inputs[0]
        return None if first is None or first.value is not None else blocks[first.name]
    if node.kind not in in_place:
        return None
    for each in node.inputs:
        if each is None or each.value is not None or each.size != output.size:
            continue
        block = blocks[each.name]
        # A longer input was cut to fit when a block is larger: its other numbers are still read.
        if block.last == number and block.size == output.size and block.pool == pool_of(output):
            return block
    return None


def _place(blocks: list[_Block]) -> dict[str, int]:
    """Give every block its offset; return the size of each array."""
    placed: list[_Block] = []
    for block in sorted(blocks, key=lambda each: (-each.size, each.first)):
        rivals = [
            each for each in placed
            if each.pool == block.pool and each.first <= block.last and block.first <= each.last
        ]  # fmt: skip
        offset = 0
        for each in sorted(rivals, key=lambda rival: rival.offset):
            if each.offset - offset >= _rounded(block.size):
                break
            offset = max(offset, each.offset + _rounded(each.size))
        block.offset = offset
        placed.append(block)
    ends = [(each.pool, each.offset + _rounded(each.size)) for each in placed]
    return {pool: max(end for name, end in ends if name == pool) for pool, _ in ends}


def _rounded(size: int) -> int:
    return int(np.ceil(size / _ALIGNED)) * _ALIGNED
