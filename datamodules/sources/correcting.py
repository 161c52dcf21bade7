"""The expert beside the policy while episodes are played: its labels, and its actions in a share.

What it does depends on (seed, episode, step) and the round, not on how many environments are
stepped together; where its questions run out within a round, who is asked last does too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.sources.planning import planning_actor
from hindsight_rl.envs.entry_spaces import stacked
from hindsight_rl.envs.interface import Env, Interface, RolloutError
from hindsight_rl.envs.playing import Playing, State
from hindsight_rl.envs.randomised import Randomised, Ranges, ShownContext, drawn_context
from hindsight_rl.maths.draws import fork, fork_key, normals, uniform
from hindsight_rl.ports import Actor, Remembering
from hindsight_rl.relabel.experts import ExpertFunction, asked, opened, spec_of

Array = NDArray[Any]


def expert_of(given: Expert, env: Env, interface: Interface) -> ExpertFunction | Actor | None:
    """Return whom to ask in an environment.

    Args:
        given: Says who.
        env: One of the environments.
        interface: What of it a policy meets.

    Returns:
        A function or an actor; ``None`` for nobody.

    Raises:
        RolloutError: A file does not go with the environment, or the environment names no expert,
            or draws no numbers that one could be shown.
        ValueError: There is nobody of this name, or a planner has no model.
    """
    if given.noise and interface.actions.discrete:
        raise ValueError("expert.noise is added to real numbers, and actions are choices: set it 0")
    if given.planner is not None:
        return planning_actor(given.planner, given.model, env, interface)
    who = given.act
    if who is None:
        return None
    if who == "environment":
        who = env.metadata.get("expert")
        if who is None:
            raise RolloutError(
                f"{interface.name}: names no expert (metadata['expert'], module:function). Give "
                "collection.expert.act another one"
            )
    found = opened(who)
    spec = spec_of(found)
    shown = _with_context(env, interface) if given.sees_context else interface
    if spec is not None:
        shown.check_fit(spec)
    return found


def _with_context(env: Env, interface: Interface) -> Interface:
    """Return what an expert meets that is shown the numbers of each episode."""
    if not isinstance(env, Randomised):
        raise RolloutError(
            f"{interface.name}: expert.sees_context shows what an episode drew, and nothing is "
            "drawn, or the policy is shown it too: give randomise, without show_context"
        )
    try:
        return Interface(ShownContext(env), interface.name)
    except ValueError as error:
        raise RolloutError(f"{interface.name}: for expert.sees_context, {error}") from error


class Correcting:
    """Asks the expert where episodes are, and executes its action in a share of the steps.

    Args:
        expert: Whom to ask, ``None`` for nobody.
        given: How.
        share: beta of the round.
        interface: Of the environment.
        key: First word of the counters of draws.
        left: Questions that are left, ``None`` for no limit.
        env_of: Returns the environment of a slot.
        ranges: Of the numbers drawn for each episode, ``None`` where none are.

    Attributes:
        asked: Questions asked.
    """

    def __init__(
        self,
        expert: ExpertFunction | Actor | None,
        given: Expert,
        share: float,
        interface: Interface,
        key: int,
        left: int | None,
        env_of: Callable[[int], Env],
        ranges: Ranges | None = None,
    ) -> None:
        self._expert, self._given, self._share = expert, given, share
        self._interface, self._key, self._left = interface, key, left
        self._env_of, self._ranges = env_of, ranges if given.sees_context else None
        self._states: dict[int, State] = {}
        self.asked = 0

    def __call__(self, playing: Sequence[Playing], executed: Array) -> Array:
        """Return what is executed ``[n, ...]``, and note labels with the episodes.

        Args:
            playing: The episodes.
            executed: ``[n, ...]``, what the policy would execute.

        Returns:
            The actions, the expert's in a share of the episodes.
        """
        labels = np.full(executed.shape, np.nan, np.float32)
        count = len(playing)
        if self._left is not None:
            count = max(0, min(count, self._left - self.asked))
        if self._expert is not None and count:
            labels[:count] = self._labels(playing[:count])
            self.asked += count
        known = ~np.isnan(labels.reshape(len(labels), -1)).any(axis=1)
        acting = known & self._drawn(playing)
        found = executed.copy()
        if acting.any():
            found[acting] = self._executed(playing, labels)[acting]
        for episode, label, acts in zip(playing, labels, acting, strict=True):
            episode.label, episode.by_expert = label, bool(acts)
        self._remember(playing, found)
        return found

    def _counters(self, playing: Sequence[Playing], *, step: bool = True) -> torch.Tensor:
        rows = [[self._key, each.number, each.steps if step else 0] for each in playing]
        return torch.tensor(rows, dtype=torch.int64)

    def _drawn(self, playing: Sequence[Playing]) -> NDArray[np.bool_]:
        """Return in which episodes the expert acts now."""
        draws = self._counters(playing, step=self._given.beta.per == "step")
        found: NDArray[np.bool_] = (uniform(fork(draws, "beta")) < self._share).numpy()
        return found

    def _executed(self, playing: Sequence[Playing], labels: Array) -> Array:
        """Return the expert's actions as they are executed: with noise, if it has any."""
        actions = self._interface.actions
        if not self._given.noise:
            return labels
        width = int(np.prod(actions.shape))
        noise = normals(fork(self._counters(playing), "expert noise"), width).numpy()
        shaken = labels + self._given.noise * noise.reshape(labels.shape)
        return np.clip(np.nan_to_num(shaken), actions.low, actions.high).astype(np.float32)

    def _labels(self, playing: Sequence[Playing]) -> Array:
        """Return the expert's actions, inside the bounds; NaN where it does not know."""
        if isinstance(self._expert, Actor):
            return self._checked(self._followed(self._expert, playing), playing)
        found = []
        for episode in playing:
            task = None if episode.task is None else episode.task[None]
            seen, env = self._seen([episode]), self._env_of(episode.slot)
            found.append(asked(self._opened(), seen, task, env, {}, np.zeros((1, 3)))[0])
        return self._checked(np.concatenate([np.asarray(each) for each in found]), playing)

    def _seen(self, playing: Sequence[Playing]) -> Any:
        """Return what the expert sees ``[n, O]``, or by entry: maybe with what episodes drew."""
        shown = stacked([episode.observation for episode in playing])
        if self._ranges is None:
            return shown
        drawn = np.stack([drawn_context(self._ranges, episode.seed) for episode in playing])
        return np.concatenate([shown, drawn], axis=1)

    def _opened(self) -> ExpertFunction | Actor:
        if self._expert is None:
            raise RuntimeError("nobody is asked")
        return self._expert

    def _followed(self, expert: Actor, playing: Sequence[Playing]) -> Array:
        """Return what an expert with a state answers; it begins anew with each episode."""
        for episode in playing:
            if not episode.steps:
                fresh = expert.initial_state(1)
                self._states[episode.number] = {name: value[0] for name, value in fresh.items()}
        states = [self._states[episode.number] for episode in playing]
        state = {name: np.stack([each[name] for each in states]) for name in states[0]}
        spec = spec_of(expert)
        tasks = [episode.task for episode in playing if episode.task is not None]
        task = np.stack(tasks) if tasks and (spec is None or spec.task is not None) else None
        noise = self._counters(playing).numpy()
        noise[:, 0] = fork_key(self._key, "expert")
        answers, state = asked(expert, self._seen(playing), task, None, state, noise)
        self._deal(state, playing)
        return np.asarray(answers)

    def _deal(self, state: State, playing: Sequence[Playing]) -> None:
        for i, episode in enumerate(playing):
            self._states[episode.number] = {name: value[i] for name, value in state.items()}

    def _remember(self, playing: Sequence[Playing], executed: Array) -> None:
        """Tell an expert that remembers actions which ones were executed."""
        expert: object = self._expert
        if not isinstance(expert, Remembering):
            return
        held = [i for i, episode in enumerate(playing) if episode.number in self._states]
        if not held:
            return
        those = [playing[i] for i in held]
        states = [self._states[episode.number] for episode in those]
        state = {name: np.stack([each[name] for each in states]) for name in states[0]}
        self._deal(expert.with_executed(state, executed[held]), those)

    def _checked(self, answers: Array, playing: Sequence[Playing]) -> Array:
        """Return answers as labels ``[n, ...]`` float32, as they would be executed."""
        interface, shape = self._interface, (len(playing), *self._interface.action_shape)
        if answers.shape != shape:
            raise ValueError(
                f"{interface.name}: the expert answered with shape {list(answers.shape)}, and "
                f"{len(playing)} environments take {list(shape)}"
            )
        numbers = answers.reshape(len(answers), -1).astype(np.float64)
        known = ~np.isnan(numbers).all(axis=1)
        if not np.isfinite(numbers[known]).all():
            raise ValueError(
                f"{interface.name}: the expert answered with numbers that are not finite: NaN for "
                "all numbers of a row says that it does not know"
            )
        labels = np.full(answers.shape, np.nan, np.float32)
        if known.any():
            labels[known] = interface.actions.executed(answers[known])
        return labels
