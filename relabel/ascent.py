"""Gradient ascent on tasks: each row's task moves to where the row is better than others."""

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, Key
from hindsight_rl.maths.draws import fork, integers
from hindsight_rl.maths.posterior import log_partition
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.new_tasks import check_fraction, recompute
from hindsight_rl.relabel.relabeler import Relabeler, Values
from hindsight_rl.relabel.soft_scores import EntropyScale, SoftScores, ranks, soft_scores
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching, TaskFamily
from hindsight_rl.tasks.linear import LinearTasks


class AscendTask(Relabeler):
    """The task a row has now moves along the gradient of score(row, task) - log Z(task).

    For continuous tasks, after a relabeler that draws them: ``Compose([TransitionInverseRL(...),
    AscendTask(...)])``. log Z is estimated from a few rows of the update, for the task of every row
    and at every step. Each step has the same length; weights of linear tasks stay in their box,
    margins in their range. The end of an ascent is not a draw from the posterior: it has less
    spread.

    A step costs ``scored`` + 1 passes forward and backward for each row of the update. For one
    process; rows of an update and its scores see the learner's weights at the start of a chunk.

    Args:
        family: The tasks, not discrete ones; dense goal reaching by default.
        steps: Steps of the ascent, at least 1.
        rate: Length of each step in the unit of tasks, above 0.
        scored: Rows of the update that log Z is estimated from, at least 2.
        fraction: Probability that a row's task moves, in [0, 1].
        entropy_scale: As in :class:`TransitionInverseRL`.

    Raises:
        ValueError: An argument is out of range, or (``use``) the learner has no soft values, or
            (``__call__``) rows have no task, or are shared by processes or seeds.

    Reference:
        Not in Eysenbach et al. 2020, arXiv 2002.11089, which draws from given tasks; measured in
        docs/hipi.md.
    """

    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self,
        family: TaskFamily | None = None,
        steps: int = 3,
        rate: float = 0.1,
        scored: int = 8,
        fraction: float = 1.0,
        entropy_scale: EntropyScale = 1.0,
    ) -> None:
        super().__init__()
        check_choices(AscendTask.__init__, locals())
        check_fraction(fraction)
        if steps < 1 or scored < 2 or not rate > 0:
            raise ValueError(
                f"steps {steps} must be at least 1, scored {scored} at least 2 and rate {rate} "
                "above 0"
            )
        if isinstance(family, DiscreteTasks):
            raise ValueError(
                "AscendTask moves tasks by small steps, and discrete tasks have none between them: "
                "use TransitionInverseRL alone"
            )
        self.family, self.steps, self.rate, self.scored = (
            family or GoalReaching(kind="dense"),
            steps,
            rate,
            scored,
        )
        self.fraction, self.entropy_scale = fraction, entropy_scale
        self._soft: SoftScores | None = None

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for rewards."""
        return self.family.in_keys

    def prepare(self, log: LogView) -> "AscendTask":
        """Return a copy whose family is bound to the log."""
        other = self.bound()
        other.family = self.family.prepare(log)
        return other

    def use(self, values: Values | None) -> None:
        """Take the learner's soft values; ``ValueError`` where it has none."""
        self._soft = soft_scores("AscendTask", self.family, values, self.entropy_scale)

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch under tasks that have moved, reward and termination with them.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows have no task, or are shared by processes or seeds.
        """
        if "task" not in batch.keys():
            raise ValueError(
                "AscendTask moves tasks, and rows have none: put TransitionInverseRL before it"
            )
        if ranks() > 1 or len(batch.batch_size) != 2:
            raise ValueError(
                "AscendTask takes the rows of one process and one learner: set trainer.devices and "
                "model.seeds to 1, or leave it out"
            )
        if self._soft is None:
            return batch
        with torch.inference_mode(False):  # copies: those of inference never get a gradient
            task, rows = batch["task"].clone(), self._soft.rows(batch).clone()
            for _ in range(self.steps):
                task = self._moved(self._soft, rows, task)
        self.metrics = {"task_moved": (task - batch["task"]).norm(dim=-1).mean()}
        return recompute(batch, task, self.family, self.fraction)

    def _moved(self, soft: SoftScores, rows: TensorDict, task: Tensor) -> Tensor:
        """Return the tasks ``[K, B, Z]`` one step on."""
        with torch.enable_grad():
            start = task.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.excess(soft, rows, start).sum(), start)
        slope = torch.nan_to_num(slope)
        length = torch.linalg.vector_norm(slope, dim=-1, keepdim=True)
        task = task + self.rate * slope / length.clamp_min(torch.finfo(slope.dtype).tiny)
        if isinstance(self.family, LinearTasks):
            low, high = self.family.low.to(task.device), self.family.high.to(task.device)
            return torch.minimum(torch.maximum(task, low), high)
        if isinstance(self.family, GoalReaching) and self.family.margin is not None:
            goal, margin = task[..., :-1], task[..., -1:].clamp(*self.family.margin)
            return torch.cat([goal, margin], dim=-1)
        return task

    def excess(self, soft: SoftScores, rows: TensorDict, task: Tensor) -> Tensor:
        """Return score - log Z of each row under its task: what ascends.

        Args:
            soft: Scores by the learner.
            rows: Transitions ``[K, B]`` with ``draws``.
            task: ``[K, B, Z]``.

        Returns:
            ``[K, B]``, nats.
        """
        updates, size = rows.batch_size
        own = soft(rows.reshape(-1), task.reshape(-1, 1, task.shape[-1]))
        # Which rows stand for all: drawn with replacement, the same ones at every step.
        chosen = integers(fork(rows[DRAWS][:, : self.scored], "rows of log Z"), size)
        update = torch.arange(updates, device=task.device)
        few = rows[update.unsqueeze(-1), chosen]
        scores = soft(few.reshape(-1), task, update.repeat_interleave(chosen.shape[1]))
        return own.reshape(updates, size) - log_partition(scores.unflatten(0, few.batch_size))
