"""Ensembles of critics: the slope of each by the action."""

import torch
from torch import Tensor

from hindsight_rl.nets.critics import Critic


def action_gradients(
    critic: Critic, observation: Tensor, action: Tensor, task: Tensor | None = None
) -> Tensor:
    """Return the gradient of every critic's value by the action, differentiable in the critics.

    Args:
        critic: Values continuous actions.
        observation: ``[B, O]``.
        action: ``[B, A]`` in environment units.
        task: ``[B, Z]`` where the spec has a task.

    Returns:
        ``[E, B, A]``, reward units by policy unit.
    """
    features, scaled = critic.inputs(observation, task), critic.scale.to_policy(action)

    def total(actions: Tensor) -> Tensor:
        # Each entry of [E, B, A] moves one value of the sum only: its critic's, of its row.
        members = zip(critic.members, actions.unbind(0), strict=True)
        values = [member(torch.cat([features, chosen], dim=-1)) for member, chosen in members]
        return torch.stack(values).sum()

    # Not autograd.grad: torch.func nests, in the gradient of the losses and over seeds.
    gradient: Tensor = torch.func.grad(total)(scaled.expand(len(critic.members), *scaled.shape))
    return gradient
