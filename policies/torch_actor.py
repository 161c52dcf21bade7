"""A learner as an actor: its state, noise and chunks kept by the loop that plays episodes.

The loop (``hindsight_rl.envs.playing``) is the one that plays exported files. Noise is drawn from
the same counters, chunks are executed by the same queue: a learner and its file play alike.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.export import chunks
from hindsight_rl.export.signature import Action, Dtype
from hindsight_rl.export.signature import Chunk as Queue
from hindsight_rl.maths.draws import normals
from hindsight_rl.offsets import relative_inputs
from hindsight_rl.ports import Decision
from hindsight_rl.propensities import NO_DENSITY, Drawn, certain
from hindsight_rl.spec import Spec
from hindsight_rl.windows import Chunk

Array = NDArray[Any]
Observed = Array | dict[str, Array]
Observation = Tensor | Mapping[str, Tensor]


class Acting(Protocol):
    """What acts: the part of a learner that an actor needs."""

    chunk: Chunk | None
    action_state: str | None
    spec: Spec
    device: torch.device

    @property
    def first_choice(self) -> int:
        """The environment's number of action 0."""

    @property
    def acting_noise(self) -> int:
        """How many normal numbers a step needs."""

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the state with which n episodes begin."""

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return actions (or chunks of them) and the following state."""


class TorchActor:
    """Plays a learner step by step, in numpy.

    Args:
        learner: What acts.
    """

    def __init__(self, learner: Acting) -> None:
        self._learner = learner
        stated = learner.spec.action
        dtype: Dtype = "int64" if stated.discrete else "float32"
        self._action = Action(stated.discrete, tuple(stated.shape), dtype)
        chunk = learner.chunk
        self._queue = None if chunk is None else Queue(*chunk)

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return the state with which n episodes begin, ``[n, ...]`` by name."""
        found = {f"state.{k}": v.cpu().numpy() for k, v in self._learner.initial_state(n).items()}
        if self._queue is None:
            return found
        return found | chunks.initial(self._queue, self._action, n)

    def step(
        self, observation: Observed, task: Array | None, state: dict[str, Array], noise: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Return actions and the following state.

        Args:
            observation: ``[n, O]``, or ``[n, ...]`` by entry; float64 where the spec has an offset.
            task: ``[n, Z]`` where there is one.
            state: ``[n, ...]`` by name.
            noise: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, ...]``, and the state.
        """
        if self._queue is None:
            return self._ask(observation, task, state, noise)
        asked = chunks.due(self._queue, state)
        carried = {name: value for name, value in state.items() if name.startswith("state.")}
        answer: Array = np.zeros((0, self._queue.length, *self._action.shape), np.float32)
        if asked.any():
            some = {name: value[asked] for name, value in carried.items()}
            goal = None if task is None else task[asked]
            seen = _each(observation, lambda value: value[asked])
            answer, moved = self._ask(seen, goal, some, noise[asked])
            for name, value in moved.items():
                carried[name] = carried[name].copy()
                carried[name][asked] = value
        action, queue = chunks.advance(self._queue, state, asked, answer)
        return action, carried | queue

    def unstated(self, low: Array, high: Array, *, mixed: bool) -> str:
        """Return why it is not known how likely its actions are, "" where it is.

        Nothing is drawn but from noise: a choice is certain, a number has no density.
        """
        if self._learner.acting_noise:
            return f"{type(self._learner).__name__} makes its actions of noise and has no density"
        return "" if self._action.discrete else NO_DENSITY

    def drawn(
        self, observation: Observed, task: Array | None, state: dict[str, Array], noise: Array
    ) -> Drawn:
        """Return what :meth:`step` does, and how likely it is."""
        action, following = self.step(observation, task, state, noise)
        known = self._action.discrete and not self._learner.acting_noise
        return Drawn(action, following, certain(action) if known else None)

    def with_executed(self, state: dict[str, Array], action: Array) -> dict[str, Array]:
        """Return the state after a step in which these actions were executed.

        Args:
            state: ``[n, ...]`` by name, from :meth:`step`.
            action: ``[n, ...]``, in the environment's units or numbers.

        Returns:
            The state; the same where it holds no actions.
        """
        if self._learner.action_state is None:
            return state
        name, done = f"state.{self._learner.action_state}", action - self._learner.first_choice
        moved = np.ones(len(action), np.bool_)
        if self._queue is not None:
            moved = chunks.asked_before(self._queue, state)
        return state | {name: chunks.with_last(state[name], done, moved)}

    def _ask(
        self, observation: Observed, task: Array | None, state: Mapping[str, Array], counters: Array
    ) -> tuple[Array, dict[str, Array]]:
        learner = self._learner
        observation, task = relative_inputs(learner.spec, observation, task)

        def there(value: Array) -> Tensor:
            tensor = torch.as_tensor(value, device=learner.device)
            return tensor.float() if tensor.is_floating_point() else tensor

        with torch.inference_mode():
            noise = None
            if learner.acting_noise:
                drawn = normals(torch.as_tensor(counters, dtype=torch.int64), learner.acting_noise)
                noise = drawn.to(learner.device)
            held = {n.removeprefix("state."): there(v) for n, v in state.items()}
            goal = None if task is None else there(task)
            found = learner.decide(_each(observation, there), goal, held, noise)
            answer: Array = found.action.cpu().numpy()
            kept = {f"state.{name}": value.cpu().numpy() for name, value in found.state.items()}
            return answer + learner.first_choice if self._action.discrete else answer, kept


def _each(observation: Observed, change: Callable[[Array], Any]) -> Any:
    """Return an observation, whole or by entry, with a function applied to each array."""
    if isinstance(observation, dict):
        return {name: change(value) for name, value in observation.items()}
    return change(observation)
