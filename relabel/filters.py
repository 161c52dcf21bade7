"""Filters: which rows of the log may be drawn."""

import math
from typing import Literal

import torch
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import Key, key_of
from hindsight_rl.maths.returns import last_rows, returns_to_go
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler


class TopFraction(Relabeler):
    """Keeps the best part of the log; the rows of the rest are never drawn.

    Ties are broken by order in the log. A fraction of 1 keeps every row.

    Args:
        fraction: Share to keep, in (0, 1].
        by: What the share is a share of. ``"episodes"``: the best max(1, floor(fraction * E)) whole
            episodes. ``"steps"``: best episodes first until they hold that share of all steps.
        score: ``"return"`` (discounted sum of rewards of the episode), or the name of a column that
            is averaged over the episode.
        discount: For ``score="return"``, in [0, 1].
        prefer: Whether the best have the highest score or the lowest: ``"low"`` for costs, such as
            ``quality.jerk``.

    Raises:
        ValueError: ``fraction`` or ``discount`` is out of range.

    Reference:
        Chen et al. 2021, arXiv 2106.01345, section 5.1 ("percentile behaviour cloning", by steps).
    """

    def __init__(
        self,
        fraction: float,
        by: Literal["episodes", "steps"] = "episodes",
        score: str = "return",
        discount: float = 1.0,
        prefer: Literal["high", "low"] = "high",
    ) -> None:
        super().__init__()
        check_choices(TopFraction.__init__, locals())
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction is {fraction}, it must lie in (0, 1]")
        if not 0 <= discount <= 1:
            raise ValueError(f"discount is {discount}, it must lie in [0, 1]")
        self.fraction, self.by, self.score, self.discount = fraction, by, score, discount
        self.prefer = prefer

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """The column that episodes are scored by."""
        return (("next", "reward"),) if self.score == "return" else (self._score_key(),)

    def prepare(self, log: LogView) -> "TopFraction":
        """Return a copy whose ``rows`` are those of the best episodes among the drawable ones."""
        rows = log.drawable()
        episode = log.column("episode")
        candidates, length = episode[rows].unique(return_counts=True)
        score = self._episode_score(log)[candidates]
        order = torch.sort(score, descending=self.prefer == "high", stable=True).indices
        if self.by == "episodes":
            keep = max(1, math.floor(self.fraction * len(candidates) + 1e-9))
        else:
            held = length[order].cumsum(0).double()  # float32 would round long logs
            keep = int((held < self.fraction * len(rows) - 1e-9).sum()) + 1
        chosen = torch.zeros(int(episode.max()) + 1, dtype=torch.bool)
        chosen[candidates[order[:keep]]] = True
        return self.bound(rows=rows[chosen[episode[rows]]])

    def _episode_score(self, log: LogView) -> Tensor:
        if self.score == "return":
            total = returns_to_go(
                log.column(("next", "reward")), last_rows(log.column("episode_end")), self.discount
            )
            return total[log.column("step") == 0]
        value = log.column(self._score_key()).double()
        total = returns_to_go(value, last_rows(log.column("episode_end")), 1.0)[
            log.column("step") == 0
        ]
        return total / (log.column("step")[last_rows(log.column("episode_end"))] + 1)

    def _score_key(self) -> Key:
        return key_of(self.score)
