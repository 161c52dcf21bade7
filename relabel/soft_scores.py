"""Scores of transitions under tasks, and the log-partition function that compares them.

Shared by the relabelers that judge transitions by a learner's critic.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.draws import fork
from hindsight_rl.maths.posterior import critic_scores, transition_scores
from hindsight_rl.relabel.relabeler import Values
from hindsight_rl.tasks.family import TaskFamily

EntropyScale = float | Literal["learner"]
Score = Literal["step", "critic"]
Precision = Literal["float32", "bfloat16"]

_KEYS = ("observation", "action", ("next", "observation"), DRAWS)
_FORWARD = 1 << 13  # rows by tasks that pass a network together
_KEPT = 31 << 20  # bytes; glibc keeps freed blocks up to the size of one that was freed, 32 MiB


@dataclass(frozen=True)
class SoftScores:
    """The soft Q-values of transitions under tasks of a family, eq. 8 of HIPI.

    Args:
        family: Gives reward and termination.
        values: ``soft_values`` of the learner.
        entropy_scale: Weight of -log pi(a | s, task), ``"learner"`` for the learner's temperature;
            0 saves the pass of the policy.
        score: ``"step"``, the reward and the value of the next state, or ``"critic"``, the value of
            the logged action, and the reward where the task ends.
        precision: Of the hidden layers of the networks that are asked.
    """

    family: TaskFamily
    values: Values
    entropy_scale: EntropyScale
    score: Score = "step"
    precision: Precision = "float32"

    def rows(self, batch: TensorDict) -> TensorDict:
        """Return only what scores need of a batch."""
        return batch.select(*dict.fromkeys((*_KEYS, *self.family.in_keys)))

    def __call__(self, rows: TensorDict, tasks: Tensor, group: Tensor | None = None) -> Tensor:
        """Return the score of every row under its tasks; gradients may reach the tasks.

        Args:
            rows: Transitions ``[R]`` with ``draws``.
            tasks: ``[R, N, Z]``, those of each row; or ``[K, N, Z]`` with groups.
            group: ``[R]`` int64, whose tasks a row has; ``None`` for its own.

        Returns:
            ``[R, N]``, nats.
        """
        step = max(1, _FORWARD // tasks.shape[-2])
        # One noise for all tasks of a row: they are compared with each other.
        row = rows.copy().set(DRAWS, fork(rows[DRAWS], "next action")).unsqueeze(-1)
        parts = []
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            own = tasks[block] if group is None else tasks[group[block]]
            parts.append(self._together(row[block], own))
        return torch.cat(parts) if parts else tasks.new_empty(0, tasks.shape[-2])

    def _together(self, row: TensorDict, tasks: Tensor) -> Tensor:
        pairs = row.expand(tasks.shape[:-1])
        # Networks broadcast a row against its tasks, which saves work, but for chosen numbers.
        seen = row if row["action"].is_floating_point() else pairs
        with self._in_precision(tasks.device.type):
            found = self.values(seen, tasks, seen[DRAWS])
            log_prob = None if self.entropy_scale == 0 else found.log_prob
            value = found.value if self.score == "critic" else found.next_value
        scale = found.temperature if self.entropy_scale == "learner" else self.entropy_scale
        reward, terminated = self.family.reward(pairs, tasks), self.family.terminated(pairs, tasks)
        if self.score == "critic":
            return critic_scores(reward, log_prob, value, terminated, entropy_scale=scale)
        return transition_scores(
            reward, log_prob, value, terminated, discount=found.discount, entropy_scale=scale
        )

    def _in_precision(self, device: str) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device, torch.bfloat16)


class RunningLogZ:
    """log Z of fixed tasks as an exponential moving average of Z over updates.

    An update moves it once, the first time its number is seen: repeated batches leave it
    as it is, and so do those of validation (where gradients are off).

    Args:
        rate: Weight of the newest update, in (0, 1].
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.log_z: Tensor | None = None
        self.updates = 0

    def __call__(self, log_z: Tensor, updates: Tensor, *, moves: bool = True) -> Tensor:
        """Return the average ``[K, N]`` with each update.

        Args:
            log_z: ``[K, N]``, of the rows of each update, nats.
            updates: ``[K]`` int64, their numbers.
            moves: Updates move it; else it is returned as it is (``log_z`` before the first).

        Returns:
            Nats.
        """
        if not moves:
            return log_z if self.log_z is None else self.log_z.to(log_z.device).expand_as(log_z)
        kept = math.log1p(-self.rate) if self.rate < 1 else -math.inf
        moved = []
        for value, number in zip(log_z, updates.tolist(), strict=True):
            if self.log_z is None:
                self.log_z = value
            elif number >= self.updates:
                old = self.log_z.to(value.device) + kept
                self.log_z = torch.logaddexp(old, value + math.log(self.rate))
            self.updates = max(self.updates, number + 1)
            moved.append(self.log_z)
        return torch.stack(moved)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates seen, nothing before the first."""
        return {} if self.log_z is None else {"log_z": self.log_z, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.log_z, self.updates = state.get("log_z"), state.get("updates", 0)


def soft_scores(
    name: str,
    family: TaskFamily,
    values: Values | None,
    entropy_scale: EntropyScale,
    score: Score = "step",
    precision: Precision = "float32",
) -> SoftScores:
    """Return what judges transitions by a learner's soft values.

    Args:
        name: Of the relabeler, for messages.
        family: Judges the reward of the step.
        values: ``soft_values`` of the learner.
        entropy_scale: See :class:`SoftScores`.
        score: Likewise.
        precision: Likewise.

    Returns:
        The scores.

    Raises:
        ValueError: The learner has no soft values.
    """
    # Else each forward pass gets fresh pages from the system: 0.7 ms of 1.7 at 32 x 32 rows.
    torch.empty(_KEPT, dtype=torch.uint8)
    if values is None:
        raise ValueError(
            f"{name} judges transitions by a critic, and this learner has none: use SAC or IQL, or "
            "InverseRL, which judges whole trajectories"
        )
    return SoftScores(family, values, entropy_scale, score, precision)


def ranks() -> int:
    """Return the number of processes that share each batch."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def gathered(value: Tensor) -> Tensor:
    """Return what all ranks hold, ``[K, B, ...]``, side by side along the rows."""
    if ranks() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(ranks())]
    torch.distributed.all_gather(parts, value.contiguous())
    return torch.cat(parts, dim=1)


def over_ranks(log_z: Tensor, counted: Tensor) -> Tensor:
    """Return log Z ``[K, N]`` of the rows of all ranks, from each one's own and its rows.

    Args:
        log_z: ``[K, N]``, of this rank's rows, nats.
        counted: ``[K, B]`` bool, the rows that count; or ``[K, B, N]``, for each task.

    Returns:
        Nats.
    """
    if ranks() == 1:
        return log_z
    counted = counted if counted.ndim == 3 else counted.unsqueeze(-1)
    count = counted.sum(1).to(log_z.dtype)
    sums = gathered((log_z + count.log()).unsqueeze(1))
    total = gathered(count.unsqueeze(1)).sum(1)
    return torch.logsumexp(sums, dim=1) - total.clamp_min(1.0).log()
