"""Elites: the members of an ensemble that know held-out episodes best."""

from collections.abc import Iterable
from typing import Any, Protocol, cast

import torch
import torch.distributed
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.dynamics import elites


class Judged(Protocol):
    """A learner whose members are judged.

    Attributes:
        elite: ``[E]``, 1 for elites and 0 for the others; one row per seed.
        elites: How many elites there are.
        seeds: Number of seeds.
    """

    elite: Tensor
    elites: int
    seeds: int

    def each_seed(self) -> Iterable[int]:
        """Select every seed in turn."""

    def member_errors(self, batch: TensorDict) -> Tensor:
        """Return the error of every member in rows ``[B]``, ``[E, B]``."""


class ChooseElites(Callback):
    """Chooses the elites of every seed in each validation, over all batches and ranks."""

    def __init__(self) -> None:
        self._sums = torch.zeros(0)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to sum up."""
        learner = cast(Judged, pl_module)
        self._sums = torch.zeros(learner.seeds, len(learner.elite), device=learner.elite.device)

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
            self._sums[seed] += learner.member_errors(batch[0]).sum(-1)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose, unless only a few rows were looked at before the first update."""
        if trainer.sanity_checking:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._sums)
        learner = cast(Judged, pl_module)
        for seed in learner.each_seed():
            best = elites(self._sums[seed], learner.elites)
            learner.elite.zero_().index_fill_(0, best, 1.0)
