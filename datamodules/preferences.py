"""PreferenceDataModule: pairs of segments of a log, and which of the two is better."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import DataLoader

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.attached import learner_of
from hindsight_rl.datamodules.base import Batches, LogDataModule, whole
from hindsight_rl.datamodules.make_spec import check_keys, make_spec
from hindsight_rl.datamodules.offline import check_sources, update_marks
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.keys import (
    ACTION,
    DRAWS,
    FIRST,
    PAIR,
    PREFERENCE,
    SECOND,
    TASK,
    TERMINATED,
    Key,
    is_below,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.frames import next_key
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import nested
from hindsight_rl.logs.preferences import Preferences, check_about, read_preferences
from hindsight_rl.logs.reading import read_logs
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.maths.draws import counters, fork, uniform
from hindsight_rl.relabel.chain import Compose


class PreferenceDataModule(LogDataModule):
    """Serves TensorDicts ``[K, B]`` of pairs drawn from answers about a log.

    Each row has the keys of the first segment's first step, as any row of the log, and ``("first",
    name)`` and ``("second", name)`` ``[L, ...]`` of observation, action and task (for learners that
    read it also of what follows each step), ``preference`` [] (the probability that the second is
    better) and ``pair`` [] int64, the answer's number.

    Every draw depends on (seed, update number, row) only. Answers about the same two segments are
    held out together; which are depends on the seed and the segments alone, so that further answers
    never bring held-out pairs into training.

    Args:
        source: File, folder or dataset id of one log; from Python a :class:`Log` too.
        preferences: File of answers; from Python :class:`Preferences` too.
        columns: Column map: short name, YAML file or the map itself; ``None`` for well-known
            layouts.
        annotator: Whose answers are served; ``None`` for all.
        batch_size: B, pairs per update over all ranks.
        updates_per_step: K, updates per ``training_step``; 32 or more hide Lightning's cost.
        seed: Seed of the split and of every draw.
        validation: Share of answers held out, in [0, 1).

    Raises:
        ValueError: An argument is out of range.
        LogError: The log or the answers are wrong, or do not belong together.
    """

    def __init__(
        self,
        source: str | Path | Log,
        preferences: str | Path | Preferences,
        *,
        columns: ColumnMap | str | None = None,
        annotator: str | None = None,
        batch_size: int = 64,
        updates_per_step: int = 64,
        seed: int = 0,
        validation: float = 0.1,
    ) -> None:
        super().__init__()
        check_ranges(at_least(1, batch_size=batch_size, updates_per_step=updates_per_step))
        check_ranges(within("[0, 1)", validation=validation))
        self.batch_size, self.updates_per_step, self.seed = batch_size, updates_per_step, seed
        self.validation = validation
        check_sources(source, columns, None)
        log = source if isinstance(source, Log) else read_logs(source, columns)
        self.log_hash = log.hash()
        answers = preferences
        if isinstance(answers, Preferences):
            check_about(answers.log_hash, log, Path("preferences"))
        else:
            answers = read_preferences(answers, log)
        self.preferences = answers if annotator is None else answers.of(annotator)
        self.relabel = Compose().prepare(log)
        self.log = replace(log, digest=self.log_hash).packed()
        self._pairs = self.preferences.rows(self.log)
        held_out = _held_out(self._pairs, len(self.log), validation, seed)
        self._training = (~held_out).nonzero().squeeze(1)
        self._held_out = held_out.nonzero().squeeze(1)
        self.spec = make_spec(self.log, super()._sampler(), self.relabel, batch_size)

    @property
    def preferences_hash(self) -> str:
        """Hash of the answers, 16 hexadecimal digits."""
        digest = hashlib.sha256(str(self.preferences.length).encode())
        for part in (self._pairs, self.preferences.label, self.preferences.score):
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    @property
    def held_out(self) -> int:
        """Number of answers that are held out."""
        return len(self._held_out)

    def _sampler(self, **options: Any) -> "PairSampler":
        return PairSampler(
            self.log,
            self.preferences,
            self._pairs,
            self._training,
            batch_size=self.batch_size,
            seed=self.seed,
            following=self._following(),
            **options,
        )

    def _following(self) -> bool:
        """Return whether the learner reads what follows the steps of segments."""
        learner = self._reader if self.trainer is None else self._learner
        keys = (*getattr(learner, "in_keys", ()), *getattr(learner, "optional_keys", ()))
        return any(is_below(key, (FIRST, "next")) for key in keys)

    def train_dataloader(self) -> ChunkSampler:
        """Return the sampler of pairs; it continues from the number of updates done."""
        trainer = self._running
        learner = learner_of(trainer)
        if (FIRST, "score") in learner.in_keys and not self.preferences.scored:
            known = int(torch.isfinite(self.preferences.score).all(1).sum())
            raise LogError(
                f"{type(learner).__name__} ranks segments by a teacher's scores, and {known} of "
                f"{len(self.preferences)} answers have them",
                "Set model.compare to pairs, or take a teacher's answers alone (data.annotator).",
            )
        check_keys(learner.in_keys, self.batch_keys())
        if not any(is_below(key, FIRST) for key in learner.in_keys):
            raise LogError(
                f"{type(learner).__name__} reads single rows, and pairs of segments are served",
                "Use OfflineDataModule, or a learner of preferences (RewardModel, IPL, CPL, DPO).",
            )
        return self._sampler(
            updates_per_step=self.updates_per_step,
            position=lambda: trainer.global_step,
            marks=update_marks(trainer),
            stop=trainer.max_steps if trainer.max_steps > 0 else None,
            process=(trainer.global_rank, trainer.world_size),
            seeds=getattr(learner, "seeds", 1),
        )

    def val_dataloader(self) -> DataLoader[TensorDict] | list[Any]:
        """Return the held-out pairs in order, in batches ``[1, B]``; none without a split."""
        return self._pair_loader(self._held_out, "validation") if len(self._held_out) else []

    def predict_dataloader(self) -> DataLoader[TensorDict]:
        """Return all rows of the log in order, in batches ``[1, B]``."""
        batches = Batches(super()._sampler(), self.seed, None, "predict", count=len(self.log))
        return whole(batches)

    def in_order(
        self, rows: Tensor | None = None, *, batch_size: int = 512, stream: str = "sweep"
    ) -> Iterator[TensorDict]:
        """Yield pairs in the order of the answers.

        Args:
            rows: ``[M]`` int64 numbers of answers, ``None`` for all.
            batch_size: Pairs per batch.
            stream: Name of the stream of draws.

        Yields:
            TensorDict ``[1, B]``; the last may be shorter.
        """
        count = len(self.preferences)
        batches = Batches(self._sampler(), self.seed, rows, stream, batch_size, count)
        for number in range(len(batches)):
            yield batches[number]

    def _pair_loader(self, rows: Tensor, stream: str) -> DataLoader[TensorDict]:
        return whole(Batches(self._sampler(), self.seed, rows, stream, 512))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the data: log, answers, split."""
        return {
            "log_hash": self.log_hash,
            "preferences_hash": self.preferences_hash,
            "seed": self.seed,
            "validation": self.validation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a checkpoint belongs to this log, and to these answers where it goes on.

        Validating needs the split of the run, or pairs trained on would count as held out.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            LogError: The log, the answers or the split are others.
        """
        task = TrainerFn.FITTING if self.trainer is None else self.trainer.state.fn
        if task not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            return
        here = self.state_dict()
        if task == TrainerFn.VALIDATING and state_dict.get("log_hash") != self.log_hash:
            return  # another log has no pair in common with the run's
        for name, fix in _RESUME.items():
            if task == TrainerFn.VALIDATING and name == "preferences_hash":
                continue  # further answers keep the split
            if state_dict.get(name) != here[name]:
                raise LogError(
                    f"the checkpoint was trained with {name} {state_dict.get(name)}, and here it "
                    f"is {here[name]}",
                    fix,
                    path=self.log.sources[0].name,
                )


_RESUME = {
    "log_hash": "Resume with the original log, or start a new run.",
    "preferences_hash": "Resume with the answers of then, or start a new run (weights_from).",
    "seed": "Set --data.seed as in the run.",
    "validation": "Set --data.validation as in the run.",
}


class PairSampler(ChunkSampler):
    """Yields pairs of segments ``[K, B]`` for ever, as :class:`ChunkSampler` does rows.

    Args:
        log: The log.
        preferences: The answers, M.
        pairs: ``[M, 2]`` int64, rows of the segments' first steps.
        chosen: Numbers of the answers that may be drawn.
        following: Whether segments hold the next observation of each step, and where they end.
        **options: Arguments of :class:`ChunkSampler`.
    """

    def __init__(
        self,
        log: Log,
        preferences: Preferences,
        pairs: Tensor,
        chosen: Tensor,
        *,
        following: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(log, Compose(), **options)
        self._draw_index = lambda draws: chosen[draws.integers(len(chosen))]
        self._preferences, self._pairs = preferences, pairs
        self._names = [*log.observed, ACTION, *((TASK,) if TASK in log else ())]
        if following:
            self._names += [*map(next_key, log.observed), TERMINATED]

    def gather(self, index: Tensor, draws: Tensor) -> TensorDict:
        """Return pairs.

        Args:
            index: ``[K, B]`` int64 numbers of answers.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            TensorDict ``[K, B]``.
        """
        rows = self._pairs[index]
        batch = self._log.gather(rows[..., 0]).set(DRAWS, draws)
        steps = rows.unsqueeze(-1) + torch.arange(self._preferences.length)
        values = {name: self._log.take(name, steps) for name in self._names}
        for place, part in enumerate((FIRST, SECOND)):
            found: dict[Key, Tensor] = {
                name: value.select(index.ndim, place) for name, value in values.items()
            }
            if self._preferences.scored:
                found["score"] = self._preferences.score[index][..., place]
            batch.set(part, TensorDict(nested(found), batch_size=index.shape))
        return batch.set(PREFERENCE, self._preferences.label[index]).set(PAIR, index)


def _held_out(pairs: Tensor, rows: int, share: float, seed: int) -> Tensor:
    """Return which pairs ``[M]`` bool are held out; at least one of each side where share > 0."""
    if share == 0:
        return torch.zeros(len(pairs), dtype=torch.bool)
    same = pairs.amin(1) * rows + pairs.amax(1)
    zero = torch.zeros(1, dtype=torch.int64)
    key = uniform(fork(counters(seed, zero, same), "pair split"))[0]
    held = key < share
    least, most = key.amin(), key.amax()
    if least == most:
        raise LogError(
            "all answers are about the same two segments: none can be held out",
            "Set validation to 0.",
        )
    return (held | (key == least)) & (key < most)
