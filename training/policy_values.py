"""Values of a policy: what learners share whose critics value what the policy does.

The policy is the actor, or the one that expectiles of logged values imply.
"""

import math
from functools import partial
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import normals
from hindsight_rl.maths.losses import expectile_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.critics import Temperature, ValueNet
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import Critics, choices
from hindsight_rl.training.transition import Transition


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
    now = Transition(batch, discount)
    with torch.no_grad():
        ahead = choices(
            policy, target_critic, now.next_observation, now.task, now.noise_of(policy, "next")
        )
    return now.regress(critic, now.target(ahead.expected()))


def expectile_value_loss(
    batch: TensorDict, value: ValueNet, target_critic: Critics, *, expectile: float
) -> tuple[Tensor, Tensor]:
    """Return the error of a value fitted to the upper end of what logged actions are worth.

    Args:
        batch: TensorDict ``[B]`` of transitions; ``task`` is used where it is there.
        value: V, what learns.
        target_critic: ``(observation, action, task) -> [E, B]``; the least of its values counts.
        expectile: In (0, 1).

    Returns:
        The loss ``[]``, and the advantage of the logged actions ``[B]``, without gradient.

    Reference:
        Kostrikov et al. 2021, arXiv 2110.06169, eq. 5.
    """
    now = Transition(batch)
    with torch.no_grad():
        q = now.values(target_critic).amin(0)
    advantage = q - value(now.observation, now.task)
    return expectile_loss(advantage, expectile=expectile).mean(), advantage.detach()


def implicit_critic_loss(
    batch: TensorDict, critic: Critics, value: ValueNet, *, discount: float
) -> tuple[Tensor, Tensor]:
    """Return the squared error of critics to reward and discounted value of the next state.

    Args:
        batch: As :func:`expectile_value_loss`.
        critic: ``(observation, action, task) -> [E, B]``, what learns.
        value: V; no action outside the log is valued.
        discount: In [0, 1].

    Returns:
        The loss ``[]``, mean over the batch and sum over critics, and the critics' values of the
        logged actions ``[E, B]``, without gradient.

    Reference:
        Kostrikov et al. 2021, arXiv 2110.06169, eq. 6.
    """
    now = Transition(batch, discount)
    with torch.no_grad():
        target = now.target(value(now.next_observation, now.task))
    return now.regress(critic, target)


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
        cloning), the discount, and the least value of the logged action.
    """
    policy, temperature, now = learner.actor, learner.temperature, Transition(batch)
    check_exact(f"{type(learner).__name__}.soft_values", policy, "tasks are judged by log pi")
    finite = temperature if temperature < math.inf else 0.0
    return SoftValues(
        lambda: now.log_prob(policy, task),
        lambda: _value_ahead(policy, learner.critic, now, task, draws),
        torch.full((), finite, device=task.device),
        learner.discount,
        lambda: logged_value(learner.critic, now, task),
    )


class SoftActorCritic(Protocol):
    """What is asked of a learner whose policy keeps an entropy."""

    actor: Policy
    discount: float

    @property
    def critic(self) -> Critics:
        """``(observation, action, task, members) -> [E, ...]``."""

    @property
    def temperature(self) -> Temperature:
        """Weight of the entropy."""


def soft_actor_values(
    learner: SoftActorCritic, batch: TensorDict, task: Tensor, draws: Tensor
) -> SoftValues:
    """Return what each row's transition is worth beyond its reward, under other tasks.

    Args:
        learner: Has ``actor``, which takes the next action, ``critic`` and ``temperature``.
        batch: Transitions ``[...]``.
        task: ``[..., Z]``.
        draws: ``[..., 3]`` int64 counters, for the next action.

    Returns:
        Log-probability of the logged action and value of the next state by the first online critic,
        as in the authors' code of HIPI; the temperature, the discount, and the value of the logged
        action by the same critic.
    """
    policy, now = learner.actor, Transition(batch)
    first = partial(learner.critic, members=1)
    return SoftValues(
        lambda: now.log_prob(policy, task),
        lambda: _value_ahead(policy, first, now, task, draws),
        learner.temperature(),
        learner.discount,
        lambda: logged_value(first, now, task),
    )


def logged_value(critic: Critics, now: Transition, task: Tensor) -> Tensor:
    """Return what logged actions are worth under other tasks, by the least of the critics.

    Args:
        critic: ``(observation, action, task) -> [E, ...]``.
        now: Transitions ``[...]``, or ``[..., 1]`` where rows meet several tasks.
        task: ``[..., Z]``.

    Returns:
        ``[...]``, as the task, reward units.
    """
    action, shape = now.action, task.shape[:-1]
    # A critic broadcasts observations to tasks, actions it does not.
    wide = (*shape, action.shape[-1]) if action.is_floating_point() else shape
    return critic(now.observation, action.expand(wide), task).amin(0)


def _value_ahead(
    policy: Policy, critic: Critics, now: Transition, task: Tensor, draws: Tensor
) -> Tensor:
    """Return the policy's value of next states under other tasks, one action drawn by counters."""
    noise = None if policy.discrete else normals(draws, policy.drawing_noise)
    return choices(policy, critic, now.next_observation, task, noise).expected()
