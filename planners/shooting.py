"""Random shooting: the best of plans that are drawn uniformly."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hindsight_rl.maths import planning
from hindsight_rl.maths.draws import uniforms
from hindsight_rl.planners.planner import Planner, Value
from hindsight_rl.planners.sampled import Belief, check_sampling, sampled_actor
from hindsight_rl.ports import Actor, Ensemble, Model
from hindsight_rl.spec_parts import ActionSpec


@dataclass(frozen=True)
class Shooting(Planner):
    """Random shooting: the best of plans drawn uniformly. For short horizons and few actions.

    Args:
        horizon: H, steps of a plan, at least 1.
        samples: P, plans that are drawn, at least 1.
        discount: gamma, in [0, 1].
        particles: Futures of each plan that are drawn from the model; 0: one, its mean.
        pessimism: Standard deviations over particles that are taken off a plan's mean, at least 0.
        lasting: Each particle asks one member of an ensemble for its whole plan (TSinf); else a
            member is drawn for every step (TS1).
        warm_start: Whether the last plan, shifted by one, is a candidate too.

    Raises:
        ValueError: An argument is out of range.
    """

    horizon: int = 15
    samples: int = 1000
    discount: float = 1.0
    particles: int = 0
    pessimism: float = 0.0
    lasting: bool = False
    warm_start: bool = False
    iterations: ClassVar[int] = 1
    answer: ClassVar[Literal["mean", "best"]] = "mean"

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_sampling(self)

    def actor(
        self, model: Model | Ensemble, action: ActionSpec, *, value: Value | None = None
    ) -> Actor:
        """Return what acts by planning; see :meth:`Planner.actor`."""
        return sampled_actor(self, model, action, value)

    @property
    def kept(self) -> int:
        """Return how many plans are drawn again: none."""
        return 0

    def drawn(self, now: Belief, iteration: int, draws: Tensor) -> Tensor:
        """Return plans that are uniform inside the bounds, and the last one."""
        count, horizon, width = now.mean.shape
        share = uniforms(draws, self.samples * horizon * width)
        plans = share.view(count, self.samples, horizon, width).to(now.mean.dtype) * 2.0 - 1.0
        return torch.cat([plans, now.mean.unsqueeze(1)], 1) if self.warm_start else plans

    def moved(self, now: Belief, plans: Tensor, score: Tensor) -> Belief:
        """Return the best of them as the mean."""
        best = planning.taken(plans, planning.elites_of(score, 1))[:, 0]
        return now._replace(mean=best, best=best)
