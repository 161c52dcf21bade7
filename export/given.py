"""What a caller gives a policy, checked against its contract: one row, or a batch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.signature import Input
from hindsight_rl.offsets import check_wide

_TAKEN = {
    "vector": "float32",
    "image": "uint8 (bytes as the camera gives them, not scaled)",
    "discrete": "whole numbers",
}


class Given:
    """One input of the graph: its entry of the contract, and the buffer of one row.

    Args:
        stated: What the contract says.

    Attributes:
        name: Of the graph's input.
        shape: Of one row.
        buffer: ``[1, ...]``, what :meth:`write` fills.
    """

    def __init__(self, stated: Input) -> None:
        self.name, self.shape = stated.name, stated.shape
        self.buffer = np.zeros((1, *stated.shape), dtype=stated.dtype)
        self._stated = stated
        self._row = self.buffer[0, ...]
        self._flags = np.empty(self.shape, dtype=np.bool_)
        self._wide = np.empty(self.shape, dtype=np.float64)

    @property
    def default(self) -> NDArray[Any]:
        """The value used when none is given.

        Raises:
            ValueError: The contract states none.
        """
        if self._stated.default is None:
            raise ValueError(
                f"this policy takes a {self.name} {list(self.shape)} and has no default: give one"
                f", act(observation, {self.name}), or --{self.name} on the command line"
            )
        return self._stated.default

    def write(self, value: NDArray[Any]) -> None:
        """Copy one row into the buffer, checked."""
        if not self._fits(value) or value.shape != self.shape:
            raise self.mismatch(value)
        self._check_digits(value)
        if self._stated.offset is None:
            self._row[...] = value
        else:
            self._row[...] = np.subtract(value, self._stated.offset, out=self._wide)
        if self._stated.kind == "vector" and not all_finite(self._row, self._flags):
            raise self._not_finite(self.buffer)
        if self._stated.kind == "discrete":
            self._check_choices(value)

    def batch(self, value: NDArray[Any], rows: int | None = None) -> NDArray[Any]:
        """Return a checked batch ``[N, ...]``; one row is repeated to give ``rows``."""
        if rows is not None and value.shape == self.shape:
            value = np.broadcast_to(value, (rows, *self.shape))
        wrong_rows = value.ndim == 0 or len(value) != (len(value) if rows is None else rows)
        if not self._fits(value) or value.shape[1:] != self.shape or wrong_rows:
            raise self.mismatch(value, rows)
        if value.ndim != len(self.shape) + 1 or len(value) == 0:
            raise self.mismatch(value, rows)
        self._check_digits(value)
        if self._stated.offset is not None:
            value = value.astype(np.float64) - self._stated.offset
        array = np.ascontiguousarray(value, dtype=self._stated.dtype)
        if self._stated.kind == "vector" and not np.isfinite(array).all():
            raise self._not_finite(array)
        if self._stated.kind == "discrete":
            self._check_choices(value)
        return array

    def _fits(self, value: NDArray[Any]) -> bool:
        """Return whether the type is one that may be cast."""
        if self._stated.kind == "image":
            return value.dtype == np.uint8
        return value.dtype.kind in ("f" if self._stated.kind == "vector" else "iu")

    def _check_digits(self, value: NDArray[Any]) -> None:
        """Check that numbers from which an offset is subtracted still have their digits."""
        if self._stated.offset is not None:
            check_wide(value.dtype, self.name)

    def _check_choices(self, value: NDArray[Any]) -> None:
        """Check that whole numbers are choices."""
        wrong = (value < 0) | (value >= self._stated.n)
        if wrong.any():
            raise ValueError(
                f"{self.name} is {value[wrong].flat[0]}, and is one of {self._stated.n} choices "
                "from 0"
            )

    def mismatch(self, value: NDArray[Any], rows: int | None = None) -> ValueError:
        """Return the error for a wrong type or shape."""
        if not self._fits(value):
            taken = _TAKEN[self._stated.kind]
            advice = ""
            if self._stated.kind == "vector":
                advice = f" If its units are right, convert it: {self.name}.astype(numpy.float32)."
            return ValueError(
                f"{self.name} has dtype {value.dtype}, and this policy takes {taken}.{advice}"
            )
        size, batch = list(self.shape), ["N" if rows is None else rows, *self.shape]
        wanted = f"{size} or {batch}".replace("'", "")
        return ValueError(
            f"{self.name} has shape {list(value.shape)}, and this policy takes {wanted}"
        )

    def _not_finite(self, array: NDArray[Any]) -> ValueError:
        """Return the error for NaN or infinity, naming the first entry at fault."""
        row, *place = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        names = self._stated.names
        name = f" ('{names[place[0]]}')" if len(place) == 1 and names is not None else ""
        where = f"[{row}]" if len(array) > 1 else ""
        return ValueError(
            f"{self.name}{where}{place}{name} is {array[(row, *place)]}, and a policy takes finite "
            "numbers. Repair the sensor or stop; do not act on it."
        )


def all_finite(row: NDArray[np.float32], flags: NDArray[np.bool_]) -> bool:
    """Return whether a row is free of NaN and infinity; ``flags`` is memory to work in.

    A third of the time of ``np.isfinite(row).all()``, which matters at every step of a robot.
    """
    np.isfinite(row, flags)
    return int(np.count_nonzero(flags)) == flags.size
