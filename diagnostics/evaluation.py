"""Evaluation: held-out rows and episodes of a learner, of all its seeds where it has several."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.envs.rollout import Rollout, lowered, rollout
from hindsight_rl.envs.statistics import summarize, summarize_seeds
from hindsight_rl.ports import LearnerView


@dataclass(frozen=True)
class Evaluation:
    """Episodes of a learner in an environment, during ``fit`` and in ``test``.

    Args:
        env: Gymnasium id; ``None`` for no episodes.
        env_kwargs: Passed to ``gymnasium.make``.
        task: Task of the episodes where the environment does not give one, Z numbers.
        command: ``"lowered"`` for a task that is a command: after every step its first number, the
            return asked for, falls by the reward, its second, the steps left, by 1 to no less than
            1. ``"held"`` keeps it.
        max_steps: Steps after which an episode is cut (truncated); ``None``: the environment's own
            limit, and 10,000 steps, with a warning, where it has none.
        every: Updates between evaluations during ``fit``; 0 for none.
        episodes: Episodes of each.
        test_episodes: Episodes of ``test``.
        seed: Seed of the episodes during ``fit``.
        test_seed: Seed of the test episodes; differs from ``seed`` so that a checkpoint chosen on
            the one is judged on the other.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    env: str | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    task: list[float] | None = None
    command: Literal["held", "lowered"] = "held"
    max_steps: int | None = None
    every: int = 0
    episodes: int = 10
    test_episodes: int = 50
    seed: int = 1_000_000
    test_seed: int = 2_000_000

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.every < 0:
            raise ValueError(f"evaluation.every is {self.every}, it must be at least 0")
        for name in ("episodes", "test_episodes", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"evaluation.{name} is {value}, it must be at least 1")
        check_choices(Evaluation, vars(self))

    @property
    def interval(self) -> int:
        """Return the updates between evaluations, 0 where nothing is evaluated."""
        return self.every if self.env else 0


def held_out_values(learner: LearnerView, batch: TensorDict) -> dict[str, Tensor]:
    """Return loss terms, metrics and the action error on held-out rows, means over the seeds.

    Args:
        learner: The learner; columns of a sweep are there.
        batch: TensorDict ``[1, B]``.

    Returns:
        Scalars by name.
    """
    seen = []
    for seed in learner.each_seed():
        rows = learner.complete(batch, seed)[0]
        found = learner.losses(learner.read(rows))
        error = {}
        if learner.acts:
            action = learner(rows["observation"], rows.get("task", None))
            error = {"action_error": _error(action, rows["action"])}
        seen.append({**found.terms, **found.metrics, **error})
    return {name: torch.stack([values[name] for values in seen]).mean() for name in seen[0]}


def _error(action: Tensor, logged: Tensor) -> Tensor:
    """Return the mean absolute error of continuous actions, the error rate of discrete ones."""
    if action.is_floating_point():
        return (action - logged).abs().mean()
    return (action != logged).float().mean()


def episodes(learner: LearnerView, count: int, seed: int, max_steps: int | None = None) -> Rollout:
    """Return episodes of the learner in its environment.

    Args:
        learner: The learner.
        count: Number of episodes.
        seed: Seed of the first.
        max_steps: Steps after which an episode is cut, ``None`` for those of the evaluation.

    Returns:
        The rollout.

    Raises:
        ValueError: The learner has no environment.
    """
    asked = learner.evaluation
    if not learner.acts:
        raise ValueError(f"{type(learner).__name__} fits no policy: there are no episodes to run")
    if asked.env is None:
        raise ValueError(
            "no environment to run episodes in: give --env ID (or Evaluation(env=...))"
        )
    return rollout(
        learner.player(),
        asked.env,
        episodes=count,
        seed=seed,
        env_kwargs=asked.env_kwargs,
        max_steps=asked.max_steps if max_steps is None else max_steps,
        limit_option="evaluation.max_steps (of 'hindsight test': --max_steps)",
        spec=learner.spec,
        task=asked.task,
        next_task=lowered if asked.command == "lowered" else None,
    )


def evaluate(learner: LearnerView) -> dict[str, float]:
    """Return the evaluation during ``fit`` under ``eval/``, means over the seeds."""
    asked = learner.evaluation
    reports = [
        summarize(episodes(learner, asked.episodes, asked.seed)) for _ in learner.each_seed()
    ]
    return {
        f"eval/{name}": float(np.mean([report[name] for report in reports]))
        for name in ("return", "length", "success", "final_success")
        if reports[0][name] is not None
    }


def test_report(learner: LearnerView) -> dict[str, Any]:
    """Return the report of ``test``; of several seeds one over all, with each one's inside."""
    asked = learner.evaluation
    reports = [
        summarize(episodes(learner, asked.test_episodes, asked.test_seed))
        for _ in learner.each_seed()
    ]
    return reports[0] if len(reports) == 1 else summarize_seeds(reports)
