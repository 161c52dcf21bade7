"""What is attached to a Lightning trainer, typed: its class does not declare all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hindsight_rl.ports import DataView, LearnerView

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer


def learner_of(trainer: Trainer) -> LearnerView:
    """Return the learner of a trainer, as what other rooms may ask of it.

    Args:
        trainer: The trainer of a learner.

    Returns:
        Its module.
    """
    return cast(LearnerView, trainer.lightning_module)


def datamodule_of(trainer: Trainer) -> DataView:
    """Return the datamodule of a trainer, as what other rooms may ask of it.

    Args:
        trainer: A trainer with one of the datamodules.

    Returns:
        Its datamodule.
    """
    # Set by Lightning's data connector, and declared nowhere.
    return cast(DataView, trainer.datamodule)  # type: ignore[attr-defined]


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a trainer."""
    # Set by Lightning's callback connector, and declared nowhere.
    found: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return found


def log_interval(trainer: Trainer) -> int:
    """Return the updates between two reports, 0 for none."""
    # Set by Lightning's logger connector, and declared nowhere.
    return int(trainer.log_every_n_steps or 0)  # type: ignore[attr-defined]


def only_tries(trainer: Trainer) -> bool:
    """Return whether a trainer only tries a few batches (``fast_dev_run``)."""
    # Set by Lightning's debugging helper, and declared nowhere.
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
