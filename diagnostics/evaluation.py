"""Evaluation: held-out rows and episodes of a learner, of all its copies where it has several."""

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.envs.rollout import Rollout, lowered, rollout
from hindsight_rl.envs.statistics import summarize, summarize_seeds


def held_out_values(learner: Any, batch: TensorDict) -> dict[str, Tensor]:
    """Return loss terms, metrics and the action error on held-out rows, means over the copies.

    Args:
        learner: The learner; columns of a sweep are there.
        batch: TensorDict ``[1, B]``.

    Returns:
        Scalars by name.
    """
    seen = []
    for copy in learner.each_copy():
        rows = learner.complete(batch, copy)[0]
        found = learner.losses(rows)
        action = learner(rows["observation"], rows.get("task", None))
        error = {"action_error": _error(action, rows["action"])}
        seen.append({**found.terms, **found.metrics, **error})
    return {name: torch.stack([values[name] for values in seen]).mean() for name in seen[0]}


def _error(action: Tensor, logged: Tensor) -> Tensor:
    """Return the mean absolute error of continuous actions, the error rate of discrete ones."""
    if action.is_floating_point():
        return (action - logged).abs().mean()
    return (action != logged).float().mean()


def episodes(learner: Any, count: int, seed: int, max_steps: int | None = None) -> Rollout:
    """Return episodes of the learner in its environment.

    Args:
        learner: The learner.
        count: Number of episodes.
        seed: Seed of the first.
        max_steps: Steps after which an episode is cut, ``None`` for ``eval_max_steps``.

    Returns:
        The rollout.

    Raises:
        ValueError: The learner has no environment.
    """
    if learner.env is None:
        raise ValueError("no environment to run episodes in: give --env ID (or the argument env)")
    return rollout(
        learner.act_numpy,
        learner.env,
        episodes=count,
        seed=seed,
        env_kwargs=learner.env_kwargs,
        max_steps=learner.eval_max_steps if max_steps is None else max_steps,
        limit_option="eval_max_steps (of 'hindsight test': --max_steps)",
        spec=learner.spec,
        task=None if learner.eval_task is None else np.asarray(learner.eval_task, np.float32),
        next_task=lowered if learner.eval_command == "lowered" else None,
    )


def evaluate(learner: Any) -> dict[str, float]:
    """Return the evaluation during ``fit`` under ``eval/``, means over the copies."""
    reports = [
        summarize(episodes(learner, learner.eval_episodes, learner.eval_seed))
        for _ in learner.each_copy()
    ]
    return {
        f"eval/{name}": float(np.mean([report[name] for report in reports]))
        for name in ("return", "length", "success", "final_success")
        if reports[0][name] is not None
    }


def test_report(learner: Any) -> dict[str, Any]:
    """Return the report of ``test``; of several copies one over all, with each one's inside."""
    reports = [
        summarize(episodes(learner, learner.test_episodes, learner.test_seed))
        for _ in learner.each_copy()
    ]
    return reports[0] if len(reports) == 1 else summarize_seeds(reports)
