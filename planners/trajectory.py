"""Costs of a trajectory as iterative LQR sees them: of states, and of controls without bounds.

An action inside bounds is centre + half * tanh(control), so that no control leaves them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hindsight_rl.maths.lqr import Quadratic, positive_part
from hindsight_rl.planners.derivatives import gradient_and_hessian, jacobian
from hindsight_rl.planners.planner import Value, of_tasks
from hindsight_rl.ports import Model

Prior = Callable[[Tensor, Tensor], Tensor]
"""``prior(observation [..., O], action [..., A]) -> [...]``: log-density of a policy, nats."""

FLOOR = 1e-6
"""Least eigenvalue of a cost's Hessian: what is curved downwards is taken to be flat."""


class Bounds(NamedTuple):
    """Bounds of actions; ``None`` for none.

    Attributes:
        centre: ``[A]``.
        half: ``[A]``, half of the range.
    """

    centre: Tensor
    half: Tensor


class Trajectory:
    """What trajectories cost, in reward units over the temperature.

    Args:
        model: Says what actions lead to, without luck: its mean.
        width: A, numbers of an action.
        bounds: Of the actions.
        value: Of what comes after the last step.
        prior: Policy that the controller stays near.
        discount: gamma, in [0, 1].
        temperature: nu, reward units per nat; 1 where there is no prior.
        task: ``[n, Z]``, what model and value are asked for.
    """

    def __init__(
        self,
        model: Model,
        width: int,
        bounds: Bounds | None,
        value: Value | None,
        prior: Prior | None,
        discount: float,
        temperature: float,
        task: Tensor | None = None,
    ) -> None:
        self._model, self._width, self._bounds = of_tasks(model, task), width, bounds
        self._given = model
        self._value, self._prior = value, prior
        self._discount, self._temperature, self._task = discount, temperature, task

    def action(self, control: Tensor) -> Tensor:
        """Return actions ``[..., A]`` of controls ``[..., A]``."""
        if self._bounds is None:
            return control
        return self._bounds.centre + self._bounds.half * control.tanh()

    def followed(
        self, start: Tensor, step: Callable[[int, Tensor], Tensor], horizon: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a controller does.

        Args:
            start: ``[..., O]``.
            step: ``(t, state [..., O]) -> control [..., A]``.
            horizon: H.

        Returns:
            States ``[..., H + 1, O]``, controls ``[..., H, A]``, and what it costs, ``[...]``.
        """
        states, controls, total = [start], [], start.new_zeros(start.shape[:-1])
        for t in range(horizon):
            control = step(t, states[-1])
            found = self._model(states[-1], self.action(control))
            earned = self._cost(states[-1], control, found.reward)
            total = total + self._discount**t * earned
            states.append(found.next_observation)
            controls.append(control)
        total = total + self._discount**horizon * self._end(states[-1])
        return torch.stack(states, -2), torch.stack(controls, -2), total

    def around(self, states: Tensor, controls: Tensor) -> Quadratic:
        """Return dynamics and costs to first and second order.

        Args:
            states: ``[n, H + 1, O]``.
            controls: ``[n, H, A]``.

        Returns:
            Of deviations from them, what curves downwards flattened.
        """
        count, horizon, _ = controls.shape
        joined = torch.cat([states[:, :-1], controls], dim=-1).flatten(0, 1)
        task = None if self._task is None else self._task.repeat_interleave(horizon, dim=0)
        flat_model = of_tasks(self._given, task)
        move = jacobian(partial(self._moved, flat_model), joined).unflatten(0, (count, horizon))
        slope, curve = gradient_and_hessian(partial(self._stepped, flat_model), joined)
        weight = self._discount ** torch.arange(horizon, dtype=joined.dtype)
        end_slope, end_curve = torch.zeros_like(states[:, -1]), None
        if self._value is not None:
            end_slope, end_curve = gradient_and_hessian(self._end, states[:, -1])
        size, last = states.shape[-1], self._discount**horizon
        flat = states.new_zeros(count, size, size) if end_curve is None else end_curve
        return Quadratic(
            move,
            torch.zeros_like(states[:, :-1]),
            weight[:, None, None] * positive_part(curve, FLOOR).unflatten(0, (count, horizon)),
            weight[:, None] * slope.unflatten(0, (count, horizon)),
            last * positive_part(flat, 0.0),
            last * end_slope,
        )

    def _moved(self, model: Model, joined: Tensor) -> Tensor:
        state, control = self._apart(joined)
        return model(state, self.action(control)).next_observation

    def _stepped(self, model: Model, joined: Tensor) -> Tensor:
        state, control = self._apart(joined)
        return self._cost(state, control, model(state, self.action(control)).reward)

    def _cost(self, state: Tensor, control: Tensor, reward: Tensor) -> Tensor:
        cost = -reward / self._temperature
        if self._prior is None:
            return cost
        return cost - self._prior(state, self.action(control)) - self.log_slope(control)

    def log_slope(self, control: Tensor) -> Tensor:
        """Return log |d action / d control| ``[...]``: a density of actions is one of controls."""
        if self._bounds is None:
            return control.new_zeros(control.shape[:-1])
        squash = 2.0 * (math.log(2.0) - control - softplus(-2.0 * control))
        return (self._bounds.half.log() + squash).sum(-1)

    def _end(self, state: Tensor) -> Tensor:
        if self._value is None:
            return state.new_zeros(state.shape[:-1])
        task = self._task
        if task is not None:
            task = task.view(len(task), *[1] * (state.ndim - 2), -1).expand(*state.shape[:-1], -1)
        return -self._value(state, task) / self._temperature

    def _apart(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        return joined[..., : -self._width], joined[..., -self._width :]
