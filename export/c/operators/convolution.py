"""Convolutions and pools over one or two dimensions."""

from hindsight_rl.export.c.code import Code
from hindsight_rl.export.c.graph import Node
from hindsight_rl.export.c.operators import convolve

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


def _pool(node: Node, code: Code) -> None:
    data = node.given(0)
    if len(node.outputs) > 1 and node.outputs[1] is not None:
        raise node.unsupported("whose indices are read")
    sizes = convolve.sizes_of(node, data, list(node.attributes["kernel_shape"]))
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
    "Conv": convolve.convolution,
    "GlobalAveragePool": _global,
    "MaxPool": _pool,
}
