"""What is kept of episodes while they are played, and the columns they become."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.envs.interface import Interface, Observed, RolloutError
from hindsight_rl.envs.lockstep import Step
from hindsight_rl.envs.playing import Playing
from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    ACTION_LOG_PROB,
    BY_EXPERT,
    EXPERT_ACTION,
    NEXT_ACHIEVED,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TASK,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import next_key
from hindsight_rl.logs.precision import collapse
from hindsight_rl.maths.draws import fork_key
from hindsight_rl.ports import LogView


class Collected(NamedTuple):
    """Whole episodes, in the order of their numbers.

    Attributes:
        columns: ``[M, ...]`` by key; of images (uint8) ``[M + E, ...]``, the last frame of every
            episode too.
        lengths: ``[E]`` int64, in steps.
        returns: ``[E]`` float64.
        successes: ``[E]`` bool, success at any step; ``None`` where the environment does not tell.
        queries: How often an expert was asked; ``None`` where there is none.
    """

    columns: dict[Key, Tensor]
    lengths: Tensor
    returns: NDArray[np.float64]
    successes: NDArray[np.bool_] | None
    queries: int | None = None


class Episode:
    """What is kept of one episode; of what is observed there is one more than steps.

    Args:
        playing: The episode, as it is played.
        name: The environment, for messages.
    """

    def __init__(self, playing: Playing, name: str) -> None:
        self.playing, self.name = playing, name
        self.observations: list[Observed] = []
        self.tasks: list[NDArray[np.float32]] = []
        self.achieved: list[NDArray[np.float32]] = []
        self.exact: dict[str, list[NDArray[Any]]] = {}
        self.actions: list[NDArray[Any]] = []
        self.rewards: list[float] = []
        self.labels: list[NDArray[Any]] = []
        self.by_expert: list[bool] = []

    def add(self, action: NDArray[Any], step: Step) -> None:
        """Keep a step; what is observed is kept by who looks at it."""
        self.actions.append(action)
        if self.playing.label is not None:
            self.labels.append(self.playing.label)
            self.by_expert.append(self.playing.by_expert)
        self.rewards.append(step.reward)

    def stands(self, steps: int, radius: float) -> bool:
        """Return whether the last steps stayed within a radius of where they began.

        Args:
            steps: How many, at least 1.
            radius: In the units of what was achieved, or else of the observation.

        Returns:
            False where the episode is shorter.
        """
        places: Any = (self.achieved or self.observations)[-steps - 1 :]
        if len(places) <= steps:
            return False
        moved = np.stack(places[1:]).astype(np.float64) - places[0]
        return bool((np.linalg.norm(moved.reshape(steps, -1), axis=1) <= radius).all())


class Command(Protocol):
    """What the policy is asked for where the environment gives no task: a return, a horizon.

    One whose attribute ``in_place_of_goals`` is true takes the place of the goals that an
    environment shows.

    Attributes:
        initial: Z numbers, the task of the first episodes, which are played at random; none: the
            goals that the environment shows then.
    """

    initial: Sequence[float]

    # Of the type that commands declare: the command line compares signatures word by word.
    def start(self, log: LogView, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, Z]``.
        """

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks after one more step.

        Args:
            task: ``[n, Z]``.
            reward: ``[n]``, what the step earned.

        Returns:
            ``[n, Z]``.
        """


class Recording:
    """Keeps what is played, and gives tasks where the environment does not.

    Args:
        interface: Of the environment.
        command: Gives tasks, ``None`` where the environment does or there are none.
        key: First word of the counters of draws.
        log: What was collected before, for ``command``.
        stuck: Steps, and the radius around where they began, after which an episode that stayed
            within it is cut; ``None``: none is.
    """

    def __init__(
        self,
        interface: Interface,
        command: Command | None,
        key: int,
        log: Log | None,
        stuck: tuple[int, float] | None = None,
    ) -> None:
        self._interface, self._stuck = interface, stuck
        self._command, self._key, self._log = command, fork_key(key, "command"), log
        self.kept: dict[int, Episode] = {}
        self.steps = 0

    def begin(self, episode: Playing, observation: Any) -> None:
        """Keep the first observation, and what is asked for."""
        self.kept[episode.number] = Episode(episode, self._interface.name)
        self._see(episode, observation)
        if self._command is not None:
            shown = self._interface.see(observation).task
            self._ask(episode, self._commanded(self._command, episode.number, shown))

    def step(self, episode: Playing, action: Any, step: Step) -> None:
        """Keep the action that was executed, and what it gave."""
        kept = self.kept[episode.number]
        kept.add(action, step)
        self.steps += 1
        self._see(episode, step.observation)
        if self._stuck is not None and not episode.terminated and kept.stands(*self._stuck):
            episode.truncated = True

    def after(self, playing: Sequence[Playing]) -> None:
        """Have the command change the tasks after a step."""
        if self._command is None:
            return
        task = torch.from_numpy(np.stack([each.task for each in playing if each.task is not None]))
        rewards = [self.kept[episode.number].rewards[-1] for episode in playing]
        changed = self._command.step(task, torch.tensor(rewards, dtype=torch.float32))
        for episode, following in zip(playing, changed, strict=True):
            self._ask(episode, following.numpy().astype(np.float32))

    def _commanded(
        self, command: Command, number: int, shown: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Return the task ``[Z]`` an episode begins with; ``shown`` is the environment's goal."""
        if self._log is None:
            if shown is not None and not len(command.initial):
                return shown
            return np.asarray(command.initial, np.float32)
        draws = torch.tensor([[self._key, number, 0]])
        return command.start(self._log, draws)[0].numpy().astype(np.float32)

    def _see(self, episode: Playing, observation: Any) -> None:
        """Keep what is observed."""
        seen, kept = self._interface.see(observation), self.kept[episode.number]
        episode.observation = seen.observation
        for name, values in self._interface.exact(observation).items():
            kept.exact.setdefault(name, []).append(values)
        kept.observations.append(seen.observation)
        if seen.task is not None and self._command is None:
            self._ask(episode, seen.task)
        if self._interface.achieves:
            kept.achieved.append(self._interface.achieved(observation))

    def _ask(self, episode: Playing, task: NDArray[np.float32]) -> None:
        episode.task = task
        self.kept[episode.number].tasks.append(task)


def collected(
    done: Sequence[Episode], log_probs: Mapping[int, NDArray[np.float64]] | None = None
) -> Collected:
    """Return finished episodes as columns, in the order given.

    Args:
        done: At least one.
        log_probs: ``[T]`` of the executed actions, nats, by the number of the episode; empty or
            ``None`` where they are not known.

    Returns:
        The columns.

    Raises:
        RolloutError: A number is not finite.
    """
    lengths = [len(episode.actions) for episode in done]
    last = np.zeros(sum(lengths), np.bool_)
    last[np.cumsum(lengths) - 1] = True
    terminated = last & np.repeat([episode.playing.terminated for episode in done], lengths)
    columns: dict[Key, NDArray[Any]] = {
        **_observed(done),
        ACTION: _joined(done, "actions", slice(None)),
        REWARD: _joined(done, "rewards", slice(None)).astype(np.float32),
        TERMINATED: terminated,
        TRUNCATED: last & np.repeat([episode.playing.truncated for episode in done], lengths),
    }
    if done[0].tasks:
        columns[TASK] = _joined(done, "tasks", slice(None, -1))
    if done[0].achieved:
        columns[ACHIEVED] = _joined(done, "achieved", slice(None, -1))
        columns[NEXT_ACHIEVED] = _joined(done, "achieved", slice(1, None))
    if log_probs:
        stated = np.concatenate([log_probs[episode.playing.number] for episode in done])
        columns[ACTION_LOG_PROB] = stated.astype(np.float32)
    if done[0].labels:
        columns[EXPERT_ACTION] = _joined(done, "labels", slice(None))
        columns[BY_EXPERT] = _joined(done, "by_expert", slice(None))
    _check_finite(columns, done, np.cumsum(lengths))
    successes = [episode.playing.success for episode in done]
    reported = any(success is not None for success in successes)
    return Collected(
        {key: torch.from_numpy(column) for key, column in columns.items()},
        torch.tensor(lengths),
        np.array([sum(episode.rewards) for episode in done], np.float64),
        np.array([bool(success) for success in successes]) if reported else None,
    )


def lost_in_float32(done: Sequence[Episode]) -> str | None:
    """Return what of some episodes float32 makes equal, and the fix; ``None`` for nothing.

    Args:
        done: At least one episode.

    Returns:
        A sentence that names the environment and the column.
    """
    columns = {
        name: np.concatenate([np.stack(episode.exact[name]) for episode in done])
        for name in done[0].exact
    }
    columns["reward"] = np.concatenate([np.array(episode.rewards, np.float64) for episode in done])
    for name, column in columns.items():
        lost = collapse(column)
        if lost is not None:
            return (
                f"{done[0].name}: '{name}', entry {lost.dimension}: {lost}. Subtract a constant "
                "in the environment (gymnasium.wrappers.TransformObservation), or leave it out"
            )
    return None


def _check_finite(
    columns: Mapping[Key, NDArray[Any]], done: Sequence[Episode], stops: NDArray[Any]
) -> None:
    for key, column in columns.items():
        # A label may be missing; those that are there were looked at.
        if key == EXPERT_ACTION or column.dtype.kind != "f" or np.isfinite(column).all():
            continue
        row = int(np.argwhere(~np.isfinite(column))[0, 0])
        episode = done[int(np.searchsorted(stops, row, side="right"))]
        raise RolloutError(
            f"{episode.name}: '{key_name(key)}' is not finite in the episode with seed "
            f"{episode.playing.seed}. Fix the environment, or wrap it in one that clips"
        )


def _observed(done: Sequence[Episode]) -> dict[Key, NDArray[Any]]:
    """Return the columns of what was observed; the frames of images are kept once."""
    if not isinstance(done[0].observations[0], dict):
        return {
            OBSERVATION: _joined(done, "observations", slice(None, -1)),
            NEXT_OBSERVATION: _joined(done, "observations", slice(1, None)),
        }
    found: dict[Key, NDArray[Any]] = {}
    for label in done[0].observations[0]:
        key: Key = ("observation", label)
        shown = [np.stack([seen[label] for seen in episode.observations]) for episode in done]
        if shown[0].dtype == np.uint8:
            found[key] = np.concatenate(shown)
            continue
        found[key] = np.concatenate([values[:-1] for values in shown])
        found[next_key(key)] = np.concatenate([values[1:] for values in shown])
    return found


def _joined(done: Sequence[Episode], name: str, part: slice) -> NDArray[Any]:
    """Return what was noted in all episodes, one after another."""
    return np.concatenate([np.stack(getattr(episode, name)[part]) for episode in done])
