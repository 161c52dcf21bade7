"""OfflineDataModule: a fixed log, relabeled and served in chunks of K batches."""

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
from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.imagining import Imagining, check_seeds
from hindsight_rl.datamodules.make_spec import check_keys, make_spec
from hindsight_rl.datamodules.mixture import Replays, check_mix, with_places_apart
from hindsight_rl.datamodules.priorities import Priorities, PriorityColumn, check_one_share
from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.datamodules.sampler import ChunkSampler, chunk_size
from hindsight_rl.datamodules.sources.model import GIVEN
from hindsight_rl.datamodules.split import rows_hash, split_by_episode, with_target
from hindsight_rl.datamodules.tickets import Tickets
from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_logs
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.ports import LearnerView
from hindsight_rl.relabel.bonus import check_of_fixed_log
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.relabeler import Relabeler


class OfflineDataModule(LogDataModule):
    """Serves TensorDicts ``[K, B]`` drawn from a log.

    Every draw depends on (seed, update number, row) only. Training and validation rows come from
    different episodes; the normaliser's statistics come from the training rows. Rows that a model
    imagines may take a share of every batch; they are in nothing else: not in the statistics, not
    among what is validated, not in the hash.

    Args:
        source: File, folder, dataset id or address (``s3://``) of one log, or a list of them; from
            Python a :class:`Log` too.
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
        imagined: What a model imagines beside the log while a policy is fitted; ``None``: nothing.
        mix: Share of the rows of a batch that come from the ``log`` and that are ``imagined``, in
            (0, 1], summing to 1; rows then have an ``origin``. ``None`` without imagined rows.
        memory_map: Folder for imagined rows; ``None`` keeps them in memory, and in every
            checkpoint.
        priorities: Rows are drawn by the learner's errors on them, and weighted against it;
            ``None``: each is drawn as often.

    Raises:
        ValueError: An argument is out of range, or ``mix`` or ``weights`` do not go with the
            others.
        LogError: A source is wrong, or ``weights`` and ``columns`` do not go with the sources.
    """

    _resumed = False

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
        imagined: ImaginedRows | None = None,
        mix: dict[str, float] | None = None,
        memory_map: str | None = None,
        priorities: Priorities | None = None,
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
        self.log_hash = log.hash()
        self.split_hash = rows_hash(training, len(log))
        self._unbound, self._frame_stack, self._memory_map = (
            Compose(relabel),
            frame_stack,
            memory_map,
        )
        check_of_fixed_log(self._unbound)
        self._logged = log.with_rows(training)
        _check_shares(imagined, mix, memory_map)
        self._mix, self._imagining = mix, self._imagined(imagined, mix, held_out)
        if priorities is not None:
            check_one_share(len(log.sources), mix)
            self._priorities = PriorityColumn(priorities, len(log))
        self._bind()
        self._held_out = with_target(held_out, self.relabel.labelled)
        self.spec = make_spec(self.log, self._sampler(), self.relabel, batch_size)

    def _imagined(
        self,
        imagined: ImaginedRows | None,
        mix: dict[str, float] | None,
        held_out: torch.Tensor,
    ) -> Imagining | None:
        """Return what imagines beside the log, whose columns that no model gives are left out."""
        if imagined is None or mix is None:
            return None
        log = self._logged
        if log.observed == [OBSERVATION]:  # others are refused below
            log = with_places_apart(log, [key for key in log.packed_keys() if key in GIVEN])
        replay = Replay(imagined.capacity, log.info | {"source": "imagined"})
        replays = Replays({"log": log, "imagined": replay}, mix)
        return Imagining(imagined, replays, held_out, self.seed)

    def _bind(self, learned: dict[str, Any] | None = None) -> None:
        """Prepare the relabelers on the rows as they are.

        Args:
            learned: What the relabelers learned from batches, which they keep.
        """
        log = self._logged if self._imagining is None else self._imagining.replays.log
        self.relabel = self._unbound.prepare(log)
        self.relabel.load_state_dict(learned or {})
        ready = log.with_columns(self.relabel.columns).with_rows(self.relabel.rows)
        ready = replace(ready, digest=self.log_hash)
        if self._imagining is None:
            ready = ready.packed().with_frame_stack(self._frame_stack)
        self.log = ready

    @property
    def _real_rows(self) -> int:
        return len(self._logged)

    def train_dataloader(self) -> ChunkSampler | Tickets:
        """Return the sampler; it continues from the number of updates done.

        Beside a model that imagines, or by priorities, placeholders without end: a batch is then
        made when its training step begins.
        """
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
        if self._imagining is not None or self._priorities is not None:
            self._begin_tickets(trainer, learner)
            self._stop = stop
            return Tickets()
        return self._sampler(
            updates_per_step=self.updates_per_step,
            position=lambda: trainer.global_step,
            marks=update_marks(trainer),
            stop=stop,
            process=(trainer.global_rank, trainer.world_size),
            seeds=getattr(learner, "seeds", 1),
            prefetch=_core_left(trainer) if self.prefetch is None else self.prefetch,
        )

    def _begin_tickets(self, trainer: Trainer, learner: LearnerView) -> None:
        """Take batches for this process from here on, of rows in files if they are to lie there."""
        imagining, self._marks = self._imagining, update_marks(trainer)
        if imagining is not None:
            check_seeds(learner)
            self._marks = sorted({*self._marks, *imagining.marks})
        if imagining is not None and self._memory_map is not None and not self._resumed:
            imagining.replays.to_file(self._memory_map)
            self._bind(self.relabel.state_dict())
        self._process = (trainer.global_rank, trainer.world_size)
        self._chunks = self._sampler(process=self._process)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the next chunk in the place of a placeholder; a round that is due is imagined.

        Lightning calls this right before the training step of a batch, so the policy that imagines
        is the one the last update left.

        Args:
            batch: A placeholder, or a batch, which is returned as it is.
            dataloader_idx: Not used.

        Returns:
            TensorDict ``[K, B]``, not yet relabeled.
        """
        imagining, trainer = self._imagining, self.trainer
        if isinstance(batch, TensorDict) or trainer is None:
            return batch
        update, learner = trainer.global_step, learner_of(trainer)
        if imagining is not None and imagining.due(update):
            imagining.collect(learner, update)
            self._bind(self.relabel.state_dict())
            self._chunks = self._sampler(process=self._process)
            self._use_learner()
            if learner.log_pass is not None:
                learner.log_pass.expire()  # rows have other numbers now
        size = chunk_size(update, self.updates_per_step, self._marks, self._stop)
        return self._chunks.chunk(update, size)

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
            **self._imagined_state(),
            **({} if self._priorities is None else {"priorities": self._priorities.state_dict()}),
        }

    def _imagined_state(self) -> dict[str, Any]:
        if self._imagining is None:
            return {}
        own = self._imagining.state_dict() | {"mix": self._mix}
        return {"imagined": own, "replay": self._imagining.replays.state_dict()}

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
            if task == TrainerFn.FITTING:
                self._go_on_imagining(state_dict)
                self._take_priorities(state_dict)
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

    def _go_on_imagining(self, state: dict[str, Any]) -> None:
        """Take over imagined rows and their round."""
        mix = (state.get("imagined") or {}).get("mix")
        if mix != self._mix:
            raise LogError(
                f"the run was started with mix {mix}, and this is mix {self._mix}",
                "Resume with the same shares, or start a new run.",
                path=self.log.sources[0].name,
            )
        if self._imagining is None:
            return
        self._imagining.load_state_dict(state["imagined"])
        self._imagining.replays.load_state_dict(state["replay"], self._memory_map, cut=True)
        self._resumed = True
        self._bind(state["relabel"])

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


def _check_shares(
    imagined: ImaginedRows | None, mix: dict[str, float] | None, memory_map: str | None
) -> None:
    """Raise where imagined rows have no shares, or shares no imagined rows."""
    if imagined is None and (mix is not None or memory_map is not None):
        raise ValueError(
            "mix and memory_map are those of imagined rows, and imagined is not given: name a "
            "model (data.imagined.model), or leave them out"
        )
    if imagined is not None and mix is None:
        raise ValueError("imagined rows need a share of each batch: mix {log: 0.5, imagined: 0.5}")
    if mix is not None:
        check_mix(mix, ["log", "imagined"])


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
