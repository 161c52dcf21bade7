"""Columns of a log as the quality of its episodes needs them: spread, motion, whole episodes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.quality import Motion, motion

_TOGETHER = 1 << 16  # rows; a few megabytes stay in the processor's caches


class Part(NamedTuple):
    """Adjacent whole episodes."""

    rows: slice
    """Their rows."""
    episode: Tensor
    """``[n]`` int64, the episode of each row, the first one being 0."""
    held: int
    """How many episodes."""


class Column(NamedTuple):
    """Values ``[N, D]``, of which dimensions D' are not constant, and how these move."""

    values: Tensor
    kept: Tensor
    """``[D']`` int64, dimensions that are finite and not constant."""
    mean: Tensor
    """``[D']``, over the log."""
    spread: Tensor
    """``[D']``, standard deviation over the log."""
    usual: Tensor
    """``[D']``, root mean square of the motion, 1 where there is none."""
    weight: Tensor
    """``[D']``, how steadily a dimension moves, see :meth:`Motion.steadiness`."""

    @property
    def moves(self) -> bool:
        """Return whether a dimension changes within an episode."""
        return bool((self.weight > 0).any())

    def chosen(self, rows: slice | Tensor) -> Tensor:
        """Return rows of the dimensions that are not constant."""
        values = self.values[rows]
        return values if len(self.kept) == values.shape[1] else values[:, self.kept]

    def standardised(self, rows: slice | Tensor) -> Tensor:
        """Return the same with mean 0 and standard deviation 1 over the log, float64."""
        return (self.chosen(rows).double() - self.mean) / self.spread


def parts_of(lengths: Tensor) -> Iterator[Part]:
    """Yield whole episodes in order, some ten thousand rows at a time.

    Args:
        lengths: ``[E]`` int64, steps of each.

    Yields:
        The parts.
    """
    stops = lengths.cumsum(0)
    group = torch.div(stops - 1, _TOGETHER, rounding_mode="floor")
    first, row = 0, 0
    for count in torch.unique_consecutive(group, return_counts=True)[1].tolist():
        stop = int(stops[first + count - 1])
        number = torch.arange(count).repeat_interleave(lengths[first : first + count])
        yield Part(slice(row, stop), number, count)
        first, row = first + count, stop


def column_of(values: Tensor, parts: Sequence[Part], counted: Tensor, span: int) -> Column:
    """Return a column with its spread and motion over some episodes.

    Args:
        values: ``[N, D]`` float, in which numbers may not be finite.
        parts: All episodes.
        counted: ``[E]`` bool, those that shape spread and motion.
        span: Rows over which motion is measured, at least 1.

    Returns:
        The column.
    """
    total = square = torch.zeros(values.shape[1], dtype=torch.float64)
    moved, rows, first, shift = list[Motion](), 0, 0, values[0].double()
    for part in parts:
        inside = counted[first : first + part.held][part.episode]
        # Large numbers have squares that leave no digits for the spread.
        shifted = values[part.rows][inside].double() - shift
        moved.append(motion(shifted, part.episode[inside], span))
        total, square = total + shifted.sum(0), square + shifted.square().sum(0)
        rows, first = rows + len(shifted), first + part.held
    variance = square / rows - (total / rows).square()
    kept = (variance.isfinite() & (variance > 0)).nonzero()[:, 0]
    whole = Motion(*(torch.stack(sums).sum(0)[kept] for sums in zip(*moved, strict=True)))
    usual = whole.usual()
    weight = whole.steadiness() * (usual > 0)
    mean, spread = (shift + total / rows)[kept], variance[kept].sqrt()
    return Column(values, kept, mean, spread, torch.where(usual > 0, usual, 1.0), weight)
