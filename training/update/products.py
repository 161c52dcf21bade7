"""Products: a product of matrices as a call of ``products.h`` or ``bfloat16.h``."""

from dataclasses import dataclass
from typing import Literal

from hindsight_rl.training.update.operations import Place

Products = Literal["float32", "bfloat16"]

# Multiplications per second of one thread.
_RATES: dict[Products, float] = {"float32": 125e9, "bfloat16": 200e9}
# Rows, columns and depth from which rounding to bfloat16 takes less time than it saves.
_LEAST_SIDE = 32


@dataclass(frozen=True)
class Matrix:
    """A matrix, or a batch of them.

    Args:
        place: Where it lies.
        count: How many there are.
        rows: Rows of each.
        columns: Columns of each.
        batch: Numbers from one to the next.
        row: Numbers from one row to the next.
        column: Numbers from one column to the next.
    """

    place: Place
    count: int
    rows: int
    columns: int
    batch: int
    row: int
    column: int

    def transposed(self) -> "Matrix":
        """Return the same numbers as their transpose."""
        return Matrix(
            *(self.place, self.count, self.columns, self.rows),
            *(self.batch, self.column, self.row),
        )


def written(left: Matrix, right: Matrix, out: Matrix, products: Products) -> tuple[str, int, float]:
    """Return a product in C++.

    Args:
        left: The left matrices.
        right: The right matrices.
        out: The results; their columns lie one behind the other.
        products: What large products are computed in.

    Returns:
        C++, see :class:`hindsight_rl.training.update.operations.Operation`, the bytes that it needs
        for itself, and the seconds that it takes on one thread.
    """
    kind = products if _in_bfloat16(left, right) else "float32"
    depth = right.rows if kind == "float32" else (right.rows + 1) // 2
    room = 4 * depth * (right.columns + 64 + (0 if kind == "float32" else left.rows))
    numbers = (
        *(out.rows, out.columns, left.columns),
        *(left.row, left.column, right.row, right.column, out.row),
    )
    name = "product" if kind == "float32" else "product_bfloat16"
    call = (
        f"static_assert(4 * hindsight::packed_size({depth}, {right.columns}) <= {room});\n"
        f"for (int64_t n = 0; n < {out.count}; ++n) "
        f"hindsight::{name}<{{threads}}, {', '.join(map(str, numbers))}>("
        f"(const float*){{0}} + n * {left.batch}, (const float*){{1}} + n * {right.batch}, "
        f"(float*){{2}} + n * {out.batch}, (float*){{packed}});"
    )
    return call, room, out.count * out.rows * out.columns * left.columns / _RATES[kind]


def _in_bfloat16(left: Matrix, right: Matrix) -> bool:
    sides = left.rows, left.columns, right.columns
    contiguous = all(1 in (matrix.row, matrix.column) for matrix in (left, right))
    return contiguous and min(sides) >= _LEAST_SIDE
