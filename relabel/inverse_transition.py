"""Relabeling as inverse RL, transition by transition: each goes to the tasks it was good for.

The task of a row is drawn from the posterior over tasks given how good its transition is for each,
by a learner's soft values. The log-partition function makes tasks comparable: a transition is
judged relative to others on the same task, not by the size of the task's rewards.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, NEXT_ACHIEVED, Key
from hindsight_rl.maths.draws import fork, integers, uniform
from hindsight_rl.maths.posterior import log_partition, posterior_metrics, task_posterior
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler, Values
from hindsight_rl.relabel.scoring import Scoring, table_of
from hindsight_rl.relabel.soft_scores import (
    EntropyScale,
    RunningLogZ,
    SoftScores,
    gathered,
    over_ranks,
    soft_scores,
)
from hindsight_rl.relabel.task_choice import (
    Proposal,
    assigned,
    check_arguments,
    check_proposals,
    drawn,
    success_shares,
    usual_proposal,
)
from hindsight_rl.tasks.family import GoalReaching, TaskFamily


class Judged(NamedTuple):
    """For which tasks the transitions of each update were good."""

    tasks: Tensor
    """``[K, N, Z]``, what its rows choose from."""
    posterior: Tensor
    """``[K, B, N]``."""
    rows: Tensor
    """``[K, B]`` bool, those that are judged; the others keep their task."""


class TransitionInverseRL(Relabeler):
    """The task is drawn from the posterior of the transition, row by row.

    The score under a task is the soft Q-value of the step, from its reward and what the learner
    says of the rest: with SAC it is HIPI-RL. Tasks are drawn anew for every update, log Z is
    estimated from the rows of the update that are relabeled, over all ranks. Scores see the
    learner's weights at the start of a chunk; with ``updates_per_step`` 1 those of every update.
    The spec, which is made before there is a learner, has all candidates alike. Trajectories are
    judged by :class:`InverseRL`, without a learner.

    Args:
        family: The tasks; sparse goal reaching by default.
        candidates: Number of tasks to choose from; all rows of an update share them. For each of
            them a transition costs two passes of the policy and one of a critic, less with an
            ``entropy_scale`` of 0 and with ``scoring``.
        propose: Where they come from: ``"prior"``, of the family; ``"log"``, the tasks that rows
            of the update have by now, those of an earlier relabeler too, which must be of the
            family; ``"reached"``, tasks that getting where its steps led fulfils, so that some rows
            are a success. Several share the candidates evenly. ``None`` is ``"reached"`` where
            getting somewhere fulfils tasks of the family, else ``"prior"``. A row's own need not be
            among those drawn; ``fraction`` below 1 keeps it for some.
        tasks: A fixed set of tasks instead, Z numbers each.
        partition: Subtract log Z; without it the task with the largest rewards takes all.
            ``"running"``, for a fixed set: an average over updates.
        temperature: Divides the scores; above 0.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        entropy_scale: Weight of -log pi(a | s, task): 1 as in the published code, ``"learner"`` for
            the learner's own temperature, which agrees with its critic, 0 for none.
        rate: Weight of the newest update in a running log Z, in (0, 1].
        scoring: How pairs of a row and a candidate are scored: exactly, or for less work.

    Raises:
        ValueError: An argument is out of range, or (``use``) the learner has no soft values, or
            (``__call__``) there is no task to choose from or to keep, or several seeds of a learner
            share the batch.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, algorithm 1 with eq. 8.
    """

    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self,
        family: TaskFamily | None = None,
        candidates: int = 32,
        propose: Proposal | Sequence[Proposal] | None = None,
        tasks: Sequence[Sequence[float]] | None = None,
        partition: bool | Literal["running"] = True,
        temperature: float = 1.0,
        fraction: float = 1.0,
        entropy_scale: EntropyScale = 1.0,
        rate: float = 0.05,
        scoring: Scoring = Scoring(),
    ) -> None:
        super().__init__()
        check_choices(TransitionInverseRL.__init__, locals())
        check_arguments(candidates, tasks, temperature, fraction)
        _check_running(scoring, partition)
        if not 0 < rate <= 1:
            raise ValueError(f"rate is {rate}, it must lie in (0, 1]")
        if partition == "running" and tasks is None:
            raise ValueError(
                "a running log Z is for transitions and tasks that stay the same: give tasks, or "
                "set partition to True"
            )
        self.family, self.candidates = family or GoalReaching(), candidates
        self.propose = usual_proposal(self.family) if propose is None else propose
        self._proposals = check_proposals(self.propose, candidates)
        self.tasks, self.partition, self.temperature = tasks, partition, temperature
        self.fraction, self.entropy_scale = fraction, entropy_scale
        self.scoring = scoring
        self.choices = torch.empty(0, 0)
        self.rate, self.running = rate, RunningLogZ(rate)
        self._soft: SoftScores | None = None

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for its prior and rewards."""
        return self.family.in_keys

    def prepare(self, log: LogView) -> "TransitionInverseRL":
        """Return a copy whose family knows its prior, and whose log Z begins anew.

        Args:
            log: The log.

        Returns:
            The bound relabeler.
        """
        other = self.bound()
        other.running = RunningLogZ(self.rate)
        other.family = self.family.prepare(log)
        if self.tasks is not None:
            other.choices = torch.tensor(self.tasks, dtype=torch.float32)
        return other

    def use(self, values: Values | None) -> None:
        """Take the learner's soft values; ``ValueError`` where it has none."""
        self._soft = soft_scores(
            "TransitionInverseRL",
            self.family,
            values,
            self.entropy_scale,
            self.scoring.by,
            self.scoring.precision,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the running log Z, where there is one."""
        return self.running.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the running log Z of a checkpoint.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: It is that of another set of tasks.
        """
        held = len(state.get("log_z", self.choices))
        if held != len(self.choices):
            raise ValueError(
                f"the checkpoint holds a running log Z of {held} tasks, this "
                f"TransitionInverseRL has {len(self.choices)}: set tasks as in the run"
            )
        self.running.load_state_dict(state)

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: The batch is shared by several seeds.
        """
        if len(batch.batch_size) != 2:
            raise ValueError(
                f"{batch.batch_size[1]} seeds of a learner share this batch, and "
                "TransitionInverseRL judges by one: set model.seeds to 1 and start one run per seed"
            )
        tasks, posterior, judged = self.judge(batch)
        chosen = drawn(posterior, batch).unsqueeze(-1)
        task = tasks.gather(1, chosen.expand(*batch.batch_size, tasks.shape[-1]))
        result, changed = assigned(batch, task, self.family, self.fraction)
        self.metrics = posterior_metrics(posterior, judged) | changed
        self.metrics |= success_shares(result, tasks, judged, self.family)
        return result

    def judge(self, batch: TensorDict) -> Judged:
        """Return for which tasks the transitions of each update were good.

        Rows that keep their task are neither judged nor counted for log Z.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            Tasks, posterior and the rows it is about; without a learner all tasks are alike.
        """
        tasks, draws = self._of_update(batch), batch[DRAWS]
        judged = uniform(draws, draw=1) < self.fraction
        if self._soft is None:
            shape = (*draws.shape[:-1], tasks.shape[-2])
            return Judged(tasks, torch.full(shape, 1.0 / shape[-1], device=draws.device), judged)
        log_prior = None if self.tasks is None else self.family.log_prior(tasks[:, None])

        def posterior(scores: Tensor, counted: Tensor, updates: Tensor | None = None) -> Tensor:
            log_z = self._log_z(scores, counted, updates)
            return task_posterior(scores, log_prior, partition=log_z, temperature=self.temperature)

        each = _each(draws, tasks.shape[-2])
        scores, counted = table_of(self.scoring, self._soft, batch, tasks, each, judged, posterior)
        return Judged(tasks, posterior(scores, counted, draws[:, 0, 1]), judged)

    def _log_z(self, scores: Tensor, counted: Tensor, updates: Tensor | None) -> Tensor | bool:
        """Return log Z ``[K, N]`` of each update, ``False`` where none is subtracted.

        An average over updates moves by those that are given.
        """
        if not self.partition:
            return False
        log_z = over_ranks(log_partition(scores / self.temperature, counted), counted)
        if self.partition != "running" or updates is None:
            return log_z
        return self.running(log_z, updates, moves=torch.is_grad_enabled())

    def _of_update(self, batch: TensorDict) -> Tensor:
        """Return the tasks ``[K, N, Z]`` that the rows of each update choose from."""
        draws = batch[DRAWS]
        if self.tasks is not None:
            choices = self.choices.to(draws.device)
            return choices.expand(len(draws), *choices.shape)
        shares = _each(draws, self.candidates).tensor_split(len(self._proposals), dim=1)
        parts = [
            self._proposed(propose, batch, each)
            for propose, each in zip(self._proposals, shares, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def _proposed(self, propose: Proposal, batch: TensorDict, each: Tensor) -> Tensor:
        """Return candidates ``[K, n, Z]`` from one place, for counters ``[K, N, 3]``; n <= N."""
        if propose == "prior":
            return self.family.sample(each)
        found = gathered(_tasks_of(batch) if propose == "log" else batch[NEXT_ACHIEVED])
        each = each[:, : found.shape[1]]
        if each.shape[1] < found.shape[1]:
            row = integers(each, found.shape[1]).unsqueeze(-1)
            found = found.gather(1, row.expand(*row.shape[:2], found.shape[-1]))
        if propose == "log":
            return found
        return self.family.task_of(found, fork(each, "reached"))


def _check_running(scoring: Scoring, partition: bool | str) -> None:
    if scoring.candidates is not None and partition == "running":
        raise ValueError(
            "a running log Z needs every task in every update: leave candidates out of scoring, or "
            "set partition to True"
        )


def _tasks_of(batch: TensorDict) -> Tensor:
    if "task" not in batch.keys():
        raise ValueError(
            "the log has no 'task' to choose from: use propose 'prior', or give tasks, or put "
            "RandomTask before TransitionInverseRL"
        )
    tasks: Tensor = batch["task"]
    return tasks


def _each(draws: Tensor, count: int) -> Tensor:
    """Return counters ``[K, count, 3]`` of candidates: the same on every rank, not of its rows."""
    each = fork(draws[:, :1], "tasks").repeat(1, count, 1)
    each[..., 2] = torch.arange(count, device=draws.device)
    return each
