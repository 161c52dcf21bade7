"""What held-out episodes say of an ensemble: its elites, and whether disagreement means error."""

from collections.abc import Iterable
from typing import Any, Protocol, cast

import torch
import torch.distributed
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.dynamics import Uncertainty, disagreement, elites
from hindsight_rl.maths.horizons import rank_correlation

CORRELATION = "validation/ensemble/correlation"
"""Rank correlation of a model's disagreement with its error, on held-out rows."""


class Judged(Protocol):
    """A learner whose members are judged.

    Attributes:
        elite: ``[E]``, 1 for elites and 0 for the others; one row per seed.
        elites: How many elites there are.
        seeds: Number of seeds.
        uncertainty: What counts as disagreement.
    """

    elite: Tensor
    elites: int
    seeds: int
    uncertainty: Uncertainty

    def each_seed(self) -> Iterable[int]:
        """Select every seed in turn."""

    def judged(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return means and log-variances of N steps, ``[E, N, D]``, and what came, ``[N, D]``."""


class JudgeMembers(Callback):
    """Chooses the elites of every seed in each validation, and reports the correlation."""

    def __init__(self) -> None:
        self._sums = torch.zeros(0)
        self._seen: list[list[Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to sum up."""
        learner = cast(Judged, pl_module)
        self._sums = torch.zeros(learner.seeds, len(learner.elite), device=learner.elite.device)
        self._seen = [[] for _ in range(learner.seeds)]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TensorDict,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the errors in held-out rows ``[1, B]``."""
        learner = cast(Judged, pl_module)
        for seed in learner.each_seed():
            mean, log_variance, y = learner.judged(batch[0])
            self._sums[seed] += (mean - y).square().mean(-1).sum(-1)
            doubt = disagreement(mean, (0.5 * log_variance).exp(), learner.uncertainty)
            wrong = (mean.mean(0) - y)[..., :-1].square().mean(-1)
            self._seen[seed].append(torch.stack([doubt, wrong]).cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose, unless only a few rows were looked at before the first update."""
        if trainer.sanity_checking:
            return
        pairs = [torch.cat(seen, dim=-1) for seen in self._seen]
        found = torch.stack([rank_correlation(*pair) for pair in pairs]).mean()
        found = found.to(self._sums)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._sums)
            torch.distributed.all_reduce(found)
            found = found / torch.distributed.get_world_size()
        learner = cast(Judged, pl_module)
        for seed in learner.each_seed():
            best = elites(self._sums[seed], learner.elites)
            learner.elite.zero_().index_fill_(0, best, 1.0)
        trainer.callback_metrics[CORRELATION] = found
