"""Ending a fit by a signal: the chunk is finished and saved, and nothing of it is lost.

    Trainer(callbacks=[SaveOnSignal("runs/mine/checkpoints/last.ckpt")]).fit(learner, datamodule)

SIGINT, SIGTERM and SIGUSR1, by which SLURM warns, are noted while updates are made. After a chunk,
its evaluation, and its validation where one is due, the checkpoint is written as at any other
update, and :class:`hindsight_rl.endings.Ended` is raised: a run that goes on from it ends with the
same bits as one that was never stopped. Before the first chunk of this process is done (data are
read, updates are compiled) there is nothing to save, and the fit ends at once.
"""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from hindsight_rl.endings import ENDING, WARNING, Ended, at_once, handled
from hindsight_rl.training.checkpoints.callbacks import save, validation_follows

# torchrun passes on the signal that its processes have had already, from the terminal or SLURM.
_SAME_S = 5.0


class SaveOnSignal(Checkpoint):
    """Saves a checkpoint and ends the fit after a signal; a second signal ends it at once.

    To be given after other callbacks that save: what is due at the same update is saved before.

    Args:
        path: The checkpoint.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._handling = ExitStack()
        self._asked, self._when = 0, 0.0
        self._alone, self._begun = True, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals: what Lightning does about them loses updates."""
        self._asked, self._begun, self._alone = 0, False, trainer.world_size == 1
        self._handling.enter_context(handled((*ENDING, *WARNING), self._note))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save and end, if that was asked for, unless a validation of this update comes first."""
        self._begun = True
        self._agree(trainer)
        if not validation_follows(trainer):
            self._end_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and end, if that was asked for."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._agree(trainer)
            self._end_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the signals alone: all updates are made, and what is left is to save them."""
        self._begun = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._handling.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back, and end the processes that this one has started."""
        self._handling.close()
        if isinstance(exception, Ended):
            at_once()
            if not self._asked:  # they have not agreed to end, and would wait for this one
                for process in getattr(trainer.strategy.launcher, "procs", ()):
                    process.kill()

    def _note(self, number: int, _: FrameType | None) -> None:
        """Remember a signal; where there is nothing to save yet, end at once."""
        if self._alone and not self._begun:
            at_once()
            raise Ended(number, "before the first updates were made")
        if self._asked in ENDING:  # passed on by torchrun, or a second one
            if time.monotonic() - self._when < _SAME_S:
                return
            at_once()
            signal.raise_signal(number)
        self._asked, self._when = number, time.monotonic()
        # After a warning the end itself may come while the checkpoint is being written.
        if number in ENDING and "TORCHELASTIC_RUN_ID" not in os.environ:
            at_once()

    def _agree(self, trainer: Trainer) -> None:
        """Let every rank know what any has been asked."""
        if not self._alone:
            asked = torch.tensor(self._asked, device=trainer.strategy.root_device)
            self._asked = int(trainer.strategy.reduce(asked, reduce_op="max"))

    def _end_if_asked(self, trainer: Trainer) -> None:
        done = 0 < trainer.max_steps <= trainer.global_step
        if self._asked and not done:
            save(trainer, self._path)
            raise Ended(self._asked, f"at update {trainer.global_step}, saved as {self._path}")
