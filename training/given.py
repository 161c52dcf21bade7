"""A given policy on the rows of a log: what it would have done there.

A policy is a checkpoint, an exported file, a learner, or a function. Where it keeps a state (a
history, a recurrent cell, a chunk that is being executed) it follows each logged episode from its
first step, and remembers what was executed there, not what it would have done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.keys import ACTION, EPISODE, EPISODE_END, STEP, TASK
from hindsight_rl.maths.draws import fork, fork_key, seed_key
from hindsight_rl.ports import Act, Actor, LogView, Remembering
from hindsight_rl.spec import Spec, SpecLike
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner
from hindsight_rl.training.shown import Shown, check_fits

Function = Callable[..., NDArray[Any]]
"""``act(observation [n, O]) -> action``, or ``act(observation, task)``, in the environment's units
and numbers."""

TOGETHER = 256  # episodes that are followed side by side


@dataclass(frozen=True)
class Answers:
    """What a policy does in every row of a log, and in the state that follows.

    Attributes:
        here: Actions ``[N, m, A]`` in environment units, m draws of each; of discrete actions the
            probabilities ``[N, n]``.
        after: The same in the next state.
    """

    here: Tensor
    after: Tensor


class GivenPolicy:
    """A policy that is judged, not fitted.

    Args:
        policy: Path of a checkpoint or of an exported file (``.onnx``); a learner; an actor; or a
            function of observations (and tasks).
        spec: What the log looks like: a function says nothing of itself.
        name: What it is called; ``None`` for its path or class.
        drawn: Judge the policy that draws its actions, as it would collect; False: the one that is
            exported. An exported file is judged as it is, and draws where it was exported so.
        seed: Of the draws.

    Raises:
        CheckpointError: A checkpoint is missing, damaged, or of no learner.
        ContractError: A file must not be run as it stands.
        ValueError: The policy does not go with the log, or is none.

    Attributes:
        name: What it is called.
        spec: What it takes; the log's where it does not say.
        learner: The learner, ``None`` where it is none.
    """

    def __init__(
        self,
        policy: str | Path | Learner | Actor | Function,
        spec: SpecLike,
        *,
        name: str | None = None,
        drawn: bool = False,
        seed: int = 0,
    ) -> None:
        self._log_spec = Spec.of(spec)
        self.name = name or _name(policy)
        self.drawn, self._key = drawn, fork_key(seed_key(seed), "given policy")
        made = _opened(policy) if isinstance(policy, (str, Path)) else policy
        self.learner: Learner | None = made if isinstance(made, Learner) else None
        self.spec = self._log_spec
        self._actor: Any = made
        if isinstance(made, Learner):
            if not made.acts:
                raise ValueError(f"{self.name}: {type(made).__name__} fits no policy to be judged")
            self.spec, self._actor = made.spec, made.player()
        elif isinstance(made, OnnxPolicy):
            self.spec = Spec.of(cast(Mapping[str, Any], made.contract))
        check_fits(self.name, self.spec, self._log_spec)
        self._shown = Shown(self.spec, self._log_spec)

    @property
    def discrete(self) -> bool:
        """Whether it chooses one of a number of actions."""
        return self.spec.action.discrete

    @property
    def follows(self) -> bool:
        """Whether it keeps a state, so that an action depends on more than the present."""
        if self.learner is not None:
            return bool(self.learner.chunk or self.learner.initial_state(1))
        return isinstance(self._actor, Actor) and bool(self._actor.initial_state(1))

    @property
    def chance(self) -> bool:
        """Whether its actions are drawn."""
        if self.learner is not None:
            return self.drawn or self.learner.acting_noise > 0
        return self._file is not None and self._file.signature.noise is not None

    @property
    def _file(self) -> OnnxPolicy | None:
        """The exported file, if it is one."""
        return self._actor if isinstance(self._actor, OnnxPolicy) else None

    @property
    def no_density(self) -> str:
        """Why nothing is known of the probability of an action: a clause, ``""`` if it is known."""
        if not self.chance and self.discrete:
            return ""
        if not self.chance:
            return "it does one thing only in each state, and no density is known of that"
        if self.learner is None:
            if self._file is not None and self._file.signature.distribution is not None:
                return ""
            return "an exported file does not say how probable an action is"
        if self.follows:
            return "it keeps a state, and its density is known for the first step only"
        if self._exact_choices:
            return ""
        if not self.learner.draws_its_distribution:
            return "it does not draw its actions from a distribution that it states"
        if self.learner.density != "exact":
            known = {"bound": "a lower bound", "none": "nothing"}[self.learner.density]
            return f"{known} is known of its density"
        return ""

    def answers(self, log: LogView, *, samples: int = 1) -> Answers:
        """Return what it does in every row, and in the state after it.

        Args:
            log: The log.
            samples: m, draws of each action; 1 is meant where nothing is drawn.

        Returns:
            The answers; of a row that ends no episode, ``after`` is what it does in the next.

        Raises:
            ValueError: It takes a task and the log has none, or it answers with something else than
                actions.
        """
        if self.spec.task is not None and TASK not in log:
            raise ValueError(
                f"{self.name} takes a task, and the log has none: relabel the log first, with the "
                "relabelers that it was fitted with"
            )
        count = samples if self.chance else 1
        if self._exact_choices:
            sides = (self._log_probabilities(log, after=later) for later in (False, True))
            return Answers(*(side.exp() for side in sides))
        walk = self._followed if self.follows else self._asked
        found = [walk(log, draw) for draw in range(count)]
        here, after = (torch.stack([pair[side] for pair in found], dim=1) for side in (0, 1))
        if not self.discrete:
            return Answers(here.float(), after.float())
        n = self.spec.action.n
        return Answers(*(_shares(choice, n) for choice in (here, after)))

    @property
    def seeds(self) -> int:
        """How many seeds were fitted together; it is the first of them."""
        return 1 if self.learner is None else self.learner.seeds

    @property
    def _exact_choices(self) -> bool:
        """Whether the probability of every choice is known, and not only which one was drawn."""
        if self._file is not None and self._file.signature.distribution is not None:
            return self.discrete
        return self.discrete and self.learner is not None and self.drawn and not self.follows

    def log_prob(self, log: LogView) -> Tensor | None:
        """Return the log-probability of every logged action.

        Args:
            log: The log.

        Returns:
            ``[N]`` float64, nats, of actions in environment units; ``None`` where
            :attr:`no_density` says why.
        """
        if self.no_density:
            return None
        if self.discrete:
            chosen = (log.column(ACTION) - self._log_spec.action.start).unsqueeze(-1)
            if self._exact_choices:  # a probability may be too small for float32
                found = self._log_probabilities(log, after=False)
            else:
                found = self.answers(log).here.double().log()
            return found.double().gather(-1, chosen).squeeze(-1)
        learner = self.learner
        if learner is None:
            return self._by_file(log, [log.column(ACTION).numpy()], after=False).squeeze(-1)
        parts = []
        for rows in self._shown.spans(log):
            seen, task = self._shown.tensors(log, rows, after=False, device=learner.device)
            action = log.take(ACTION, rows)
            with torch.inference_mode():
                parts.append(learner.actor.executed_log_prob(seen, action, task).double().cpu())
        return torch.cat(parts)

    def begin(self, n: int) -> dict[str, NDArray[Any]]:
        """Return what it keeps where n episodes begin, ``[n, ...]`` by name."""
        return self._actor.initial_state(n) if isinstance(self._actor, Actor) else {}

    def play(
        self, seen: Tensor, task: Tensor | None, state: dict[str, NDArray[Any]], counters: Tensor
    ) -> tuple[Tensor, dict[str, NDArray[Any]]]:
        """Return what it does in states of no log, ``[n, O]``, choices from 0, and what it keeps.

        It draws from the counters ``[n, 3]``; ``state`` is of :meth:`begin` or the last step.
        """
        learner = self.learner
        if learner is not None and not learner.acting_noise and not self.follows:
            seen, goal = seen.to(learner.device), task if task is None else task.to(learner.device)
            with torch.inference_mode():
                return learner.act(seen, goal, draws=counters if self.drawn else None).cpu(), state
        asked = None if task is None else task.numpy()
        action, state = self._step(seen.numpy(), asked, state, counters.numpy())
        actor: object = self._actor
        if isinstance(actor, Remembering):
            done = action + self.spec.action.start if self.discrete else action
            state = actor.with_executed(state, done.numpy())
        return action, state

    # ------------------------------------------------------------------ without a state

    def _asked(self, log: LogView, draw: int) -> tuple[Tensor, Tensor]:
        """Return what it does in every row ``[N, ...]`` and after it, one draw of each."""
        sides = []
        for after in (False, True):
            parts = [self._answer(log, rows, draw, after) for rows in self._shown.spans(log)]
            sides.append(torch.cat(parts))
        return sides[0], sides[1]

    def _answer(self, log: LogView, rows: Tensor, draw: int, after: bool) -> Tensor:
        learner, counters = self.learner, self._counters(log, rows, draw, after)
        if learner is not None and not learner.acting_noise:
            seen, task = self._shown.tensors(log, rows, after=after, device=learner.device)
            drawn = counters.to(learner.device) if self.drawn else None
            with torch.inference_mode():
                return learner.act(seen, task, draws=drawn).cpu()
        observation, goal = self._shown.arrays(log, rows, after=after)
        return self._step(observation, goal, {}, counters.numpy())[0]

    def _by_file(self, log: LogView, actions: Sequence[NDArray[Any]], *, after: bool) -> Tensor:
        """Return the log-probabilities ``[N, k]`` float64 that a file states of k actions a row.

        It states those of every action beside the one that it draws, which is not asked for.
        """
        file, parts = cast(OnnxPolicy, self._file), []
        for rows in self._shown.spans(log):
            observation, task = self._shown.arrays(log, rows, after=after)
            noise = self._counters(log, rows, 0, after).numpy()
            found = file.drawn(observation, task, {}, noise).log_prob
            if found is None:
                raise RuntimeError(f"{self.name} does not state what it draws from")
            most = np.full(self.spec.action.shape, np.inf, np.float32)
            stated = [found(action[rows.numpy()], -most, most) for action in actions]
            parts.append(torch.from_numpy(np.stack(stated, axis=-1)))
        return torch.cat(parts)

    def _log_probabilities(self, log: LogView, *, after: bool) -> Tensor:
        """Return those of every choice, ``[N, n]``."""
        if self.learner is None:
            choices = self.spec.action.start + np.arange(self.spec.action.n)
            each = [np.full(len(log), choice) for choice in choices]
            return self._by_file(log, each, after=after)
        parts = []
        learner = self.learner
        for rows in self._shown.spans(log):
            seen, task = self._shown.tensors(log, rows, after=after, device=learner.device)
            with torch.inference_mode():
                parts.append(learner.scores(seen, task).log_softmax(-1).cpu())
        return torch.cat(parts)

    # ------------------------------------------------------------------ with one

    def _followed(self, log: LogView, draw: int) -> tuple[Tensor, Tensor]:
        """Return what it does in every row ``[N, ...]`` and after it, along whole episodes."""
        ends = log.column(EPISODE_END)
        last = (ends == torch.arange(len(log))).nonzero().squeeze(-1)
        first = torch.cat([torch.zeros(1, dtype=torch.int64), last[:-1] + 1])
        order = (last - first).argsort(descending=True)
        found: tuple[Tensor, Tensor] | None = None
        for group in order.split(TOGETHER):
            found = self._side_by_side(log, first[group], last[group], draw, found)
        if found is None:
            raise ValueError("the log is empty")
        return found

    def _side_by_side(
        self,
        log: LogView,
        first: Tensor,
        last: Tensor,
        draw: int,
        found: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Follow some episodes, the longest first, and write down what it does in them."""
        state = self._actor.initial_state(len(first))
        for step in range(int((last - first).max()) + 2):
            here = first + step
            going = here <= last + 1  # one more question than steps: what follows the last
            first, last, here = first[going], last[going], here[going]
            state = {name: value[going.numpy()] for name, value in state.items()}
            over = here > last
            rows = torch.where(over, last, here)
            observation, task = self._shown.arrays(log, rows, after=over)
            counters = self._counters(log, rows, draw, over)
            answer, state = self._step(observation, task, state, counters.numpy())
            if found is None:
                room = answer.new_zeros(len(log), *answer.shape[1:])
                found = room, room.clone()
            found[0][rows[~over]] = answer[~over]
            if step:
                found[1][here - 1] = answer
            state = self._after_execution(log, rows, state)
        if found is None:
            raise RuntimeError("no episode was followed")
        return found

    def _after_execution(
        self, log: LogView, rows: Tensor, state: dict[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        actor: object = self._actor
        if not isinstance(actor, Remembering):
            return state
        return actor.with_executed(state, log.take(ACTION, rows).numpy())

    def _step(
        self, observation: Any, task: Any, state: dict[str, NDArray[Any]], counters: NDArray[Any]
    ) -> tuple[Tensor, dict[str, NDArray[Any]]]:
        """Return checked answers, choices numbered from 0, and the next state."""
        actor = self._actor
        if isinstance(actor, Actor):
            answer, state = actor.step(observation, task, state, counters)
        else:
            answer = cast(Act, actor)(*([observation] if task is None else [observation, task]))
        given = torch.as_tensor(np.asarray(answer))
        shape = [] if self.discrete else list(self.spec.action.shape)
        if list(given.shape) != [len(counters), *shape]:
            raise ValueError(
                f"{self.name} answers {len(counters)} observations with shape "
                f"{list(given.shape)}, and actions are {shape or 'one number'} each"
            )
        if not self.discrete:
            if not bool(given.isfinite().all()):
                raise ValueError(f"{self.name} answers with numbers that are not finite")
            return given.float(), state
        choice = given.long() - self.spec.action.start
        if not bool(((choice >= 0) & (choice < self.spec.action.n)).all()):
            start, n = self.spec.action.start, self.spec.action.n
            raise ValueError(f"{self.name} chooses outside of {start} to {start + n - 1}")
        return choice, state

    def _counters(self, log: LogView, rows: Tensor, draw: int, after: Any) -> Tensor:
        """Return the counters ``[n, 3]`` of draws; those after a row are those of the next."""
        episode, step = log.take(EPISODE, rows), log.take(STEP, rows)
        later = torch.as_tensor(after).long().expand_as(step)
        key = torch.full_like(episode, self._key)
        return fork(torch.stack([key, episode, step + later], dim=-1), draw)


def _name(policy: object) -> str:
    if isinstance(policy, (str, Path)):
        return str(policy)
    if isinstance(policy, Learner):
        return type(policy).__name__
    return getattr(policy, "__name__", type(policy).__name__)


def _opened(path: str | Path) -> Learner | OnnxPolicy:
    """Return what a file holds."""
    if Path(path).suffix == ".onnx":
        return OnnxPolicy(path)
    return load_learner(path)


def _shares(choices: Tensor, n: int) -> Tensor:
    """Return how often each of n was chosen, ``[N, n]`` float32, in draws ``[N, m]``."""
    return torch.nn.functional.one_hot(choices.long(), n).float().mean(1)
