"""Fitting a model of the world on, while the policy that collects goes to new places."""

from typing import cast

from lightning import Trainer
from torch import nn

from hindsight_rl.datamodules.imagined_rows import Refit
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import LearnerView


def refit(model: nn.Module, log: Log, given: Refit, seed: int) -> None:
    """Fit a model to the rows there are, from its weights as they are.

    What it standardises by is found anew from the rows; its optimiser begins anew.

    Args:
        model: A learner, ``Dynamics``; it is left in evaluation.
        log: The rows.
        given: How long, and on what.
        seed: Of the draws, and of the episodes held out.
    """
    data = OfflineDataModule(
        log.packed(), batch_size=given.batch_size, validation=given.validation, seed=seed
    )
    device = next(model.parameters()).device
    learner = cast(LearnerView, model)
    if learner.log_pass is not None:
        learner.log_pass.expire()  # rows are others than before
    Trainer(
        max_steps=given.updates,
        val_check_interval=given.updates,  # the elites are chosen at the end
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(model, data)  # type: ignore[arg-type]  # a learner is a LightningModule
    model.to(device).eval()
