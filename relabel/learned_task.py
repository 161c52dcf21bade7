"""A learned task sampler: a small network predicts the posterior of rows that are not scored."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, Key
from hindsight_rl.maths.draws import counters, fork, uniform
from hindsight_rl.maths.posterior import (
    log_partition,
    posterior_metrics,
    sample_tasks,
    task_posterior,
)
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.new_tasks import check_fraction, recompute
from hindsight_rl.relabel.relabeler import Relabeler, Values
from hindsight_rl.relabel.soft_scores import (
    EntropyScale,
    RunningLogZ,
    SoftScores,
    ranks,
    soft_scores,
)
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

_STATISTICS = 4096  # rows that inputs are standardised by


class LearnedTask(Relabeler):
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
    _adam: torch.optim.Adam
    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

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
        self.choices = self._mean = self._std = torch.empty(0, 0)
        self.weights: list[Tensor] = []
        self.running, self._actions = RunningLogZ(rate), 0
        self._soft: SoftScores | None = None

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
        rows = log.drawable()
        rows = rows[:: max(1, len(rows) // _STATISTICS)]
        few = TensorDict(batch_size=[len(rows)])
        for key in self.in_keys:
            few.set(key, log.column(key)[rows])
        other._actions = int(log.info.get("discrete_actions", 0))
        if other._actions:  # batches number them from 0
            few.set("action", few["action"] - int(log.info.get("action_start") or 0))
        features = other._features(few)
        other._mean, other._std = features.mean(0), features.std(0).clamp_min(1e-6)
        widths = (features.shape[-1], self.hidden, self.hidden, len(self.tasks))
        other.weights = _initial(widths, self.seed)
        other._adam = torch.optim.Adam(other.weights, lr=self.learning_rate)
        return other

    def use(self, values: Values | None) -> None:
        """Take the learner's soft values; ``ValueError`` where it has none."""
        self._soft = soft_scores("LearnedTask", self.family, values, self.entropy_scale)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, Adam's averages and log Z; nothing before the first update."""
        if not self.running.updates:
            return {}
        return {
            "weights": [weight.detach() for weight in self.weights],
            "adam": self._adam.state_dict(),
            "log_z": self.running.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the state of a checkpoint.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: It is that of another network.
        """
        if not state:
            return
        there, here = ([list(w.shape) for w in ws] for ws in (state["weights"], self.weights))
        if there != here:
            raise ValueError(
                f"the checkpoint holds a task sampler with weights {there}, this one has {here}: "
                "set tasks and hidden of LearnedTask as in the run"
            )
        with torch.no_grad():
            for weight, saved in zip(self.weights, state["weights"], strict=True):
                weight.copy_(saved)
        self._adam.load_state_dict(state["adam"])
        self.running.load_state_dict(state["log_z"])

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with a task drawn for each row, its reward and termination.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows are shared by processes or seeds.
        """
        if ranks() > 1 or len(batch.batch_size) != 2:
            raise ValueError(
                "LearnedTask learns from the rows of one process and one learner: set "
                "trainer.devices and model.seeds to 1, or use TransitionInverseRL"
            )
        numbers = batch[DRAWS][:, 0, 1].tolist()
        learns = torch.is_grad_enabled()
        new = torch.tensor([learns and number >= self.running.updates for number in numbers])
        features, target = self._features(batch), self._target(batch, new)
        posterior, divergence = [], torch.zeros((), device=features.device)
        for number, inputs in enumerate(features):
            if target is not None and new[number]:
                divergence = self._learn(inputs[: self.scored], target[number])
            with torch.no_grad():
                posterior.append(torch.softmax(self._logits(inputs), -1))
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

    def _learn(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Move the network towards the posterior ``[M, N]``; return the divergence, nats."""
        with torch.enable_grad():
            log_q = torch.log_softmax(self._logits(inputs), -1)
            divergence: Tensor = (
                (torch.special.xlogy(target, target) - target * log_q).sum(-1).mean()
            )
            for weight in self.weights:
                weight.grad = None
            divergence.backward()
        self._adam.step()
        return divergence.detach()

    def _features(self, batch: TensorDict) -> Tensor:
        """Return observation, action and next observation ``[..., F]``."""
        action = batch["action"]
        if self._actions:
            action = torch.nn.functional.one_hot(action, self._actions).float()
        return torch.cat([batch["observation"], action, batch["next", "observation"]], dim=-1)

    def _logits(self, features: Tensor) -> Tensor:
        device = features.device
        first, b1, second, b2, last, b3 = (weight.to(device) for weight in self.weights)
        hidden = (features - self._mean.to(device)) / self._std.to(device)
        hidden = torch.relu(torch.addmm(b1, hidden, first))
        hidden = torch.relu(torch.addmm(b2, hidden, second))
        return torch.addmm(b3, hidden, last)


def _initial(widths: Sequence[int], seed: int) -> list[Tensor]:
    """Return weights ``[in, out]`` and biases ``[out]``, uniform within 1 / sqrt(in)."""
    found = []
    layers = zip(widths[:-1], widths[1:], strict=True)
    for number, (inputs, outputs) in enumerate(layers):
        rows = torch.arange((inputs + 1) * outputs)
        draws = fork(counters(seed, torch.zeros(1, dtype=torch.int64), rows), f"layer {number}")[0]
        values = ((2.0 * uniform(draws) - 1.0) / math.sqrt(inputs)).reshape(inputs + 1, outputs)
        found += [values[:-1].clone().requires_grad_(), values[-1].clone().requires_grad_()]
    return found
