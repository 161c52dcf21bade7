"""What a learner does while it collects episodes: actions drawn, or the likeliest, and how likely.

A policy that needs no state, noise or queue draws from its distribution; others are played as they
will act, by :class:`hindsight_rl.policies.torch_actor.TorchActor`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.nets.distributions import Distribution
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.policy import Policy
from hindsight_rl.offsets import relative_inputs
from hindsight_rl.propensities import NO_DENSITY, Drawn, certain
from hindsight_rl.spec import Spec

Array = NDArray[Any]
Seen = Array | Mapping[str, Array]


class Collecting(Protocol):
    """The part of a learner that collects."""

    actor: Any
    spec: Spec
    device: torch.device

    @property
    def first_choice(self) -> int:
        """The environment's number of action 0."""

    @property
    def draws_its_distribution(self) -> bool:
        """Whether actions with draws are those of :meth:`distribution`."""

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return what is kept where n episodes begin."""

    def distribution_after(
        self, observation: Observation, task: Tensor | None, state: dict[str, Tensor]
    ) -> tuple[Distribution, dict[str, Tensor]]:
        """Return the distribution of actions, and what is kept."""

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions, the mode or a sample where draws are given."""


class Drawing:
    """A learner's actions, and where it knows it, how likely they were; it may remember.

    Args:
        learner: What acts.
        sample: Draw actions; False takes the likeliest.
    """

    def __init__(self, learner: Collecting, sample: bool) -> None:
        self._learner, self._sample = learner, sample
        self._discrete = learner.spec.action.discrete

    def __call__(self, observation: Seen, task: Array | None, draws: Tensor) -> Array:
        """Return actions ``[n, ...]`` for counters ``[n, 3]``."""
        return self._drawn(observation, task, self.initial_state(len(draws)), draws).action

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return what is remembered where episodes begin: nothing where only the present counts."""
        return {name: part.cpu().numpy() for name, part in self._learner.initial_state(n).items()}

    def step(
        self, observation: Seen, task: Array | None, state: dict[str, Array], noise: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Return actions, see :meth:`hindsight_rl.ports.Actor.step`."""
        found = self._drawn(observation, task, state, torch.from_numpy(noise))
        return found.action, found.state

    def drawn(
        self, observation: Seen, task: Array | None, state: dict[str, Array], noise: Array
    ) -> Drawn:
        """Return actions, and how likely they are."""
        return self._drawn(observation, task, state, torch.from_numpy(noise))

    def unstated(self, low: NDArray[np.float32], high: NDArray[np.float32], *, mixed: bool) -> str:
        """Return why it is not known how likely they are, "" where it is."""
        learner, name = self._learner, type(self._learner).__name__
        if not self._sample:
            return "" if self._discrete else NO_DENSITY
        if not learner.draws_its_distribution:
            return f"{name} does not draw its actions from a distribution that it states"
        if self._discrete:
            return ""
        if not isinstance(learner.actor, Policy):
            return f"the policy of {name} has no density"
        return learner.actor.unstated(*self._bounds(low, high), mixed=mixed)

    def _drawn(
        self, observation: Seen, task: Array | None, state: dict[str, Array], draws: Tensor
    ) -> Drawn:
        learner = self._learner
        seen, asked = relative_inputs(learner.spec, observation, task)
        with torch.inference_mode():
            there = on_device(seen, learner.device)
            goal = None if asked is None else torch.as_tensor(asked, device=learner.device)
            if not self._sample:
                action = learner.act(there, goal).cpu().numpy() + learner.first_choice
                return Drawn(action, {}, certain(action) if self._discrete else None)
            there_draws = draws.to(learner.device)
            if not learner.draws_its_distribution:
                drawn = learner.act(there, goal, draws=there_draws).cpu().numpy()
                return Drawn(drawn + learner.first_choice, {})
            past = {k: torch.as_tensor(part, device=learner.device) for k, part in state.items()}
            distribution, after = learner.distribution_after(there, goal, past)
            sample = learner.actor.scale.to_environment(distribution.sample(there_draws))
            kept = {name: part.cpu().numpy() for name, part in after.items()}

        def log_prob(executed: Array, low: Array, high: Array) -> NDArray[np.float64]:
            with torch.inference_mode():
                if self._discrete:
                    done = torch.as_tensor(executed - learner.first_choice, device=learner.device)
                    last = learner.spec.action.n - 1
                    # The environment may have more choices than the log that the policy is of.
                    found = distribution.log_prob(done.clamp(0, last))
                    found = torch.where((done < 0) | (done > last), -torch.inf, found)
                else:
                    done = torch.as_tensor(executed, device=learner.device)
                    found = learner.actor.executed(distribution, done, *self._bounds(low, high))
                return found.double().cpu().numpy()

        return Drawn(sample.cpu().numpy() + learner.first_choice, kept, log_prob)

    def _bounds(self, low: Array, high: Array) -> tuple[Tensor, Tensor]:
        device = self._learner.device
        return torch.as_tensor(low, device=device), torch.as_tensor(high, device=device)


def on_device(observation: Seen, device: torch.device) -> Observation:
    """Return an observation as tensors; entries keep their types."""
    if isinstance(observation, Mapping):
        return {name: torch.as_tensor(value, device=device) for name, value in observation.items()}
    return torch.as_tensor(observation, dtype=torch.float32, device=device)
