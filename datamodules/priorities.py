"""Prioritised draws of rows: how, and the column of priorities that draws and errors share.

Draws stay functions of counters: equal columns give equal rows. The column changes between chunks
only, by the errors that the learner has left on the rows of the chunk; within a chunk priorities
are up to K updates old.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.maths.priorities import (
    cumulative,
    drawn_by_priority,
    importance_weight,
    priority,
)
from hindsight_rl.ports import JudgesRows, LearnerView


@dataclass(frozen=True)
class Priorities:
    """Rows are drawn in proportion to (|error| + floor)^exponent, and weighted against it.

    Args:
        exponent: At least 0; 0 draws uniformly.
        correction: Exponent beta of the weights at first, in [0, 1]: 1 undoes what the draws
            change in the mean, 0 leaves it.
        corrected_after: Updates after which beta is 1, on a line from ``correction``; at least 1.
        floor: Added to errors, above 0, reward units.

    Raises:
        ValueError: An argument is out of range.
    """

    exponent: float = 0.6
    correction: float = 0.4
    corrected_after: int = 100_000
    floor: float = 1e-6

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_ranges(at_least(0, exponent=self.exponent))
        check_ranges(within("[0, 1]", correction=self.correction))
        check_ranges(at_least(1, corrected_after=self.corrected_after), unit="updates")
        check_ranges(above(0, floor=self.floor))

    def beta(self, updates: Tensor) -> Tensor:
        """Return the exponent of the weights at updates ``[...]``."""
        share = (updates.double() / self.corrected_after).clamp(max=1.0)
        return self.correction + (1.0 - self.correction) * share


class PriorityColumn:
    """A priority for every row of a log; new rows get the largest that was seen so far.

    Args:
        settings: How rows are drawn.
        count: N, rows of the log.
    """

    def __init__(self, settings: Priorities, count: int) -> None:
        self.settings = settings
        self.value, self.largest = torch.ones(count), 1.0

    def draw(self, share: Tensor, rows: Tensor | None) -> Tensor:
        """Return rows drawn by priority.

        Args:
            share: ``[...]`` float64, uniform on [0, 1).
            rows: ``[M]`` int64, the rows that may be drawn; ``None`` for all.

        Returns:
            ``[...]`` int64.
        """
        among = self.value if rows is None else self.value[rows]
        found = drawn_by_priority(share, cumulative(among))
        return found if rows is None else rows[found]

    def weight(self, index: Tensor, updates: Tensor, rows: Tensor | None) -> Tensor:
        """Return what drawn rows count.

        Args:
            index: ``[K, B]`` int64.
            updates: ``[K]`` int64, the numbers of their updates.
            rows: As for :meth:`draw`.

        Returns:
            ``[K, B]`` float32, in (0, 1].
        """
        least = (self.value if rows is None else self.value[rows]).min()
        beta = self.settings.beta(updates).unsqueeze(-1)
        return importance_weight(self.value[index].double(), least.double(), beta=beta).float()

    def take(self, index: Tensor, error: Tensor) -> None:
        """Set the priorities of rows by their errors; of a row that is there twice, the larger.

        Args:
            index: ``[...]`` int64.
            error: ``[...]``, target minus value, reward units, not weighted.
        """
        given = priority(
            error.flatten().float(), exponent=self.settings.exponent, floor=self.settings.floor
        )
        rows, place = index.flatten().unique(return_inverse=True)
        found = torch.zeros(len(rows)).scatter_reduce(0, place, given, "amax")
        self.value[rows] = found
        self.largest = max(self.largest, float(found.max()))

    def follow(self, added: int, count: int) -> None:
        """Follow a replay that got new rows and let go of its oldest ones.

        Args:
            added: Rows that were added.
            count: Rows that are there now.
        """
        kept = self.value[len(self.value) + added - count :]
        self.value = torch.cat([kept, torch.full((count - len(kept),), self.largest)])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"value": self.value, "largest": self.largest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint held.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.value, self.largest = state["value"].clone(), float(state["largest"])


def check_one_share(sources: int, mix: Mapping[str, float] | None, *, passes: bool = False) -> None:
    """Check that nothing else says which rows are drawn.

    Args:
        sources: How many logs are read.
        mix: Shares of origins, ``None`` for none.
        passes: Whether each row is served once before any comes again.

    Raises:
        ValueError: Something does.
    """
    found = {
        "collection.epochs": passes,
        f"mix {dict(mix or {})}": mix is not None,
        f"the weighing of {sources} sources": sources > 1,
    }
    for what in (name for name, there in found.items() if there):
        raise ValueError(
            f"priorities say how often each row is drawn, and so does {what}: leave one of the two "
            "out"
        )


def check_prioritised(learner: LearnerView) -> None:
    """Check that a learner goes with prioritised draws.

    Args:
        learner: What is fitted.

    Raises:
        ValueError: It does not say how wrong it is about rows, or several seeds are trained.
    """
    name = type(learner).__name__
    if not isinstance(learner, JudgesRows):
        raise ValueError(
            f"priorities are the errors of single rows, and {name} does not say what they are: use "
            "DQN, or leave priorities out"
        )
    if getattr(learner, "seeds", 1) > 1:
        raise ValueError(
            "each of several seeds would draw rows of its own by priority: set seeds to 1 and "
            "start one run for each (hindsight sweep), or leave priorities out"
        )


def over_ranks(part: Tensor) -> Tensor:
    """Return the parts ``[K, b]`` of all ranks side by side, ``[K, B]``, on the CPU."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return part.cpu()
    parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts, 1).cpu()
