"""What every planner is: settings that become an actor once a model is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.ports import Actor, Model
from hindsight_rl.spec_parts import ActionSpec

Array = NDArray[Any]
Value = Callable[[Tensor, Tensor | None], Tensor]
"""``value(observation [..., O], task [..., Z] or None) -> [...]``, return to come, reward units."""


@runtime_checkable
class Tasked(Protocol):
    """A model whose rewards and ends are those of a task."""

    def given(self, task: Tensor) -> Model:
        """Return the model of tasks ``[n, Z]``, to be asked about rows ``[n, ...]``."""


def of_tasks(model: Model, task: Tensor | None) -> Model:
    """Return a model of tasks ``[n, Z]``, the same where it or the rows have none."""
    return model.given(task) if task is not None and isinstance(model, Tasked) else model


class Planner(ABC):
    """How plans are sought; the base class of every planner.

    One is settings only. With a model it becomes an actor, which plays episodes, labels states and
    collects as any policy does:

        actor = CEM(horizon=20).actor(model, spec.action)
        rollout(actor, "Pendulum-v1", episodes=10, seed=0)
    """

    @abstractmethod
    def actor(self, model: Model, action: ActionSpec, *, value: Value | None = None) -> Actor:
        """Return what acts by planning.

        Args:
            model: Says what actions lead to.
            action: What is chosen: its bounds, or its choices.
            value: Of what comes after the horizon; ``None``: nothing does.

        Returns:
            An actor for observations ``[n, O]``.

        Raises:
            ValueError: The planner does not choose such actions.
        """


def bounds_of(action: ActionSpec, planner: str) -> tuple[Tensor, Tensor]:
    """Return the bounds ``[A]`` of actions that are real numbers.

    Args:
        action: What is chosen.
        planner: Name of who asks, for messages.

    Returns:
        Lower and upper bounds, float32.

    Raises:
        ValueError: Actions are choices, or have no bounds.
    """
    if action.discrete:
        raise ValueError(
            f"{planner} plans real numbers, and actions are one of {action.n} choices: UCT does"
        )
    if len(action.shape) != 1:
        raise ValueError(f"{planner} plans actions [A], and theirs is {list(action.shape)}")
    ends = [action.low or (None,) * action.shape[0], action.high or (None,) * action.shape[0]]
    if any(end is None or not np.isfinite(end) for side in ends for end in side):
        raise ValueError(
            f"{planner} samples between bounds, and the actions have none (low {action.low}, high "
            f"{action.high}): give bounds in the column map, or wrap the environment in "
            "gymnasium.wrappers.RescaleAction"
        )
    low, high = (torch.tensor(side, dtype=torch.float32) for side in ends)
    return low, high


def flat_observation(observation: object, planner: str) -> Tensor:
    """Return observations ``[n, O]`` float32.

    Args:
        observation: As the loop that plays episodes shows it.
        planner: Name of who asks, for messages.

    Returns:
        The same.

    Raises:
        ValueError: It is shown by entry, or as an image.
    """
    if not isinstance(observation, np.ndarray) or observation.ndim != 2:
        shape = list(getattr(observation, "shape", ()))
        what = f"entries {list(observation)}" if isinstance(observation, dict) else f"shape {shape}"
        raise ValueError(
            f"{planner} plans from observations that are one row of numbers [n, O], and was shown "
            f"{what}"
        )
    return torch.from_numpy(np.asarray(observation, np.float32))
