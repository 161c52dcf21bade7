"""Products of matrices.

Weights are written ``[K, N]``: the innermost loop runs over the outputs, which a compiler turns
into vector instructions without changing the order of any sum.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.c.code import Code, Operand, broadcast, contiguous
from hindsight_rl.export.c.graph import Node, Tensor
from hindsight_rl.export.c.text import Index

_ROWS = 4
"""Rows of weights that are read together: a sum is loaded and stored a quarter as often."""
_VECTOR = 16
_DENSE = """\
static void {name}(float *restrict y, const float *restrict x, const float *restrict w{bias}) {{
  float s[{width}];
  int j, k;
  for (j = 0; j < {width}; ++j) s[j] = {start};
{blocks}\
  for (j = 0; j < {outputs}; ++j) y[j] = s[j];
}}"""
_BLOCK = """\
  for (k = 0; k < {whole}; k += 4) {{
    const float x0 = x[k], x1 = x[k + 1], x2 = x[k + 2], x3 = x[k + 3];
    const float *const r = w + {width} * k;
    for (j = 0; j < {width}; ++j)
      s[j] += x0 * r[j] + x1 * r[{width} + j] + x2 * r[{two} + j] + x3 * r[{three} + j];
  }}
"""
_REST = """\
  for (k = {whole}; k < {inputs}; ++k)
    for (j = 0; j < {width}; ++j) s[j] += x[k] * w[{width} * k + j];
"""

_PRODUCT = """\
static void {name}({kind} *restrict y, const {kind} *restrict a, const {kind} *restrict b,
    int rows, int inner, int columns, int row, int down, int along, int forth{more}) {{
  int i, j, k;
  for (i = 0; i < rows; ++i) {{
    for (j = 0; j < columns; ++j) y[row * i + j] = 0;
    for (k = 0; k < inner; ++k) {{
      const {kind} x = a[down * i + along * k];
      for (j = 0; j < columns; ++j) y[row * i + j] += x * b[forth * k + {step}];
    }}
  }}
}}"""


def dense(
    code: Code,
    target: Operand,
    source: Operand,
    rows: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
) -> None:
    """Add the product of rows and a constant matrix.

    Args:
        code: What it is added to.
        target: ``[M, N]``.
        source: ``[M, K]``.
        rows: M.
        weight: ``[K, N]``.
        bias: ``[N]``, or ``None``.
    """
    inputs, outputs = weight.shape
    step = _VECTOR if outputs > _VECTOR // 2 else _VECTOR // 2
    width = -(-outputs // step) * step  # columns of zeros, so that no vector is cut
    whole = inputs // _ROWS * _ROWS
    sizes = {"width": width, "whole": whole, "inputs": inputs, "outputs": outputs}
    blocks = _BLOCK.format(two=2 * width, three=3 * width, **sizes) if whole else ""
    blocks += _REST.format(**sizes) if whole < inputs else ""
    name = f"dense_{inputs}_{outputs}" + ("" if bias is not None else "_plain")
    given = "" if bias is None else ", const float *restrict b"
    start = "0" if bias is None else "b[j]"
    code.helper(name, _DENSE.format(name=name, bias=given, start=start, blocks=blocks, **sizes))
    padded = np.zeros((inputs, width), np.float32)
    padded[:, :outputs] = weight
    words = [code.constant(padded)]
    if bias is not None:
        words.append(code.constant(np.pad(bias.astype(np.float32), (0, width - outputs))))
    code.loops(
        (rows,),
        [[outputs], [inputs]],
        lambda at: [
            f"{name}({', '.join([target.address(at[0]), source.address(at[1]), *words])});"
        ],
    )


def product(
    code: Code,
    operands: tuple[Operand, Operand, Operand],
    at: Sequence[Index],
    sizes: tuple[int, int, int],
    steps: Sequence[int],
) -> str:
    """Return the line of the product of two matrices of any layout.

    Args:
        code: What has the function that it calls.
        operands: Where to, and the two matrices.
        at: Where each begins.
        sizes: Rows M, inner K, columns N.
        steps: How far a row is in the result, a row and a column in the left matrix, a row in the
            right one; and a column in it, where they do not lie side by side.

    Returns:
        C.
    """
    kind, side_by_side = operands[0].type, len(steps) == 4
    name = f"product_{kind}" + ("" if side_by_side else "_strided")
    more, step = ("", "j") if side_by_side else (", int across", "across * j")
    code.helper(name, _PRODUCT.format(name=name, kind=kind, more=more, step=step))
    words = [each.address(index) for each, index in zip(operands, at, strict=True)]
    return f"{name}({', '.join([*words, *(str(each) for each in (*sizes, *steps))])});"


def _real(node: Node, *tensors: Tensor) -> None:
    for each in tensors:
        if each.dtype.kind != "f":
            raise node.unsupported(f"of type {each.dtype.name}")


def _gemm(node: Node, code: Code) -> None:
    a, b, bias, output = node.given(0), node.given(1), node.optional(2), node.output()
    _real(node, a, b)
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    left, right = (bool(node.attributes.get(name, 0)) for name in ("transA", "transB"))
    rows, columns = output.shape
    inner = a.shape[0] if left else a.shape[1]
    constant = bias is None or (bias.value is not None and bias.size in (1, columns))
    if b.value is not None and b.dtype == np.float32 and not left and constant:
        weight = (b.value.T if right else b.value) * np.float32(alpha)
        added = None
        if bias is not None and bias.value is not None:
            added = np.broadcast_to(bias.value.reshape(-1) * np.float32(beta), (columns,))
        source = code.operand(a, whole=True)
        dense(code, code.operand(output), source, rows, weight, added)
        return
    if alpha != 1.0 or (bias is not None and beta != 1.0):
        raise node.unsupported("with alpha or beta, and factors that are not constant")
    steps = [columns, *((1, a.shape[1]) if left else (a.shape[1], 1))]
    steps += [1, b.shape[1]] if right else [b.shape[1]]
    target = code.operand(output)
    operands = target, code.operand(a, whole=True), code.operand(b, whole=True)
    code.line(product(code, operands, [Index({})] * 3, (rows, inner, columns), steps))
    if bias is not None:
        added_to = code.operand(bias)
        strides = [contiguous(output.shape), broadcast(bias.shape, output.shape)]
        code.loops(
            output.shape,
            strides,
            lambda at: [f"{target.at(at[0])} += {added_to.at(at[1])};"],
        )


def _matmul(node: Node, code: Code) -> None:
    a, b, output = node.given(0), node.given(1), node.output()
    _real(node, a, b)
    first = a.shape if len(a.shape) > 1 else (1, *a.shape)
    second = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    rows, inner, columns = first[-2], first[-1], second[-1]
    batch = np.broadcast_shapes(first[:-2], second[:-2])
    left, target = code.operand(a, whole=True), code.operand(output)
    if b.value is not None and b.dtype == np.float32 and b.size == inner * columns:
        weight = b.value.reshape(inner, columns)
        dense(code, target, left, int(np.prod(batch, dtype=np.int64)) * rows, weight, None)
        return
    right = code.operand(b, whole=True)
    whole = (*batch, rows, columns)
    strides = [
        contiguous(whole)[: len(batch)],
        broadcast(first, (*batch, rows, inner))[: len(batch)],
        broadcast(second, (*batch, inner, columns))[: len(batch)],
    ]
    steps = [columns, inner, 1, columns]
    code.loops(
        batch,
        strides,
        lambda at: [product(code, (target, left, right), at, (rows, inner, columns), steps)],
    )


EMITTERS = {"Gemm": _gemm, "MatMul": _matmul}
