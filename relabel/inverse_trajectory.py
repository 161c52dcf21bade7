"""Relabeling as inverse RL, trajectory by trajectory: each goes to the tasks it was good for.

The task of a row is drawn from the posterior over tasks given how good its trajectory is for each.
The log-partition function makes tasks comparable: a trajectory is judged relative to others on the
same task, not by the size of the task's rewards.
"""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, NEXT_ACHIEVED, Key
from hindsight_rl.maths.draws import counters, fork, integers
from hindsight_rl.maths.posterior import posterior_metrics, task_posterior
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.task_choice import Proposal, assigned, check_arguments, drawn
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

_TOGETHER = 1 << 22  # rewards, rows by tasks, that are computed together


class InverseRL(Relabeler):
    """The task is drawn from the posterior of the trajectory, row by row.

    The score under a task is the sum of the task's rewards over the steps of the episode (a longer
    one has more to say). Tasks, scores and log Z are found once, from the rows that may be drawn.
    Needs no learner: with cloning it is HIPI-BC. Transitions are judged by
    :class:`TransitionInverseRL`.

    Args:
        family: The tasks; sparse goal reaching by default.
        candidates: Number of tasks to choose from.
        propose: Where they come from: ``"prior"``, of the family; ``"log"``, the tasks of the log,
            which must then be of the family; ``"reached"``, tasks that getting where steps led
            fulfils. A row's own need not be among those drawn; ``fraction`` below 1 keeps it for
            some.
        tasks: A fixed set of tasks instead, Z numbers each.
        partition: Subtract log Z; without it the task with the largest rewards takes all.
        temperature: Divides the scores; above 0.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        seed: Seed of the draws of the candidates.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) there is no task to choose from,
            or (``__call__``) there is no task to keep.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, algorithm 1 with eq. 7.
    """

    in_keys = ("episode",)
    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self,
        family: TaskFamily | None = None,
        candidates: int = 32,
        propose: Proposal = "prior",
        tasks: Sequence[Sequence[float]] | None = None,
        partition: bool = True,
        temperature: float = 1.0,
        fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choices(InverseRL.__init__, locals())
        check_arguments(candidates, tasks, temperature, fraction)
        _check_partition(partition)
        self.family, self.candidates, self.propose = family or GoalReaching(), candidates, propose
        self.tasks, self.partition, self.temperature = tasks, partition, temperature
        self.fraction, self.seed = fraction, seed
        self.choices = self.posterior = torch.empty(0, 0)

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for rewards, and the tasks where the log proposes them."""
        kinds: dict[str, tuple[Key, ...]] = {"log": ("task",), "reached": (NEXT_ACHIEVED,)}
        proposed = kinds.get(self.propose, ()) if self.tasks is None else ()
        return (*self.in_keys, *self.family.in_keys, *proposed)

    def prepare(self, log: LogView) -> "InverseRL":
        """Return a copy bound to a log: it knows the tasks and the posterior ``[E, N]``.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: There is no task to choose from.
        """
        other = self.bound()
        other.family = self.family.prepare(log)
        if self.tasks is not None:
            other.choices = torch.tensor(self.tasks, dtype=torch.float32)
        else:
            other.choices = other._proposed(log)
        other.posterior = other._posterior(log)
        return other

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination.

        Args:
            batch: TensorDict ``[..., B]``.

        Returns:
            TensorDict of the same shape.
        """
        posterior = self.posterior.to(batch[DRAWS].device)[batch["episode"]]
        task = self.choices.to(posterior.device)[drawn(posterior, batch)]
        result, changed = assigned(batch, task, self.family, self.fraction)
        self.metrics = posterior_metrics(posterior.flatten(0, -2)) | changed
        return result

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

    def _proposed(self, log: LogView) -> Tensor:
        """Return the tasks ``[N, Z]`` that all trajectories choose from."""
        rows = torch.arange(self.candidates)
        draws = fork(counters(self.seed, torch.zeros(1, dtype=torch.int64), rows), "tasks")[0]
        if self.propose == "prior":
            return self.family.sample(draws)
        drawable = log.drawable()
        row = drawable[integers(draws, len(drawable))]
        if self.propose == "reached":
            return self.family.task_of(log.column(NEXT_ACHIEVED)[row], fork(draws, "reached"))
        if "task" not in log:
            raise ValueError(
                "the log has no 'task' to choose from: use propose 'prior', or give tasks"
            )
        return log.column("task")[row]

    def _posterior(self, log: LogView) -> Tensor:
        """Return the posterior ``[E, N]`` of the episodes; log Z is that of drawable ones."""
        episode = log.column("episode")
        mask = torch.zeros(int(episode[-1]) + 1, dtype=torch.bool)
        mask[episode[log.drawable()]] = True
        # Draws from the prior have its probabilities already; a fixed set has not.
        log_prior = None if self.tasks is None else self.family.log_prior(self.choices)
        return task_posterior(
            self.scores(log),
            log_prior,
            partition=self.partition,
            mask=mask,
            temperature=self.temperature,
        )


def _check_partition(partition: object) -> None:
    """Raise an error for a word, which would count as true."""
    if not isinstance(partition, bool):
        raise ValueError(
            f"partition is {partition!r}, it must be true or false; a running log Z is for "
            "transitions: use TransitionInverseRL"
        )
