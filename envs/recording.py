"""Episodes as they were played, to be written down: what the environment gave, or a policy saw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.envs.interface import Env, Interface, Observed
from hindsight_rl.envs.lockstep import Singles, Step
from hindsight_rl.envs.playing import Limit, Playing, play
from hindsight_rl.envs.randomised import Ranges, context_of, drawn_context

Array = NDArray[Any]


@dataclass(frozen=True)
class Recording:
    """One episode of T steps.

    Args:
        observations: T + 1 observations as the environment gave them.
        actions: T actions, as they were sent.
        rewards: ``[T]`` float64.
        terminated: Whether the last step reached a terminal state.
        truncated: Whether the last step was cut by a time limit.
        log_probs: ``[T]`` float32, nats, of the executed actions; ``None`` where it is not known.
        context: ``[C]`` float32, numbers of the environment that were drawn for it; ``None`` where
            none were.
    """

    observations: list[Any]
    actions: list[Any]
    rewards: Array
    terminated: bool
    truncated: bool
    log_probs: Array | None = None
    context: Array | None = None


class Keeping:
    """Keeps observations as they are given and actions as they are sent.

    Args:
        interface: How a policy meets the environment, and is shown what it sees; ``None`` for
            who looks at the observations kept here.
    """

    def __init__(self, interface: Interface | None = None) -> None:
        self._interface = interface
        self.observations: list[Any] = []
        self.actions: list[Any] = []
        self.rewards: list[float] = []
        self.log_probs: list[float] = []

    def begin(self, episode: Playing, observation: Any) -> None:
        """Keep the first observation."""
        self._see(episode, observation)

    def step(self, episode: Playing, action: Any, step: Step) -> None:
        """Keep a step."""
        self.actions.append(action)
        self.rewards.append(step.reward)
        if episode.log_prob is not None:
            self.log_probs.append(episode.log_prob)
        self._see(episode, step.observation)

    def after(self, playing: Sequence[Playing]) -> None:
        """Nothing is done to all at once."""

    def recording(self, episode: Playing, context: Array | None = None) -> Recording:
        """Return the episode, whole."""
        return Recording(
            self.observations,
            self.actions,
            np.array(self.rewards),
            episode.terminated,
            episode.truncated,
            np.array(self.log_probs, np.float32) if self.log_probs else None,
            context,
        )

    def _see(self, episode: Playing, observation: Any) -> None:
        self.observations.append(observation)
        if self._interface is not None:
            seen = self._interface.see(observation)
            episode.observation, episode.task = seen.observation, seen.task


def record_episode(
    env: Env,
    episode: Playing,
    limit: Limit,
    keeping: Keeping,
    choose: Callable[[Sequence[Playing]], Any],
    send: Callable[[Any], Any],
) -> Recording:
    """Return one episode, played out.

    Args:
        env: The environment.
        episode: Its number and seed.
        limit: Where it is cut.
        keeping: Keeps it.
        choose: Returns the action, as it is executed.
        send: Returns an action as the environment takes it.

    Returns:
        The episode.
    """
    play(
        Singles(lambda: env, {}, env),
        [episode],
        1,
        limit,
        choose=choose,
        send=send,
        watcher=keeping,
    )
    return keeping.recording(episode, context_of(env))


class Columns:
    """Episodes as a policy saw them, as the columns of a log.

    Args:
        interface: How it meets the environment.
        ranges: Of the numbers drawn for each episode, ``None`` where none are.
    """

    def __init__(self, interface: Interface, ranges: Ranges | None = None) -> None:
        self._interface, self._ranges = interface, ranges
        self._episodes: dict[int, _Seen] = {}

    def begin(self, episode: Playing, observation: Any) -> None:
        """Keep what the policy sees first."""
        self._episodes[episode.number] = _Seen(episode)
        self._see(episode, observation)

    def step(self, episode: Playing, action: Any, step: Step) -> None:
        """Keep the action that was executed, and what it gave."""
        kept = self._episodes[episode.number]
        kept.actions.append(action)
        kept.rewards.append(step.reward)
        kept.successes.append(bool(step.success))
        if episode.log_prob is not None:
            kept.log_probs.append(episode.log_prob)
        self._see(episode, step.observation)

    def columns(self) -> dict[str, Array]:
        """Return the columns ``[N, ...]`` by usual names, in the order of the episodes' numbers.

        Entries of an observation are ``observation.NAME``, a task is ``desired_goal``, whatever
        it asks for. ``success`` and ``action_log_prob`` are there where they are known, ``context``
        where numbers were drawn.
        """
        done = [self._episodes[number] for number in sorted(self._episodes)]
        lengths = [len(kept.actions) for kept in done]
        last = np.zeros(sum(lengths), np.bool_)
        last[np.cumsum(lengths) - 1] = True

        def flag(name: str) -> Array:
            marked: Array = last & np.repeat([getattr(k.playing, name) for k in done], lengths)
            return marked

        found = {
            **_now_and_next("observation", [kept.observations for kept in done]),
            "action": np.concatenate([np.stack(kept.actions) for kept in done]),
            "reward": np.concatenate([np.array(kept.rewards) for kept in done]),
            "terminated": flag("terminated"),
            "truncated": flag("truncated"),
            "episode": np.repeat([kept.playing.number for kept in done], lengths),
            "step": np.concatenate([np.arange(length) for length in lengths]),
        }
        if done[0].tasks:
            tasks = [np.stack(kept.tasks[:-1]) for kept in done]
            found["desired_goal"] = np.concatenate(tasks)
        if self._interface.achieves:
            found |= _now_and_next("achieved_goal", [kept.achieved for kept in done])
        if any(kept.playing.success is not None for kept in done):
            found["success"] = np.concatenate([np.array(kept.successes) for kept in done])
        if done[0].log_probs:
            stated = [np.array(kept.log_probs, np.float32) for kept in done]
            found["action_log_prob"] = np.concatenate(stated)
        if self._ranges is not None:
            drawn = [drawn_context(self._ranges, kept.playing.seed) for kept in done]
            found["context"] = np.repeat(np.stack(drawn), lengths, axis=0)
        return found

    def column_map(self) -> dict[str, Any]:
        """Return what a column map has to say beside usual names, in plain types.

        The names of entries and of success, which are not guessed, and the bounds of actions.
        """
        done = next(iter(self._episodes.values()))
        found: dict[str, Any] = {"format": "npz"}
        if isinstance(done.observations[0], dict):
            entries = list(done.observations[0])
            found["observation"] = {name: f"observation.{name}" for name in entries}
            found["next_observation"] = {name: f"next_observation.{name}" for name in entries}
        if done.playing.success is not None:
            found["success"] = "success"
        if self._ranges is not None:
            found["context"] = "context"
        space = self._interface.actions
        if space.discrete:
            return found | {"action_count": space.n, "action_start": space.start}
        for side, ends in (("low", space.low), ("high", space.high)):
            stated = [float(end) if np.isfinite(end) else None for end in ends.ravel()]
            if any(end is not None for end in stated):
                found[f"action_{side}"] = stated
        return found

    def _see(self, episode: Playing, observation: Any) -> None:
        kept = self._episodes[episode.number]
        kept.observations.append(episode.observation)
        if episode.task is not None:
            kept.tasks.append(episode.task)
        if self._interface.achieves:
            kept.achieved.append(self._interface.achieved(observation))


class _Seen:
    """What is kept of one episode; of what is observed there is one more than steps."""

    def __init__(self, playing: Playing) -> None:
        self.playing = playing
        self.observations: list[Observed] = []
        self.tasks: list[Array] = []
        self.achieved: list[Array] = []
        self.actions: list[Array] = []
        self.rewards: list[float] = []
        self.successes: list[bool] = []
        self.log_probs: list[float] = []


def _now_and_next(name: str, shown: Sequence[Sequence[Any]]) -> dict[str, Array]:
    """Return what was observed before and after each step; of entries each by itself."""
    first = shown[0][0]
    if isinstance(first, dict):
        found: dict[str, Array] = {}
        for label in first:
            parts = [[seen[label] for seen in episode] for episode in shown]
            found |= _now_and_next(f"{name}.{label}", parts)
        return found
    stacked = [np.stack(episode) for episode in shown]
    return {
        name: np.concatenate([values[:-1] for values in stacked]),
        f"next_{name}": np.concatenate([values[1:] for values in stacked]),
    }
