"""SuccessorCritic: what features a policy will meet, by an ensemble that knows their size."""

import torch
from torch import Tensor, nn

from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec, SpecError


class SuccessorCritic(nn.Module):
    """psi(s, a, z): discounted sums of K features under the policy of task z.

    Args:
        spec: The data's spec, with discrete actions, and tasks that weigh K features.
        network: Inputs and hidden layers.
        members: Number of estimates, E.
        discount: In [0, 1).

    Raises:
        SpecError: There is no task.
    """

    mean: Tensor
    scale: Tensor
    measured: Tensor

    def __init__(self, spec: Spec, network: Network, *, members: int, discount: float) -> None:
        super().__init__()
        if spec.task is None:
            raise SpecError(
                "successor features need tasks that weigh features, and rows have none: add "
                "RandomTask with a family LinearTasks to data.relabel"
            )
        self.width, self.horizon = spec.task.width, 1.0 / (1.0 - discount)
        self.critic = Critic(spec, network, members=members, numbers=self.width)
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))
        self.register_buffer("measured", torch.zeros(()))

    def take(self, mean: Tensor, spread: Tensor) -> None:
        """Take the usual size of features as the unit of the networks.

        Args:
            mean: ``[K]``, over the rows of a log.
            spread: ``[K]``, standard deviations above 0; networks that have a unit keep it, as
                their weights are in it.
        """
        if not self.measured:
            self.mean.copy_(self.horizon * mean)
            self.scale.copy_(self.horizon * spread)
            self.measured.fill_(1.0)

    def forward(self, observation: Observation, action: Tensor | None, task: Tensor) -> Tensor:
        """Return psi, in units of the features.

        Args:
            observation: ``[..., O]``; it may be broadcast to the tasks.
            action: ``[...]`` int64; ``None`` for all n.
            task: ``[..., K]``, whose policies are followed.

        Returns:
            ``[E, ..., K]``, or ``[E, ..., n, K]`` for all actions.
        """
        value: Tensor = self.critic(observation, action, task)
        return self.mean + self.scale * value
