"""Imagined episodes: the current policy, from logged states, in a model of the world.

An episode is a function of (seed, its number, the policy, the model, the log): where it begins, its
actions and the model's luck are drawn from counters of (episode, step). Of a learned model a member
is drawn for every row and step by the model itself.

Reference: Janner, Fu, Zhang and Levine 2019, arXiv 1906.08253, algorithm 2; Chua et al. 2018, arXiv
1805.12114, section 5.1 (TS1).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.datamodules.imagined_rows import ImaginedRows, Unknown
from hindsight_rl.datamodules.sources.opened_model import name_of, opened
from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
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
from hindsight_rl.logs.action_bounds import open_ends
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.rows import SPAN
from hindsight_rl.maths.draws import fork, fork_key, integers, seed_key, uniforms
from hindsight_rl.maths.dynamics import penalised
from hindsight_rl.ports import Actor, Imagined, Remembering

GIVEN: tuple[Key, ...] = (
    OBSERVATION,
    NEXT_OBSERVATION,
    ACTION,
    REWARD,
    TERMINATED,
    TRUNCATED,
    TASK,
    ACHIEVED,
    NEXT_ACHIEVED,
)
"""Columns that imagined rows have, where the log has them."""


class Branches(NamedTuple):
    """Imagined episodes, in the order of their numbers.

    Attributes:
        columns: ``[M, ...]`` by key.
        lengths: ``[E]`` int64, steps of each episode.
        disagreement: ``[M]``, the model's, in its own units.
        unknown: ``[M]`` bool: the model knew too little.
    """

    columns: dict[Key, Tensor]
    lengths: Tensor
    disagreement: Tensor
    unknown: Tensor

    def metrics(self) -> dict[str, float]:
        """Return what is logged of a round."""
        rows = max(1, len(self.disagreement))
        return {
            "imagine/rows": float(len(self.disagreement)),
            "imagine/length": rows / max(1, len(self.lengths)),
            "imagine/reward": float(self.columns[REWARD].double().sum()) / rows,
            "imagine/terminated": float(self.columns[TERMINATED].sum()) / rows,
            "imagine/disagreement": float(self.disagreement.double().sum()) / rows,
            "imagine/unknown": float(self.unknown.sum()) / rows,
        }


class ModelSource:
    """What a model imagines, as episodes with the columns of a log.

    Args:
        given: What is imagined, and how.
        log: Rows of the kind that are imagined, see :data:`GIVEN`.
        held_out: Row numbers ``[M]`` int64 that the model was not fitted to; ``None`` for all.
        seed: Of every draw.

    Raises:
        LogError: No model could imagine such rows, or the model is of other rows.
        ValueError: The model cannot be read.

    Attributes:
        name: The model, for messages.
        model: The model.
        threshold: Disagreement above which a step is unknown, ``None`` for none.
    """

    def __init__(
        self, given: ImaginedRows, log: Log, held_out: Tensor | None = None, *, seed: int = 0
    ) -> None:
        self.given, self.name = given, name_of(given.model)
        self.model = opened(given.model, given.uncertainty)
        self._key = fork_key(seed_key(seed), "imagine")
        _check_rows(log)
        self.keys = tuple(key for key in log.packed_keys() if key in GIVEN)
        self._first_choice = int(log.info.get("action_start") or 0)
        self._achieved = _achieved(log) if NEXT_ACHIEVED in self.keys else None
        self.threshold: float | None = None
        self._worst = 0.0
        self.look(log, held_out)

    def look(self, log: Log, held_out: Tensor | None = None) -> None:
        """Find from which disagreement on steps are unknown, and what they earn.

        Args:
            log: Logged rows.
            held_out: Row numbers ``[M]`` int64 that the model was not fitted to; ``None`` for all.
        """
        unknown = self.given.unknown
        if unknown is None:
            return
        self._worst = worst_reward(unknown, log)
        self.threshold = unknown.threshold
        if self.threshold is None:
            rows = log.drawable() if held_out is None or not len(held_out) else held_out
            found = self.disagreement(log, rows).double().sort().values
            # The nearest rank above: quantile 1 is the largest.
            place = int(np.ceil(unknown.quantile * len(found))) - 1
            self.threshold = float(found[max(0, place)])

    def disagreement(self, log: Log, rows: Tensor) -> Tensor:
        """Return the model's disagreement on logged steps, ``[M]``."""
        found = []
        for part in rows.split(SPAN):
            action = log.take(ACTION, part)
            found.append(self._asked(log.take(OBSERVATION, part), action, None).disagreement)
        return torch.cat(found)

    def collect(
        self,
        policy: Actor | None,
        first: int,
        count: int,
        log: Log | None = None,
        *,
        horizon: int | None = None,
    ) -> Branches:
        """Return imagined episodes.

        Args:
            policy: What acts; ``None`` for uniformly random actions.
            first: Number of the first episode.
            count: How many, at least 1.
            log: Logged rows: episodes begin in the states of those that may be drawn.
            horizon: Steps of an episode at most; those of the first update unless given.

        Returns:
            The episodes.

        Raises:
            LogError: There is no log to begin from, or the model gives numbers that are not finite.
        """
        if log is None:
            raise LogError("imagined episodes begin in logged states", "Give the log.")
        horizon = self.given.steps(0) if horizon is None else horizon
        number = torch.arange(first, first + count)
        drawable = log.drawable()
        begin = drawable[integers(fork(self._draws(number, 0), "begin"), len(drawable))]
        observation = log.take(OBSERVATION, begin)
        task = log.take(TASK, begin) if TASK in self.keys else None
        going, steps = torch.arange(count), []
        state = {} if policy is None else policy.initial_state(count)
        for step in range(horizon):
            draws = self._draws(number[going], step)
            action, state = self._act(policy, observation, task, state, draws, log)
            rows = self._step(observation, action, task, draws)
            rows["branch"], rows[TRUNCATED] = going, torch.full((len(going),), step == horizon - 1)
            rows[TRUNCATED] &= ~rows[TERMINATED]
            steps.append(rows)
            on = ~rows[TERMINATED]
            going, observation = going[on], rows[NEXT_OBSERVATION][on]
            task = None if task is None else task[on]
            state = {name: value[on.numpy()] for name, value in state.items()}
            if not len(going):
                break
        return self._episodes(steps, count)

    def _draws(self, number: Tensor, step: int) -> Tensor:
        """Return the counters ``[n, 3]`` of a step of episodes ``[n]``."""
        words = torch.full_like(number, self._key), number, torch.full_like(number, step)
        return torch.stack(words, dim=-1)

    def _act(
        self,
        policy: Actor | None,
        observation: Tensor,
        task: Tensor | None,
        state: dict[str, Any],
        draws: Tensor,
        log: Log,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the executed actions ``[n, ...]`` in the log's numbers, and the policy's state."""
        draws = fork(draws, "policy")
        if policy is None:
            return _random(log, draws), state
        asked = None if task is None else task.numpy()
        answer, state = policy.step(observation.numpy(), asked, state, draws.numpy())
        action = torch.as_tensor(answer)
        if action.is_floating_point():
            low, high = _bounds(log)
            action = action.float().clamp(low, high)
        if isinstance(policy, Remembering):
            state = policy.with_executed(state, action.numpy())
        return action, state

    def _asked(self, observation: Tensor, action: Tensor, draws: Tensor | None) -> Imagined:
        """Return the model's answer, in this machine's memory; choices it counts from 0."""
        action = action if action.is_floating_point() else action - self._first_choice
        device = self.model.device
        draws = None if draws is None else draws.to(device)
        with torch.no_grad():
            found = self.model.imagine(observation.to(device), action.to(device), draws)
        return Imagined(*(part.cpu() for part in found))

    def _step(
        self, observation: Tensor, action: Tensor, task: Tensor | None, draws: Tensor
    ) -> dict[Any, Tensor]:
        """Return the rows of one step, by key, with ``disagreement`` and ``unknown``."""
        found = self._asked(observation, action, fork(draws, "model"))
        following = found.next_observation.float()
        unknown = torch.zeros(len(observation), dtype=torch.bool)
        reward = penalised(found.reward, found.disagreement, penalty=self.given.penalty)
        if self.threshold is not None:
            unknown = found.disagreement > self.threshold
            reward = torch.where(unknown, self._worst, reward)
        rows: dict[Any, Tensor] = {
            OBSERVATION: observation,
            ACTION: action,
            NEXT_OBSERVATION: following,
            REWARD: reward.float(),
            TERMINATED: found.terminated | unknown,
            "disagreement": found.disagreement.float(),
            "unknown": unknown,
        }
        if task is not None:
            rows[TASK] = task
        if self._achieved is not None:
            rows[ACHIEVED], rows[NEXT_ACHIEVED] = (
                seen[..., self._achieved] for seen in (observation, following)
            )
        for key in (NEXT_OBSERVATION, REWARD, "disagreement"):
            if not bool(torch.isfinite(rows[key]).all()):
                raise LogError(
                    f"{self.name} imagines numbers that are not finite",
                    "Fit it again, or imagine fewer steps (imagined.horizon).",
                    column=key_name(key),
                )
        return rows

    def _episodes(self, steps: list[dict[Any, Tensor]], count: int) -> Branches:
        """Return the rows of all steps, episode by episode."""
        rows = {key: torch.cat([each[key] for each in steps]) for key in steps[0]}
        order = rows["branch"].argsort(stable=True)  # steps of a branch stay in their order
        lengths = torch.bincount(rows["branch"], minlength=count)
        rows = {key: value[order] for key, value in rows.items()}
        columns = {key: rows[key] for key in self.keys}
        return Branches(columns, lengths, rows["disagreement"], rows["unknown"])


def worst_reward(unknown: Unknown, log: Log) -> float:
    """Return what an unknown step earns: no more than any policy could get from there.

    Args:
        unknown: What is known to be wanted.
        log: Logged rows.

    Returns:
        Reward units.
    """
    if unknown.reward is not None:
        return unknown.reward
    least = min(float(part.double().min()) for part in log.drawn(REWARD))
    return min(least, least / (1 - unknown.discount))


def _check_rows(log: Log) -> None:
    """Raise on rows that no model imagines: images, entries, numbers less an offset."""
    if log.observed != [OBSERVATION] or log.images or log.info.get("offset"):
        what = "is less an offset" if log.info.get("offset") else "has entries or images"
        raise LogError(
            f"the log's observation {what}, and a model imagines one row of plain numbers",
            "Leave imagined out, or map the observation to one column without an offset.",
            path=log.sources[0].name,
        )


def _achieved(log: Log) -> Tensor:
    """Return which numbers of an observation are what was achieved, ``[G]`` int64.

    Args:
        log: With achieved goals.

    Returns:
        Places in the observation.

    Raises:
        LogError: An achieved number is none of the observation's.
    """
    rows = torch.arange(len(log))[: SPAN >> 2]
    seen, reached = (log.take(key, rows) for key in (NEXT_OBSERVATION, NEXT_ACHIEVED))
    equal = (reached.unsqueeze(-1) == seen.unsqueeze(-2)).all(0)  # [G, O]
    if not bool(equal.any(-1).all()):
        missing = (~equal.any(-1)).nonzero().flatten().tolist()
        raise LogError(
            f"the numbers {missing} of what was achieved are none of the observation, so nobody "
            "says what an imagined step achieves",
            "Put them into the observation, or leave imagined out.",
            path=log.sources[0].name,
        )
    return equal.int().argmax(-1)


def _bounds(log: Log) -> tuple[Tensor, Tensor]:
    stated = log.info.get("action") or {}
    open_sides = [[None] * max(1, int(np.prod(log.shape(ACTION))))] * 2
    sides = [stated.get("low") or open_sides[0], stated.get("high") or open_sides[1]]
    low, high = (open_ends(ends, side) for ends, side in zip(sides, ("low", "high"), strict=True))
    return low.float(), high.float()


def _random(log: Log, draws: Tensor) -> Tensor:
    """Return uniformly random actions ``[n, ...]`` in the log's numbers."""
    shape = log.shape(ACTION)
    if not log.column(ACTION, slice(1)).is_floating_point():
        count = int(log.info.get("discrete_actions") or int(log.column(ACTION).max()) + 1)
        return integers(draws, count) + int(log.info.get("action_start") or 0)
    low, high = _bounds(log)
    if not bool(torch.isfinite(high - low).all()):
        raise LogError(
            "its actions have no bounds, so none can be drawn uniformly",
            "Give action_low and action_high in the column map, or a policy.",
            path=log.sources[0].name,
        )
    share = uniforms(draws, int(np.prod(shape))).reshape(len(draws), *shape)
    return low + share * (high - low)
