"""Soft-max, and the normalisations of layers, groups and channels."""

import math

import numpy as np

from hindsight_rl.export.c.code import Code, Operand, contiguous
from hindsight_rl.export.c.graph import Node
from hindsight_rl.export.c.text import Index, number

# Sixteen sums side by side: a compiler may not change the order of one, and each rounds less.
_NORMALIZE = """\
static void normalize(float *y, const float *x, int count, float epsilon) {
  float mean = 0, variance = 0, scale, part[16] = {0}, spread[16] = {0};
  int j, k;
  for (j = 0; j + 16 <= count; j += 16)
    for (k = 0; k < 16; ++k) part[k] += x[j + k];
  for (; j < count; ++j) mean += x[j];
  for (k = 0; k < 16; ++k) mean += part[k];
  mean /= (float)count;
  for (j = 0; j + 16 <= count; j += 16)
    for (k = 0; k < 16; ++k) spread[k] += (x[j + k] - mean) * (x[j + k] - mean);
  for (; j < count; ++j) variance += (x[j] - mean) * (x[j] - mean);
  for (k = 0; k < 16; ++k) variance += spread[k];
  scale = 1 / sqrtf(variance / (float)count + epsilon);
  for (j = 0; j < count; ++j) y[j] = (x[j] - mean) * scale;
}"""
_SOFTMAX = """\
static void softmax(float *y, const float *x, int count, int step) {
  float most = x[0], sum = 0;
  int j;
  for (j = 1; j < count; ++j) most = x[step * j] > most ? x[step * j] : most;
  for (j = 0; j < count; ++j) sum += y[step * j] = expf(x[step * j] - most);
  for (j = 0; j < count; ++j) y[step * j] /= sum;
}"""
_LOG_SOFTMAX = """\
static void log_softmax(float *y, const float *x, int count, int step) {
  float most = x[0], sum = 0;
  int j;
  for (j = 1; j < count; ++j) most = x[step * j] > most ? x[step * j] : most;
  for (j = 0; j < count; ++j) sum += expf(x[step * j] - most);
  sum = logf(sum) + most;
  for (j = 0; j < count; ++j) y[step * j] = x[step * j] - sum;
}"""


def _soft(node: Node, code: Code) -> None:
    data, output = node.given(0), node.output()
    axis = int(node.attributes.get("axis", -1)) % len(data.shape)
    name = "softmax" if node.kind == "Softmax" else "log_softmax"
    code.helper(name, _SOFTMAX if node.kind == "Softmax" else _LOG_SOFTMAX)
    steps = contiguous(data.shape)
    shape = [1 if place == axis else size for place, size in enumerate(data.shape)]
    source, target = code.operand(data, whole=True), code.operand(output)

    def body(at: list[Index]) -> list[str]:
        size = f"{data.shape[axis]}, {steps[axis]}"
        return [f"{name}({target.address(at[0])}, {source.address(at[0])}, {size});"]

    code.loops(shape, [steps], body)


def _layer(node: Node, code: Code) -> None:
    data = node.given(0)
    if any(each is not None for each in node.outputs[1:]):
        raise node.unsupported("whose mean or deviation is read")
    axis = int(node.attributes.get("axis", -1)) % len(data.shape)
    count = math.prod(data.shape[axis:])
    _normalized(node, code, data.size // count, count)
    _scaled(node, code, (data.size // count, count), of_rows=False)


def _channels(node: Node, code: Code) -> None:
    """Instances: each channel by itself; groups: some channels together."""
    data = node.given(0)
    channels = data.shape[1]
    groups = int(node.attributes.get("num_groups", channels))
    _normalized(node, code, groups, data.size // groups)
    _scaled(node, code, (channels, data.size // channels), of_rows=True)


def _scaled(node: Node, code: Code, shape: tuple[int, int], *, of_rows: bool) -> None:
    """Multiply the output, read as rows, by the node's scale, and add its bias if there is one."""
    size, steps = (shape[0], [1, 0]) if of_rows else (shape[1], [0, 1])
    target = code.operand(node.output())
    for sign, given in (("*=", node.given(1)), ("+=", node.optional(2))):
        if given is None:
            continue
        if given.size != size:
            raise node.unsupported(f"with {given.size} numbers to scale {size}")
        factor = code.operand(given)

        def body(at: list[Index], sign: str = sign, factor: Operand = factor) -> list[str]:
            return [f"{target.at(at[0])} {sign} {factor.at(at[1])};"]

        code.loops(shape, [[shape[1], 1], steps], body)


def _normalized(node: Node, code: Code, rows: int, count: int) -> None:
    """Add what brings rows of so many numbers to mean 0 and deviation 1."""
    data, output = node.given(0), node.output()
    if data.dtype != np.float32 or data.shape[0] != 1 and node.kind != "LayerNormalization":
        raise node.unsupported(f"of type {data.dtype.name} and shape {list(data.shape)}")
    epsilon = number(np.float32(node.attributes.get("epsilon", 1e-5)))
    code.helper("normalize", _NORMALIZE)
    source, target = code.operand(data, whole=True), code.operand(output)
    code.loops(
        (rows,),
        [[count]],
        lambda at: [
            f"normalize({target.address(at[0])}, {source.address(at[0])}, {count}, {epsilon});"
        ],
    )


EMITTERS = {
    "GroupNormalization": _channels,
    "InstanceNormalization": _channels,
    "LayerNormalization": _layer,
    "LogSoftmax": _soft,
    "Softmax": _soft,
}
