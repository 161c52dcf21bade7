"""Convolutions and pools over one or two dimensions."""

import numpy as np

from hindsight_rl.export.c.code import Code
from hindsight_rl.export.c.graph import Node, Tensor

# A row of outputs reads a row of inputs at a fixed step: bounds are computed once per row, and the
# innermost loop has no condition.
_CONVOLVE = """\
static void convolve(float *restrict y, const float *restrict x, const float *restrict w,
    const float *b, int groups, int ins, int outs, int h, int wide, int oh, int ow, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw) {
  int o, c, i, j, r, p;
  for (o = 0; o < outs; ++o) {
    float *const to = y + o * oh * ow;
    const int first = o / (outs / groups) * ins;
    for (p = 0; p < oh * ow; ++p) to[p] = b ? b[o] : 0;
    for (c = 0; c < ins; ++c)
      for (i = 0; i < kh; ++i)
        for (j = 0; j < kw; ++j) {
          const float weight = w[((o * ins + c) * kh + i) * kw + j];
          const int left = j * dw - pw;
          const int begin = left < 0 ? (-left + sw - 1) / sw : 0;
          const int most = wide - 1 - left < 0 ? 0 : (wide - 1 - left) / sw + 1;
          const int end = most < ow ? most : ow;
          for (r = 0; r < oh; ++r) {
            const int line = r * sh + i * dh - ph;
            if (line >= 0 && line < h) {
              const float *const from = x + ((first + c) * h + line) * wide + left;
              for (p = begin; p < end; ++p) to[r * ow + p] += weight * from[p * sw];
            }
          }
        }
  }
}"""
_POOL = """\
static void {name}(float *y, const float *x, int channels, int h, int wide, int oh, int ow, int kh,
    int kw, int sh, int sw, int ph, int pw, int dh, int dw, int padded_h, int padded_w) {{
  int c, r, p, i, j;
  for (c = 0; c < channels; ++c)
    for (r = 0; r < oh; ++r)
      for (p = 0; p < ow; ++p) {{
        float a = {start};
        int count = 0;
        for (i = 0; i < kh; ++i)
          for (j = 0; j < kw; ++j) {{
            const int line = r * sh + i * dh - ph, column = p * sw + j * dw - pw;
            if (line >= 0 && line < h && column >= 0 && column < wide) {{
              const float v = x[(c * h + line) * wide + column];
              {step};
              ++count;
            }} else if (line < padded_h && column < padded_w) {{
              count += {outside};
            }}
          }}
        y[(c * oh + r) * ow + p] = {result};
      }}
}}"""


def _pair(values: list[int] | None, usual: int, rank: int) -> list[int]:
    """Return numbers of height and width; one dimension is a picture of height 1."""
    found = [usual] * rank if values is None else list(values)
    return found if rank == 2 else [usual if usual else 0, *found]


def _sizes(node: Node, data: Tensor, kernel: list[int]) -> list[int]:
    """Return h, w, output h, w, kernel, strides, padding before, dilations."""
    output, given = node.output(), node.attributes
    rank = len(data.shape) - 2
    if rank not in (1, 2) or data.shape[0] != 1 or data.dtype != np.float32:
        raise node.unsupported(f"of type {data.dtype.name} and shape {list(data.shape)}")
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise node.unsupported(f"with auto_pad {given['auto_pad'].decode()}")
    pads = list(given.get("pads") or [0] * (2 * rank))
    shape = [*data.shape[2:]] if rank == 2 else [1, *data.shape[2:]]
    result = [*output.shape[2:]] if rank == 2 else [1, *output.shape[2:]]
    window = kernel if rank == 2 else [1, *kernel]
    found = [*shape, *result, *window, *_pair(given.get("strides"), 1, rank)]
    found += pads[:rank] if rank == 2 else [0, *pads[:rank]]
    return found + _pair(given.get("dilations"), 1, rank)


def _convolution(node: Node, code: Code) -> None:
    data, weight, bias = node.given(0), node.given(1), node.optional(2)
    sizes = _sizes(node, data, list(weight.shape[2:]))
    code.helper("convolve", _CONVOLVE)
    groups = int(node.attributes.get("group", 1))
    places = [code.operand(each, whole=True) for each in (node.output(), data, weight)]
    words = [each.pointer for each in places]
    words.append("0" if bias is None else code.operand(bias, whole=True).pointer)
    numbers = [groups, weight.shape[1], weight.shape[0], *sizes]
    code.line(f"convolve({', '.join([*words, *(str(each) for each in numbers)])});")


def _pool(node: Node, code: Code) -> None:
    data = node.given(0)
    if len(node.outputs) > 1 and node.outputs[1] is not None:
        raise node.unsupported("whose indices are read")
    sizes = _sizes(node, data, list(node.attributes["kernel_shape"]))
    average = node.kind == "AveragePool"
    inside = average and bool(node.attributes.get("count_include_pad", 0))
    name = "average_pool" + ("_padded" if inside else "") if average else "max_pool"
    code.helper(
        name,
        _POOL.format(
            name=name,
            start="0" if average else "-INFINITY",
            step="a += v" if average else "a = v > a || v != v ? v : a",
            outside=int(inside),
            result="a / (float)count" if average else "a",
        ),
    )
    rank = len(data.shape) - 2
    after = list(node.attributes.get("pads") or [0] * (2 * rank))[rank:]
    after = after if rank == 2 else [0, *after]
    ends = [size + pad for size, pad in zip(sizes[:2], after, strict=True)]
    source, target = code.operand(data, whole=True), code.operand(node.output())
    numbers = [data.shape[1], *sizes, *ends]
    words = [target.pointer, source.pointer, *(str(each) for each in numbers)]
    code.line(f"{name}({', '.join(words)});")


def _global(node: Node, code: Code) -> None:
    data, target = node.given(0), code.operand(node.output())
    channels = data.shape[1]
    area, source = data.size // channels, code.operand(data)
    code.loops(
        (channels,),
        [[area], [1]],
        lambda at: [
            "{",
            "float a = 0;",
            f"for (m0 = 0; m0 < {area}; ++m0) {{",
            f"a += {source.at(f'{at[0]} + m0')};",
            "}",
            f"{target.at(at[1])} = a / {area};",
            "}",
        ],
    )


EMITTERS = {
    "AveragePool": _pool,
    "Conv": _convolution,
    "GlobalAveragePool": _global,
    "MaxPool": _pool,
}
