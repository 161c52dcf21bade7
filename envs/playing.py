"""The one loop that plays episodes: evaluation, collecting and recording are what watches it.

Environments are stepped in lockstep, so that a policy is asked for many at once. What an episode is
depends on its seed and the policy alone. A policy is a function, or an :class:`Actor` with a state
per environment, which begins anew where an episode does.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.envs.entry_spaces import stacked
from hindsight_rl.envs.interface import Env, Interface, Observed
from hindsight_rl.envs.lockstep import Lockstep, Step
from hindsight_rl.ports import Act as Act
from hindsight_rl.ports import Actor as Actor
from hindsight_rl.ports import Remembering
from hindsight_rl.propensities import AtOnce, Drawn, Draws, Stating

LONGEST = 10_000
"""Steps after which an episode is cut where neither the environment nor the caller ends it."""

Array = NDArray[Any]
State = dict[str, Array]
"""What a policy keeps from step to step, by name: ``[n, ...]`` for n environments."""


@dataclass
class Playing:
    """One episode while it is played: what the policy sees next, and what happened so far.

    Attributes:
        number: Its number.
        seed: With which the environment is reset.
        observation: ``[O]``, or by entry, what the policy sees next; the watcher updates it.
        task: ``[Z]``, or ``None``; updated in the same way.
        state: What the policy keeps, ``[...]`` by name.
        slot: Number of the environment it is played in.
        label: What an expert would have done, ``[...]`` as the action, NaN where nobody said;
            ``None`` where there is no expert.
        by_expert: Whether the action that was chosen last is the expert's.
        log_prob: Of the action that was chosen last, as it was executed, nats; ``None`` where that
            is not asked for.
        steps: Steps taken.
        total: Sum of rewards.
        terminated: Ended by the environment, not by a time limit.
        truncated: Cut.
        success: Success at any step; ``None`` where the environment does not report it.
        final_success: Success at the last step; ``None`` where the environment does not report it.
    """

    number: int
    seed: int
    observation: Observed = field(default_factory=lambda: np.zeros(0, np.float32))
    task: NDArray[np.float32] | None = None
    state: State = field(default_factory=dict)
    slot: int = 0
    label: Array | None = None
    by_expert: bool = False
    log_prob: float | None = None
    steps: int = 0
    total: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None
    final_success: bool | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.terminated or self.truncated

    def count(self, step: Step, limit: "Limit") -> None:
        """Count a step that was taken."""
        self.steps += 1
        self.total += step.reward
        self.terminated = step.terminated
        self.truncated = step.truncated or (not step.terminated and limit.cuts(self.steps))
        if step.success is not None:
            self.final_success = step.success
            self.success = bool(self.success) or step.success


class Watcher(Protocol):
    """Watches the episodes, and sets what the policy sees next."""

    def begin(self, episode: Playing, observation: Any) -> None:
        """Take the first observation of an episode, as the environment gives it."""

    def step(self, episode: Playing, action: Any, step: Step) -> None:
        """Take a step: the action that was executed, and what it gave; it is counted already."""

    def after(self, playing: Sequence[Playing]) -> None:
        """Look at all episodes after each has taken a step."""


class Limit:
    """Where an episode is cut that the environment does not end.

    Args:
        env: One of the environments, with its own limit.
        given: Steps; ``None``: the environment's own limit, and no more than
            ``longest`` steps where it has none.
        option: What a caller sets to cut elsewhere, for the warning.
        name: The environment, for the warning.
        longest: Steps, at least 1.
    """

    def __init__(
        self, env: Env, given: int | None, option: str, name: str, longest: int = LONGEST
    ) -> None:
        own = (env.spec.max_episode_steps if env.spec else None) or 0
        self.steps = max(own, longest) if given is None else given
        self._given, self._option, self._name = given is not None, option, name
        self._warned = False

    def cuts(self, steps: int) -> bool:
        """Return whether an episode that goes on after so many steps is cut; warn once."""
        if steps < self.steps:
            return False
        if not self._given and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._name}: an episode did not end within {steps:,} steps and was cut "
                f"(truncated). Set {self._option} to cut episodes where it should be",
                stacklevel=2,
            )
        return True


class Asking:
    """Gets the actions of all episodes from a policy at once.

    Args:
        act: The policy.
        interface: How it meets the environment.
        key: First of the three counters of its noise: the key of the seed of the whole.
        stating: Ask how likely what is executed was; the policy is one that states it.
        later: Is given that question, to ask it of many steps at once; ``None``: every step is
            asked for at once, and its episode is given the answer.
        correct: Returns what is executed in some episodes in the place of the policy's actions
            ``[n, ...]``; ``None``: those are.
    """

    def __init__(
        self,
        act: Act | Actor,
        interface: Interface,
        key: int,
        *,
        stating: bool = False,
        later: AtOnce | None = None,
        correct: Callable[[Sequence[Playing], Array], Array] | None = None,
    ) -> None:
        self._actor = actor = act if isinstance(act, Actor) else _Stateless(act)
        # Asked once: a Protocol is compared member by member.
        self._drawn = actor.drawn if stating and isinstance(actor, Draws) else None
        self._remembers = actor.with_executed if isinstance(actor, Remembering) else None
        self._interface, self._key, self._correct = interface, key, correct
        self._later = later

    def __call__(self, playing: Sequence[Playing]) -> Array:
        """Return the actions ``[n, ...]`` that are executed.

        Args:
            playing: The episodes, each with what its policy sees now.

        Returns:
            The actions, see :meth:`hindsight_rl.envs.actions.ActionSpace.executed`.

        Raises:
            ValueError: The policy answers with something else than actions.
        """
        begun = [episode for episode in playing if not episode.steps]
        if begun:
            _deal(self._actor.initial_state(len(begun)), begun)
        observation = stacked([episode.observation for episode in playing])
        tasks = [episode.task for episode in playing if episode.task is not None]
        names = playing[0].state
        state = {name: np.stack([each.state[name] for each in playing]) for name in names}
        noise = np.array([[self._key, each.number, each.steps] for each in playing], np.int64)
        task = np.stack(tasks) if tasks else None
        if self._drawn is not None:
            found = self._drawn(observation, task, state, noise)
        else:
            found = Drawn(*self._actor.step(observation, task, state, noise))
        answers, state = np.asarray(found.action), found.state
        self._interface.check_answers(answers, len(playing))
        actions = self._interface.actions
        executed = actions.executed(answers)
        if self._correct is not None:
            executed = self._correct(playing, executed)
        if found.log_prob is not None and self._later is not None:
            self._later.keep([episode.number for episode in playing], found.log_prob, executed)
        elif found.log_prob is not None:
            stated = found.log_prob(executed, actions.low, actions.high)
            for episode, log_prob in zip(playing, stated.tolist(), strict=True):
                episode.log_prob = log_prob
        if self._remembers is not None:
            state = self._remembers(state, executed)
        _deal(state, playing)
        return executed


def why_unstated(policy: object, interface: Interface, *, mixed: bool) -> str:
    """Return why it is not known how likely the executed actions of a policy are.

    Args:
        policy: The policy.
        interface: How it meets the environment.
        mixed: Whether a share of the actions is drawn uniformly instead.

    Returns:
        The end of a sentence, "" where it is known.
    """
    actions = interface.actions
    if not isinstance(policy, Stating):
        return "the policy does not say how likely its actions are"
    if actions.whole and not actions.discrete:
        return f"{interface.name} rounds the policy's actions to whole numbers"
    return policy.unstated(actions.low, actions.high, mixed=mixed)


class _Stateless:
    """A function as an actor."""

    def __init__(self, act: Act) -> None:
        self._act = act

    def initial_state(self, n: int) -> State:
        """Return nothing."""
        return {}

    def step(
        self,
        observation: Observed,
        task: NDArray[np.float32] | None,
        state: State,
        noise: NDArray[np.int64],
    ) -> tuple[Array, State]:
        """Return the function's actions."""
        return self._act(observation) if task is None else self._act(observation, task), state


def _deal(state: Mapping[str, Array], episodes: Sequence[Playing]) -> None:
    """Give each episode its row of the state."""
    for i, episode in enumerate(episodes):
        episode.state = {name: values[i] for name, values in state.items()}


def play(
    envs: Lockstep,
    episodes: Iterable[Playing],
    slots: int,
    limit: Limit,
    *,
    choose: Callable[[Sequence[Playing]], Any],
    send: Callable[[Any], Any],
    watcher: Watcher,
) -> list[Playing]:
    """Return whole episodes, played out.

    Args:
        envs: The environments, numbers 0 to ``slots - 1``.
        episodes: What is to be played, in the order in which the episodes begin.
        slots: Environments in lockstep.
        limit: Where episodes are cut.
        choose: Returns one action, as it is executed, for each of some episodes.
        send: Returns an action as an environment takes it.
        watcher: Looks on.

    Returns:
        The episodes, in the order in which they ended.
    """
    waiting, free = iter(episodes), list(range(slots))
    playing: dict[int, Playing] = {}
    done: list[Playing] = []
    while True:
        begun = dict(zip(free, waiting, strict=False))  # a free slot may find none waiting
        if begun:
            first = envs.reset({slot: episode.seed for slot, episode in begun.items()})
            for slot, episode in begun.items():
                episode.slot = slot
                watcher.begin(episode, first[slot])
            playing = dict(sorted((playing | begun).items()))
        if not playing:
            return done
        actions = choose(list(playing.values()))
        taken = dict(zip(playing, actions, strict=True))
        for slot, step in envs.step({slot: send(action) for slot, action in taken.items()}).items():
            playing[slot].count(step, limit)
            watcher.step(playing[slot], taken[slot], step)
        watcher.after(list(playing.values()))
        free = [slot for slot, episode in playing.items() if episode.over]
        done += [playing.pop(slot) for slot in free]
