"""Plans from samples: random shooting, the cross-entropy method, and path integrals, in one loop.

    draw plans around the last one -> score them by the model -> move the distribution -> repeat

What is kept from step to step is the plan, shifted by one: the state of the actor. Plans are open
loops: each assumes that nothing will be learned on the way, so a planner that is asked anew in
every step is still not optimal where looking pays.
"""

import warnings
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_choices, check_ranges, within
from hindsight_rl.maths import planning
from hindsight_rl.maths.draws import fork, normals
from hindsight_rl.planners.futures import Futures
from hindsight_rl.planners.planner import Array, Value, bounds_of, flat_observation
from hindsight_rl.ports import Ensemble, Model
from hindsight_rl.spec_parts import ActionSpec

START = 0.5
"""Standard deviation of first plans, in half ranges of the action: a quarter of the range."""


class Belief(NamedTuple):
    """Where good plans are thought to be; actions are scaled so that bounds are -1 and 1.

    Attributes:
        mean: ``[n, H, A]``.
        variance: ``[n, H, A]``.
        elites: ``[n, K, H, A]``, good plans that are drawn again; K may be 0.
        best: ``[n, H, A]``, the best plan of the last iteration.
    """

    mean: Tensor
    variance: Tensor
    elites: Tensor
    best: Tensor


class Sampling(Protocol):
    """How plans are drawn: what the loop needs of a planner."""

    @property
    def horizon(self) -> int:
        """Steps of a plan."""

    @property
    def samples(self) -> int:
        """Plans that are drawn at once."""

    @property
    def iterations(self) -> int:
        """How often they are drawn."""

    @property
    def discount(self) -> float:
        """Of later rewards."""

    @property
    def particles(self) -> int:
        """Futures of each plan that are drawn from the model; 0: one, its mean."""

    @property
    def pessimism(self) -> float:
        """Standard deviations over particles that are taken off a plan's mean."""

    @property
    def lasting(self) -> bool:
        """Whether a particle asks one member of an ensemble for its whole plan."""

    @property
    def warm_start(self) -> bool:
        """Whether to begin from the last plan, shifted by one."""

    @property
    def answer(self) -> Literal["mean", "best"]:
        """Whose first action is taken."""

    @property
    def kept(self) -> int:
        """How many plans are drawn again."""

    def drawn(self, now: Belief, iteration: int, draws: Tensor) -> Tensor:
        """Return plans.

        Args:
            now: Where they are drawn.
            iteration: From 0.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, P', H, A]``, inside [-1, 1].
        """

    def moved(self, now: Belief, plans: Tensor, score: Tensor) -> Belief:
        """Return where plans are to be drawn next.

        Args:
            now: Where they were drawn.
            plans: ``[n, P', H, A]``.
            score: ``[n, P']``, -infinity where there is none.

        Returns:
            The belief; anything where a row has no score.
        """


def check_sampling(search: Sampling) -> None:
    """Check what planners that draw plans share.

    Args:
        search: The planner.

    Raises:
        ValueError: An argument is out of range.
    """
    sizes = {"horizon": search.horizon, "samples": search.samples}
    check_ranges(at_least(1, **sizes, iterations=search.iterations))
    check_ranges(within("[0, 1]", discount=search.discount))
    check_ranges(at_least(0, particles=search.particles, pessimism=search.pessimism))
    if search.lasting and not search.particles:
        raise ValueError("lasting is of particles, and there are none: give particles, one or more")
    check_choices(type(search).__init__, {"answer": search.answer})


def sampled_actor(
    search: Sampling, model: Model | Ensemble, action: ActionSpec, value: Value | None
) -> "SampledActor":
    """Return what acts by drawing plans; see :meth:`Planner.actor`."""
    low, high = bounds_of(action, type(search).__name__)
    particles = search.particles, search.pessimism, search.lasting
    futures = Futures(model, value, search.discount, *particles)
    return SampledActor(search, futures, low, high)


def around(now: Belief, noise: Tensor) -> Tensor:
    """Return plans ``[n, P, H, A]`` around the mean, inside the bounds."""
    return (now.mean.unsqueeze(1) + now.variance.sqrt().unsqueeze(1) * noise).clamp(-1.0, 1.0)


def noise(now: Belief, samples: int, draws: Tensor, colour: float) -> Tensor:
    """Return noise ``[n, P, H, A]``, coloured over H."""
    count, horizon, width = now.mean.shape
    white = normals(draws, samples * width * horizon)
    shaped = planning.coloured(white.view(count, samples, width, horizon), colour)
    return shaped.transpose(-1, -2).to(now.mean.dtype)


class SampledActor:
    """Acts by plans that are drawn; the plan is its state.

    Args:
        search: How plans are sought.
        futures: What they are worth.
        low: ``[A]``, lower bounds of actions.
        high: ``[A]``, upper bounds.
    """

    def __init__(self, search: Sampling, futures: Futures, low: Tensor, high: Tensor) -> None:
        self._search, self._futures = search, futures
        self._centre, self._half = (high + low) / 2, (high - low) / 2

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return plans that stay at the centre of the bounds, ``plan [n, H, A]``."""
        shape = (self._search.horizon, len(self._centre))
        state = {"plan": np.zeros((n, *shape), np.float32)}
        if self._search.kept:
            state["elites"] = np.zeros((n, self._search.kept, *shape), np.float32)
        return state

    def step(
        self, observation: object, task: Array | None, state: dict[str, Array], noise: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Return the first actions of new plans, and the rest of the plans.

        Args:
            observation: ``[n, O]`` float32.
            task: ``[n, Z]`` where there is one.
            state: ``plan [n, H, A]``, between -1 and 1.
            noise: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, A]`` in environment units, and the state.
        """
        search = self._search
        seen = flat_observation(observation, type(search).__name__)
        given = state if search.warm_start else self.initial_state(len(seen))
        plan = torch.from_numpy(given["plan"])
        kept = torch.from_numpy(given["elites"]) if search.kept else plan[:, None][:, :0]
        start = Belief(plan, torch.full_like(plan, START**2), kept, plan)
        goal = None if task is None else torch.from_numpy(np.asarray(task, np.float32))
        found = self.planned(seen, goal, start, torch.from_numpy(noise))
        chosen = found.mean if search.answer == "mean" else found.best
        following = {"plan": _shifted(found.mean).numpy()}
        if search.kept:
            following["elites"] = _shifted(found.elites).numpy()
        return (self._centre + self._half * chosen[:, 0]).numpy(), following

    @torch.no_grad()
    def planned(self, seen: Tensor, task: Tensor | None, start: Belief, draws: Tensor) -> Belief:
        """Return where good plans are.

        Args:
            seen: ``[n, O]``.
            task: ``[n, Z]``, or ``None``.
            start: Where they were thought to be.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            The belief after the last iteration; ``start`` of a row whose plans nobody can judge.
        """
        now, judged = start, torch.ones(len(seen), dtype=torch.bool)
        for iteration in range(self._search.iterations):
            here = fork(fork(draws, "plan"), iteration)
            plans = self._search.drawn(now, iteration, here)
            score = self._futures.score(seen, task, self._centre + self._half * plans, here)
            judged = judged & score.isfinite().any(-1)
            moved = self._search.moved(now, plans, score)
            now = Belief(*(_where(judged, new, old) for new, old in zip(moved, now, strict=True)))
        if not judged.all():
            warnings.warn(
                f"the model gave no finite score for any plan of {int((~judged).sum())} of "
                f"{len(judged)} states: the last plan goes on there",
                stacklevel=2,
            )
        return now


def _where(judged: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return rows of the one where they could be judged, of the other elsewhere."""
    return torch.where(judged.view(-1, *[1] * (new.ndim - 1)), new, old)


def _shifted(plan: Tensor) -> Tensor:
    """Return plans ``[..., H, A]`` without their first step; the last one is the centre."""
    return torch.cat([plan[..., 1:, :], torch.zeros_like(plan[..., :1, :])], dim=-2)
