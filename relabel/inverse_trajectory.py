"""Relabeling as inverse RL by rewards: a row goes to the tasks that its trajectory was good for.

The task of a row is drawn from the posterior over tasks given how good its trajectory, or what
follows the row, is for each. The log-partition function makes tasks comparable: experience is
judged relative to others on the same task, not by the size of the task's rewards.
"""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, NEXT_ACHIEVED, Key
from hindsight_rl.maths.draws import counters, fork, integers, uniform
from hindsight_rl.maths.posterior import (
    log_partition,
    posterior_metrics,
    task_posterior,
    temperature_for,
)
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.task_choice import Proposal, assigned, check_arguments, drawn
from hindsight_rl.relabel.units import Judged, Score, Unit, check_unit, judged
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

_BLOCK = 1 << 20  # posterior, units by tasks, that is computed together
_SAMPLE = 1 << 23  # posterior that decides the temperature


class InverseRL(Relabeler):
    """The task is drawn from the posterior of the trajectory, row by row.

    The score under a task is the sum of the task's rewards over the steps of the episode (a longer
    one has more to say). Sums of many steps leave next to one task per episode, whatever the row:
    the posterior saturates. Three options help cloning, all off as published:

    - ``unit="rest"``: a row is judged by what follows it, and a number by so many of the steps that
      follow;
    - ``score="fulfilled"``: a row only gets tasks that what follows it fulfils. Sparse goals that
      no step reached say nothing in a sum. With every state reached as a candidate, ``unit="rest"``
      and a high temperature this is ``FutureGoal``;
    - ``perplexity``: the temperature that leaves each unit so many tasks.

    Tasks, scores and log Z are found once, from the rows that may be drawn. A row of the log then
    takes 4 bytes for every task, or an episode where it is the unit. Needs no learner: with cloning
    it is HIPI-BC. Transitions are judged by :class:`TransitionInverseRL`.

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
        unit: What a row is judged by: ``"episode"``, its whole episode; ``"rest"``, the episode
            from the row on; a number, so many steps of that.
        score: ``"sum"`` of the unit's rewards; ``"mean"``, which is a temperature of the number of
            steps; ``"fulfilled"``, the sum up to the step that ends the task, -inf where none does.
            Rows whose unit fulfils no candidate are then not drawn.
        perplexity: Mean number of tasks that a unit has, exp(entropy): the temperature is found for
            it, or that which comes nearest. In [1, number of tasks].

    Raises:
        ValueError: An argument is out of range, or (``prepare``) there is no task to choose from,
            or none that is fulfilled, or (``__call__``) there is no task to keep.

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
        unit: Unit = "episode",
        score: Score = "sum",
        perplexity: float | None = None,
    ) -> None:
        super().__init__()
        check_choices(InverseRL.__init__, locals())
        check_arguments(candidates, tasks, temperature, fraction)
        _check_partition(partition)
        check_unit(unit)
        _check_perplexity(perplexity, candidates if tasks is None else len(tasks), temperature)
        self.family, self.candidates, self.propose = family or GoalReaching(), candidates, propose
        self.tasks, self.partition, self.temperature = tasks, partition, temperature
        self.fraction, self.seed = fraction, seed
        self.unit, self.score, self.perplexity = unit, score, perplexity
        self.choices = self.posterior = torch.empty(0, 0)
        self._fulfilled = torch.empty(0, 2)

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for rewards, and the tasks where the log proposes them."""
        kinds: dict[str, tuple[Key, ...]] = {"log": ("task",), "reached": (NEXT_ACHIEVED,)}
        proposed = kinds.get(self.propose, ()) if self.tasks is None else ()
        return (*self.in_keys, *self.family.in_keys, *proposed)

    def prepare(self, log: LogView) -> "InverseRL":
        """Return a copy bound to a log: it knows the tasks and the posterior ``[U, N]`` of units.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: There is no task to choose from, or none is fulfilled that must be.
        """
        other = self.bound()
        other.family = self.family.prepare(log)
        if self.tasks is not None:
            other.choices = torch.tensor(self.tasks, dtype=torch.float32)
        else:
            other.choices = other._proposed(log)
        found = judged(log, other.family, other.choices, self.unit, self.score)
        rows, unit_of = log.drawable(), other._unit_of(log)
        if self.score == "fulfilled":
            other.rows = rows = rows[found.fulfilled.any(-1)[unit_of[rows]]]
            if not len(rows):
                raise ValueError(
                    f"nothing that may be drawn fulfils any of the {len(other.choices)} candidates "
                    f"(unit {self.unit!r}), and score 'fulfilled' gives no others: propose more or "
                    "other tasks, of a family whose tasks end, or set score to 'sum'"
                )
        counted = torch.zeros(len(found.scores), dtype=torch.bool)
        counted[unit_of[rows]] = True
        other._decide(found, counted)
        return other

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination.

        Args:
            batch: TensorDict ``[..., B]``.

        Returns:
            TensorDict of the same shape.
        """
        device = batch[DRAWS].device
        unit = batch["episode" if self.unit == "episode" else "index"]
        posterior = self.posterior.to(device)[unit]
        task = self.choices.to(device)[drawn(posterior, batch)]
        result, changed = assigned(batch, task, self.family, self.fraction)
        relabeled = uniform(batch[DRAWS], draw=1) < self.fraction
        fulfilled = self._fulfilled.to(device)[unit] * relabeled.unsqueeze(-1)
        shares = fulfilled.flatten(0, -2).sum(0) / relabeled.sum().clamp_min(1)
        self.metrics = posterior_metrics(posterior.flatten(0, -2)) | changed
        self.metrics |= {"fulfilled": shares[0], "supported": shares[1]}
        return result

    def scores(self, log: LogView) -> Tensor:
        """Return the score of every unit under every task, ``[U, N]``, reward units.

        Args:
            log: The log.

        Returns:
            float32; U is the number of episodes, or of rows.
        """
        return judged(log, self.family, self.choices, self.unit, self.score).scores

    def _unit_of(self, log: LogView) -> Tensor:
        """Return the number of each row's unit, ``[R]``."""
        return log.column("episode") if self.unit == "episode" else torch.arange(len(log))

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

    def _decide(self, found: Judged, counted: Tensor) -> None:
        """Find temperature and posterior of the units; log Z is that of those that count."""
        scores = found.scores
        # Draws from the prior have its probabilities already; a fixed set has not.
        log_prior = None if self.tasks is None else self.family.log_prior(self.choices)
        if self.perplexity is not None:
            some = counted.nonzero()[:, 0]
            some = some[:: max(1, -(-scores[some].numel() // _SAMPLE))]
            self.temperature = temperature_for(
                self.perplexity, scores[some], log_prior, partition=self.partition
            )
        log_z: Tensor | bool = False
        if self.partition:
            few = max(1, _BLOCK // len(scores))
            parts = (s / self.temperature for s in scores.split(few, dim=1))
            log_z = torch.cat([log_partition(part, counted) for part in parts])
        share = torch.empty(len(scores))
        # The posterior takes the place of the scores, block by block: they are as large as a log.
        for block in torch.arange(len(scores)).split(max(1, _BLOCK // scores.shape[1])):
            rows = slice(int(block[0]), int(block[-1]) + 1)
            scores[rows] = task_posterior(
                scores[rows], log_prior, partition=log_z, temperature=self.temperature
            )
            share[rows] = (scores[rows] * found.fulfilled[rows]).sum(-1)
        self.posterior = scores
        self._fulfilled = torch.stack([share, found.fulfilled.any(-1).float()], dim=-1)


def _check_partition(partition: object) -> None:
    """Raise an error for a word, which would count as true."""
    if not isinstance(partition, bool):
        raise ValueError(
            f"partition is {partition!r}, it must be true or false; a running log Z is for "
            "transitions: use TransitionInverseRL"
        )


def _check_perplexity(perplexity: float | None, tasks: int, temperature: float) -> None:
    """Raise an error for a number of tasks that no posterior has, or that has a rival."""
    if perplexity is None:
        return
    if not 1 <= perplexity <= tasks:
        raise ValueError(f"perplexity is {perplexity}, it must lie in [1, {tasks}], the tasks")
    if temperature != 1:
        raise ValueError(
            f"perplexity finds the temperature, and it is given as {temperature} too: leave one out"
        )
