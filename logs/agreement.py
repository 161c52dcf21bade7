"""How finely numbers were written, and whether two columns agree within that.

Recorders keep observations as real numbers of 64 bits and next observations of 32, or print one of
them with four digits: what was the same is then no longer equal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hindsight_rl.logs.rows import SPAN

Array = np.ndarray[Any, Any]

CLOSE = 1e-6
"""Difference within which numbers agree however finely they were written."""

_LOOKED_AT = 2048  # rows that show how finely a column was written
_MOST_DIGITS = 10
_BEYOND = 8
_OF_16_BITS, _OF_32_BITS = 2.0**-11, 2.0**-24
_SHARE = 0.01  # of the standard deviation: what is coarser is no rounding but another value


@dataclass(frozen=True)
class Precision:
    """How finely the numbers of a column were written.

    Args:
        relative: Largest error of a number, as a share of it, by its type.
        decimals: Decimals of all numbers, ``None`` for more than ten.
        digits: Significant digits of all numbers, ``None`` for more than ten.
    """

    relative: float
    decimals: int | None
    digits: int | None

    @classmethod
    def of(cls, values: Array) -> "Precision":
        """Return the precision of a column ``[N, ...]`` of numbers, judged by some of its rows."""
        rows = values[:: max(1, len(values) // _LOOKED_AT)]
        exact = rows[np.isfinite(rows)].astype(np.float64)
        relative = _stored(exact)
        share = 2 * (_OF_32_BITS if relative in (_OF_16_BITS, _OF_32_BITS) else 2.0**-53)
        fits = share * np.abs(exact)
        # Rounding that its type brings anyway says nothing.
        decimals = (d for d in range(_MOST_DIGITS) if 10.0**-d > _BEYOND * fits.max(initial=0.0))
        digits = (d for d in range(1, _MOST_DIGITS) if 10.0**-d > _BEYOND * share)
        return cls(
            relative,
            next((d for d in decimals if _all(exact, np.round(exact, d), fits)), None),
            next((d for d in digits if _all(exact, _significant(exact, d), fits)), None),
        )

    def rounding(self, values: Array) -> Array:
        """Return by how much printing may have changed each of ``values``, at least 0.

        Args:
            values: ``[N, ...]`` numbers of the column.

        Returns:
            ``[N, ...]`` float64.
        """
        error = np.zeros(values.shape)
        if self.decimals is not None:
            error = np.maximum(error, 0.5 * 10.0**-self.decimals)
        if self.digits is not None:
            size = np.abs(values.astype(np.float64))
            error = np.maximum(error, 0.5 * 10.0 ** (_exponent(size) + 1 - self.digits))
        return error


class Agreement:
    """Whether rows of two columns were the same before they were written.

    Columns that were printed alike are the same or not. Where one is coarser, numbers may differ by
    what its writing took away, but never by more than a hundredth of their standard deviation.

    Args:
        one: ``[N, D]`` numbers.
        other: ``[M, D]`` numbers of the same meaning.
    """

    def __init__(self, one: Array, other: Array) -> None:
        self._of_one, self._of_other = Precision.of(one), Precision.of(other)
        with np.errstate(invalid="ignore", over="ignore"):
            spread = np.nan_to_num(_spread(one))
        # What never changes distinguishes no rows.
        self._most = np.where(one.min(axis=0) == one.max(axis=0), np.inf, _SHARE * spread)

    def __call__(self, one: Array, other: Array) -> Array:
        """Return for each pair of rows, ``[K, D]`` each, which numbers agree, ``[K, D]`` bool."""
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
            alike = apart <= CLOSE
            if alike.all():
                return np.asarray(alike)
            size = np.abs(one.astype(np.float64))
            # Two ways to the same number of 32 bits may end a unit in the last place apart.
            single = np.float32 in (one.dtype, other.dtype)
            error = 2 * _OF_32_BITS * size if single else 0 * size
            first, second = self._of_one, self._of_other
            if first != second:
                error += (first.relative + second.relative) * size
                error += np.minimum(first.rounding(one) + second.rounding(other), self._most)
            # A little more, for sums that are themselves rounded.
            return np.asarray(alike | (apart <= 1.001 * error))


def _spread(values: Array) -> Array:
    """Return the standard deviation of each number ``[D]``, without a copy of a large column."""
    mean = values.mean(axis=0, dtype=np.float64)
    starts = range(0, len(values), SPAN)
    squares = [np.square(values[at : at + SPAN] - mean).sum(axis=0) for at in starts]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / len(values)))


def _stored(exact: Array) -> float:
    """Return the largest error of numbers as a share of them, by the least type that holds them."""
    with np.errstate(over="ignore"):
        if (exact == exact.astype(np.float16)).all():
            return _OF_16_BITS
        single = exact.astype(np.float32)
    if (exact == single).all():
        return _OF_32_BITS
    # As many digits as it takes to distinguish numbers of 32 bits: rounded twice.
    printed = (exact == single.astype(str).astype(np.float64)).all()
    return 2 * _OF_32_BITS if printed else 2.0**-53


def _all(exact: Array, rounded: Array, fits: Array) -> bool:
    return bool((np.abs(exact - rounded) <= fits).all())


def _significant(values: Array, digits: int) -> Array:
    unit = 10.0 ** (_exponent(np.abs(values)) + 1 - digits)
    return np.round(values / unit) * unit


def _exponent(size: Array) -> Array:
    """Return the power of ten that each number begins with; that of 0 is that of 1e-30."""
    return np.floor(np.log10(np.maximum(size, 1e-30)) + 1e-12)
