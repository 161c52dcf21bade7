"""Transition: a batch by the names that papers give it, and the target that critics regress on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.nets.cloning import Clones
from hindsight_rl.nets.policy import Policy
from hindsight_rl.training.beside import seen
from hindsight_rl.training.terms import bootstrap


@dataclass(frozen=True, slots=True)
class Transition:
    """A view of a batch ``[B]``: nothing is read before it is asked for, and nothing is copied.

    Args:
        batch: TensorDict ``[B]``.
        constant: Discount of rows that bring none of their own, in [0, 1]; ``None`` where no target
            is asked for.
    """

    batch: TensorDict
    constant: float | None = None

    @property
    def observation(self) -> Tensor:
        """Return s, ``[B, O]``, by entry where critics read more than the policy."""
        found: Tensor = seen(self.batch)
        return found

    @property
    def action(self) -> Tensor:
        """Return a, ``[B, A]`` in environment units, or ``[B]`` int64."""
        found: Tensor = self.batch["action"]
        return found

    @property
    def task(self) -> Tensor | None:
        """Return z, ``[B, Z]``, or ``None`` where rows have no task."""
        found: Tensor | None = self.batch.get("task", None)
        return found

    @property
    def reward(self) -> Tensor:
        """Return r, ``[B]``."""
        found: Tensor = self.batch["next", "reward"]
        return found

    @property
    def next_observation(self) -> Tensor:
        """Return s', in the same way."""
        found: Tensor = seen(self.batch["next"])
        return found

    @property
    def terminated(self) -> Tensor:
        """Return d, ``[B]`` bool: whether nothing follows s'."""
        found: Tensor = self.batch["next", "terminated"]
        return found

    @property
    def weight(self) -> Tensor | None:
        """Return the data step's weight, ``[B]``, or ``None`` where rows have none."""
        found: Tensor | None = self.batch.get("weight", None)
        return found

    def noise(self, name: str) -> Tensor:
        """Return the learner's noise of this name, ``[B, width]``."""
        found: Tensor = self.batch["noise", name]
        return found

    def noise_of(self, policy: Policy, name: str) -> Tensor | None:
        """Return the noise that makes a policy's actions; ``None`` for discrete ones, all count."""
        return None if policy.discrete else self.noise(name)

    def values(self, critic: Callable[..., Tensor]) -> Tensor:
        """Return what critics ``(observation, action, task)`` say of a in s, ``[E, B]``."""
        return critic(self.observation, self.action, self.task)

    def regress(self, critic: Callable[..., Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared error of critics, ``[]``, and their values ``[E, B]``.

        Args:
            critic: ``(observation, action, task) -> [E, B]``.
            target: ``[B]``, reward units.

        Returns:
            The mean over the batch, summed over critics; the values without gradient.
        """
        q = self.values(critic)
        return (target - q).square().mean(-1).sum(), q.detach()

    def log_prob(self, policy: Policy, task: Tensor | None = None) -> Tensor:
        """Return the log-probability of a in s, ``[B]``, nats; under another task, if given."""
        return policy.log_prob(self.observation, self.action, self.task if task is None else task)

    def row_loss(self, policy: Clones, name: str = "actor") -> Tensor:
        """Return what imitating a in s costs a policy, ``[B]``: -log pi, or what stands for it.

        Args:
            policy: What imitates.
            name: Of its noise in the batch, where its loss needs any.

        Returns:
            ``[B]``, see :meth:`hindsight_rl.nets.cloning.Clones.row_loss`.
        """
        noise = self.noise(name) if policy.row_noise else None
        return policy.row_loss(self.observation, self.action, self.task, noise)

    def watched(self, policy: nn.Module) -> dict[str, Tensor]:
        """Return what of its head a policy makes use of in these states, ``[]`` each.

        Args:
            policy: The policy; only for some heads there is anything to watch.

        Returns:
            Metrics by name, without gradient.
        """
        if not isinstance(policy, Policy) or not policy.family.watched:
            return {}
        with torch.no_grad():
            return policy.family.usage(policy(self.observation, self.task))

    def target(self, next_value: Tensor) -> Tensor:
        """Return what a critic regresses on, r + gamma (1 - d) V(s'), see :func:`bootstrap`.

        Args:
            next_value: V(s'), ``[B]``, reward units, or ``[E, ..., B]`` of several estimates.

        Returns:
            As many, reward units, without gradient. gamma is the row's own discount where it has
            one, else the constant.

        Raises:
            ValueError: There is no constant.
        """
        if self.constant is None:
            raise ValueError("a target needs a discount: Transition(batch, discount)")
        return bootstrap(self.batch, next_value, self.constant)
