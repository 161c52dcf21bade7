"""A learned task sampler: a small network predicts the posterior of rows that are not scored."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, Key
from hindsight_rl.maths.draws import uniform
from hindsight_rl.maths.posterior import (
    log_partition,
    posterior_metrics,
    sample_tasks,
    task_posterior,
)
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.learned import choices_of, logged_rows, transition_rows
from hindsight_rl.relabel.learned_posterior import LearnedPosterior
from hindsight_rl.relabel.new_tasks import check_fraction, recompute
from hindsight_rl.relabel.relabeler import Values
from hindsight_rl.relabel.soft_scores import (
    EntropyScale,
    RunningLogZ,
    SoftScores,
    soft_scores,
)
from hindsight_rl.tasks.family import GoalReaching, TaskFamily


class LearnedTask(LearnedPosterior):
    """The task is drawn from q(task | s, a, s'), a network that learns the posterior in training.

    For a fixed set of tasks. Of every update a few rows are scored as by ``TransitionInverseRL``
    with a running log Z; one step of Adam on the cross-entropy moves the network
    towards their posterior; all rows draw from the network. It saves the forward passes of the
    other rows, and lags behind the critic.

    An update teaches once, the first time its number is seen; validation (where gradients are off)
    teaches nothing. For one process.

    Args:
        tasks: The fixed set, Z numbers each.
        family: What they mean; sparse goal reaching by default.
        scored: Rows of each update that are scored, at least 2.
        hidden: Width of both hidden layers.
        learning_rate: Of Adam, above 0.
        rate: Weight of the newest update in log Z, in (0, 1].
        temperature: Divides the scores; above 0.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        entropy_scale: As in :class:`TransitionInverseRL`.
        seed: Seed of the initial weights.

    Raises:
        ValueError: An argument is out of range, or (``use``) the learner has no soft values, or
            (``__call__``) rows are shared by processes or seeds.

    Reference:
        Not in Eysenbach et al. 2020, arXiv 2002.11089; measured in docs/hipi.md.
    """

    in_keys = ("observation", "action", ("next", "observation"))
    out_keys = ("task", ("next", "reward"), ("next", "terminated"))
    learned, settings = "task sampler", "tasks and hidden"

    def __init__(
        self,
        tasks: Sequence[Sequence[float]],
        family: TaskFamily | None = None,
        scored: int = 32,
        hidden: int = 64,
        learning_rate: float = 1e-3,
        rate: float = 0.05,
        temperature: float = 1.0,
        fraction: float = 1.0,
        entropy_scale: EntropyScale = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choices(LearnedTask.__init__, locals())
        check_fraction(fraction)
        if not len(tasks) or scored < 2 or hidden < 1:
            raise ValueError(
                f"{len(tasks)} tasks and hidden {hidden} must be at least 1 each, scored {scored} "
                "at least 2"
            )
        if not (temperature > 0 and learning_rate > 0 and 0 < rate <= 1):
            raise ValueError(
                f"temperature {temperature} and learning_rate {learning_rate} must be above 0, "
                f"and rate {rate} in (0, 1]"
            )
        self.family, self.tasks = family or GoalReaching(), tasks
        self.scored, self.hidden, self.learning_rate = scored, hidden, learning_rate
        self.rate, self.temperature, self.fraction = rate, temperature, fraction
        self.entropy_scale, self.seed = entropy_scale, seed
        self.choices = torch.empty(0, 0)
        self.running, self._actions = RunningLogZ(rate), 0
        self._soft: SoftScores | None = None

    @property
    def updates(self) -> int:
        """Updates seen, by log Z too."""
        return self.running.updates

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for rewards, and the network for its inputs."""
        return (*self.in_keys, *self.family.in_keys)

    def prepare(self, log: LogView) -> "LearnedTask":
        """Return a copy with a family bound to the log and a network at its initial weights.

        Args:
            log: The log.

        Returns:
            The bound relabeler.
        """
        other = self.bound()
        other.family = self.family.prepare(log)
        other.choices = torch.tensor(self.tasks, dtype=torch.float32)
        other.running = RunningLogZ(self.rate)
        other._actions = choices_of(log)
        features = logged_rows(log, log.drawable())
        hidden = (self.hidden, self.hidden)
        other._begin_posterior(features, len(self.tasks), hidden, self.learning_rate, self.seed)
        return other

    def use(self, values: Values | None) -> None:
        """Take the learner's soft values; ``ValueError`` where it has none."""
        self._soft = soft_scores("LearnedTask", self.family, values, self.entropy_scale)

    def _further_state(self) -> dict[str, Any]:
        """Return log Z."""
        return {"log_z": self.running.state_dict()}

    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        self.running.load_state_dict(state["log_z"])

    def _instead(self) -> str:
        return ", or use TransitionInverseRL"

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows are shared by processes or seeds.
        """
        new = torch.tensor(self._teaching(batch))
        features, target = transition_rows(batch, self._actions), self._target(batch, new)
        posterior, divergence = [], torch.zeros((), device=features.device)
        for number, inputs in enumerate(features):
            if target is not None and new[number]:
                divergence = self._learn(inputs[: self.scored], target[number])
            with torch.no_grad():
                posterior.append(self._log_q(inputs).exp())
        found = torch.stack(posterior)
        task = self.choices.to(found.device)[sample_tasks(found, uniform(batch[DRAWS]))]
        self.metrics = posterior_metrics(found) | {"sampler_divergence": divergence}
        return recompute(batch, task, self.family, self.fraction)

    @torch.no_grad()
    def _target(self, batch: TensorDict, new: Tensor) -> Tensor | None:
        """Return the posterior ``[K, M, N]`` of the rows that are scored, if there are any."""
        if self._soft is None or not bool(new.any()):
            return None
        rows = self._soft.rows(batch[:, : self.scored])
        choices = self.choices.to(rows[DRAWS].device)
        flat = self._soft(rows.reshape(-1), choices.expand(rows.numel(), *choices.shape))
        scores: Tensor = flat.unflatten(0, rows.batch_size)
        log_z = self.running(log_partition(scores / self.temperature), rows[DRAWS][:, 0, 1])
        log_prior = self.family.log_prior(choices)
        return task_posterior(scores, log_prior, partition=log_z, temperature=self.temperature)
