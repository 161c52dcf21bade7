"""Progress in updates: loss terms and updates per second; a line every tenth off a terminal."""

import sys
import time
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from hindsight_rl.ports import LearnerView


class UpdateProgress(ProgressBar):
    """A bar on a terminal; lines at every tenth of the run elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._lines = not sys.stderr.isatty()
        self._shown_tenth = 0
        self._start = (0, 0.0)
        self._enabled = True

    def disable(self) -> None:
        """Show nothing (Lightning calls this on every rank but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar where training starts."""
        self._start = (trainer.global_step, time.monotonic())
        self._shown_tenth = self._tenth(trainer)
        if self._enabled and not self._lines:
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._bar = tqdm(
                total=total,
                initial=trainer.global_step,
                unit=" updates",
                dynamic_ncols=True,
                mininterval=0.5,
                desc=type(pl_module).__name__,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar by the updates of the chunk."""
        if self._bar is not None:
            self._bar.set_postfix_str(_terms(pl_module), refresh=False)
            self._bar.update(trainer.global_step - self._bar.n)
        elif self._enabled and self._tenth(trainer) > self._shown_tenth:
            self._shown_tenth = self._tenth(trainer)
            self._line(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar: what is said next has a line of its own."""
        self.on_train_end(trainer, pl_module)

    def _tenth(self, trainer: Trainer) -> int:
        return 10 * trainer.global_step // trainer.max_steps if trainer.max_steps > 0 else 0

    def _line(self, trainer: Trainer, pl_module: LightningModule) -> None:
        first, began = self._start
        rate = (trainer.global_step - first) / max(time.monotonic() - began, 1e-9)
        terms = _terms(pl_module)
        print(
            f"{type(pl_module).__name__}: update {trainer.global_step:,} of {trainer.max_steps:,}, "
            f"{rate:,.0f} updates/s{terms and ', '}{terms}",
            file=sys.stderr,
            flush=True,
        )


def _terms(learner: LightningModule) -> str:
    """Return the loss terms and the last evaluation in one line."""
    latest = cast(LearnerView, learner).latest
    shown = {k: v for k, v in latest.items() if k.count("/") == 1}
    return ", ".join(f"{k.removeprefix('train/')} {v:.4g}" for k, v in shown.items())
