"""Values of a policy: what learners share whose critics value the actions that the policy takes."""

import math
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import normals
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import Critics, choices
from hindsight_rl.training.learner import bootstrap


class ActorCritic(Protocol):
    """What is asked of a learner whose critic values the actions of its policy."""

    actor: Policy
    temperature: float
    discount: float

    @property
    def critic(self) -> Critics:
        """``(observation, action, task) -> [E, ...]``."""


def policy_value_loss(
    batch: TensorDict, critic: Critics, policy: Policy, target_critic: Critics, *, discount: float
) -> tuple[Tensor, Tensor]:
    """Return the squared error of critics to the one-step return under a policy.

    Args:
        batch: TensorDict ``[B]`` of transitions, with ("noise", "next") for continuous actions;
            ``task`` and ``discount`` are used where they are there.
        critic: ``(observation, action, task) -> [E, B]``, what learns.
        policy: Takes the next action.
        target_critic: Like ``critic``; the least of its values is the next one.
        discount: In [0, 1].

    Returns:
        The loss ``[]``, mean over the batch and sum over critics, and the critics' values of the
        logged actions ``[E, B]``, without gradient.
    """
    task, following = batch.get("task", None), batch["next"]
    noise = None if policy.discrete else batch["noise", "next"]
    with torch.no_grad():
        next_value = choices(
            policy, target_critic, following["observation"], task, noise
        ).expected()
    target = bootstrap(batch, next_value, discount)
    q = critic(batch["observation"], batch["action"], task)
    return (target - q).square().mean(-1).sum(), q.detach()


def policy_soft_values(
    learner: ActorCritic, batch: TensorDict, task: Tensor, draws: Tensor
) -> SoftValues:
    """Return what each row's transition is worth beyond its reward, under other tasks.

    Args:
        learner: Has ``actor``, which takes the next action, ``critic``, the least of whose values
            counts, ``temperature`` (infinite is behaviour cloning) and ``discount``.
        batch: Transitions ``[...]``.
        task: ``[..., Z]``.
        draws: ``[..., 3]`` int64 counters, for the next action.

    Returns:
        Log-probability of the logged action, value of the next state, temperature (0 for behaviour
        cloning), and the discount.
    """
    policy, temperature = learner.actor, learner.temperature
    log_prob = policy.log_prob(batch["observation"], batch["action"], task)
    finite = temperature if temperature < math.inf else 0.0
    noise = None if policy.discrete else normals(draws, policy.width)
    ahead = choices(policy, learner.critic, batch["next", "observation"], task, noise)
    level = torch.full((), finite, device=task.device)
    return SoftValues(log_prob, ahead.expected(), level, learner.discount)
