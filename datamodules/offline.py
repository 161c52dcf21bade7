"""OfflineDataModule: a fixed log, relabeled and served in chunks of K batches."""

import hashlib
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from tensordict import TensorDict
from torch.utils.data import DataLoader

from hindsight_rl.attached import callbacks_of, learner_of
from hindsight_rl.datamodules.base import LogDataModule
from hindsight_rl.datamodules.make_spec import check_keys, make_spec
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.keys import EPISODE
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_logs
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.rows import SPAN, in_file
from hindsight_rl.maths.draws import counters, fork, uniform
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.relabeler import Relabeler


class OfflineDataModule(LogDataModule):
    """Serves TensorDicts ``[K, B]`` drawn from a log.

    Every draw depends on (seed, update number, row) only. Training and validation rows come from
    different episodes; the normaliser's statistics come from the training rows.

    Args:
        source: File, folder or dataset id of one log, or a list of them; from Python a
            :class:`Log` too.
        relabel: Relabelers in order.
        columns: Column map: short name, YAML file or the map itself; ``None`` for well-known
            layouts; a list has one for each source.
        weights: How often each source of a list is drawn, relative to the others; above 0, one for
            each source.
        batch_size: B, rows per update over all ranks.
        updates_per_step: K, updates per ``training_step``; 32 or more hide Lightning's cost.
        seed: Seed of the split and of every draw.
        validation: Share of episodes held out, in [0, 1).
        prefetch: Read the next chunk in the background; ``None``: where a core is left for it.
        frame_stack: Frames a batch has of every image: those of the last steps, oldest first. They
            are found by row number, no frame is kept twice.

    Raises:
        ValueError: An argument is out of range.
        LogError: A source is wrong, or ``weights`` and ``columns`` do not go with the sources.
    """

    def __init__(
        self,
        source: str | Path | list[str] | Log,  # Path: else the command reads the file as settings
        relabel: list[Relabeler] | None = None,
        *,
        columns: ColumnMap | str | list[ColumnMap | str | None] | None = None,
        weights: list[float] | None = None,
        batch_size: int = 256,
        updates_per_step: int = 64,
        seed: int = 0,
        validation: float = 0.0,
        prefetch: bool | None = None,
        frame_stack: int = 1,
    ) -> None:
        super().__init__()
        if batch_size < 1 or updates_per_step < 1:
            raise ValueError(
                f"batch_size {batch_size} and updates_per_step {updates_per_step}: at least 1 each"
            )
        if not 0 <= validation < 1:
            raise ValueError(f"validation is {validation}, it must lie in [0, 1)")
        self.batch_size, self.updates_per_step, self.seed = batch_size, updates_per_step, seed
        self.validation, self.prefetch = validation, prefetch
        check_sources(source, columns, weights)
        log = source if isinstance(source, Log) else read_logs(source, columns, weights)
        training, held_out = split_by_episode(log, validation, seed)
        self.relabel = Compose(relabel).prepare(log.with_rows(training))
        self.log_hash = log.hash()
        self.split_hash = _rows_hash(training, len(log))
        ready = log.with_columns(self.relabel.columns).with_rows(self.relabel.rows)
        self.log = replace(ready, digest=self.log_hash).packed().with_frame_stack(frame_stack)
        self._held_out = with_target(held_out, self.relabel.labelled)
        self.spec = make_spec(self.log, self._sampler(), self.relabel, batch_size)

    def train_dataloader(self) -> ChunkSampler:
        """Return the sampler; it continues from the number of updates done."""
        trainer = self._running
        learner = learner_of(trainer)
        if len(self._held_out) and not isinstance(trainer.val_check_interval, int):
            warnings.warn(
                f"episodes are held out (validation {self.validation}), but val_check_interval is "
                f"{trainer.val_check_interval}, not a number of updates: they are never looked at. "
                "Set it, as in --trainer.val_check_interval 1000",
                stacklevel=2,
            )
        keys = self.batch_keys()
        check_keys(learner.in_keys, keys)
        self._check_weights(learner, keys)
        self._use_learner()
        stop = trainer.max_steps if trainer.max_steps > 0 else None
        return self._sampler(
            updates_per_step=self.updates_per_step,
            position=lambda: trainer.global_step,
            marks=update_marks(trainer),
            stop=stop,
            process=(trainer.global_rank, trainer.world_size),
            seeds=getattr(learner, "seeds", 1),
            prefetch=_core_left(trainer) if self.prefetch is None else self.prefetch,
        )

    def val_dataloader(self) -> DataLoader[TensorDict] | list[Any]:
        """Return the held-out rows in order, in batches ``[1, B]``; none without a split."""
        if not len(self._held_out):
            return []
        return self._loader(self._held_out, "validation")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the data: log, split, what relabelers learned."""
        return {
            "log_hash": self.log_hash,
            "split_hash": self.split_hash,
            "seed": self.seed,
            "validation": self.validation,
            "relabel": self.relabel.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a checkpoint belongs to this log and this split of it.

        Resuming needs both. Validating needs the split, or rows trained on would count as held out;
        on another log it is free, unless the targets are columns that were swept over the first.
        Prediction goes anywhere.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            LogError: The log is another one, or it is split in another way.
        """
        task = TrainerFn.FITTING if self.trainer is None else self.trainer.state.fn
        if task != TrainerFn.TESTING:
            self.relabel.load_state_dict(state_dict.get("relabel", {}))
        if task not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            return
        if state_dict["log_hash"] == self.log_hash:
            self._check_split(state_dict)
        elif task == TrainerFn.FITTING:
            raise LogError(
                f"the checkpoint was trained on a log with hash {state_dict['log_hash']}, "
                f"this one has {self.log_hash}",
                "Resume with the original log, or start a new run.",
                path=self.log.sources[0].name,
            )
        elif (
            self._learner is not None
            and self._learner.log_pass is not None
            and self._learner.log_pass.keys
        ):
            raise LogError(
                "the learner compares with columns swept over another log, the one it was trained "
                "on",
                "Validate on that log.",
                path=self.log.sources[0].name,
            )

    def _check_split(self, state: dict[str, Any]) -> None:
        # Checkpoints from before the split was kept say nothing of it.
        if state.get("split_hash", self.split_hash) != self.split_hash:
            raise LogError(
                "the checkpoint was trained on other episodes of this log: held-out ones would be "
                "among them",
                f"Set --data.seed {state['seed']} --data.validation {state['validation']}, as in "
                "the run.",
                path=self.log.sources[0].name,
            )


def check_sources(source: Any, columns: Any, weights: list[float] | None) -> None:
    """Raise on weights and column maps that would be ignored or mean nothing."""
    if isinstance(source, Log):
        if columns is not None or weights is not None:
            raise LogError(
                "columns and weights are for sources that are read, and this is a log",
                "Leave them out; mix logs with Log.concatenate.",
            )
        return
    count = len(source) if isinstance(source, (list, tuple)) else 1
    if weights is None:
        return
    if len(weights) != count:
        raise LogError(f"{len(weights)} weights for {count} sources", "Give one for each.")
    for weight in weights:
        if not 0 < weight < math.inf:
            raise LogError(f"weight {weight} is not positive", "Give a finite number above 0.")


def _core_left(trainer: Trainer) -> bool:
    """Return whether there are more cores than processes.

    Updates may use all of them: what is read in the background they need not wait for.
    """
    return _cores() > trainer.num_devices


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _rows_hash(rows: torch.Tensor | None, count: int) -> str:
    """Return the hash of row numbers, ``None`` for the first ``count``; the two agree."""
    digest = hashlib.sha256()
    for start in range(0, count if rows is None else len(rows), SPAN):
        stop = min(start + SPAN, count)
        part = torch.arange(start, stop) if rows is None else rows[start : start + SPAN]
        digest.update(part.numpy().data)
    return digest.hexdigest()[:16]


def with_target(held_out: torch.Tensor, labelled: torch.Tensor | None) -> torch.Tensor:
    """Return the held-out rows ``[M]`` that have a target, so that something is validated.

    Args:
        held_out: Row numbers ``[H]`` int64.
        labelled: Flags ``[N]`` of the rows that have one, ``None`` for all.

    Returns:
        Row numbers ``[M]`` int64.

    Raises:
        LogError: There are held-out rows, and none has a target.
    """
    if labelled is None or not len(held_out):
        return held_out
    kept = held_out[labelled[held_out]]
    if not len(kept):
        raise LogError(
            f"none of the {len(held_out)} held-out rows has a label, so nothing is validated",
            "Set validation to 0, label rows of more episodes, or choose another seed.",
        )
    return kept


def split_by_episode(log: Log, share: float, seed: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return training and held-out rows; whole episodes go to one side or the other.

    Rows that may not be drawn from the log are on neither side. Of a memory-mapped log the row
    numbers lie in temporary files.

    Args:
        log: The log.
        share: Share of episodes held out, in [0, 1); at least one of each side where share > 0.
        seed: Seed of the choice.

    Returns:
        Two ``[M]`` int64 tensors of row numbers in order; the first ``None`` where it is all rows.

    Raises:
        LogError: A share above 0 with fewer than two episodes.
    """
    if share == 0:
        return log.rows, torch.empty(0, dtype=torch.int64)
    seen = torch.zeros(log.episodes, dtype=torch.bool)
    for episode in log.drawn(EPISODE):
        seen[episode] = True
    candidates = seen.nonzero().squeeze(1)
    count = len(candidates)
    if count < 2:
        raise LogError("a log of one episode cannot be split", "Set validation to 0.")
    zero = torch.zeros(1, dtype=torch.int64)
    key = uniform(fork(counters(seed, zero, torch.arange(count)), "split"))[0]
    chosen = key.argsort(stable=True)[: min(count - 1, max(1, round(share * count)))]
    held = torch.zeros(log.episodes, dtype=torch.bool)
    held[candidates[chosen]] = True
    return _side(log, ~held), _side(log, held)


def _side(log: Log, wanted: torch.Tensor) -> torch.Tensor:
    """Return the drawable rows ``[M]`` int64 of the episodes ``[E]`` bool that are wanted."""
    size = sum(int(wanted[episode].sum()) for episode in log.drawn(EPISODE))
    mapped = bool(log.info.get("memory_mapped"))
    found = in_file([size], torch.int64) if mapped else torch.empty(size, dtype=torch.int64)
    start = done = 0
    for episode in log.drawn(EPISODE):
        at = wanted[episode].nonzero().squeeze(1)
        rows = at + start if log.rows is None else log.rows[start : start + len(episode)][at]
        found[done : done + len(rows)] = rows
        start, done = start + len(episode), done + len(rows)
    return found


def update_marks(trainer: Trainer) -> Sequence[int]:
    """Return the intervals, in updates, that a chunk must not cross.

    Args:
        trainer: A Lightning trainer: its validation interval, checkpoint intervals, and whatever
            the learner declares in ``marks``.

    Returns:
        Intervals of at least 1.
    """
    marks = [getattr(callback, "_every_n_train_steps", 0) for callback in callbacks_of(trainer)]
    if isinstance(trainer.val_check_interval, int):
        marks.append(trainer.val_check_interval)
    marks += list(getattr(trainer.lightning_module, "marks", ()))
    return sorted({int(mark) for mark in marks if mark})
