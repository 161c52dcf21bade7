"""Generative networks: actions out of noise."""

import math

import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.entries import Observation, make_inputs
from hindsight_rl.nets.layers import mlp
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec

TIME_FREQUENCIES = 4
"""Sines and cosines of the time that a network is given."""


def time_features(time: Tensor) -> Tensor:
    """Return sines and cosines of a time in [0, 1], ``[..., 2 * TIME_FREQUENCIES]``."""
    factors = [math.pi * 2.0**k for k in range(TIME_FREQUENCIES)]
    angles = torch.stack([time * factor for factor in factors], dim=-1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class VelocityNet(nn.Module):
    """v(x, t, s) or v(x, t, s, z): which way noise moves to become a chunk of actions.

    Args:
        spec: The data's spec; its actions are continuous.
        network: Inputs, of observation and task, and hidden layers.
        chunk: C, actions in a chunk.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network = Network(),
        *,
        chunk: int = 1,
    ) -> None:
        super().__init__()
        self.inputs, hidden = make_inputs(spec, network)
        self.scale = ActionScale(spec.action)
        self.outputs = chunk * spec.action.width
        width = self.outputs + 2 * TIME_FREQUENCIES + self.inputs.width
        self.net = mlp(width, hidden, self.outputs)

    def forward(
        self, point: Tensor, time: Tensor, observation: Observation, task: Tensor | None = None
    ) -> Tensor:
        """Return the velocity at a point.

        Args:
            point: ``[..., C * A]``, policy units.
            time: ``[...]``, in [0, 1].
            observation: ``[..., O]``.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., C * A]``, policy units per unit of time.
        """
        return self.at(point, time, self.inputs(observation, task))

    def at(self, point: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Return the velocity given the features of observation and task."""
        given = torch.cat([point, time_features(time), features], dim=-1)
        velocity: Tensor = self.net(given)
        return velocity
