"""What ``fit`` leaves in a run folder beside its checkpoints, and where nothing is to be left."""

import shutil
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from hindsight_rl.cli.runs import CHECKPOINTS, CONFIG, LAST
from hindsight_rl.files import remove_drafts, write_text, write_whole
from hindsight_rl.training.checkpoints.callbacks import save


class RunFolder(Callback):
    """Writes ``config.yaml`` when training starts and ``last.ckpt`` when it ends.

    A new run that ends in an error before its first update leaves nothing behind.

    Args:
        run: Folder of the run.
        config: Text of the configuration.
        new: Whether this run has made the folder.
    """

    def __init__(self, run: Path, config: str, *, new: bool) -> None:
        self._run, self._config, self._new = run, config, new
        self._last = run / CHECKPOINTS / LAST
        self._trained = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the configuration."""
        if trainer.is_global_zero:
            remove_drafts(self._run)
            write_text(self._run / CONFIG, self._config)
        self._new, self._trained = False, True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove the folder of a run that never started (loggers have made it by now)."""
        if self._new and trainer.is_global_zero:
            shutil.rmtree(self._run, ignore_errors=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last checkpoint, whatever the interval."""
        save(trainer, self._last)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the checkpoint of a run killed between its last update and ``last.ckpt`` the last.

        Lightning trains nothing then, and calls neither of the two hooks above.
        """
        start = Path(trainer.ckpt_path or "")
        beside = start.parent == self._last.parent and start != self._last
        if not self._trained and beside and trainer.is_global_zero:
            write_whole(self._last, lambda file: file.write(start.read_bytes()))
