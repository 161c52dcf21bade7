"""Relabeling as inverse RL: every trajectory goes to the tasks it was good for.

The task of a trajectory is drawn from the posterior over tasks given its rewards. The
log-partition function makes tasks comparable: a trajectory is judged by how it does on a task
beside other trajectories, not by how large the task's rewards are.
"""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import counters, fork, uniform
from hindsight_rl.maths.posterior import sample_tasks, task_posterior
from hindsight_rl.relabel.goals import check_fraction, check_kept, recompute
from hindsight_rl.relabel.relabeler import DRAWS, Key, LogView, Relabeler
from hindsight_rl.relabel.tasks import GoalReaching, TaskFamily

_TOGETHER = 1 << 22  # rewards, rows by tasks, that are computed together


class InverseRL(Relabeler):
    """The task is drawn from the posterior of the trajectory, each time a row is drawn.

    The score of a trajectory under a task is the sum of the task's rewards over its steps (so a
    longer trajectory has more to say). Tasks to choose from are draws of the family's prior, or a
    fixed set. They, and log Z, come from the rows that may be drawn (the training split).

    Args:
        family: The tasks; sparse goal reaching by default.
        candidates: Number of tasks drawn from the prior.
        tasks: A fixed set of tasks instead, Z numbers each.
        partition: Subtract log Z; without it the task with the largest rewards takes all.
        temperature: Divides the scores; above 0.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        seed: Seed of the draws from the prior.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) ``fraction`` is below 1 with no
            task to keep.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, eq. 7 and algorithm 1, on trajectories.
    """

    in_keys = ("episode",)
    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self,
        family: TaskFamily | None = None,
        candidates: int = 32,
        tasks: Sequence[Sequence[float]] | None = None,
        partition: bool = True,
        temperature: float = 1.0,
        fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_fraction(fraction)
        if candidates < 1 or (tasks is not None and not len(tasks)):
            raise ValueError("there must be at least one task to choose: candidates or tasks")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, it must be above 0")
        self.family, self.candidates, self.tasks = family or GoalReaching(), candidates, tasks
        self.partition, self.temperature = partition, temperature
        self.fraction, self.seed = fraction, seed
        self.choices = self.posterior = torch.empty(0, 0)

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for rewards."""
        return (*self.in_keys, *self.family.in_keys)

    def prepare(self, log: LogView) -> "InverseRL":
        """Return a copy that knows the tasks ``[N, Z]`` and their posterior ``[E, N]``."""
        other = self.bound()
        other.family = self.family.prepare(log)
        other.choices, log_prior = other._propose()
        if self.fraction < 1:
            check_kept(log, other.choices.shape[1])
        episode = log.column("episode")
        mask = torch.zeros(int(episode[-1]) + 1, dtype=torch.bool)
        mask[episode[log.drawable()]] = True
        other.posterior = task_posterior(
            other.scores(log),
            log_prior,
            partition=self.partition,
            mask=mask,
            temperature=self.temperature,
        )
        return other

    def _propose(self) -> tuple[Tensor, Tensor]:
        """Return the tasks ``[N, Z]`` to choose from, and their log-probabilities ``[N]``."""
        if self.tasks is not None:
            tasks = torch.tensor(self.tasks, dtype=torch.float32)
            return tasks, self.family.log_prior(tasks)
        draws = counters(
            self.seed, torch.zeros(1, dtype=torch.int64), torch.arange(self.candidates)
        )
        # Draws of the prior have its probabilities already.
        return self.family.sample(fork(draws, "tasks"))[0], torch.zeros(self.candidates)

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

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination."""
        episode = batch["episode"]
        posterior = self.posterior.to(episode.device)[episode]
        chosen = sample_tasks(posterior, uniform(batch[DRAWS]))
        task = self.choices.to(episode.device)[chosen]
        return recompute(batch, task, self.family, self.fraction)
