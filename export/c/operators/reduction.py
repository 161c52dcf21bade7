"""Sums, means, extremes over dimensions, and sums that run along one."""

import math

import numpy as np

from hindsight_rl.export.c.code import Code, contiguous
from hindsight_rl.export.c.graph import Node, Tensor
from hindsight_rl.export.c.memory import C_TYPES, pool_of
from hindsight_rl.export.c.text import Index

_STEP = {
    "ReduceSum": "a += {x}",
    "ReduceMean": "a += {x}",
    "ReduceProd": "a *= {x}",
    "ReduceMax": "a = {x} > a || {x} != {x} ? {x} : a",
    "ReduceMin": "a = {x} < a || {x} != {x} ? {x} : a",
    "ReduceSumSquare": "a += {x} * {x}",
    "ReduceL1": "a += {x} < 0 ? -{x} : {x}",
    "ReduceL2": "a += {x} * {x}",
}


def axes_of(node: Node, data: Tensor) -> list[int]:
    """Return the dimensions that are reduced, of an attribute or an input."""
    axes = node.attributes.get("axes")
    if axes is None and node.optional(1) is not None:
        axes = node.constant(1, "axes").tolist()
    if not axes:
        nothing = bool(node.attributes.get("noop_with_empty_axes", 0))
        return [] if nothing else list(range(len(data.shape)))
    return sorted(int(axis) % len(data.shape) for axis in axes)


def _reduce(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    axes = axes_of(node, data)
    kind = C_TYPES[pool_of(data)]
    steps = contiguous(data.shape)
    outer = [place for place in range(len(data.shape)) if place not in axes]
    source, target = code.operand(data), code.operand(output)
    shape = [data.shape[place] for place in outer]
    inner = [data.shape[place] for place in axes]
    count = math.prod(inner)

    def body(at: list[Index]) -> list[str]:
        extreme = node.kind in ("ReduceMax", "ReduceMin")
        start = source.at(at[1]) if extreme else "1" if node.kind == "ReduceProd" else "0"
        lines = ["{", f"{kind} a = {start};"]
        names = [f"m{place}" for place in range(len(axes))]
        lines += [f"for ({name} = 0; {name} < {size}; ++{name}) {{" for name, size in
                  zip(names, inner, strict=True)]  # fmt: skip
        moved = Index(dict(zip(names, (steps[place] for place in axes), strict=True)))
        base = source.at(f"{at[1]} + {moved}")
        lines += [f"const {kind} x = {base};", _STEP[node.kind].format(x="x") + ";"]
        lines += ["}"] * len(axes)
        result = {"ReduceMean": f"a / {count}", "ReduceL2": "sqrtf(a)"}.get(node.kind, "a")
        return [*lines, f"{target.at(at[0])} = {result};", "}"]

    if node.kind == "ReduceL2" and data.dtype != np.float32:
        raise node.unsupported(f"of type {data.dtype.name}")
    if not axes:
        raise node.unsupported("over no dimension")
    strides = [contiguous(shape), [steps[place] for place in outer]]
    code.loops(shape, strides, body)


def _running(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    axis = int(node.constant(1, "axis").item()) % len(data.shape)
    size, step = data.shape[axis], contiguous(data.shape)[axis]
    before = bool(node.attributes.get("exclusive", 0))
    backward = bool(node.attributes.get("reverse", 0))
    source, target = code.operand(data), code.operand(output)
    kind = C_TYPES[pool_of(data)]

    def body(at: list[Index]) -> list[str]:
        along = f"{step} * {size - 1} - {step} * m0" if backward else f"{step} * m0"
        lines = [f"const {kind} x = {source.at(f'{at[0]} + {along}')};"]
        stored = f"{target.at(f'{at[0]} + {along}')} = a;"
        lines += [stored, "a += x;"] if before else ["a += x;", stored]
        return ["{", f"{kind} a = 0;", f"for (m0 = 0; m0 < {size}; ++m0) {{", *lines, "}", "}"]

    shape = [1 if place == axis else each for place, each in enumerate(data.shape)]
    code.loops(shape, [contiguous(data.shape)], body)


EMITTERS = {**dict.fromkeys(_STEP, _reduce), "CumSum": _running}
