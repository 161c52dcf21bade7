"""Model predictive path integrals: the mean of plans, each by what it promises."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.maths import planning
from hindsight_rl.planners.planner import Planner, Value
from hindsight_rl.planners.sampled import Belief, around, check_sampling, noise, sampled_actor
from hindsight_rl.ports import Actor, Ensemble, Model
from hindsight_rl.spec_parts import ActionSpec


@dataclass(frozen=True)
class MPPI(Planner):
    """Model predictive path integrals: the mean of all plans, each by exp(score / temperature).

    Args:
        horizon: H, steps of a plan, at least 1.
        samples: P, plans that are drawn at once, at least 1.
        iterations: At least 1.
        discount: gamma, in [0, 1].
        particles: Futures of each plan that are drawn from the model; 0: one, its mean.
        pessimism: Standard deviations over particles that are taken off a plan's mean, at least 0.
        lasting: Each particle asks one member of an ensemble for its whole plan (TSinf); else a
            member is drawn for every step (TS1).
        warm_start: Begin from the last plan, shifted by one.
        answer: ``"mean"`` of the plans, or the ``"best"`` one drawn.
        temperature: lambda, above 0: of the range of the scores where ``relative``, else in reward
            units.
        relative: Whether the temperature is a share of the best score less the worst one.
        spread: Standard deviation of plans, in half ranges of the action, above 0.
        colour: Exponent by which the power of the noise falls with frequency, at least 0.
        cost: Take lambda mean' Sigma^-1 (plan - mean) off the scores: the information-theoretic
            form, which is drawn to the centre of the bounds.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Williams et al. 2017, arXiv 1707.02342, algorithms 1 and 2.
    """

    horizon: int = 15
    samples: int = 200
    iterations: int = 1
    discount: float = 1.0
    particles: int = 0
    pessimism: float = 0.0
    lasting: bool = False
    warm_start: bool = True
    answer: Literal["mean", "best"] = "mean"
    temperature: float = 0.02
    relative: bool = True
    spread: float = 0.5
    colour: float = 0.0
    cost: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_sampling(self)
        check_ranges(above(0, temperature=self.temperature, spread=self.spread))
        check_ranges(at_least(0, colour=self.colour))

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
        """Return plans around the mean."""
        wide = now._replace(variance=torch.full_like(now.variance, self.spread**2))
        return around(wide, noise(now, self.samples, draws, self.colour))

    def moved(self, now: Belief, plans: Tensor, score: Tensor) -> Belief:
        """Return the weighted mean."""
        temperature: Tensor | float = self.temperature
        if self.relative:
            temperature = self.temperature * planning.score_range(score)
        best = planning.taken(plans, planning.elites_of(score, 1))[:, 0]
        if self.cost:
            spread = torch.full_like(now.mean, self.spread**2)
            score = score - planning.control_cost(plans, now.mean, spread, temperature)
        weight = planning.path_integral_weights(score, temperature)
        return now._replace(mean=(weight[..., None, None] * plans).sum(1), best=best)
