"""Operators that copy numbers to other places."""

from collections.abc import Sequence

import numpy as np

from hindsight_rl.export.c.code import Code, Operand, broadcast, contiguous
from hindsight_rl.export.c.graph import Node, Tensor


def copy(
    code: Code,
    shape: Sequence[int],
    target: tuple[Operand, Sequence[int]],
    source: tuple[Operand, Sequence[int]],
) -> None:
    """Add a loop that copies numbers.

    Args:
        code: What it is added to.
        shape: How many in each dimension.
        target: Where to, and how far a step of each dimension is there.
        source: Where from, likewise.
    """
    if 0 in shape:
        return
    code.loops(
        shape,
        [target[1], source[1]],
        lambda index: [f"{target[0].at(index[0])} = {source[0].at(index[1])};"],
    )


def _transpose(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    order = node.attributes.get("perm") or list(reversed(range(len(data.shape))))
    steps = contiguous(data.shape)
    source = code.operand(data), [steps[place] for place in order]
    copy(code, output.shape, (code.operand(output), contiguous(output.shape)), source)


def _expand(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    source = code.operand(data), broadcast(data.shape, output.shape)
    copy(code, output.shape, (code.operand(output), contiguous(output.shape)), source)


def _tile(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    repeats = node.constant(1, "repeats").tolist()
    shape = [size for pair in zip(repeats, data.shape, strict=True) for size in pair]
    steps = [step for each in contiguous(data.shape) for step in (0, each)]
    copy(code, shape, (code.operand(output), contiguous(shape)), (code.operand(data), steps))


def _slice(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    starts = node.constant(1, "starts").tolist()
    ends = node.constant(2, "ends").tolist()
    axes = list(range(len(starts)))
    if node.optional(3) is not None:
        axes = [int(axis) % len(data.shape) for axis in node.constant(3, "axes")]
    by = [1] * len(starts) if node.optional(4) is None else node.constant(4, "steps").tolist()
    steps = contiguous(data.shape)
    offset, moves = 0, list(steps)
    for start, end, axis, step in zip(starts, ends, axes, by, strict=True):
        first, *_ = slice(start, end, step).indices(data.shape[axis])
        offset += first * steps[axis]
        moves[axis] = steps[axis] * step
    target = code.operand(output), contiguous(output.shape)
    copy(code, output.shape, target, (code.operand(data).moved(offset), moves))


def _concat(node: Node, code: Code) -> None:
    output = node.output()
    axis = int(node.attributes["axis"]) % len(output.shape)
    target, steps, offset = code.operand(output), contiguous(output.shape), 0
    for place in range(len(node.inputs)):
        part = node.given(place)
        source = code.operand(part), contiguous(part.shape)
        copy(code, part.shape, (target.moved(offset), steps), source)
        offset += part.shape[axis] * steps[axis]


def _split(node: Node, code: Code) -> None:
    data = node.given(0)
    axis = int(node.attributes.get("axis", 0)) % len(data.shape)
    source, steps = code.operand(data), contiguous(data.shape)
    sizes = _split_sizes(node, data.shape[axis])
    offset = 0
    for part, size in zip(node.outputs, sizes, strict=True):
        if part is not None:
            target = code.operand(part), contiguous(part.shape)
            copy(code, part.shape, target, (source.moved(offset), steps))
        offset += size * steps[axis]


def _split_sizes(node: Node, whole: int) -> list[int]:
    """Return the length of each part."""
    if node.optional(1) is not None:
        return [int(size) for size in node.constant(1, "parts")]
    count = len(node.outputs)
    part = -(-whole // count)
    return [min(part, whole - part * place) for place in range(count)]


def _pad(node: Node, code: Code) -> None:
    if node.attributes.get("mode", b"constant") != b"constant":
        raise node.unsupported(f"with mode {node.attributes['mode'].decode()}")
    data, output = node.given(0), node.output()
    pads = [int(size) for size in node.constant(1, "widths")]
    axes = list(range(len(data.shape)))
    if node.optional(3) is not None:
        axes = [int(axis) % len(data.shape) for axis in node.constant(3, "axes")]
    before = dict(zip(axes, pads[: len(axes)], strict=True))  # negative ones the evaluator refuses
    value = node.optional(2)
    filling = Tensor("zero", output.dtype, (1,), np.zeros(1, output.dtype))
    filling = filling if value is None else value
    target, source = code.operand(output), code.operand(data)
    steps, moves = contiguous(output.shape), contiguous(data.shape)
    copy(code, output.shape, (target, steps), (code.operand(filling), [0] * len(output.shape)))
    to = sum(before.get(axis, 0) * step for axis, step in enumerate(steps))
    copy(code, data.shape, (target.moved(to), steps), (source, moves))


EMITTERS = {
    "Concat": _concat,
    "Expand": _expand,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Tile": _tile,
    "Transpose": _transpose,
}
