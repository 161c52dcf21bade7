"""Callbacks that save and stop by updates, and go on after a crash as if there had been none.

    folder = "runs/mine/checkpoints"
    trainer = Trainer(callbacks=[Checkpoints(folder, every=1000, monitor="eval/return")])
    trainer.fit(learner, datamodule)

Whatever is due at one update happens in one order: update, evaluation, validation, decision to
stop, checkpoints. A checkpoint therefore holds all that happened at its update, and nothing is lost
or repeated by going on from it. Lightning's ModelCheckpoint and EarlyStopping work too, with less:
the one saves before the validation of the same update, whose result is then lost to a resumed run,
forgets the best score where an interval or the folder has changed, and leaves files behind after
every crash; the other never looks at ``eval/...``.
"""

import logging
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.trainer.states import TrainerFn

from hindsight_rl.attached import callbacks_of, learner_of, only_tries
from hindsight_rl.files import remove_drafts
from hindsight_rl.training.checkpoints.file import SUFFIX, CheckpointIO

LOGGER = logging.getLogger("hindsight_rl")
EVALUATION, VALIDATION, JUDGED = "eval/", "validation/", "judged/"
_STEP = "step="


def prepare(trainer: Trainer) -> None:
    """Give a trainer the checkpoint files of this package, before anything is read or written.

    A plugin of another kind, or a strategy that writes in its own way, is left as it is.

    Args:
        trainer: The trainer of a learner.

    Raises:
        ValueError: Lightning's EarlyStopping watches evaluations.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CheckpointIO()
    for callback in trainer.early_stopping_callbacks:
        if not isinstance(callback, StopEarly) and callback.monitor.startswith(EVALUATION):
            raise ValueError(
                f"EarlyStopping looks at validations only, and {callback.monitor} comes from an "
                "evaluation: use hindsight_rl.training.checkpoints.callbacks.StopEarly"
            )
    if trainer.state.fn == TrainerFn.FITTING and trainer.is_global_zero:
        for saver in trainer.checkpoint_callbacks:
            folder: str | None = getattr(saver, "dirpath", None)
            if folder:
                remove_drafts(Path(folder))


def save(trainer: Trainer, path: Path) -> None:
    """Save a checkpoint; where it cannot be written, every rank says so.

    Args:
        trainer: The trainer, on all ranks.
        path: The file.

    Raises:
        OSError: It cannot be written.
    """
    fault = ""
    try:
        trainer.save_checkpoint(path)
    except OSError as error:
        fault = str(error)
        trainer.strategy.barrier("Trainer.save_checkpoint")  # where the other ranks wait
    fault = trainer.strategy.broadcast(fault)
    if fault:
        raise OSError(fault)


class Checkpoints(Checkpoint):
    """Saves ``step=N.ckpt`` every so many updates, and ``best.ckpt``.

    What is kept is read from the folder, so that it does not matter how often the run was killed
    and resumed.

    Args:
        folder: Where to.
        every: Updates between checkpoints.
        keep: Number of the newest that are kept; -1 for all, 0 for none.
        monitor: What ``best.ckpt`` has the most of, ``eval/...``, ``validation/...``, or
            ``judged/...`` of a callback that judges by the log and comes before this one; ``None``
            for no such file.
        mode: Whether the best is the largest or the smallest.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 1000,
        keep: int = 2,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every} updates, it must be at least 1")
        if keep < -1:
            raise ValueError(f"keep is {keep}, it must be at least 0, or -1 for all")
        if mode not in ("max", "min"):
            raise ValueError(f"mode is '{mode}', it must be 'max' or 'min'")
        if monitor is not None:
            _check_monitor(monitor)
        self.dirpath, self.every, self.keep = Path(folder), every, keep
        self.monitor, self.mode = monitor, mode
        self.best_score: float | None = None
        # The names by which the sampler and the guard against divergence know ModelCheckpoint.
        self._every_n_train_steps = every
        self._last_global_step_saved, self._last_checkpoint_saved = 0, ""
        self._due: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far."""
        return {"monitor": self.monitor, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score, if it is one of the same number."""
        if state_dict["monitor"] == self.monitor:
            self.best_score = state_dict["best_score"]

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over the best score of a run saved with ModelCheckpoint."""
        for name, state in checkpoint.get("callbacks", {}).items():
            same = name.startswith("ModelCheckpoint") and state.get("monitor") == self.monitor
            if same and self.monitor and state.get("best_model_score") is not None:
                self.best_score = float(state["best_model_score"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note what is due, and save it unless a validation comes first."""
        if only_tries(trainer):
            return
        if self.keep and trainer.global_step % self.every == 0:
            self._due.append(f"{_STEP}{trainer.global_step}{SUFFIX}")
        if evaluated(trainer):
            self._note_best(trainer, EVALUATION)
        if judged(trainer):
            self._note_best(trainer, JUDGED)
        if not validation_follows(trainer):
            self._save_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what was due before the validation, and the best by it."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._note_best(trainer, VALIDATION)
            self._save_due(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save what is still due, should a validation not have come."""
        self._save_due(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what is still due."""
        self._save_due(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a process killed after its last checkpoint had no time to remove."""
        if trainer.is_global_zero:
            self._remove_old(trainer.global_step)

    def _note_best(self, trainer: Trainer, kind: str) -> None:
        if self.monitor is None or not self.monitor.startswith(kind):
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(f"no {self.monitor} to choose the best by, only {known}")
        score = float(trainer.callback_metrics[self.monitor])
        sign = 1 if self.mode == "max" else -1
        better = score == score and (  # a number
            self.best_score is None or sign * score > sign * self.best_score
        )
        if trainer.strategy.reduce_boolean_decision(better):
            self.best_score = score
            # Before a step of the same update, so that neither is behind the other.
            self._due.insert(0, f"best{SUFFIX}")

    def _save_due(self, trainer: Trainer) -> None:
        due, self._due = self._due, []
        for name in due:
            path = self.dirpath / name
            save(trainer, path)
            self._last_global_step_saved = trainer.global_step
            self._last_checkpoint_saved = str(path)
        if due and trainer.is_global_zero:
            self._remove_old(trainer.global_step)

    def _remove_old(self, updates: int) -> None:
        """Remove all but the newest; those of updates still to come are left, and written over."""
        steps = {_updates(path): path for path in self.dirpath.glob(f"{_STEP}*{SUFFIX}")}
        done = sorted(number for number in steps if 0 <= number <= updates)
        for number in done[: -self.keep] if self.keep > 0 else ():
            steps[number].unlink(missing_ok=True)


class StopEarly(EarlyStopping):
    """Lightning's EarlyStopping, which looks at evaluations too, and stays stopped when resumed.

    A resumed run takes the patience it is given, not the one it was saved with.

    Args:
        monitor: What should improve, ``eval/...`` or ``validation/...``.
        mode: Whether more of it is better, ``"max"``, or less.
        patience: Evaluations, or validations, without improvement after which training stops.
        min_delta: What counts as an improvement, in units of what is monitored.
        stopping_threshold: Stop as soon as it is better than this.

    Raises:
        ValueError: ``monitor`` is neither an evaluation nor a validation.
    """

    def __init__(
        self,
        monitor: str,
        *,
        mode: Literal["max", "min"],
        patience: int = 3,
        min_delta: float = 0.0,
        stopping_threshold: float | None = None,
    ) -> None:
        _check_monitor(monitor)
        super().__init__(
            monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            stopping_threshold=stopping_threshold,
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the count and the best score, but not the patience."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stay stopped, unless more patience is given than before."""
        patient = self.wait_count < self.patience
        if self.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED and patient:
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        if self.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look at the evaluation, if there was one."""
        if self.monitor.startswith(EVALUATION) and evaluated(trainer):
            self._look(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the validation."""
        if self.monitor.startswith(VALIDATION):
            self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, learner: LightningModule) -> None:
        super().on_validation_end(trainer, learner)
        if self.stopping_reason != EarlyStoppingReason.NOT_STOPPED and trainer.is_global_zero:
            LOGGER.info("stopped at update %d: %s", trainer.global_step, self._why())

    def _why(self) -> str:
        return str(self.stopping_reason_message or "").removesuffix(" Signaling Trainer to stop.")


def evaluated(trainer: Trainer) -> bool:
    """Return whether episodes were run after the last update."""
    interval = learner_of(trainer).evaluation.interval
    return bool(interval) and trainer.global_step % interval == 0


def judged(trainer: Trainer) -> bool:
    """Return whether the policy was judged by its log after the last update."""
    return any(
        getattr(callback, "judged_at", None) == trainer.global_step
        for callback in callbacks_of(trainer)
    )


def validation_follows(trainer: Trainer) -> bool:
    """Return whether a validation comes after this update and before the next one."""
    every = trainer.val_check_interval
    due = trainer.should_stop or (isinstance(every, int) and trainer.global_step % every == 0)
    return bool(due and trainer.enable_validation and sum(trainer.num_val_batches))


def _check_monitor(monitor: str) -> None:
    if not monitor.startswith((EVALUATION, VALIDATION, JUDGED)):
        raise ValueError(
            f"monitor is '{monitor}': name an evaluation ({EVALUATION}return), what is measured on "
            f"held-out episodes ({VALIDATION}action_error), or what the log says ({JUDGED}low)"
        )


def _updates(path: Path) -> int:
    """Return the number of updates in a name, -1 for other names."""
    number = path.stem.removeprefix(_STEP)
    return int(number) if number.isdecimal() else -1
