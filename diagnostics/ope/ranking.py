"""Which of several policies to choose, and how sure that is."""

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
            interval of the paired difference, in the same episodes.
        regret: What the choice is expected to lose against the best of them, reward units: the mean
            over resamples of the best value less the chosen one's.
    """

    method: str
    order: tuple[int, ...]
    chosen: int
    gaps: tuple[Interval, ...]
    regret: float

    def as_dict(self, policies: Sequence[Named]) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "by": self.method,
            "order": [policies[number].name for number in self.order],
            "expected_regret": self.regret,
            "chosen_better_by": {
                policy.name: gap._asdict() for policy, gap in zip(policies, self.gaps, strict=True)
            },
        }


def ranked(rows: Sequence[Estimate | None]) -> Ranking | None:
    """Return the order of policies by the lower ends of their intervals.

    Args:
        rows: Of one estimator, one per policy.

    Returns:
        The ranking; ``None`` where a policy has no such row.
    """
    found = [row for row in rows if row is not None]
    if not found or len(found) < len(rows):
        return None
    order = sorted(range(len(found)), key=lambda number: -found[number].interval.low)
    chosen = order[0]
    tables = torch.stack([row.resampled.double() for row in found])
    gaps = tuple(_gap(found[chosen], row) for row in found)
    regret = float((tables.amax(0) - tables[chosen]).nanmean())
    return Ranking(found[0].method, tuple(order), chosen, gaps, regret)


def _gap(chosen: Estimate, other: Estimate) -> Interval:
    """Return the interval of the difference of two estimates in the same resamples."""
    apart = chosen.resampled.double() - other.resampled.double()
    if not chosen.ensemble:
        return percentile(apart, LEVEL)
    middle = chosen.value - other.value
    half = student_quantile(0.5 + LEVEL / 2.0, len(apart) - 1) * float(apart.std())
    return Interval(middle - half, middle + half)
