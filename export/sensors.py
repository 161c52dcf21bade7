"""Readings that a loop does not show to a policy: missing, old, not finite, out of bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.feed import Observation


class Sensed(NamedTuple):
    """A reading and how old it is, seconds."""

    observation: Observation
    age: float


Reading = Observation | Sensed | None
"""What ``read`` returns: an observation, one with its age, or ``None`` where nothing has come."""


@dataclass(frozen=True)
class Sensors:
    """When a reading is bad, and how long the last command is held then.

    Args:
        oldest: Seconds that a reading may be old, of those that state their age; ``None``: any.
        low: ``[O]`` or one number, below which no reading may be; by entry where there are several.
        high: The same above.
        hold: Bad readings in a row for which the last command is sent again; one more stops the
            loop.

    Raises:
        ValueError: ``oldest`` is not positive, or ``hold`` is negative.
    """

    oldest: float | None = None
    low: ArrayLike | Mapping[str, ArrayLike] | None = None
    high: ArrayLike | Mapping[str, ArrayLike] | None = None
    hold: int = 3

    def __post_init__(self) -> None:
        if self.oldest is not None and not self.oldest > 0.0:
            raise ValueError(f"oldest is {self.oldest}, and must be above 0 seconds")
        if self.hold < 0:
            raise ValueError(f"hold is {self.hold}, and must not be negative")

    def check(self, entries: Sequence[str]) -> None:
        """Check that bounds belong to the entries of an observation: others would bound nothing.

        Args:
            entries: Their names; none where the observation is one array.

        Raises:
            ValueError: Bounds by entry where there are none, one for several, or of another name.
        """
        for side, bound in (("low", self.low), ("high", self.high)):
            if bound is None:
                continue
            if isinstance(bound, Mapping) != bool(entries):
                what = f"by entry: {', '.join(entries)}" if entries else "one number or a list"
                raise ValueError(f"{side}: bounds of this observation are given as {what}")
            if isinstance(bound, Mapping) and (strange := [n for n in bound if n not in entries]):
                raise ValueError(
                    f"{side} bounds {', '.join(strange)}, and the observation has "
                    f"{', '.join(entries)}"
                )

    def judged(
        self, reading: Reading, names: Mapping[str, Sequence[str]]
    ) -> tuple[Observation | None, str]:
        """Return the observation, and what is wrong with it, "" where it may be shown.

        Args:
            reading: What was read.
            names: Names of the numbers of each entry, under "" those of a single one.

        Returns:
            Observation and reason; ``None`` where there is none.
        """
        if reading is None:
            return None, "nothing was read"
        if isinstance(reading, Sensed):
            if self.oldest is not None and not reading.age <= self.oldest:
                return None, f"the reading is {reading.age:.3g} s old"
            reading = reading.observation
        if not isinstance(reading, Mapping):
            why = _wrong(np.asarray(reading), self.low, self.high)
            return reading, _said(why, "observation", names.get("", ()))
        for name, values in reading.items():
            low = self.low.get(name) if isinstance(self.low, Mapping) else None
            high = self.high.get(name) if isinstance(self.high, Mapping) else None
            if why := _wrong(np.asarray(values), low, high):
                return reading, _said(why, f"observation.{name}", names.get(name, ()))
        return reading, ""


_Wrong = tuple[NDArray[np.bool_], str]


def _wrong(
    values: NDArray[np.generic],
    low: ArrayLike | Mapping[str, ArrayLike] | None,
    high: ArrayLike | Mapping[str, ArrayLike] | None,
) -> _Wrong | None:
    """Return which numbers are wrong, and in what way; ``None`` where none is."""
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        return ~finite, "not finite"
    if low is not None and (below := values < np.asarray(low)).any():
        return below, "below its bound"
    if high is not None and (above := values > np.asarray(high)).any():
        return above, "above its bound"
    return None


def _said(wrong: _Wrong | None, entry: str, names: Sequence[str]) -> str:
    """Return the first number that is wrong, in words."""
    if wrong is None:
        return ""
    place = np.argwhere(np.atleast_1d(wrong[0]))[0]
    known = len(place) == 1 and place[0] < len(names) and f"[{place[0]}]" not in names[place[0]]
    name = f" ('{names[place[0]]}')" if known else ""
    return f"{entry}[{', '.join(map(str, place))}]{name} is {wrong[1]}"
