"""Rows under new tasks: which rows take one, and the reward and termination that follow."""

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.draws import uniform
from hindsight_rl.tasks.family import TaskFamily


def recompute(batch: TensorDict, task: Tensor, family: TaskFamily, fraction: float) -> TensorDict:
    """Return the batch under new tasks: task, reward and termination rewritten.

    Args:
        batch: Transitions ``[K, B]`` with ``draws``.
        task: ``[K, B, Z]``, the proposed tasks.
        family: Judges reward and termination.
        fraction: Probability that a row takes the new task, in [0, 1].

    Returns:
        A shallow copy; rows that keep their task keep their reward and termination.

    Raises:
        ValueError: Rows have no task to keep.
    """
    reward, terminated = family.reward(batch, task), family.terminated(batch, task)
    result = batch.copy()
    following = result["next"]
    if fraction < 1:
        chosen = uniform(batch[DRAWS], draw=1) < fraction
        task = torch.where(chosen.unsqueeze(-1), task, kept_task(batch, task))
        reward = torch.where(chosen, reward, following["reward"])
        terminated = torch.where(chosen, terminated, following["terminated"])
    following.set("reward", reward).set("terminated", terminated)
    return result.set("task", task)


def check_fraction(fraction: float) -> None:
    """Check that a share of rows lies in [0, 1].

    Args:
        fraction: Probability that a row is relabeled.

    Raises:
        ValueError: It is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}, it must lie in [0, 1]")


def kept_task(batch: TensorDict, task: Tensor) -> Tensor:
    """Return the tasks of rows that keep theirs, those of the log or of an earlier relabeler.

    Args:
        batch: Transitions ``[...]``.
        task: ``[..., Z]``, the tasks that other rows get.

    Returns:
        ``[..., Z]``.

    Raises:
        ValueError: Rows have no tasks, or they have another shape.
    """
    held: Tensor | None = batch.get("task", None)
    if held is None or held.shape != task.shape:
        width = task.shape[-1]
        shape = None if held is None else list(held.shape[task.ndim - 1 :])
        found = "no 'task'" if shape is None else f"tasks of shape {shape}"
        raise ValueError(
            f"fraction is below 1, but rows have {found} that the others could keep, tasks here "
            f"have shape [{width}]: set fraction to 1, map the commanded task to 'task', or put "
            "RandomTask before"
        )
    return held
