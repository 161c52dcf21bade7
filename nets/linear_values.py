"""LinearValues: Q(s, a) as a weighted sum of fixed features of state and action."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hindsight_rl.maths.draws import counters, fork, normals, uniforms
from hindsight_rl.maths.least_squares import quadratic_features
from hindsight_rl.maths.quadratics import linear_maximiser, quadratic_parts
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.vector import Inputs, Standardize
from hindsight_rl.nets.layers import float32_linear
from hindsight_rl.spec import Spec

Features = Literal["plain", "quadratic", "fourier"]
UNSHOWN = -1e30
"""The value of a choice that no row takes: finite, as exported scores are, and below all others."""


class LinearValues(nn.Module):
    """Values that are linear in features, with the best action in closed form.

    Of choices each has weights of its own. Of real numbers the features are quadratic in state and
    action together, and the best action is where the gradient is 0, within the bounds.

    Args:
        spec: The data's spec; the observation is a vector.
        features: ``"plain"``: observation and task as they are, one number per state where they are
            one-hot; ``"quadratic"``: a constant, the standardised numbers and all their products;
            ``"fourier"``: a constant and cosines of random sums of the standardised numbers.
        count: Cosines.
        bandwidth: Of the kernel that the cosines stand for, in standard deviations, above 0.

    Raises:
        ValueError: Actions are real numbers, and features are not quadratic.
    """

    frequency: Tensor
    phase: Tensor
    taken: Tensor

    def __init__(
        self, spec: Spec, features: Features, *, count: int = 256, bandwidth: float = 1.0
    ) -> None:
        super().__init__()
        self.inputs, self.kind = Inputs(spec), features
        self.scale = ActionScale(spec.action)
        self.discrete = self.scale.discrete
        width = self.inputs.width
        if not self.discrete and features != "quadratic":
            raise ValueError(
                f"features is '{features}', and actions are real numbers: only of 'quadratic' "
                "features the best action has a closed form"
            )
        self.actions = spec.action.width
        if not self.discrete:
            # Not by the bounds: where those are wide, products would be lost beside a ridge.
            self.action = Standardize(*spec.action.statistics)
        if features == "fourier":
            self._draw(width, count, bandwidth)
        made = {"plain": width, "fourier": count + 1}
        both = width if self.discrete else width + self.actions
        self.width = made.get(features, 1 + both + both * (both + 1) // 2)
        shape = (self.actions, self.width) if self.discrete else (1, self.width)
        self.theta = nn.Parameter(torch.zeros(shape))
        # Choices that the log shows; of others nothing is known, and they are never taken.
        self.register_buffer("taken", torch.ones(self.actions if self.discrete else 0))

    def _draw(self, width: int, count: int, bandwidth: float) -> None:
        """Make the random sums: functions of their number alone, the same in every run."""
        number = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]
        frequency = normals(fork(number, "frequency"), width) / bandwidth
        self.register_buffer("frequency", frequency)
        phase = 2.0 * math.pi * uniforms(fork(number, "phase"), 1).squeeze(-1)
        self.register_buffer("phase", phase)

    def features(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return phi(s, a).

        Args:
            observation: ``[B, O]``.
            action: ``[B, A]`` in environment units, or ``[B]`` int64.
            task: ``[B, Z]`` where the spec has a task.

        Returns:
            ``[B, F]``, in the order of ``theta.flatten()``.
        """
        if self.discrete:
            state = self.state_features(observation, task)
            one_hot = nn.functional.one_hot(action, self.actions).to(state.dtype)
            return (one_hot.unsqueeze(-1) * state.unsqueeze(-2)).flatten(-2)
        both = [self.inputs(observation, task), self.action(action)]
        return quadratic_features(torch.cat(both, dim=-1))

    def state_features(self, observation: Tensor, task: Tensor | None) -> Tensor:
        """Return what the values of each choice are linear in, ``[B, D]``."""
        if self.kind == "plain":
            return observation if task is None else torch.cat([observation, task], dim=-1)
        inputs: Tensor = self.inputs(observation, task)
        if self.kind == "quadratic":
            return quadratic_features(inputs)
        waves = math.sqrt(2.0 / len(self.phase)) * torch.cos(
            float32_linear(inputs, self.frequency, self.phase)
        )
        return torch.cat([torch.ones_like(waves[..., :1]), waves], dim=-1)

    def show(self, action: Tensor) -> None:
        """Take which choices a log shows.

        Args:
            action: ``[N]`` int64 from 0.
        """
        self.taken.copy_(torch.bincount(action, minlength=self.actions) > 0)

    def check_concave(self, theta: Tensor) -> None:
        """Check that the values of real actions have a maximum; those of choices have.

        Args:
            theta: ``[F]``.

        Raises:
            ValueError: In some direction values grow without end.
        """
        if self.discrete:
            return
        parts = quadratic_parts(theta, self.inputs.width + self.actions)
        largest = float(
            torch.linalg.eigvalsh(parts.curvature[-self.actions :, -self.actions :])[-1]
        )
        if not largest < 0:
            raise ValueError(
                "values are not concave in the action (largest second derivative "
                f"{largest:.3g}): no action is best. The log shows too little of what actions "
                "cost, or nothing does: record wider actions, add a cost of the action to the "
                "reward, or take a learner with networks (IQL, TD3BC)"
            )

    def values(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the values of all choices ``[B, n]``, the least for those that no row takes."""
        found = float32_linear(self.state_features(observation, task), self.theta, None)
        return torch.where(self.taken > 0, found, UNSHOWN)

    def best(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the best actions, ``[B, A]`` in environment units or ``[B]`` int64."""
        if self.discrete:
            return self.values(observation, task).argmax(-1)
        return self.scale.to_environment(self.unclipped(observation, task))

    def unclipped(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return where the values of real actions are largest, ``[B, A]`` in policy units."""
        inputs: Tensor = self.inputs(observation, task)
        parts = quadratic_parts(self.theta[0], inputs.shape[-1] + self.actions)
        best = float32_linear(inputs, *linear_maximiser(parts, self.actions))
        return self.scale.to_policy(best * self.action.std + self.action.mean)

    def forward(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return Q(s, a), ``[B]``, reward units; see :meth:`features`."""
        features = self.features(observation, action, task)
        return float32_linear(features, self.theta.reshape(1, -1), None).squeeze(-1)
