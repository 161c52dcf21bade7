"""The cross-entropy method, and iCEM: draw around the best plans, again and again."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.maths import planning
from hindsight_rl.planners.planner import Planner, Value
from hindsight_rl.planners.sampled import Belief, around, check_sampling, noise, sampled_actor
from hindsight_rl.ports import Actor, Ensemble, Model
from hindsight_rl.spec_parts import ActionSpec


@dataclass(frozen=True)
class CEM(Planner):
    """The cross-entropy method: draw around the mean of the best plans, again and again.

    ``colour``, ``keep`` and ``shrink`` above their neutral values (0, 0, 1) make it iCEM.

    Args:
        horizon: H, steps of a plan, at least 1.
        samples: P, plans that are drawn in the first iteration, at least 1.
        iterations: At least 1.
        discount: gamma, in [0, 1].
        particles: Futures of each plan that are drawn from the model; 0: one, its mean.
        pessimism: Standard deviations over particles that are taken off a plan's mean, at least 0.
        lasting: Each particle asks one member of an ensemble for its whole plan (TSinf); else a
            member is drawn for every step (TS1).
        warm_start: Begin from the last plan, shifted by one.
        answer: ``"mean"`` of the elites, or the ``"best"`` plan drawn.
        elites: Share of the plans that the next mean is made of, in (0, 1].
        momentum: Share of the old mean and variance that stays, in [0, 1).
        floor: Least standard deviation, in half ranges of the action, at least 0.
        bounded: Keep two standard deviations inside the bounds, as PETS does: plans then come
            near to a bound slowly. Else they are clipped.
        colour: Exponent by which the power of the noise falls with frequency, at least 0.
        keep: Share of the elites that is drawn again in the next iteration and, shifted by one, in
            the next step, in [0, 1].
        shrink: Plans of an iteration over those of the next, at least 1.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Chua et al. 2018, arXiv 1805.12114; iCEM: Pinneri et al. 2020, arXiv 2008.06389.
    """

    horizon: int = 15
    samples: int = 200
    iterations: int = 5
    discount: float = 1.0
    particles: int = 0
    pessimism: float = 0.0
    lasting: bool = False
    warm_start: bool = True
    answer: Literal["mean", "best"] = "mean"
    elites: float = 0.1
    momentum: float = 0.1
    floor: float = 0.05
    bounded: bool = False
    colour: float = 0.0
    keep: float = 0.0
    shrink: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_sampling(self)
        check_ranges(within("(0, 1]", elites=self.elites), within("[0, 1)", momentum=self.momentum))
        check_ranges(at_least(0, floor=self.floor, colour=self.colour))
        check_ranges(within("[0, 1]", keep=self.keep), at_least(1, shrink=self.shrink))

    def actor(
        self, model: Model | Ensemble, action: ActionSpec, *, value: Value | None = None
    ) -> Actor:
        """Return what acts by planning; see :meth:`Planner.actor`."""
        return sampled_actor(self, model, action, value)

    @property
    def kept(self) -> int:
        """Return how many elites are drawn again."""
        return int(self.keep * self._elites(self.samples))

    def drawn(self, now: Belief, iteration: int, draws: Tensor) -> Tensor:
        """Return plans around the mean, and the elites that are kept."""
        samples = max(int(self.samples / self.shrink**iteration), 2 * self._elites(self.samples))
        samples = min(samples, self.samples)
        plans = around(now, noise(now, samples, draws, self.colour))
        if self.kept and iteration == self.iterations - 1:
            plans = torch.cat([plans[:, :-1], now.mean.unsqueeze(1)], 1)
        return torch.cat([plans, now.elites], 1)

    def moved(self, now: Belief, plans: Tensor, score: Tensor) -> Belief:
        """Return the normal distribution of the elites."""
        before, count = planning.Gaussian(now.mean, now.variance), self._elites(self.samples)
        found = planning.elite_update(
            before, plans, score, elites=min(count, score.shape[1]), momentum=self.momentum
        )
        variance = found.variance
        if self.bounded:
            variance = planning.bounded_variance(found, -1.0, 1.0)
        best = planning.taken(plans, planning.elites_of(score, max(1, self.kept)))
        variance = variance.clamp(min=self.floor**2)
        return Belief(found.mean, variance, best[:, : self.kept], best[:, 0])

    def _elites(self, samples: int) -> int:
        return max(1, round(self.elites * samples))
