"""Actions at which conservative critics are held down: drawn evenly, and by the policy."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.conservative import uniform_actions
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import several


@torch.no_grad()
def gap_actions(
    policy: Policy, states: Mapping[str, Tensor], task: Tensor | None, noise: TensorDict
) -> tuple[Tensor, Tensor]:
    """Return actions and their log-densities, without gradient.

    Args:
        policy: The policy.
        states: Observations ``[B, O]`` that it draws actions for, by the name of their noise.
        task: ``[B, Z]`` where the spec has a task.
        noise: Normal numbers ``[B, m * A]`` of ``uniform`` and of each name.

    Returns:
        Actions in environment units, ``[n, B, A]``: m uniform ones, then m of the policy for each
        of the states; log-densities in policy units, ``[n, B]``, nats.
    """
    uniform, density = uniform_actions(several(noise["uniform"], policy.width))
    drawn = [(policy.scale.to_environment(uniform), density)]
    for name, observation in states.items():
        drawn.append(policy.draw(observation, several(noise[name], policy.drawing_noise), task))
    action, log_density = (torch.cat(part) for part in zip(*drawn, strict=True))
    return action, log_density
