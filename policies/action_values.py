"""Actions of a policy: a critic's values of several of them, and the choice among them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import value_of
from hindsight_rl.nets.distributions import Categorical
from hindsight_rl.nets.policy import Policy

Critics = Callable[..., Tensor]


class Choices(NamedTuple):
    """Actions that a policy may take in each state: all discrete ones, or some that it drew."""

    value: Tensor
    """``[E, m, B]``, of every critic, reward units."""
    share: Tensor
    """``[m, B]``, what each counts in an expectation over the policy; they sum to 1."""
    log_prob: Tensor
    """``[m, B]``, nats."""

    def mean(self, number: Tensor) -> Tensor:
        """Return the expectation ``[B]`` of a number of each action, ``[m, B]``."""
        return (self.share * number).sum(0)

    def expected(self) -> Tensor:
        """Return the policy's value by the least of the critics, ``[B]``, reward units."""
        return self.mean(self.value.amin(0))


def choices(
    policy: Policy,
    critic: Critics,
    observation: Tensor,
    task: Tensor | None,
    noise: Tensor | None,
) -> Choices:
    """Return what critics say of the actions of a policy.

    Args:
        policy: The policy.
        critic: ``(observation, action, task) -> [E, ...]``.
        observation: ``[B, O]``.
        task: ``[B, Z]`` where the spec has a task.
        noise: ``[B, m * S]`` normal numbers that make m actions, S the policy's ``drawing_noise``;
            discrete actions need none, all n are valued.

    Returns:
        The actions' values, shares and log-probabilities.

    Raises:
        ValueError: Actions are continuous, and there is no noise.
    """
    if policy.discrete:
        value = critic(observation, None, task).movedim(-1, 1)
        log_prob = torch.log_softmax(policy(observation, task).logits, -1).movedim(-1, 0)
        return Choices(value, log_prob.exp(), log_prob)
    if noise is None:
        raise ValueError("continuous actions are drawn: pass noise [B, m * A]")
    action, log_prob = policy.draw(observation, several(noise, policy.drawing_noise), task)
    share = torch.full_like(log_prob, 1.0 / len(log_prob))
    return Choices(critic(observation, action, task), share, log_prob)


def several(noise: Tensor, width: int) -> Tensor:
    """Return noise ``[B, m * A]`` of m actions per state as ``[m, B, A]``."""
    drawn: Tensor = noise.unflatten(-1, (-1, width))
    return drawn.movedim(-2, 0)


def value_of_best(value: Tensor, chooser: Tensor) -> Tensor:
    """Return what discrete actions are worth that other values choose, the first of equals.

    Args:
        value: ``[..., n]``, reward units.
        chooser: ``[..., n]``; its largest entry chooses.

    Returns:
        ``[...]``, reward units.
    """
    return value_of(value, chooser.argmax(-1))


def best_of(action: Tensor, value: Tensor) -> Tensor:
    """Return the action of each state with the largest value, the first of equals.

    Args:
        action: ``[m, B, A]``.
        value: ``[m, B]``.

    Returns:
        ``[B, A]``.
    """
    return _taken(action, value.argmax(0))


def draw_of(action: Tensor, value: Tensor, draws: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return an action of each state, drawn by the soft-max of their values.

    Args:
        action: ``[m, B, A]``.
        value: ``[m, B]``, reward units.
        draws: ``[B, 3]`` int64 counters.
        temperature: Reward units, above 0.

    Returns:
        ``[B, A]``.
    """
    return _taken(action, Categorical(value.movedim(0, -1) / temperature).sample(draws))


def _taken(action: Tensor, index: Tensor) -> Tensor:
    # Not gathered: an exported graph would no longer know the number of action dimensions.
    return action[index, torch.arange(index.shape[0], device=index.device)]


class Greedy:
    """Acts by values of discrete actions: in place of a policy network.

    Args:
        values: ``(observation, task) -> [..., n]``, reward units.
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units.
    """

    discrete = True

    def __init__(self, values: Callable[..., Tensor], temperature: float = 1.0) -> None:
        self.values, self.temperature = values, temperature

    def __call__(self, observation: Tensor, task: Tensor | None = None) -> Categorical:
        """Return the soft-max of the values; its mode is the best action."""
        return Categorical(self.values(observation, task) / self.temperature)

    def mode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the best action ``[...]`` int64, the first of equals."""
        return self.values(observation, task).argmax(-1)

    def soft_values(self, batch: TensorDict, task: Tensor, discount: float) -> SoftValues:
        """Return what each row's transition is worth beyond its reward, under other tasks.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``.
            discount: Of the learner, in [0, 1].

        Returns:
            Log-probability of the logged action under the soft-max of the values, the largest value
            of the next state, the temperature, the discount, and the value of the logged action.
        """
        return SoftValues(
            lambda: self(batch["observation"], task).log_prob(batch["action"]),
            lambda: self.values(batch["next", "observation"], task).amax(-1),
            torch.full((), self.temperature, device=task.device),
            discount,
            lambda: value_of(self.values(batch["observation"], task), batch["action"]),
        )

    @property
    def scale(self) -> Any:
        """Itself: discrete actions have no unit."""
        return self

    def to_environment(self, action: Tensor) -> Tensor:
        """Return actions ``[...]`` as they are."""
        return action

    to_policy = to_environment
