"""Who decides while episodes are collected: a policy, uniform draws, or a mixture of the two."""

import functools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.envs.actions import ActionSpace
from hindsight_rl.envs.interface import Interface, Observed, RolloutError
from hindsight_rl.envs.playing import Actor, State, why_unstated
from hindsight_rl.maths.ahead import Ahead
from hindsight_rl.maths.draws import fork, fork_key, uniform
from hindsight_rl.ports import Remembering
from hindsight_rl.propensities import (
    Drawn,
    Draws,
    LogProb,
    explored,
    uniform_between,
    uniform_choice,
)

Policy = Callable[[NDArray[np.float32], NDArray[np.float32] | None, Tensor], NDArray[Any]] | Actor
"""``policy(observation [n, O], task [n, Z] or None, draws [n, 3]) -> action [n, ...]``, in the
environment's units and numbers; or an actor with a state, whose noise the draws are."""


class Random:
    """Uniformly random actions, each a function of its counter.

    Args:
        space: The actions.
        name: The environment, for messages.
        key: First word of the counters' key.

    Raises:
        RolloutError: The actions have no bounds.
    """

    def __init__(self, space: ActionSpace, name: str, key: int) -> None:
        key = fork_key(key, "action")
        self._space, self._ahead = space, Ahead(self._shares)
        if space.discrete:
            self._keys = torch.tensor([fork_key(key, 0)])
            return
        if not np.isfinite([space.low, space.high]).all():
            raise RolloutError(
                f"{name}: its actions have no bounds ({space}), so none can be drawn uniformly. "
                "Wrap it in gymnasium.wrappers.RescaleAction or one that states bounds"
            )
        dimensions = range(int(np.prod(space.shape)))
        self._keys = torch.tensor([fork_key(key, number) for number in dimensions])

    def __call__(self, draws: Tensor) -> NDArray[Any]:
        """Return actions ``[n, ...]`` for counters ``[n, 3]``."""
        share, space = self._ahead.of(draws).numpy(), self._space
        if space.discrete:
            return space.start + (share[:, 0] * space.n).astype(np.int64)
        share, width = share.reshape(-1, *space.shape), space.high - space.low
        if space.whole:  # each of them as often: the last one has room of its own
            whole: NDArray[Any] = space.low + np.minimum(np.floor(share * (width + 1)), width)
            return whole
        found: NDArray[np.float32] = space.low + share * width
        return found

    def _shares(self, draws: Tensor) -> Tensor:
        """Return a number on [0, 1) for each dimension, ``[..., D]`` of counters ``[..., 3]``."""
        words = draws[..., None, :].repeat(*[1] * (draws.ndim - 1), len(self._keys), 1)
        words[..., 0] = self._keys
        return uniform(words)

    def log_prob(self, *, alone: bool) -> LogProb:
        """Return how likely each action is.

        Args:
            alone: All actions are drawn so, not a share of a policy's.

        Returns:
            Their log-probabilities, see :class:`hindsight_rl.propensities.Drawn`.
        """
        if self._space.discrete:
            return uniform_choice(self._space.n)
        return uniform_between(whole=self._space.whole, atoms=not alone)


class Deciding:
    """A policy, uniformly random actions, or a mixture of the two.

    Args:
        policy: The policy, ``None`` for uniformly random actions.
        random: Draws those; ``None`` where none is drawn.
        explore: Share of the policy's actions that are drawn uniformly instead, in [0, 1].
        interface: Of the environment.
    """

    def __init__(
        self, policy: Policy | None, random: Random | None, explore: float, interface: Interface
    ) -> None:
        if random is None and (policy is None or explore > 0):
            raise ValueError("actions are drawn uniformly, and nothing draws them: give random")
        self._policy, self._random = policy, random
        # Asked once: a Protocol is compared member by member.
        states: object = policy
        self._drawn = states.drawn if isinstance(states, Draws) else None
        self._remembers = states.with_executed if isinstance(states, Remembering) else None
        self._explore, self._interface = explore, interface
        self._ahead = Ahead(lambda draws: uniform(fork(draws, "explore")))
        alone = policy is None or explore == 1.0
        self._likely = None if self._random is None else self._random.log_prob(alone=alone)

    def initial_state(self, n: int) -> State:
        """Return the policy's."""
        return self._policy.initial_state(n) if isinstance(self._policy, Actor) else {}

    def unstated(self) -> str:
        """Return why it is not known how likely executed actions are, "" where it is."""
        if self._policy is None or self._explore == 1.0:
            return ""
        return why_unstated(self._policy, self._interface, mixed=self._explore > 0)

    def step(
        self,
        observation: Observed,
        task: NDArray[np.float32] | None,
        state: State,
        noise: NDArray[np.int64],
    ) -> tuple[NDArray[Any], State]:
        """Return actions and the policy's next state."""
        found = self.drawn(observation, task, state, noise)
        return found.action, found.state

    def drawn(
        self,
        observation: Observed,
        task: NDArray[np.float32] | None,
        state: State,
        noise: NDArray[np.int64],
    ) -> Drawn:
        """Return actions, the policy's next state, and how likely the actions are."""
        draws = torch.from_numpy(noise)
        drawing = self._random
        if self._policy is None and drawing is not None:
            return Drawn(drawing(draws), state, self._likely)
        own = self._own(observation, task, state, _forked(noise, "policy"))
        if not self._explore or drawing is None:
            return own
        actions = np.asarray(own.action)
        self._interface.check_answers(actions, len(noise))
        at_random = (self._ahead.of(draws) < self._explore).numpy()
        at_random = at_random.reshape(-1, *[1] * (actions.ndim - 1))
        actions = np.where(at_random, drawing(draws), actions)
        log_prob = self._likely
        if self._explore < 1.0 and log_prob is not None:
            if own.log_prob is None:
                return Drawn(actions, own.state)
            log_prob = explored(own.log_prob, log_prob, self._explore)
        return Drawn(actions, own.state, log_prob)

    def _own(
        self,
        observation: Observed,
        task: NDArray[np.float32] | None,
        state: State,
        noise: NDArray[np.int64],
    ) -> Drawn:
        """Return what the policy itself does."""
        if self._drawn is not None:
            return self._drawn(observation, task, state, noise)
        policy = self._policy
        if isinstance(policy, Actor):
            return Drawn(*policy.step(observation, task, state, noise))
        if policy is None:
            raise ValueError("there is no policy: actions are drawn uniformly")
        seen = cast(NDArray[np.float32], observation)
        return Drawn(policy(seen, task, torch.from_numpy(noise)), state)

    def with_executed(self, state: State, action: NDArray[Any]) -> State:
        """Return the policy's state after a step: what it did is what was executed."""
        return state if self._remembers is None else self._remembers(state, action)


def _forked(noise: NDArray[np.int64], stream: str) -> NDArray[np.int64]:
    """Return counters ``[n, 3]`` of an independent stream."""
    found = noise.copy()
    found[:, 0] = [_fork_key(key, stream) for key in noise[:, 0].tolist()]
    return found


@functools.lru_cache(maxsize=64)
def _fork_key(key: int, stream: str) -> int:
    return fork_key(key, stream)
