"""Iterative LQR: a plan improved by the best controller of its own linear-quadratic problem.

    linearise around the plan -> K, k by a backward pass -> u = u^ + a k + K (x - x^) -> repeat

With a prior it is the data step of guided policy search: plans that earn much where the policy
itself would nearly go, and a Gaussian controller around them, N(K x + k, Quu^-1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.maths import lqr
from hindsight_rl.maths.draws import fork, normals
from hindsight_rl.planners.planner import Array, Planner, Value, bounds_of, flat_observation
from hindsight_rl.planners.trajectory import Bounds, Prior, Trajectory
from hindsight_rl.ports import Actor, Model
from hindsight_rl.spec_parts import ActionSpec

SHARES = 10
"""Lengths of a step that are tried: 1, .5, .25, ..."""
LEAST, MOST, FACTOR = 1e-6, 1e10, 2.0
"""Damping: its least value above 0, where it gives up, and how fast its change changes."""
SETTLED = 1e-6
"""Relative decrease of the cost below which a plan is taken to be the best."""
ENOUGH = 0.1
"""Share of the expected decrease that a step must reach."""


class Solved(NamedTuple):
    """The best plan found.

    Attributes:
        states: ``[n, H + 1, O]``.
        controls: ``[n, H, A]``, before they are squashed into the bounds.
        gains: Of the controller around them.
        cost: ``[n]``.
        history: ``[iterations + 1, n]``, the cost before the first and after each iteration.
    """

    states: Tensor
    controls: Tensor
    gains: lqr.Gains
    cost: Tensor
    history: Tensor


def improved(
    trajectory: Trajectory,
    start: Tensor,
    controls: Tensor,
    iterations: int,
    tolerance: float = SETTLED,
) -> Solved:
    """Return the best plan that iterative LQR finds.

    Args:
        trajectory: What trajectories cost.
        start: ``[n, O]``.
        controls: ``[n, H, A]``, the first plan.
        iterations: At most so many, at least 1.
        tolerance: Relative decrease of the cost below which a row stops.

    Returns:
        The plan; each row stops by itself.

    Reference:
        Tassa, Erez and Todorov 2012, "Synthesis and stabilization of complex behaviors through
        online trajectory optimization", section II; without second derivatives of the dynamics.
    """
    horizon = controls.shape[1]
    states, controls, cost = trajectory.followed(start, lambda t, x: controls[:, t], horizon)
    damping, change = torch.zeros_like(cost), torch.ones_like(cost)
    share = 0.5 ** torch.arange(SHARES, dtype=cost.dtype)
    settled, history = ~cost.isfinite(), [cost]
    for _ in range(iterations):
        gains = lqr.backward_pass(trajectory.around(states, controls), damping)
        tried = _tried(trajectory, states, controls, gains, share)
        hoped = lqr.expected_decrease(gains, share)
        reached = (cost.unsqueeze(-1) - tried[2]) / hoped
        good = (reached > ENOUGH) & (hoped > 0) & gains.convex.unsqueeze(-1) & ~settled[:, None]
        found, first = good.any(-1), good.to(torch.int8).argmax(-1)
        rows = torch.arange(len(cost))
        new_states, new_controls, new_cost = (part[rows, first] for part in tried)
        enough = tolerance * cost.abs()
        # What no step is expected to better is the best, too.
        settled = settled | (found & (cost - new_cost < enough)) | (damping > MOST)
        settled = settled | (gains.convex & (hoped[:, 0] <= enough))
        states = torch.where(found[:, None, None], new_states, states)
        controls = torch.where(found[:, None, None], new_controls, controls)
        cost = torch.where(found, new_cost, cost)
        damping, change = _damped(damping, change, found)
        history.append(cost)
        if settled.all():
            break
    gains = lqr.backward_pass(trajectory.around(states, controls))
    return Solved(states, controls, gains, cost, torch.stack(history))


def _tried(
    trajectory: Trajectory, states: Tensor, controls: Tensor, gains: lqr.Gains, share: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, controls and costs of steps of every length, ``[n, a, ...]``."""

    def step(t: int, state: Tensor) -> Tensor:
        push = share[:, None] * gains.forward[:, None, t]
        away = (state - states[:, None, t]).unsqueeze(-1)
        return controls[:, None, t] + push + (gains.feedback[:, None, t] @ away).squeeze(-1)

    start = states[:, None, 0].expand(-1, len(share), -1)
    found, moved, cost = trajectory.followed(start, step, controls.shape[1])
    return found, moved, torch.where(cost.isfinite(), cost, torch.inf)


def _damped(damping: Tensor, change: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next damping: less after a step that was taken, more after one that was not."""
    less = torch.minimum(change / FACTOR, torch.full_like(change, 1.0 / FACTOR))
    more = torch.maximum(change * FACTOR, torch.full_like(change, FACTOR))
    lower = damping * less
    lower = torch.where(lower >= LEAST, lower, 0.0)
    higher = torch.maximum(damping * more, torch.full_like(damping, LEAST))
    return torch.where(found, lower, higher), torch.where(found, less, more)


@dataclass(frozen=True)
class ILQR(Planner):
    """Iterative LQR, replanned in every step; one iteration of it is LQR.

    It needs a model that torch can differentiate, without luck, and looks through the ends of
    episodes: it plans as if they went on.

    Args:
        horizon: H, steps of a plan, at least 1.
        iterations: At most so many in a step, at least 1.
        discount: gamma, in [0, 1].
        warm_start: Begin from the last plan, shifted by one.
        temperature: nu, above 0, reward units per nat: how much staying near a prior weighs. Not
            used without one.
        sample: Draw actions from the Gaussian controller of maximum entropy at this temperature,
            N(K x + k, Quu^-1); else its mean.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Tassa, Erez and Todorov 2012; prior and entropy: Levine and Koltun 2013, "Guided policy
        search", section 4.
    """

    horizon: int = 20
    iterations: int = 10
    discount: float = 1.0
    warm_start: bool = True
    temperature: float = 1.0
    sample: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_ranges(at_least(1, horizon=self.horizon, iterations=self.iterations))
        check_ranges(within("[0, 1]", discount=self.discount))
        check_ranges(above(0, temperature=self.temperature))

    def actor(
        self,
        model: Model,
        action: ActionSpec,
        *,
        value: Value | None = None,
        prior: Prior | None = None,
    ) -> Actor:
        """Return what acts by planning.

        Args:
            model: Says what actions lead to; torch must be able to differentiate it.
            action: What is chosen: real numbers, bounded or not.
            value: Of what comes after the horizon; ``None``: nothing does.
            prior: Log-density of a policy that the plan stays near, nats.

        Returns:
            An actor for observations ``[n, O]``.
        """
        bounds = None
        if action.low is not None or action.high is not None or action.discrete:
            low, high = bounds_of(action, type(self).__name__)
            bounds = Bounds((high + low) / 2, (high - low) / 2)
        width = action.shape[0]
        temperature = self.temperature if prior is not None or self.sample else 1.0

        def trajectory(task: Tensor | None) -> Trajectory:
            return Trajectory(model, width, bounds, value, prior, self.discount, temperature, task)

        return _Controller(self, trajectory, width)


class _Controller:
    """Acts by the first control of a plan; the plan is its state."""

    def __init__(
        self, search: ILQR, trajectory: Callable[[Tensor | None], Trajectory], width: int
    ) -> None:
        self._search, self._trajectory, self._width = search, trajectory, width

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return plans that do nothing, ``plan [n, H, A]``."""
        return {"plan": np.zeros((n, self._search.horizon, self._width), np.float32)}

    def step(
        self, observation: object, task: Array | None, state: dict[str, Array], noise: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Return the first actions of new plans, and the rest of the plans.

        Args:
            observation: ``[n, O]`` float32.
            task: ``[n, Z]`` where there is one.
            state: ``plan [n, H, A]``, controls before they are squashed.
            noise: ``[n, 3]`` int64 counters, of drawn actions.

        Returns:
            ``[n, A]`` in environment units, and the state.
        """
        search, seen = self._search, flat_observation(observation, "ILQR")
        given = state if search.warm_start else self.initial_state(len(seen))
        goal = None if task is None else torch.from_numpy(np.asarray(task, np.float32))
        trajectory = self._trajectory(goal)
        with torch.no_grad():
            plan = torch.from_numpy(given["plan"])
            found = improved(trajectory, seen, plan, search.iterations)
            control = found.controls[:, 0]
            if search.sample:
                draws = normals(fork(torch.from_numpy(noise), "control"), self._width)
                precision = lqr.positive_part(found.gains.precision[:, 0], LEAST)
                control = control + lqr.gaussian_sample(draws, precision)
            action = trajectory.action(control)
        rest = torch.cat([found.controls[:, 1:], torch.zeros_like(plan[:, :1])], dim=1)
        return action.numpy(), {"plan": rest.numpy()}
