"""Actions that a model of the log proposes, moved a little, and the best of them."""

import torch
from torch import Tensor

from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.layers import outputs
from hindsight_rl.nets.proposals import CVAE, Perturbation, beside
from hindsight_rl.policies.action_values import best_of


def proposed(
    model: CVAE, actor: Perturbation, observation: Observation, latent: Tensor, task: Tensor | None
) -> Tensor:
    """Return actions of the model, moved; differentiable in the perturbation alone.

    Args:
        model: Model of the log.
        actor: The perturbation, or its target.
        observation: ``[B, O]``.
        latent: ``[..., B, L]``, clipped.
        task: ``[B, Z]`` where the spec has a task.

    Returns:
        ``[..., B, A]`` in environment units.
    """
    with torch.no_grad():
        decoded = model(observation, latent, task)
    return actor.scale.to_environment(actor(observation, decoded, task))


def best_proposed(
    model: CVAE,
    actor: Perturbation,
    critic: Critic,
    observation: Observation,
    latent: Tensor,
    task: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the best of the actions proposed, chosen in float64, so that every runtime agrees.

    Args:
        model: Model of the log.
        actor: The perturbation.
        critic: Its first member chooses.
        observation: ``[N, O]``.
        latent: ``[m, N, L]``, clipped.
        task: ``[N, Z]`` where the spec has a task.

    Returns:
        The action ``[N, A]`` in environment units, and the values ``[N, m]`` of all, reward units.
    """
    decoded = model(observation, latent.double(), task)
    action = actor(observation, decoded, task)
    value = outputs(critic.members[0], beside(critic.inputs(observation, task), action))[..., 0]
    chosen = actor.scale.to_environment(best_of(action, value).float())
    return chosen, value.movedim(0, -1).float()
