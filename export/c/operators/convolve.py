"""Convolutions: tiles of pixels by blocks of outputs, in the innermost loop of linear layers.

What a pixel sees is written as offsets from its first number, so that one loop serves every kernel,
stride and dilation. Six pixels are computed together: each number of the weights is read once for
all of them, and each sum is read and written once for four products. Borders are written around the
picture before, so that no loop has a condition.
"""

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.c.code import Code, Operand
from hindsight_rl.export.c.graph import Node, Tensor

_PIXELS, _PRODUCTS = 6, 4
_VECTOR, _MOST = 16, 64
_PLANE = 1024
"""Numbers of a plane of 4 kB: in planes of multiples of it the outputs of a pixel share a place of
the caches, which has room for few.
"""
_FEWEST = 4
"""Outputs of a group below which the innermost loop is over pixels."""
_TILES = """\
static void {name}(float *restrict y, const float *restrict x, const float *restrict w,
    const float *restrict b, const int32_t *restrict d, int inner, int outs, int oh, int ow,
    int down, int across) {{
  int o, r, p, k, j;
  for (o = 0; o < outs; o += {block}, w += {block} * inner)
    for (r = 0; r < oh; ++r)
      for (p = 0; p < ow; p += {pixels}) {{
        const int last = ow - 1 - p; /* a tile that ends beyond the row repeats its last pixel */
        const float *u = w, *const x0 = x + r * down + p * across;
{starts}
        float {sums};
        for (j = 0; j < {block}; ++j) {first} = b[o + j];
        for (k = 0; k + {products} <= inner; k += {products}, u += {all}) {{
{taps}
          for (j = 0; j < {block}; ++j) {{
{rows}
          }}
        }}
        for (; k < inner; ++k, u += {block}) {{
{tap}
          for (j = 0; j < {block}; ++j) {{
{row}
          }}
        }}
        for (j = 0; j < {block} && o + j < outs; ++j) {{
          float *const to = y + ((o + j) * oh + r) * ow + p;
          to[0] = s0[j];
{stores}
        }}
      }}
}}"""
_BORDER = """\
static void border(float *restrict y, const float *restrict x, int channels, int h, int wide,
    int oh, int ow, int above, int left) {
  int c, r, p;
  for (c = 0; c < channels; ++c)
    for (r = 0; r < oh; ++r) {
      const int line = r - above;
      const int begin = line < 0 || line >= h || left > ow ? ow : left;
      const int end = begin + wide < ow ? begin + wide : ow;
      const float *const from = begin < ow ? x + (c * h + line) * wide : x;
      for (p = 0; p < begin; ++p) y[p] = 0;
      for (p = begin; p < end; ++p) y[p] = from[p - begin];
      for (p = end; p < ow; ++p) y[p] = 0;
      y += ow;
    }
}"""
# A row of outputs reads a row of inputs at a fixed step: bounds are computed once per row, and the
# innermost loop has no condition.
_FEW = """\
static void convolve_few(float *restrict y, const float *restrict x, const float *restrict w,
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


def sizes_of(node: Node, data: Tensor, kernel: list[int]) -> list[int]:
    """Return h, w, output h, w, kernel, strides, padding before, dilations.

    Args:
        node: A convolution or a pool.
        data: What goes in.
        kernel: Its sizes.

    Returns:
        Two numbers of each; one dimension is a picture of height 1.

    Raises:
        CodeError: The form of the node has no C.
    """
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


def _pair(values: list[int] | None, usual: int, rank: int) -> list[int]:
    """Return numbers of height and width; one dimension is a picture of height 1."""
    found = [usual] * rank if values is None else list(values)
    return found if rank == 2 else [usual if usual else 0, *found]


def scratch(node: Node) -> int:
    """Return how many floats the picture and its borders take, 0 where it needs none."""
    data, weight = node.given(0), node.given(1)
    if not _in_tiles(node, weight):
        return 0
    sides = _bordered(sizes_of(node, data, list(weight.shape[2:])))
    return 0 if sides is None else data.shape[1] * sides[0] * sides[1]


def convolution(node: Node, code: Code) -> None:
    """Add a convolution."""
    data, weight, bias = node.given(0), node.given(1), node.optional(2)
    sizes = sizes_of(node, data, list(weight.shape[2:]))
    groups = int(node.attributes.get("group", 1))
    if _in_tiles(node, weight):
        _tiled(node, code, sizes, groups)
        return
    code.helper("convolve_few", _FEW)
    places = [code.operand(each, whole=True) for each in (node.output(), data, weight)]
    words = [each.pointer for each in places]
    words.append("0" if bias is None else code.operand(bias, whole=True).pointer)
    numbers = [groups, weight.shape[1], weight.shape[0], *sizes]
    code.line(f"convolve_few({', '.join([*words, *(str(each) for each in numbers)])});")


def _in_tiles(node: Node, weight: Tensor) -> bool:
    """Return whether there are enough outputs for a vector, of weights that are laid out anew."""
    bias = node.optional(2)
    constant = weight.value is not None and (bias is None or bias.value is not None)
    return constant and weight.shape[0] // int(node.attributes.get("group", 1)) >= _FEWEST


def _bordered(sizes: list[int]) -> tuple[int, int] | None:
    """Return height and width of what is read, borders included; ``None`` where there are none."""
    h, wide, oh, ow, kh, kw, sh, sw, above, left, dh, dw = sizes
    read = (oh - 1) * sh + (kh - 1) * dh + 1, (ow - 1) * sw + (kw - 1) * dw + 1
    return None if not above and not left and read[0] <= h and read[1] <= wide else read


def _tiled(node: Node, code: Code, sizes: list[int], groups: int) -> None:
    """Add a convolution in tiles of pixels, group after group."""
    data, weight = node.given(0), node.given(1)
    h, wide, oh, ow, kh, kw, sh, sw, above, left, dh, dw = sizes
    channels, outs = data.shape[1] // groups, weight.shape[0] // groups
    source = code.operand(data, whole=True)
    sides = _bordered(sizes)
    if sides is not None:
        code.helper("border", _BORDER)
        place = code.scratch(node)
        numbers = [data.shape[1], h, wide, *sides, above, left]
        words = [place.pointer, source.pointer, *(str(each) for each in numbers)]
        code.line(f"border({', '.join(words)});")
        source, (h, wide) = place, sides
    taps = np.add.outer(
        np.arange(channels) * h * wide,
        np.add.outer(np.arange(kh) * dh * wide, np.arange(kw) * dw),
    ).astype(np.int32)
    down, across = sh * wide, sw
    if ow * across == down:  # rows of pixels follow one another: one long row has fewer tiles
        oh, ow, down = 1, oh * ow, 0
    block = _block_of(outs, _VECTOR if oh * ow % _PLANE == 0 else _MOST)
    name = code.helper(f"convolve_{block}", _tiles(block))
    laid = [Operand(code.constant(each), 0, "", "float") for each in _laid_out(node, groups, block)]
    inner, padded = taps.size, laid_width(outs, block)
    numbers = [inner, outs, oh, ow, down, across]
    target, offsets = code.operand(node.output()), code.constant(taps)
    code.loops(
        (groups,),
        [[outs * oh * ow], [channels * h * wide], [inner * padded], [padded]],
        lambda at: [
            f"{name}({target.address(at[0])}, {source.address(at[1])}, {laid[0].address(at[2])}, "
            f"{laid[1].address(at[3])}, {offsets}, {', '.join(str(each) for each in numbers)});"
        ],
    )


def laid_width(outs: int, block: int) -> int:
    """Return how many outputs whole blocks have."""
    return -(-outs // block) * block


def _block_of(outs: int, most: int) -> int:
    """Return how many outputs are computed together: as few as can be are left empty."""
    step = _VECTOR if outs > _VECTOR // 2 else _VECTOR // 2
    return min(range(step, most + 1, step), key=lambda block: (laid_width(outs, block), -block))


def _laid_out(
    node: Node, groups: int, block: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights ``[groups, blocks, inner, block]`` and biases ``[groups, blocks, block]``."""
    weight, bias = node.given(1).value, node.optional(2)
    assert weight is not None
    outs = weight.shape[0] // groups
    rows = weight.astype(np.float32).reshape(groups, outs, -1)
    added = np.zeros((groups, outs), np.float32)
    if bias is not None and bias.value is not None:
        added = bias.value.astype(np.float32).reshape(groups, outs)
    more = laid_width(outs, block) - outs
    blocks = np.pad(rows, ((0, 0), (0, more), (0, 0))).reshape(groups, -1, block, rows.shape[2])
    return blocks.transpose(0, 1, 3, 2), np.pad(added, ((0, 0), (0, more)))


def _tiles(block: int) -> str:
    """Return the function for blocks of so many outputs."""
    pixels, products = range(_PIXELS), range(_PRODUCTS)
    sums = [f"s{q}[j]" for q in pixels]
    starts = [
        f"        const float *const x{q} = x0 + (last < {q} ? last : {q}) * across;"
        for q in pixels[1:]
    ]
    taps = [f"          const int d{t} = d[k + {t}];" for t in products]
    taps += [
        f"          const float {', '.join(f'v{q}{t} = x{q}[d{t}]' for t in products)};"
        for q in pixels
    ]
    rows = [f"            const float u{t} = u[{block * t} + j];" for t in products]
    rows += [
        f"            {sums[q]} += {' + '.join(f'v{q}{t} * u{t}' for t in products)};"
        for q in pixels
    ]
    return _TILES.format(
        name=f"convolve_{block}",
        block=block,
        pixels=_PIXELS,
        products=_PRODUCTS,
        all=block * _PRODUCTS,
        starts="\n".join(starts),
        sums=", ".join(f"s{q}[{block}]" for q in pixels),
        first=" = ".join(sums),
        taps="\n".join(taps),
        rows="\n".join(rows),
        tap=f"          const float {', '.join(f'v{q} = x{q}[d[k]]' for q in pixels)};",
        row="\n".join(f"            {sums[q]} += v{q} * u[j];" for q in pixels),
        stores="\n".join(f"          if (last >= {q}) to[{q}] = {sums[q]};" for q in pixels[1:]),
    )
