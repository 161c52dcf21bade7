"""Choosing tasks from a posterior: what inverse RL of trajectories and of transitions share."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import DRAWS, NEXT_ACHIEVED
from hindsight_rl.maths.draws import uniform
from hindsight_rl.maths.posterior import sample_tasks
from hindsight_rl.relabel.new_tasks import check_fraction, recompute
from hindsight_rl.tasks.family import TaskFamily

Proposal = Literal["prior", "log", "reached"]
"""Where candidates come from: the family, tasks of the log, or what steps fulfilled."""


def usual_proposal(family: TaskFamily) -> Proposal:
    """Return where the candidates of transitions come from unless one says so.

    Few steps are a success for goals drawn from the whole prior, and each is one for where it led.

    Args:
        family: The tasks.

    Returns:
        ``"reached"`` where getting somewhere fulfils a task of the family, else ``"prior"``.
    """
    names_tasks = type(family).task_of is not TaskFamily.task_of
    return "reached" if names_tasks and NEXT_ACHIEVED in family.in_keys else "prior"


def check_proposals(
    propose: Proposal | Sequence[Proposal], candidates: int
) -> tuple[Proposal, ...]:
    """Return the places that candidates come from.

    Args:
        propose: One or several.
        candidates: How many tasks they share.

    Returns:
        One or more, each once.

    Raises:
        ValueError: There is none, one that is unknown or named twice, or one without a candidate.
    """
    found = (propose,) if isinstance(propose, str) else tuple(propose)
    known = get_args(Proposal)
    if not found or len(set(found)) < len(found) or not set(found) <= set(known):
        raise ValueError(
            f"propose is {list(found)}: give one or several of {', '.join(known)}, each once"
        )
    if candidates < len(found):
        raise ValueError(
            f"candidates is {candidates}, fewer than the {len(found)} proposals that share them"
        )
    return found


def check_arguments(
    candidates: int,
    tasks: Sequence[Sequence[float]] | None,
    temperature: float,
    fraction: float,
) -> None:
    """Raise an error for arguments that are out of range.

    Args:
        candidates: Number of tasks to choose from.
        tasks: A fixed set instead.
        temperature: Divides the scores.
        fraction: Probability that a row is relabeled.

    Raises:
        ValueError: One of them is.
    """
    check_fraction(fraction)
    if candidates < 1 or (tasks is not None and not len(tasks)):
        raise ValueError("there must be at least one task to choose: candidates or tasks")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, it must be above 0 and finite")


def drawn(posterior: Tensor, batch: TensorDict) -> Tensor:
    """Return the number of the task that each row draws.

    Args:
        posterior: ``[..., B, N]``, over the tasks.
        batch: Rows ``[..., B]`` with ``draws``.

    Returns:
        ``[..., B]`` int64.
    """
    return sample_tasks(posterior, uniform(batch[DRAWS]))


def assigned(
    batch: TensorDict, task: Tensor, family: TaskFamily, fraction: float
) -> tuple[TensorDict, dict[str, Tensor]]:
    """Return the batch under new tasks, and how many rows have another one than before.

    Args:
        batch: Transitions ``[..., B]`` with ``draws``.
        task: ``[..., B, Z]``, the proposed tasks.
        family: Judges reward and termination.
        fraction: Probability that a row takes the new task, in [0, 1].

    Returns:
        A shallow copy; and ``changed``, the share of rows, where they had tasks of this shape.

    Raises:
        ValueError: Rows have no task to keep.
    """
    result = recompute(batch, task, family, fraction)
    held = batch.get("task", None)
    if held is None or held.shape != result["task"].shape:
        return result, {}
    return result, {"changed": (held != result["task"]).any(-1).float().mean()}


def success_shares(
    result: TensorDict, tasks: Tensor, judged: Tensor, family: TaskFamily
) -> dict[str, Tensor]:
    """Return how many steps are a success: for the task that their row got, and for any candidate.

    Args:
        result: Relabeled transitions ``[K, B]``.
        tasks: ``[K, N, Z]``, the candidates of each update.
        judged: ``[K, B]`` bool, rows that got a task.
        family: Says when tasks end.

    Returns:
        ``fulfilled``: share of the rows whose step ends their task; ``supported``: share of the
        first update's whose step ends a candidate. 0 where no row got a task.
    """
    ended = result["next", "terminated"] & judged
    few = result[0].select(*family.in_keys)
    possible = family.terminated(few, tasks[0], pairwise=True).any(-1) & judged[0]

    def share(of: Tensor, among: Tensor) -> Tensor:
        return of.sum() / among.sum().clamp_min(1).to(torch.float32)

    return {"fulfilled": share(ended, judged), "supported": share(possible, judged[0])}
