"""What every datamodule serves: batches of a log, relabeled on the device."""

import warnings
from collections.abc import Iterator
from typing import Any, Self, cast

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from tensordict import TensorDict
from torch.utils.data import DataLoader, Dataset

from hindsight_rl.attached import learner_of
from hindsight_rl.datamodules.priorities import PriorityColumn, check_prioritised, over_ranks
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.datamodules.shots import TaskRows
from hindsight_rl.datamodules.windows import Windows, check_rewritten, strided_rows
from hindsight_rl.keys import ACTION, IMPORTANCE, Key
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters, fork
from hindsight_rl.ports import JudgesRows, LearnerView
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.spec import Spec
from hindsight_rl.windows import HISTORY, VALID, Shots, Window


class LogDataModule(LightningDataModule):
    """Base class of the datamodules: serves the rows of ``log`` through ``relabel``.

    Attributes:
        log: The log with the columns and drawable rows that the relabelers left.
        relabel: The bound relabelers.
        batch_size: B, rows per update over all ranks.
        seed: Seed of every draw.
        spec: What the data look like.
    """

    log: Log
    relabel: Compose
    batch_size: int
    seed: int
    spec: Spec
    _reader: LightningModule | None = None
    _priorities: PriorityColumn | None = None

    def _sampler(self, **options: Any) -> ChunkSampler:
        log, beside = self._beside()
        return ChunkSampler(
            log,
            self.relabel,
            batch_size=self.batch_size,
            seed=self.seed,
            beside=beside,
            priorities=self._priorities,
            **options,
        )

    def serve(self, learner: LightningModule) -> Self:
        """Say which learner reads the batches, where no trainer does; return this datamodule.

        Args:
            learner: Its keys, window and shots decide which other rows are gathered by a row.

        Returns:
            Itself.
        """
        self._reader = learner
        return self

    def _beside(self) -> tuple[Log, tuple[Windows | TaskRows, ...]]:
        """Return the log whose rows are drawn for the learner, and what gathers others by them."""
        learner = self._reader if self.trainer is None else self._learner
        if learner is None:
            return self.log, ()
        window = getattr(learner, "window", Window())
        keys = (*getattr(learner, "in_keys", ()), *getattr(learner, "optional_keys", ()))
        view = cast(LearnerView, learner)
        self.relabel.check_learner(view)
        check_rewritten(self.relabel.relabelers, keys)
        log = self.log.with_rows(self.relabel.starts(self.log, view))
        log = log.with_rows(strided_rows(log, window))
        uses = getattr(learner, "action_windows", {})
        windows = Windows(log, window, keys, self.relabel, uses)
        shots: Shots | None = getattr(learner, "shots", None)
        if shots is None:
            return log, (windows,)
        found = TaskRows(log, shots, keys)
        return log.with_rows(found.rows), (windows, found)

    def predict_dataloader(self) -> DataLoader[TensorDict]:
        """Return all rows in the order of the log, in batches ``[1, B]``."""
        return self._loader(None, "predict")

    def _use_learner(self) -> None:
        """Give the relabelers what they may ask of the learner, where there is one."""
        if self._learner is not None:
            self.relabel.use(getattr(self._learner, "soft_values", None))

    @property
    def _learner(self) -> LearnerView | None:
        """The learner of the trainer; ``None`` without one."""
        return None if self.trainer is None else learner_of(self.trainer)

    @property
    def _running(self) -> Trainer:
        """The trainer that uses this datamodule."""
        if self.trainer is None:
            raise RuntimeError("this datamodule is not attached to a trainer: call Trainer.fit")
        return self.trainer

    def _check_weights(self, learner: LearnerView, keys: set[Key]) -> None:
        """Raise on weights that are all 0, and say so where the learner does not read them."""
        if self._priorities is not None:
            check_prioritised(learner)
        if "weight" not in keys:
            return
        if "weight" not in getattr(learner, "read_keys", ("weight",)):
            warnings.warn(
                f"rows have a 'weight', and {type(learner).__name__} does not read it: use BC, or "
                "leave out what gives it (ColumnWeight, ReturnWeight, FutureGoal with offset "
                "'pairs')",
                stacklevel=2,
            )
        elif "weight" in self.log and not self.log.column("weight")[self.log.drawable()].any():
            raise ValueError(
                "all rows that may be drawn have weight 0: no row would count. Change what gives "
                "the weights: a relabeler, or the log's own column"
            )

    def _take_priorities(self, state: dict[str, Any]) -> None:
        """Take over the priorities of a checkpoint, which go with its rows."""
        saved = state.get("priorities")
        if (saved is None) != (self._priorities is None):
            how = "without" if saved is None else "with"
            raise LogError(
                f"the run was started {how} priorities of rows",
                f"Resume {how} them (data.priorities), or start a new run.",
                path=self.log.sources[0].name,
            )
        if self._priorities is not None and saved is not None:
            self._priorities.load_state_dict(saved)

    def _loader(self, rows: torch.Tensor | None, stream: str) -> DataLoader[TensorDict]:
        self._use_learner()
        return whole(Batches(self._sampler(), self.seed, rows, stream, count=self._real_rows))

    @property
    def _real_rows(self) -> int:
        """How many rows were played; those that a model imagined come after them."""
        return len(self.log)

    def in_order(
        self, rows: torch.Tensor | None = None, *, batch_size: int = 4096, stream: str = "sweep"
    ) -> Iterator[TensorDict]:
        """Yield rows in the order of the log, with companions fetched but not yet relabeled.

        Args:
            rows: ``[M]`` int64 row numbers, ``None`` for all.
            batch_size: Rows per batch.
            stream: Name of the stream of draws.

        Yields:
            TensorDict ``[1, B]``; the last may be shorter.
        """
        batches = Batches(self._sampler(), self.seed, rows, stream, batch_size, len(self.log))
        for number in range(len(batches)):
            yield batches[number]

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Return the batch on a device; on the CPU it is there, and looking at it takes time."""
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch after the relabelers' third stage, on the training device.

        Choices that a log numbers from elsewhere are numbered from 0 from here on.
        """
        if not isinstance(batch, TensorDict):
            return batch
        start = int(self.log.info.get("action_start") or 0)
        return weighted(self.relabel(from_zero(batch, start)))

    def learned(self, batch: TensorDict, learner: LearnerView) -> None:
        """Take note of what a learner makes of the rows that moved it: their priorities.

        Args:
            batch: TensorDict ``[K, B]``, this rank's, complete.
            learner: As the last update left it.
        """
        if self._priorities is None or not isinstance(learner, JudgesRows):
            return
        with torch.no_grad():
            error = learner.row_errors(batch.flatten(0, 1)).float().reshape(batch.shape)
        self._priorities.take(over_ranks(batch["index"]), over_ranks(error))

    def batch_keys(self) -> set[Key]:
        """Return the keys of a relabeled batch."""
        with torch.no_grad():  # relabelers that learn from batches learn nothing from this one
            batch = self.on_after_batch_transfer(self._sampler().chunk(0, 1, stream="probe"), 0)
        return set(batch.keys(include_nested=True, leaves_only=True))


def weighted(batch: TensorDict) -> TensorDict:
    """Return a batch whose weights count what prioritised draws changed.

    Args:
        batch: TensorDict with ``importance``, or without: it is then returned as it is.

    Returns:
        A shallow copy with ``weight``.
    """
    importance = batch.get(IMPORTANCE, None)
    if importance is None:
        return batch
    own = batch.get("weight", None)
    return batch.exclude(IMPORTANCE).set("weight", importance if own is None else importance * own)


def from_zero(batch: TensorDict, start: int) -> TensorDict:
    """Return a batch whose choices are numbered from 0, those of its windows and companions too.

    Args:
        batch: TensorDict with the choices of a log.
        start: The log's number of the first one.

    Returns:
        A shallow copy; the batch itself where the log numbers from 0.
    """
    if not start:
        return batch
    found = batch.copy()
    for key in batch.keys(include_nested=True, leaves_only=True):
        if key != ACTION and not (isinstance(key, tuple) and key[-1] == ACTION):
            continue
        choice = batch[key] - start
        if key[0] == HISTORY:  # before an episode they are 0, whatever the log calls 0
            choice = torch.where(batch[HISTORY, VALID], choice, 0)
        found.set(key, choice)
    return found


class Batches(Dataset[TensorDict]):
    """Batches ``[1, B]`` of given rows in order, gathered on demand.

    Args:
        sampler: Gathers them.
        seed: Of their draws.
        rows: ``[M]`` int64 numbers; ``None`` for the first ``count``.
        stream: Name of the stream of draws.
        batch_size: B.
        count: Rows where none are given.
    """

    def __init__(
        self,
        sampler: ChunkSampler,
        seed: int,
        rows: torch.Tensor | None,
        stream: str,
        batch_size: int = 4096,
        count: int = 0,
    ) -> None:
        self._sampler, self._seed, self._stream = sampler, seed, stream
        self._rows, self._size = rows, batch_size
        self._count = count if rows is None else len(rows)

    def __len__(self) -> int:
        return -(-self._count // self._size)

    def __getitem__(self, number: int) -> TensorDict:
        if not 0 <= number < len(self):
            raise IndexError(number)  # ends a loop over the batches
        start, stop = number * self._size, min((number + 1) * self._size, self._count)
        rows = torch.arange(start, stop) if self._rows is None else self._rows[start:stop]
        draws = counters(self._seed, torch.zeros(1, dtype=torch.int64), rows)
        return self._sampler.gather(rows[None], fork(draws, self._stream))


def whole(batches: Batches) -> DataLoader[TensorDict]:
    """Return a loader of batches as they are: the default collation crashes on TensorDict."""
    return DataLoader(batches, batch_size=None, collate_fn=_identity)


def _identity(batch: TensorDict) -> TensorDict:
    return batch
