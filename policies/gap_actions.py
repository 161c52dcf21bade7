"""Where conservative critics are held down: actions drawn evenly and by the policy; by origin."""

from collections.abc import Callable, Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import IMAGINED, ORIGIN
from hindsight_rl.maths.conservative import Sides, origin_sides, uniform_actions
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


def gap_sides(batch: TensorDict, mean: Callable[[Tensor], Tensor]) -> Sides:
    """Return how much rows count on each side of the gap, by their origin.

    Args:
        batch: ``[B]`` with ``origin``.
        mean: Of ``[B]`` over the batch of all ranks, ``[]``.

    Returns:
        Imagined rows are pushed down, those that happened held up.
    """
    imagined = batch[ORIGIN] == IMAGINED
    return origin_sides(imagined, mean(imagined.float()))
