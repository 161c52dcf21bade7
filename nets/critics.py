"""Critics and values: observation, task and action in, expected return out."""

import math

import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.entries import EntryInputs, Observation, make_inputs
from hindsight_rl.nets.encoders.recurrent import RecurrentInputs
from hindsight_rl.nets.encoders.vector import GatedInputs, Inputs
from hindsight_rl.nets.layers import activation_of, mlp, outputs
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec


class Critic(nn.Module):
    """Q(s, a) or Q(s, a, task), several independent estimates side by side.

    The members share nothing but their standardised input. They are separate networks, not stacked
    parameters: batched products compile badly on the CPU at 256 units.

    Args:
        spec: The data's spec. With discrete actions each member has one output per action.
        network: Inputs and hidden layers; its task gates nothing, as members share their inputs.
        members: Number of estimates, E.
        numbers: Numbers that an action has in place of one value, M: quantiles of its return, or
            features of what follows; 0 for the value alone.
        further: Numbers that are given beside observation and task, about 1 in size.

    Raises:
        ValueError: The network does not go with the spec, or with several members.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network = Network(),
        *,
        members: int = 2,
        numbers: int = 0,
        further: int = 0,
    ) -> None:
        super().__init__()
        network.check_ungated("a critic")
        self.inputs, hidden = make_inputs(spec, network)
        self.scale = ActionScale(spec.action)
        self.numbers = numbers
        width = further + (0 if self.scale.discrete else spec.action.width)
        outputs = (spec.action.n if self.scale.discrete else 1) * max(numbers, 1)
        self.members = nn.ModuleList(
            mlp(
                self.inputs.width + width,
                hidden,
                outputs,
                activation_of(network),
                norm=network.critic_norm,
            )
            for _ in range(members)
        )

    def forward(
        self,
        observation: Observation,
        action: Tensor | None,
        task: Tensor | None = None,
        *,
        members: int | None = None,
        further: Tensor | None = None,
    ) -> Tensor:
        """Return the value of actions in environment units, one estimate per member.

        Actions in float64 are valued in float64, see :func:`hindsight_rl.nets.layers.outputs`.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]``, or ``[...]`` int64; ``None`` for all of n discrete actions.
                Continuous ones may have further dimensions in front: several actions per state.
            task: ``[..., Z]`` where the spec has a task.
            members: How many estimates are wanted, the first ones; ``None`` for all.
            further: ``[..., F]``, numbers beside observation and task, where it was made for some.

        Returns:
            ``[E, ...]``, or ``[E, ..., n]`` for all actions; reward units. With several
            numbers ``[E, ..., M]`` or ``[E, ..., n, M]``.

        Raises:
            ValueError: The values of all actions are requested, and actions are continuous.
        """
        features = self.inputs(observation, task)
        if further is not None:
            features = torch.cat([features, further], dim=-1)
        if not self.scale.discrete:
            if action is None:
                raise ValueError("continuous actions cannot all be valued: pass action [..., A]")
            scaled = self.scale.to_policy(action)
            features = features.expand(*scaled.shape[:-1], features.shape[-1])
            features = torch.cat([features, scaled], dim=-1)
        values = torch.stack([outputs(member, features) for member in self.members[:members]])
        if self.numbers:
            return self._several(values, action)
        if not self.scale.discrete:
            return values.squeeze(-1)
        if action is None:
            return values
        return value_of(values, action)

    def _several(self, values: Tensor, action: Tensor | None) -> Tensor:
        """Return the numbers of the actions that are meant, of all outputs ``[E, ..., n M]``."""
        apart: Tensor = values.unflatten(-1, (-1, self.numbers))
        if not self.scale.discrete:
            return apart.squeeze(-2)
        if action is None:
            return apart
        return value_of(apart.movedim(-1, 0), action).movedim(0, -1)


def value_of(values: Tensor, action: Tensor) -> Tensor:
    """Return the value of one of n discrete actions.

    Args:
        values: ``[..., n]``, of every action; dimensions before those of the action mean several
            estimates.
        action: ``[...]`` int64.

    Returns:
        ``[...]``, as many dimensions as ``values`` has before its last.
    """
    return values.gather(-1, action.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


class ValueNet(nn.Module):
    """V(s) or V(s, task).

    Args:
        spec: The data's spec.
        network: Inputs and hidden layers.
        scale: Unit of the last layer's output, reward units, above 0.
        memory: What is given in the place of the present alone; ``None`` for nothing.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network = Network(),
        *,
        scale: float = 1.0,
        memory: RecurrentInputs | None = None,
    ) -> None:
        super().__init__()
        self.inputs: Inputs | EntryInputs | GatedInputs | RecurrentInputs
        if memory is None:
            self.inputs, hidden = make_inputs(spec, network)
        else:
            self.inputs, hidden = memory, network.hidden
        self.net = mlp(self.inputs.width, hidden, 1, activation_of(network))
        self.scale = scale

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return values ``[...]``, reward units."""
        return self.of(self.inputs(observation, task))

    def of(self, features: Tensor) -> Tensor:
        """Return values ``[...]``, reward units, given the features ``[..., D]`` of the inputs."""
        value: Tensor = self.net(features).squeeze(-1)
        return self.scale * value

    def precise(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return values ``[...]`` computed in float64, to compare with those of such actions."""
        features = self.inputs(observation, task).double()
        return self.scale * outputs(self.net, features).squeeze(-1)


class Temperature(nn.Module):
    """A learned factor above 0, such as the weight of an entropy.

    Args:
        initial: Its value at the start, above 0.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Tensor:
        """Return the factor ``[]``."""
        return self.log.exp()
