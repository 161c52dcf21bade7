"""The rival next door: IQL as a plain PyTorch script, three fused Adams, nothing around it.

Written the way such scripts are usually written, and kept honest: same networks, batch size, losses
and number of target updates as :class:`hindsight_rl.agents.iql.IQL`, tensors resident in memory, no
logging. One sample per update with ``torch.randint`` and one index per tensor.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a ReLU network."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class PlainIQL:
    """IQL on tensors in memory.

    Args:
        data: ``observation``, ``action``, ``reward``, ``next_observation``, ``terminated``.
        hidden: Width of each hidden layer.
        batch_size: Rows per update.
    """

    def __init__(self, data: dict[str, Tensor], hidden: Sequence[int], batch_size: int) -> None:
        observation, action = data["observation"].shape[1], data["action"].shape[1]
        self.data, self.batch_size = data, batch_size
        self.value = mlp(observation, hidden, 1)
        self.critics = nn.ModuleList([mlp(observation + action, hidden, 1) for _ in range(2)])
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor = mlp(observation, hidden, action)
        self.log_std = nn.Parameter(torch.zeros(action))
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=3e-4, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=3e-4, fused=True)
        actor = [*self.actor.parameters(), self.log_std]
        self.actor_optimizer = torch.optim.Adam(actor, lr=3e-4, fused=True)

    def update(self) -> None:
        """Make one update: value, critics, actor, targets."""
        index = torch.randint(len(self.data["reward"]), (self.batch_size,))
        batch = {name: column[index] for name, column in self.data.items()}
        observation, action = batch["observation"], batch["action"]
        both = torch.cat([observation, action], -1)
        with torch.no_grad():
            q = torch.minimum(self.targets[0](both), self.targets[1](both)).squeeze(-1)
        value = self.value(observation).squeeze(-1)
        advantage = q - value
        weight = torch.where(advantage < 0, 0.3, 0.7)
        self._step(self.value_optimizer, (weight * advantage.square()).mean())
        with torch.no_grad():
            next_value = self.value(batch["next_observation"]).squeeze(-1)
            target = batch["reward"] + 0.99 * (1.0 - batch["terminated"]) * next_value
        loss = sum(functional.mse_loss(critic(both).squeeze(-1), target) for critic in self.critics)
        self._step(self.critic_optimizer, loss)
        mean = torch.tanh(self.actor(observation))
        distribution = torch.distributions.Normal(mean, self.log_std.clamp(-5.0, 2.0).exp())
        scale = torch.exp(3.0 * advantage.detach()).clamp(max=100.0)
        self._step(self.actor_optimizer, -(scale * distribution.log_prob(action).sum(-1)).mean())
        with torch.no_grad():
            for target_parameter, parameter in zip(
                self.targets.parameters(), self.critics.parameters(), strict=True
            ):
                target_parameter.lerp_(parameter, 0.005)

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
