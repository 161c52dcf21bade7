"""Operators that choose: the best of some, and numbers at places that are computed."""

import math

import numpy as np

from hindsight_rl.export.c.code import Code, contiguous
from hindsight_rl.export.c.graph import Node
from hindsight_rl.export.c.memory import C_TYPES, pool_of
from hindsight_rl.export.c.text import Index

# Places out of range are an error of the graph; C would read other memory.
_PLACE = """\
static int place(int64_t k, int size) {
  const int64_t from = k < 0 ? k + size : k;
  return from < 0 ? 0 : from >= size ? size - 1 : (int)from;
}"""


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return how many numbers the dimensions before and after one have."""
    return math.prod(shape[:axis]), math.prod(shape[axis + 1 :])


def _best(node: Node, code: Code) -> None:
    """ArgMax or ArgMin: the first of equal ones, or the last."""
    data, output = node.given(0), node.output()
    axis = int(node.attributes.get("axis", 0)) % len(data.shape)
    outer, inner = _around(data.shape, axis)
    sign = ">" if node.kind == "ArgMax" else "<"
    sign += "=" if node.attributes.get("select_last_index", 0) else ""
    source, target, size = code.operand(data), code.operand(output), data.shape[axis]
    kind = C_TYPES[pool_of(data)]

    def body(at: list[Index]) -> list[str]:
        here = source.at(f"{at[0]} + {inner} * m0")
        return [
            "{",
            f"{kind} best = {source.at(at[0])};",
            "int64_t chosen = 0;",
            f"for (m0 = 1; m0 < {size}; ++m0) {{",
            f"if ({here} {sign} best) {{",
            f"best = {here};",
            "chosen = m0;",
            "}",
            "}",
            f"{target.at(at[1])} = chosen;",
            "}",
        ]

    code.loops((outer, inner), [[size * inner, 1], [inner, 1]], body)


def _top(node: Node, code: Code) -> None:
    """The best k in order; of equal ones the first comes first."""
    data = node.given(0)
    count = int(node.constant(1, "number of them").item())
    axis = int(node.attributes.get("axis", -1)) % len(data.shape)
    outer, inner = _around(data.shape, axis)
    sign = ">" if node.attributes.get("largest", 1) else "<"
    source, size = code.operand(data), data.shape[axis]
    kind = C_TYPES[pool_of(data)]
    targets = [None if each is None else code.operand(each) for each in node.outputs]

    def body(at: list[Index]) -> list[str]:
        here = source.at(f"{at[0]} + {inner} * m1")
        left = f"m0 == 0 || x {opposite} last || (x == last && m1 > taken)"
        lines = [
            "{",
            f"{kind} last = 0;",
            "int taken = -1;",
            f"for (m0 = 0; m0 < {count}; ++m0) {{",
            f"{kind} best = 0;",
            "int chosen = -1;",
            f"for (m1 = 0; m1 < {size}; ++m1) {{",
            f"const {kind} x = {here};",
            f"if (({left}) && (chosen < 0 || x {sign} best)) {{",
            "best = x;",
            "chosen = m1;",
            "}",
            "}",
            "last = best;",
            "taken = chosen < 0 ? 0 : chosen;",
        ]
        stored = ("last", "taken")
        for target, what in zip(targets, stored, strict=False):
            if target is not None:
                lines.append(f"{target.at(f'{at[1]} + {inner} * m0')} = {what};")
        return [*lines, "}", "}"]

    opposite = "<" if sign == ">" else ">"
    code.loops((outer, inner), [[size * inner, 1], [count * inner, 1]], body)


def _gather(node: Node, code: Code) -> None:
    data, indices, output = node.given(0), node.given(1), node.output()
    if output.size == 0:
        return
    axis = int(node.attributes.get("axis", 0)) % len(data.shape)
    outer, inner = _around(data.shape, axis)
    size, count = data.shape[axis], indices.size
    code.helper("place", _PLACE)
    source, target = code.operand(data, whole=True), code.operand(output)
    chosen = code.operand(indices)
    code.loops(
        (outer, count, inner),
        [[count * inner, inner, 1], [size * inner, 0, 1], [0, 1, 0]],
        lambda at: [
            f"{target.at(at[0])} = "
            f"{source.at(f'{at[1]} + {inner} * place({chosen.at(at[2])}, {size})')};"
        ],
    )


def _gather_elements(node: Node, code: Code) -> None:
    data, indices, output = node.given(0), node.given(1), node.output()
    axis = int(node.attributes.get("axis", 0)) % len(data.shape)
    steps = contiguous(data.shape)
    others = [0 if place == axis else step for place, step in enumerate(steps)]
    code.helper("place", _PLACE)
    source, target = code.operand(data, whole=True), code.operand(output)
    chosen = code.operand(indices)
    size, whole = data.shape[axis], contiguous(output.shape)
    code.loops(
        output.shape,
        [whole, others],
        lambda at: [
            f"{target.at(at[0])} = "
            f"{source.at(f'{at[1]} + {steps[axis]} * place({chosen.at(at[0])}, {size})')};"
        ],
    )


def _gather_nd(node: Node, code: Code) -> None:
    data, indices, output = node.given(0), node.given(1), node.output()
    if node.attributes.get("batch_dims", 0):
        raise node.unsupported("with batch_dims")
    depth = indices.shape[-1]
    steps = contiguous(data.shape)
    rows, inner = indices.size // depth, math.prod(data.shape[depth:])
    code.helper("place", _PLACE)
    source, target = code.operand(data, whole=True), code.operand(output)
    chosen = code.operand(indices)

    def body(at: list[Index]) -> list[str]:
        terms = [
            f"{steps[place]} * place({chosen.at(f'{at[1]} + {place}')}, {data.shape[place]})"
            for place in range(depth)
        ]
        return [f"{target.at(at[0])} = {source.at(f'{at[2]} + ' + ' + '.join(terms))};"]

    code.loops((rows, inner), [[inner, 1], [depth, 0], [0, 1]], body)


def _one_hot(node: Node, code: Code) -> None:
    indices, output = node.given(0), node.output()
    off, on = (node.constant(2, "values")[place : place + 1] for place in (0, 1))
    axis = int(node.attributes.get("axis", -1)) % len(output.shape)
    outer, inner = _around(output.shape, axis)
    depth = output.shape[axis]
    if node.given(1).value is None or indices.dtype.kind != "i":
        raise node.unsupported("of real numbers, or of a depth that is computed")
    chosen, target = code.operand(indices), code.operand(output)
    values = code.constant(np.concatenate([off, on]))

    def body(at: list[Index]) -> list[str]:
        index = chosen.at(at[1])
        return [
            "{",
            f"const int64_t k = {index};",
            f"{target.at(at[0])} = {values}[(k < 0 ? k + {depth} : k) == {at[2]}];",
            "}",
        ]

    strides = [[depth * inner, inner, 1], [inner, 0, 1], [0, 1, 0]]
    code.loops((outer, depth, inner), strides, body)


EMITTERS = {
    "ArgMax": _best,
    "ArgMin": _best,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "TopK": _top,
}
