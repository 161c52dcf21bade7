"""Columns whose values float32 cannot distinguish: clock times, encoder counts, map coordinates.

Logs, networks and exported policies hold float32, which has 24 bits: at 1.7e9 it counts in steps of
128. A column far from 0 that changes by less arrives as a few values, or as one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.keys import Key, key_name
from hindsight_rl.logs.errors import LogError

_FAR = 100.0  # as many times further from 0 than it is wide: else float32 is fine enough
_SMALL = 16.0  # real numbers below are angles, metres, quaternions, whose last digits are noise
_NOISE = 1e-6  # real numbers that move by less are taken to stand still
_FEW, _COARSE = 16, 1000  # levels in the whole column: too few; too few where neighbours collapse
_WINDOW = 64  # rows looked at together

WHOLE = float(2**24)
"""From here on float32 has no odd numbers, to say nothing of fractions."""


def subtract(key: str | None) -> str:
    """Return what to do about a column that float32 cannot hold.

    Args:
        key: What the column map calls it where an offset may be given, ``None`` elsewhere.

    Returns:
        Sentences.
    """
    how = "Subtract a constant, such as its first value, in the log"
    if key is not None:
        how = (
            "Subtract a constant, such as its first value: set `offset` in the column map, as in "
            f"`offset: {{{key}: [1.7e9, 0]}}`, one number or one per dimension, which policies "
            "subtract too"
        )
    return f"{how}. Or leave the column out: list the others in the column map."


class Collapse(NamedTuple):
    """A dimension that float32 cannot hold: its size, its usual change, float32's step there."""

    dimension: int
    size: float
    change: float
    step: float

    def __str__(self) -> str:
        """Return what is lost as one clause."""
        return (
            f"values near {self.size:.6g} change by {self.change:.2g}, and float32 has steps of "
            f"{self.step:.4g} there: different values would become equal"
        )


def collapse(values: NDArray[np.generic]) -> Collapse | None:
    """Return the first dimension of a column whose neighbouring values float32 makes equal.

    That is one at least 100 times further from 0 than it is wide, where float32 has fewer than 16
    steps over the whole column, or fewer than 1000 and the usual change from row to row is less
    than a step, or where at least 9 of 10 stretches of 64 rows lie within one step.

    Args:
        values: ``[N, ...]`` numbers in the source's own type; NaN and infinity are not looked at.

    Returns:
        What is lost, ``None`` where nothing is. Types that float32 holds exactly lose nothing, and
        what the source itself has lost already is not known.
    """
    exact = 2 if values.dtype.kind in "iu" else 4
    if values.dtype.kind not in "iuf" or values.dtype.itemsize <= exact or len(values) < 2:
        return None
    whole = values.dtype.kind != "f"
    rows = values.reshape(len(values), -1)
    low, high = (end.astype(np.float64) for end in (rows.min(axis=0), rows.max(axis=0)))
    with np.errstate(invalid="ignore", over="ignore"):
        width, size = high - low, np.maximum(np.abs(low), np.abs(high))
        moves = (width > 0) & np.isfinite(width) & (size > _FAR * width)
    if not whole:
        moves &= (width > _NOISE) & (size > _SMALL)
    for dimension in np.flatnonzero(moves):
        found = _lost(rows[:, dimension].astype(np.float64), float(size[dimension]))
        if found is not None:
            return Collapse(int(dimension), float(size[dimension]), *found)
    return None


def _lost(column: NDArray[np.float64], size: float) -> tuple[float, float] | None:
    """Return usual change and float32's step, if the one is lost in the other."""
    step = float(np.spacing(np.float32(size)))
    if (column == column.astype(np.float32)).all():
        return None
    changes = np.abs(np.diff(column))
    change = float(np.median(changes[changes > 0]))
    width = float(np.ptp(column))
    lost = width < _FEW * step or (width < _COARSE * step and change < step)
    if not lost and len(column) >= 2 * _WINDOW:
        windows = column[: len(column) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
        lost = float(np.quantile(np.ptp(windows, axis=1), 0.9)) < step
    return (change, step) if lost else None


def check_precision(columns: Mapping[Key, Tensor]) -> None:
    """Check that float32 can distinguish the real numbers of columns.

    Args:
        columns: ``[N, ...]`` by key; those of float64 are looked at.

    Raises:
        LogError: Numbers would become equal.
    """
    for key, value in columns.items():
        lost = collapse(value.numpy()) if value.dtype == torch.float64 else None
        if lost is not None:
            name = key_name(key)
            raise LogError(
                f"entry {lost.dimension}: {lost}",
                "Subtract a constant from it and state it in info, one number per dimension: "
                f"{{'offset': {{'{name.removeprefix('next.')}': [...]}}}}. Policies subtract it "
                "too. Or leave the column out.",
                column=name,
            )
