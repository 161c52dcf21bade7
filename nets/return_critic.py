"""ReturnCritic: what returns a given policy has, by an ensemble that knows their size."""

import math

import torch
from torch import Tensor, nn

from hindsight_rl.maths.returns import ReturnRange
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec


class ReturnCritic(nn.Module):
    """Critics in the unit of a log's returns, given the steps left where returns end with them.

    Args:
        spec: The data's spec.
        network: Inputs and hidden layers.
        members: Number of estimates, E.
        quantiles: Numbers that stand for a distribution of returns, Q; 0 for their mean alone.
        horizon: Steps of an episode after which returns end; ``None`` for never.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    scale: Tensor
    measured: Tensor

    def __init__(
        self,
        spec: Spec,
        network: Network,
        *,
        members: int,
        quantiles: int = 0,
        horizon: int | None = None,
    ) -> None:
        super().__init__()
        self.horizon, self.quantiles, self.count = horizon, quantiles, members
        self.critic = Critic(
            spec, network, members=members, numbers=quantiles, further=int(horizon is not None)
        )
        known = {"low": -math.inf, "high": math.inf, "mean": 0.0, "scale": 1.0, "measured": 0.0}
        for name, number in known.items():
            self.register_buffer(name, torch.tensor(number))

    def take(self, known: ReturnRange) -> None:
        """Take the bounds of returns, and their usual size as the unit of the networks.

        Args:
            known: Of a log; networks that have a unit keep it, as their weights are in it.
        """
        self.low.fill_(known.low)
        self.high.fill_(known.high)
        if not self.measured:
            self.mean.fill_(known.mean)
            self.scale.fill_(known.spread)
            self.measured.fill_(1.0)

    def left(self, step: Tensor | None) -> Tensor | None:
        """Return the steps left from steps ``[B]`` of episodes on, ``None`` without a horizon.

        Args:
            step: ``[B]`` int64, from 0.

        Returns:
            ``[B]`` int64, at least 0.

        Raises:
            ValueError: There is a horizon, and no step.
        """
        if self.horizon is None:
            return None
        if step is None:
            raise ValueError("values with a horizon depend on the step of the episode: pass step")
        return (self.horizon - step).clamp_min(0)

    def forward(
        self,
        observation: Observation,
        action: Tensor | None,
        task: Tensor | None = None,
        left: Tensor | None = None,
    ) -> Tensor:
        """Return what actions are worth, reward units, in the shapes of :class:`Critic`.

        Args:
            observation: ``[B, O]``.
            action: ``[..., B, A]`` in environment units, or ``[B]`` int64; ``None`` for all n.
            task: ``[B, Z]`` where the spec has a task.
            left: ``[B]`` int64, steps left, where there is a horizon.

        Returns:
            ``[E, ..., B]``, or ``[E, B, n]`` for all choices; quantiles in a last dimension.
        """
        share = None if left is None else (2.0 * left / (self.horizon or 1) - 1.0).unsqueeze(-1)
        value: Tensor = self.critic(observation, action, task, further=share)
        return self.mean + self.scale * value

    def of_policy(
        self, observation: Observation, task: Tensor | None, answer: Tensor, left: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the return of a policy: its mean, or a sample of its distribution.

        Args:
            observation: ``[B, O]``.
            task: ``[B, Z]`` where the spec has a task.
            answer: The policy's, ``[B, m, A]`` actions or ``[B, n]`` probabilities of choices.
            left: ``[B]`` int64, steps left, where there is a horizon: after none, nothing follows.

        Returns:
            ``[E, M, B]``, reward units, and what each number counts, ``[M, B]`` with sum 1 over M.
            M is 1 without quantiles, else m or n times as many as there are.
        """
        if self.critic.scale.discrete:
            shares = answer.movedim(-1, 0)
            values = self(observation, None, task, left).movedim(2, 1)
        else:
            shares = torch.full_like(answer[..., 0], 1.0 / answer.shape[-2]).movedim(-1, 0)
            values = self(observation, answer.movedim(-2, 0), task, left)
        if self.quantiles:
            values = values.movedim(-1, 2).flatten(1, 2)
            shares = shares.repeat_interleave(self.quantiles, 0) / self.quantiles
        else:
            values = (shares * values).sum(1, keepdim=True)
            shares = torch.ones_like(shares[:1])
        return values if left is None else values * (left > 0), shares
