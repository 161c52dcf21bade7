"""Episodes while they are played, and the columns they become."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.envs.lockstep import Step
from hindsight_rl.logs.packed import (
    ACTION,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
)

TASK: Key = "task"
ACHIEVED: Key = "achieved_goal"
NEXT_ACHIEVED: Key = ("next", "achieved_goal")

_LONGEST = 100_000


class Collected(NamedTuple):
    """Whole episodes, in the order of their numbers.

    Attributes:
        columns: ``[M, ...]`` by key.
        lengths: ``[E]`` int64, in steps.
        returns: ``[E]`` float64.
        successes: ``[E]`` bool, success at any step; ``None`` where the environment does not tell.
    """

    columns: dict[Key, Tensor]
    lengths: Tensor
    returns: NDArray[np.float64]
    successes: NDArray[np.bool_] | None


class Episode:
    """One episode while it is played; of what is observed there is one more than steps.

    Args:
        number: Its number.
        seed: With which the environment is reset.
        name: The environment, for messages.
    """

    def __init__(self, number: int, seed: int, name: str) -> None:
        self.number, self.seed, self.name = number, seed, name
        self.observations: list[NDArray[np.float32]] = []
        self.tasks: list[NDArray[np.float32]] = []
        self.achieved: list[NDArray[np.float32]] = []
        self.actions: list[NDArray[Any]] = []
        self.rewards: list[float] = []
        self.terminated = self.truncated = False
        self.success: bool | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.terminated or self.truncated

    def add(self, step: Step, limit: int | None) -> None:
        """Note a step; what is observed is noted by who looks at it.

        Args:
            step: What it gave.
            limit: Steps after which the episode is cut (truncated), ``None`` for no limit.

        Raises:
            RolloutError: The episode does not end.
        """
        self.rewards.append(step.reward)
        if step.success is not None:
            self.success = bool(self.success) or step.success
        steps = len(self.rewards)
        self.terminated = step.terminated
        self.truncated = step.truncated or (steps == limit and not step.terminated)
        if steps >= _LONGEST and not self.over:
            raise RolloutError(
                f"{self.name}: an episode did not end within {steps} steps. Give max_episode_steps"
            )


def collected(done: Sequence[Episode]) -> Collected:
    """Return finished episodes as columns, in the order given.

    Args:
        done: At least one.

    Returns:
        The columns.

    Raises:
        RolloutError: A number is not finite.
    """
    lengths = [len(episode.actions) for episode in done]
    last = np.zeros(sum(lengths), np.bool_)
    last[np.cumsum(lengths) - 1] = True
    terminated = last & np.repeat([episode.terminated for episode in done], lengths)
    columns: dict[Key, NDArray[Any]] = {
        OBSERVATION: _joined(done, "observations", slice(None, -1)),
        NEXT_OBSERVATION: _joined(done, "observations", slice(1, None)),
        ACTION: _joined(done, "actions", slice(None)),
        REWARD: _joined(done, "rewards", slice(None)).astype(np.float32),
        TERMINATED: terminated,
        TRUNCATED: last & np.repeat([episode.truncated for episode in done], lengths),
    }
    if done[0].tasks:
        columns[TASK] = _joined(done, "tasks", slice(None, -1))
    if done[0].achieved:
        columns[ACHIEVED] = _joined(done, "achieved", slice(None, -1))
        columns[NEXT_ACHIEVED] = _joined(done, "achieved", slice(1, None))
    _check_finite(columns, done, np.cumsum(lengths))
    told = any(episode.success is not None for episode in done)
    return Collected(
        {key: torch.from_numpy(column) for key, column in columns.items()},
        torch.tensor(lengths),
        np.array([sum(episode.rewards) for episode in done], np.float64),
        np.array([bool(episode.success) for episode in done]) if told else None,
    )


def _check_finite(
    columns: Mapping[Key, NDArray[Any]], done: Sequence[Episode], stops: NDArray[Any]
) -> None:
    for key, column in columns.items():
        if np.isfinite(column).all():
            continue
        row = int(np.argwhere(~np.isfinite(column))[0, 0])
        episode = done[int(np.searchsorted(stops, row, side="right"))]
        raise RolloutError(
            f"{episode.name}: '{key_name(key)}' is not finite in the episode with seed "
            f"{episode.seed}. Mend the environment, or wrap it in one that clips"
        )


def _joined(done: Sequence[Episode], name: str, part: slice) -> NDArray[Any]:
    """Return what was noted in all episodes, one after another."""
    return np.concatenate([np.stack(getattr(episode, name)[part]) for episode in done])
