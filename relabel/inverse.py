"""Relabeling as inverse RL: experience goes to the tasks it was good for.

The task of a row is drawn from the posterior over tasks given how good its trajectory, or its
transition, is for each. The log-partition function makes tasks comparable: experience is judged
relative to other experience on the same task, not by the size of the task's rewards.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import Key
from hindsight_rl.maths.draws import counters, fork, integers, uniform
from hindsight_rl.maths.posterior import (
    log_partition,
    posterior_metrics,
    sample_tasks,
    task_posterior,
)
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.goals import check_fraction, recompute
from hindsight_rl.relabel.relabeler import DRAWS, Relabeler, Values
from hindsight_rl.relabel.soft_scores import (
    EntropyScale,
    RunningLogZ,
    SoftScores,
    check_values,
    gathered,
    over_ranks,
)
from hindsight_rl.tasks.family import NEXT_ACHIEVED, GoalReaching, TaskFamily

_TOGETHER = 1 << 22  # rewards, rows by tasks, that are computed together


class Judged(NamedTuple):
    """For which tasks the transitions of each update were good."""

    tasks: Tensor
    """``[K, N, Z]``, what its rows choose from."""
    posterior: Tensor
    """``[K, B, N]``."""
    rows: Tensor
    """``[K, B]`` bool, those that are judged; the others keep their task."""


class InverseRL(Relabeler):
    """The task is drawn from the posterior of the trajectory or the transition, row by row.

    ``level="trajectory"``: the score under a task is the sum of the task's rewards over the steps
    of the episode (a longer one has more to say). Tasks, scores and log Z are found once, from the
    rows that may be drawn. Needs no learner: with cloning it is HIPI-BC.

    ``level="transition"``: the score is the soft Q-value of the step, from its reward and what the
    learner says of the rest: with SAC it is HIPI-RL. Tasks are drawn anew for every update, log Z
    is estimated from the rows of the update that are relabeled, over all ranks. Scores see the
    learner's weights at the start of a chunk; with ``updates_per_step`` 1 those of every update.
    The spec, which is made before there is a learner, has all candidates alike.

    Args:
        family: The tasks; sparse goal reaching by default.
        level: What is judged.
        candidates: Number of tasks to choose from; all rows of an update share them. For each of
            them a transition costs two passes of the policy and one of a critic.
        propose: Where they come from: ``"prior"``, of the family; ``"log"``, the tasks of the log,
            which must then be of the family; ``"reached"``, tasks that getting where steps led
            fulfils. Of the update instead of the log, at the level of transitions: there
            ``"log"`` means the tasks that rows have by now, those of an earlier relabeler too.
            A row's own need not be among those drawn; ``fraction`` below 1 keeps it for some.
        tasks: A fixed set of tasks instead, Z numbers each.
        partition: Subtract log Z; without it the task with the largest rewards takes all.
            ``"running"``, for transitions and a fixed set: an average over updates.
        temperature: Divides the scores; above 0.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        entropy_scale: Transitions only: weight of -log pi(a | s, task): 1 as in the published code,
            ``"learner"`` for the learner's own temperature, which agrees with its critic, 0 for
            none.
        seed: Seed of the draws from the prior for trajectories.
        rate: Weight of the newest update in a running log Z, in (0, 1].

    Raises:
        ValueError: An argument is out of range, or (``prepare``) there is no task to choose from,
            or (``use``) the learner has no soft values, or (``__call__``) there is no task to keep,
            or transitions are judged by several seeds of a learner.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, algorithm 1 with eq. 7 (trajectories) and eq. 8
        (transitions).
    """

    in_keys = ("episode",)
    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self,
        family: TaskFamily | None = None,
        level: Literal["trajectory", "transition"] = "trajectory",
        candidates: int = 32,
        propose: Literal["prior", "log", "reached"] = "prior",
        tasks: Sequence[Sequence[float]] | None = None,
        partition: bool | Literal["running"] = True,
        temperature: float = 1.0,
        fraction: float = 1.0,
        entropy_scale: EntropyScale = 1.0,
        seed: int = 0,
        rate: float = 0.05,
    ) -> None:
        super().__init__()
        check_choices(InverseRL.__init__, locals())
        check_fraction(fraction)
        if candidates < 1 or (tasks is not None and not len(tasks)):
            raise ValueError("there must be at least one task to choose: candidates or tasks")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, it must be above 0")
        if not 0 < rate <= 1:
            raise ValueError(f"rate is {rate}, it must lie in (0, 1]")
        if partition == "running" and (level == "trajectory" or tasks is None):
            raise ValueError(
                "a running log Z is for transitions and tasks that stay the same: set level "
                "'transition' and give tasks, or set partition to True"
            )
        self.family, self.level = family or GoalReaching(), level
        self.candidates, self.propose, self.tasks = candidates, propose, tasks
        self.partition, self.temperature, self.fraction = partition, temperature, fraction
        self.entropy_scale, self.seed = entropy_scale, seed
        self.choices = self.posterior = torch.empty(0, 0)
        self.rate, self.running = rate, RunningLogZ(rate)
        self._soft: SoftScores | None = None

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for rewards, and the tasks where the log proposes them."""
        kinds: dict[str, tuple[Key, ...]] = {"log": ("task",), "reached": (NEXT_ACHIEVED,)}
        of_log = self.tasks is None and self.level == "trajectory"
        proposed = kinds.get(self.propose, ()) if of_log else ()
        return (*self.in_keys, *self.family.in_keys, *proposed)

    def prepare(self, log: LogView) -> "InverseRL":
        """Return a copy bound to a log: of trajectories it knows tasks and posterior ``[E, N]``.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: There is no task to choose from.
        """
        other = self.bound()
        other.running = RunningLogZ(self.rate)
        other.family = self.family.prepare(log)
        if self.tasks is not None:
            other.choices = torch.tensor(self.tasks, dtype=torch.float32)
        elif self.level == "trajectory":
            other.choices = other._of_log(log)
        if self.level == "trajectory":
            other.posterior = other._of_trajectories(log)
        return other

    def use(self, values: Values | None) -> None:
        """Take the learner's soft values, if transitions are judged by them.

        Args:
            values: ``soft_values`` of the learner.

        Raises:
            ValueError: It has none.
        """
        if self.level == "transition":
            values = check_values("InverseRL", values)
            self._soft = SoftScores(self.family, values, self.entropy_scale)

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
                f"the checkpoint holds a running log Z of {held} tasks, this InverseRL has "
                f"{len(self.choices)}: set tasks as in the run"
            )
        self.running.load_state_dict(state)

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination.

        Args:
            batch: TensorDict ``[K, B]``; of trajectories ``[..., B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: The batch is shared by several seeds, and transitions are judged by one.
        """
        if self.level == "trajectory":
            posterior = self.posterior.to(batch[DRAWS].device)[batch["episode"]]
            task = self.choices.to(posterior.device)[_drawn(posterior, batch)]
            self.metrics = posterior_metrics(posterior.flatten(0, -2))
        else:
            if len(batch.batch_size) != 2:
                raise ValueError(
                    f"{batch.batch_size[1]} seeds of a learner share this batch, and InverseRL "
                    "judges transitions by one: set model.seeds to 1 and start one run per seed"
                )
            tasks, posterior, judged = self.judge(batch)
            chosen = _drawn(posterior, batch).unsqueeze(-1)
            task = tasks.gather(1, chosen.expand(*batch.batch_size, tasks.shape[-1]))
            self.metrics = posterior_metrics(posterior, judged)
        result = recompute(batch, task, self.family, self.fraction)
        held = batch.get("task", None)
        if held is not None and held.shape == result["task"].shape:
            self.metrics["changed"] = (held != result["task"]).any(-1).float().mean()
        return result

    # ------------------------------------------------------------------ trajectories

    def _of_log(self, log: LogView) -> Tensor:
        """Return the tasks ``[N, Z]`` that all trajectories choose from."""
        rows = torch.arange(self.candidates)
        draws = fork(counters(self.seed, torch.zeros(1, dtype=torch.int64), rows), "tasks")[0]
        if self.propose == "prior":
            return self.family.sample(draws)
        drawable = log.drawable()
        row = drawable[integers(draws, len(drawable))]
        if self.propose == "log":
            _check_tasks("task" in log)
            return log.column("task")[row]
        return self.family.task_of(log.column(NEXT_ACHIEVED)[row], fork(draws, "reached"))

    def _of_trajectories(self, log: LogView) -> Tensor:
        """Return the posterior ``[E, N]`` of the episodes."""
        episode = log.column("episode")
        mask = torch.zeros(int(episode[-1]) + 1, dtype=torch.bool)
        mask[episode[log.drawable()]] = True
        return task_posterior(
            self.scores(log),
            self._log_prior(),
            partition=bool(self.partition),
            mask=mask,
            temperature=self.temperature,
        )

    def _log_prior(self) -> Tensor | None:
        """Return log-probabilities ``[N]`` of a fixed set; draws have those of the prior."""
        return None if self.tasks is None else self.family.log_prior(self.choices)

    def scores(self, log: LogView) -> Tensor:
        """Return the sum of rewards of every episode under every task, ``[E, N]``, reward units.

        Args:
            log: The log.

        Returns:
            float32.
        """
        episode = log.column("episode")
        total = torch.zeros(int(episode[-1]) + 1, len(self.choices))
        columns = {key: log.column(key) for key in self.family.in_keys}
        step = max(1, _TOGETHER // len(self.choices))
        for start in range(0, len(log), step):
            rows = slice(start, start + step)
            batch = TensorDict(batch_size=[len(episode[rows])])
            for key, column in columns.items():
                batch.set(key, column[rows])
            total.index_add_(
                0, episode[rows], self.family.reward(batch, self.choices, pairwise=True)
            )
        return total

    # ------------------------------------------------------------------ transitions

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
        scores = self._score(self._soft, batch, tasks, judged)
        log_z = self._log_z(scores, judged, draws[:, 0, 1])
        log_prior = None if self.tasks is None else self.family.log_prior(tasks[:, None])
        posterior = task_posterior(scores, log_prior, partition=log_z, temperature=self.temperature)
        return Judged(tasks, posterior, judged)

    def _log_z(self, scores: Tensor, judged: Tensor, updates: Tensor) -> Tensor | bool:
        """Return log Z ``[K, N]`` of each update, ``False`` where none is subtracted."""
        if not self.partition:
            return False
        log_z = over_ranks(log_partition(scores / self.temperature, judged), judged)
        if self.partition != "running":
            return log_z
        return self.running(log_z, updates, moves=torch.is_grad_enabled())

    def _of_update(self, batch: TensorDict) -> Tensor:
        """Return the tasks ``[K, N, Z]`` that the rows of each update choose from."""
        draws = batch[DRAWS]
        if self.tasks is not None:
            choices = self.choices.to(draws.device)
            return choices.expand(len(draws), *choices.shape)
        if self.propose == "prior":
            return self.family.sample(_each(draws, self.candidates))
        if self.propose == "log":
            _check_tasks("task" in batch.keys())
        found = gathered(batch["task"] if self.propose == "log" else batch[NEXT_ACHIEVED])
        if self.candidates < found.shape[1]:
            row = integers(_each(draws, self.candidates), found.shape[1]).unsqueeze(-1)
            found = found.gather(1, row.expand(*row.shape[:2], found.shape[-1]))
        if self.propose == "log":
            return found
        return self.family.task_of(found, fork(_each(draws, found.shape[1]), "reached"))

    @torch.no_grad()
    def _score(self, soft: SoftScores, batch: TensorDict, tasks: Tensor, judged: Tensor) -> Tensor:
        """Return the soft Q-values ``[K, B, N]``, -inf for rows that are not judged."""
        rows = soft.rows(batch)
        if self.fraction == 1:
            group = torch.arange(len(tasks), device=tasks.device).repeat_interleave(batch.shape[1])
            every: Tensor = soft(rows.reshape(-1), tasks, group).unflatten(0, batch.batch_size)
            return every
        scores = torch.full((*judged.shape, tasks.shape[-2]), -torch.inf, device=tasks.device)
        scores[judged] = soft(rows[judged], tasks, judged.nonzero()[:, 0])
        return scores


def _check_tasks(there: bool) -> None:
    if not there:
        raise ValueError(
            "the log has no 'task' to choose from: use propose 'prior', or give tasks, or (for "
            "transitions) put RandomTask before InverseRL"
        )


def _drawn(posterior: Tensor, batch: TensorDict) -> Tensor:
    return sample_tasks(posterior, uniform(batch[DRAWS]))


def _each(draws: Tensor, count: int) -> Tensor:
    """Return counters ``[K, count, 3]`` of candidates: the same on every rank, not of its rows."""
    each = fork(draws[:, :1], "tasks").repeat(1, count, 1)
    each[..., 2] = torch.arange(count, device=draws.device)
    return each
