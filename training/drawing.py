"""What a learner does while it collects episodes: actions drawn, or the likeliest, and how likely.

A policy that needs no state, noise or queue draws from its distribution; others are played as they
will act, by :class:`hindsight_rl.policies.torch_actor.TorchActor`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.maths.ahead import Ahead
from hindsight_rl.maths.draws import normals, uniforms
from hindsight_rl.nets.distributions import Distribution, FromNoise
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.policy import Policy
from hindsight_rl.offsets import relative_inputs
from hindsight_rl.ports import DrawNoise
from hindsight_rl.propensities import NO_DENSITY, ByRow, Drawn, LogProb, certain
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
        # Of the distributions that it draws from: one of them, and their noise where it is known.
        self._like: Any = None
        self._ahead: Ahead | None = None

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
            if not learner.draws_its_distribution:
                drawn = learner.act(there, goal, draws=draws.to(learner.device)).cpu().numpy()
                return Drawn(drawn + learner.first_choice, {})
            past = {k: torch.as_tensor(part, device=learner.device) for k, part in state.items()}
            distribution, after = learner.distribution_after(there, goal, past)
            sample = learner.actor.scale.to_environment(self._made(distribution, draws))
            kept = {name: part.cpu().numpy() for name, part in after.items()}
        drawn = sample.cpu().numpy() + learner.first_choice
        return Drawn(drawn, kept, self._log_prob(distribution))

    def _made(self, distribution: Distribution, draws: Tensor) -> Tensor:
        """Return one action per counter ``[n, 3]``, policy units."""
        if type(distribution) is not type(self._like):
            self._like, self._ahead = distribution, None
            if isinstance(distribution, FromNoise):
                self._ahead = Ahead(self._noise(distribution.noise))
        if self._ahead is None:
            return distribution.sample(draws.to(self._learner.device))
        noise = self._ahead.of(draws).to(self._learner.device)
        return cast(FromNoise, distribution).made_of(noise)

    def _noise(self, noise: DrawNoise) -> Callable[[Tensor], Tensor]:
        """Return what makes noise ``[..., S]`` of counters ``[..., 3]``."""
        draw = normals if noise.distribution == "normal" else uniforms
        return lambda counter: draw(counter.to(self._learner.device), noise.width)

    def _log_prob(self, distribution: Distribution) -> LogProb:
        """Return how likely actions of a distribution are, as they are executed."""
        if self._ahead is None:
            return partial(self._found, distribution)
        numbers = cast(tuple[Any, ...], distribution)
        parts = tuple(part.cpu().numpy() for part in numbers if isinstance(part, Tensor))
        return ByRow(parts, self._found_of)

    def _found_of(
        self, parts: tuple[Array, ...], executed: Array, low: Array, high: Array
    ) -> NDArray[np.float64]:
        """Return the log-probabilities ``[n]`` of executed actions, of the numbers of each row."""
        given, device = iter(parts), self._learner.device
        numbers = [
            torch.as_tensor(next(given), device=device) if isinstance(part, Tensor) else part
            for part in self._like
        ]
        return self._found(type(self._like)(*numbers), executed, low, high)

    def _found(
        self, distribution: Distribution, executed: Array, low: Array, high: Array
    ) -> NDArray[np.float64]:
        """Return the log-probabilities ``[n]`` of executed actions, nats."""
        learner = self._learner
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

    def _bounds(self, low: Array, high: Array) -> tuple[Tensor, Tensor]:
        device = self._learner.device
        return torch.as_tensor(low, device=device), torch.as_tensor(high, device=device)


def on_device(observation: Seen, device: torch.device) -> Observation:
    """Return an observation as tensors; entries keep their types."""
    if isinstance(observation, Mapping):
        return {name: torch.as_tensor(value, device=device) for name, value in observation.items()}
    return torch.as_tensor(observation, dtype=torch.float32, device=device)
