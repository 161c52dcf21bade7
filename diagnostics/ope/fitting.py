"""Fits on a log that belong to a judgement: values of a policy, and what recorded the log."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning import Trainer

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.training.learner import Learner


@dataclass(frozen=True)
class Fitting:
    """How networks are fitted.

    Args:
        updates: Updates of values, at least 1.
        behavior_updates: Updates of a cloned behaviour, at least 1.
        batch_size: Rows per update, at least 1.
        hidden: Widths of the hidden layers.
        members: Critics of an ensemble, at least 2: their spread is the interval.
        seed: Of weights and batches.

    Raises:
        ValueError: A number is out of range.
    """

    updates: int = 20_000
    behavior_updates: int = 3_000
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    members: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, least in (
            ("updates", 1),
            ("behavior_updates", 1),
            ("batch_size", 1),
            ("members", 2),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least {least}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {list(self.hidden)}: give widths of at least 1")


def data_of(log: Log, fitting: Fitting, *, validation: float = 0.0) -> OfflineDataModule:
    """Return the datamodule of a fit.

    Args:
        log: The log; its drawable rows are those that are fitted to.
        fitting: How.
        validation: Share of episodes held out.

    Returns:
        The datamodule.
    """
    rows = len(log.drawable())
    return OfflineDataModule(
        log,
        batch_size=min(fitting.batch_size, rows),
        seed=fitting.seed,
        validation=validation,
        prefetch=False,
    )


def fit(learner: Learner, data: OfflineDataModule, updates: int) -> None:
    """Fit a learner, silently.

    Args:
        learner: It; in evaluation mode afterwards.
        data: What it is fitted to.
        updates: How long.
    """
    with _silent():
        trainer = Trainer(
            max_steps=updates,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            devices=1,
        )
        trainer.fit(learner, data)
    learner.eval()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Have modules that are made here begin with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


@contextmanager
def _silent() -> Iterator[None]:
    """Have Lightning say nothing: a judgement fits many small networks."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
