"""Which of several policies to choose, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from hindsight_rl.diagnostics.ope.estimates import LEVEL, Estimate
from hindsight_rl.intervals import Interval, student_quantile
from hindsight_rl.maths.intervals import percentile


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """It."""


@dataclass(frozen=True)
class Ranking:
    """The order of policies by one estimator.

    Attributes:
        method: The estimator.
        order: Numbers of the policies, the highest lower end first.
        chosen: The first of them.
        gaps: For every policy, in the order given: by how much the chosen one is better, a 95 %
            interval of the paired difference, in the same episodes; NaN where nothing is known.
        regret: What the choice is expected to lose against the best of them, reward units: the mean
            over resamples of the best value less the chosen one's.
    """

    method: str
    order: tuple[int, ...]
    chosen: int
    gaps: tuple[Interval, ...]
    regret: float

    def as_dict(self, policies: Sequence[Named]) -> dict[str, Any]:
        """Return it as plain values; NaN becomes ``None``."""
        return {
            "by": self.method,
            "order": [policies[number].name for number in self.order],
            "expected_regret": finite(self.regret),
            "chosen_better_by": {
                policy.name: {"low": finite(gap.low), "high": finite(gap.high)}
                for policy, gap in zip(policies, self.gaps, strict=True)
            },
        }


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it, ``None`` for NaN and infinity."""
    return value if math.isfinite(value) else None


def ranked(rows: Sequence[Estimate | None]) -> Ranking | None:
    """Return the order of policies by the lower ends of their intervals.

    A policy of which the log holds no episode comes last: its weights are all 0, and so is the sum
    of its rewards, which would be more than any policy gets where rewards are costs.

    Args:
        rows: Of one estimator, one per policy.

    Returns:
        The ranking; ``None`` where a policy has no such row, or none of them says anything.
    """
    found = [row for row in rows if row is not None]
    if not found or len(found) < len(rows):
        return None
    lows = [_low(row) for row in found]
    if max(lows) == -math.inf:
        return None
    order = sorted(range(len(found)), key=lambda number: -lows[number])
    chosen = order[0]
    known = [row for row, low in zip(found, lows, strict=True) if low > -math.inf]
    tables = torch.stack([row.resampled.double() for row in known])
    gaps = tuple(_gap(found[chosen], row) for row in found)
    best = tables.nan_to_num(nan=-math.inf).amax(0)
    regret = float((best - found[chosen].resampled.double()).nanmean())
    return Ranking(found[0].method, tuple(order), chosen, gaps, regret)


def _low(row: Estimate) -> float:
    """Return the lower end that a policy is ranked by, -inf where its row says nothing."""
    says = row.effective != 0.0 and not math.isnan(row.interval.low)
    return row.interval.low if says else -math.inf


def _gap(chosen: Estimate, other: Estimate) -> Interval:
    """Return the interval of the difference of two estimates in the same resamples."""
    if _low(other) == -math.inf:
        return Interval(math.nan, math.nan)
    apart = chosen.resampled.double() - other.resampled.double()
    if not chosen.ensemble:
        return percentile(apart, LEVEL)
    middle = chosen.value - other.value
    half = student_quantile(0.5 + LEVEL / 2.0, len(apart) - 1) * float(apart.std())
    return Interval(middle - half, middle + half)
