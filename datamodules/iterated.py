"""IteratedDataModule: experience collected by the policy while it is trained."""

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn
from tensordict import TensorDict

from hindsight_rl.attached import learner_of
from hindsight_rl.datamodules.base import LogDataModule
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.delayed import NextRound
from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.imagining import Imagining
from hindsight_rl.datamodules.make_spec import check_keys, make_spec
from hindsight_rl.datamodules.mixture import replays_of, warn_of_undrawn
from hindsight_rl.datamodules.offline import update_marks
from hindsight_rl.datamodules.priorities import Priorities, PriorityColumn, check_one_share
from hindsight_rl.datamodules.propensities import check_stated, stated_in, unstated_at_first
from hindsight_rl.datamodules.refit import refit
from hindsight_rl.datamodules.round_checks import (
    check_arguments,
    check_entries,
    check_learner,
    check_resumed,
    check_task,
)
from hindsight_rl.datamodules.rounds import Round
from hindsight_rl.datamodules.sampler import ChunkSampler, chunk_size
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.episodes import Collected
from hindsight_rl.datamodules.sources.log import ColumnMaps, LogSource
from hindsight_rl.datamodules.tickets import Tickets
from hindsight_rl.datamodules.windows import strides_of
from hindsight_rl.envs.interface import EnvSource
from hindsight_rl.keys import ACTION_LOG_PROB, Key
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import Actor, LearnerView
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.relabeler import Relabeler

_COLLECTION = Collection()
_NEVER = 1 << 62  # an update that no run comes to


class IteratedDataModule(LogDataModule):
    """Collects whole episodes with the current policy, and serves batches of what was collected.

    Rounds alternate: collect, append to the replay, prepare the relabelers anew, serve so many
    updates. With ``collection.epochs`` the replay is cleared before each: rounds are on-policy. The
    first round has uniformly random actions and is collected here, so that the
    normaliser is known before the learner is built. A log may take its place or come before it:
    its rows lie in the replay when training starts, or with ``mix`` in a replay of their own. Every
    episode is a function of (seed, its number, the policy), every batch of (seed, update, replay).

    Args:
        env: Gymnasium id; from Python a function that makes an environment too.
        relabel: Relabelers in order; prepared anew every round.
        source: File, folder or dataset id of a log of this environment, or a list of them; from
            Python a :class:`Log` too; ``None`` starts with an empty replay.
        columns: Column map of the source: short name, YAML file or the map itself; a list has one
            for each source.
        env_kwargs: Passed to ``gymnasium.make``, but for ``randomise``: ranges of numbers of the
            environment, drawn in every episode and kept in a column ``context``, which
            ``show_context`` puts behind the observation too; and ``trial``: episodes of one task in
            a row that count as one.
        collection: What is collected, and how; see :class:`Collection`.
        mix: Share of the rows of a batch that come from ``log`` (the source) and ``collected``, in
            (0, 1], summing to 1: each has a replay of its own, rows have an ``origin``, and no row
            of the source ever goes; beside a model those ``imagined``, too. ``None``: one replay,
            every row drawn as often.
        capacity: Rows of the replay, with ``mix`` of the collected ones; the oldest episodes go
            first.
        memory_map: Folder for the rows of the replay; ``None`` keeps them in memory, and in every
            checkpoint.
        batch_size: B, rows per update.
        updates_per_step: K, updates per ``training_step`` at most.
        seed: Seed of episodes and of every draw, not negative.
        imagined: What a model imagines beside what is collected, with a share in ``mix``; ``None``:
            nothing.
        priorities: Rows are drawn by the learner's errors on them, and weighted against it; new
            ones get the largest priority. ``None``: each is drawn as often.

    Raises:
        ValueError: An argument is out of range, or ``mix`` does not go with the origins there are.
        LogError: The source cannot be read, or holds what the environment would not give.

    Attributes:
        history: One :class:`Round` after another; the rows of the source are none.
        log_hash: Hash of the source, ``None`` without one.
    """

    def __init__(
        self,
        env: EnvSource,
        relabel: list[Relabeler] | None = None,
        *,
        source: str | Path | list[str] | Log | None = None,
        columns: ColumnMaps = None,
        env_kwargs: dict[str, Any] | None = None,
        collection: Collection = _COLLECTION,
        mix: dict[str, float] | None = None,
        capacity: int = 1_000_000,
        memory_map: str | None = None,
        batch_size: int = 256,
        updates_per_step: int = 64,
        seed: int = 0,
        imagined: ImaginedRows | None = None,
        priorities: Priorities | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("updates_per_step", updates_per_step)):
            if value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")
        check_arguments(collection, source, columns, mix, imagined)
        self.batch_size, self.updates_per_step, self.seed = batch_size, updates_per_step, seed
        self.collection, self.memory_map, self.mix = collection, memory_map, mix
        self._unbound = Compose(relabel)
        self._collector = Collector(
            env,
            env_kwargs,
            seed=seed,
            num_envs=collection.num_envs,
            max_episode_steps=collection.max_episode_steps,
            explore=collection.explore,
            command=collection.command,
            expert=collection.expert,
            stuck=collection.stuck,
        )
        check_entries(self._collector, source, mix, memory_map)
        log = None if source is None else LogSource(source, columns, self._collector)
        self.log_hash = None if log is None else log.hash
        self._unstated = unstated_at_first(self._collector, log, collection.initial_episodes)
        if imagined is not None and not self._unstated:
            self._unstated = "a model imagines rows"
        self._collector.stating = not self._unstated
        if priorities is not None:
            check_one_share(1, mix, passes=collection.epochs is not None)
            self._priorities = PriorityColumn(priorities, 0)
        self._replays = replays_of(self._collector.info, log, mix, capacity, imagined)
        self.history: list[Round] = []
        self._resumed = False
        self._next = NextRound(self._collector, collection.background)
        if log is not None:
            self._append("log", log.collect(None, 0, log.episodes))
        if collection.initial_episodes:
            first = self._collector.collect(None, 0, collection.initial_episodes, None)
            self._add(first, update=0, at_random=True)
        else:
            self._bind()
        self._first = [asdict(each) for each in self.history]
        self.spec = make_spec(self.log, self._sampler(), self.relabel, batch_size)
        check_task(self.spec, self._collector)
        self._imagining = (
            None if imagined is None else Imagining(imagined, self._replays, None, seed, refit)
        )

    # ------------------------------------------------------------------ rounds

    @property
    def on_policy(self) -> bool:
        """Return whether every row is of the policy that the round began with."""
        return self.collection.epochs is not None

    def _append(self, name: str, found: Collected) -> None:
        """Add episodes to a replay, and to the priorities of its rows."""
        self._replays.append(name, found)
        if self._priorities is not None:
            self._priorities.follow(int(found.lengths.sum()), len(self._replays.log))

    def _add(self, found: Collected, update: int, *, at_random: bool = False) -> None:
        """Take over a round: replay, relabelers, history."""
        if self.on_policy:
            self._replays.clear()
        self._append("collected", found)
        before = self.history[-1] if self.history else None
        rows = int(found.lengths.sum())
        if self.on_policy and self._learner is not None:
            rows = strides_of(found.lengths, self._learner.window)
        updates = self.collection.updates(rows, self.batch_size)
        if self.on_policy and at_random:
            updates = 0  # these rows are no policy's
        self.history.append(Round.after(before, found, update, updates))
        self._bind()

    def _bind(self, learned: dict[str, Any] | None = None) -> None:
        """Prepare the relabelers on the replay as it is; what they learned from batches they keep.

        Args:
            learned: What they learned, where it is not known from the round before.
        """
        log = self._replays.log
        if learned is None:
            learned = self.relabel.state_dict() if self.history[1:] else {}
        self.relabel = self._unbound.prepare(log)
        self.relabel.load_state_dict(learned)
        self.log = log.with_columns(self.relabel.columns).with_rows(self.relabel.rows)
        self._chunks = self._round_sampler()
        if self.mix is not None:
            warn_of_undrawn(self.log)

    def _round_sampler(self) -> ChunkSampler:
        """Return what draws the batches of the round as it is."""
        trainer = self.trainer
        ranks = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        passes = self.history[-1].update if self.on_policy and self.history else None
        return self._sampler(process=ranks, passes=passes)

    def _state_with(self, policy: Actor, needed: tuple[Key, ...]) -> None:
        """Leave ``action_log_prob`` out where the policy that will collect does not know it."""
        reason = self._collector.unstated(policy) if self._collector.stating else ""
        if reason:
            self._leave_unstated(reason)
        check_stated(needed, self._unstated)
        if reason:
            self._bind(self.relabel.state_dict())

    def _leave_unstated(self, reason: str) -> None:
        self._replays.leave_out(ACTION_LOG_PROB)
        self._unstated, self._collector.stating = reason, False

    @property
    def _due(self) -> int:
        """Updates done when the next round is due; a log alone is none, and is due at once."""
        if not self.history:
            return 0
        last, expert = self.history[-1], self.collection.expert
        if expert is not None and expert.spent(last.env_steps, last.episodes):
            return _NEVER
        return last.end

    def _collect(self) -> None:
        """Collect a round with the learner's policy as it is, or take the one that was."""
        trainer = self._running
        learner = learner_of(trainer)
        if self.collection.delayed and not self._next.begun:
            self._begin_next()
        found = self._next.take()
        if found is None:
            found = self._round(learner.collecting(self.collection.sample))()
        self._add(found, trainer.global_step)
        self._rows_changed(learner)
        learner.report(self.history[-1].metrics(), trainer.global_step)

    def _round(self, policy: Actor) -> Callable[[], Collected]:
        """Return what collects the round after those that were added."""
        before = sum(each.episodes for each in self.history[-1:])
        count, expert = self.collection.episodes_per_round, self.collection.expert
        if expert is not None and expert.max_episodes is not None:
            count = min(count, expert.max_episodes - before)
        return functools.partial(
            self._collector.collect,
            policy,
            before,
            count,
            self._replays.real,
            # What came before the first one, a source, is round 0 where nothing was played.
            number=len(self.history) + (not self.collection.initial_episodes),
            queries=sum(each.queries or 0 for each in self.history[-1:]),
            steps=self.collection.steps_per_round,
        )

    def _begin_next(self) -> None:
        """Begin the round that is added when it is due, by the policy as it is."""
        learner = learner_of(self._running)
        self._next.begin(self._round(self._next.policy(learner, self.collection.sample)))

    def _rows_changed(self, learner: LearnerView) -> None:
        self._use_learner()
        if learner.log_pass is not None:
            learner.log_pass.expire()  # rows have other numbers now

    # ------------------------------------------------------------------ batches

    def train_dataloader(self) -> Tickets:
        """Return placeholders without end: a batch is made when its training step begins.

        Returns:
            The placeholders.

        Raises:
            LogError: The learner needs a key that no batch has.
            ValueError: The learner or the trainer does not go with rounds, or another fit was here.
        """
        trainer = self._running
        learner = learner_of(trainer)
        check_learner(learner, self.seed, self._running.world_size, on_policy=self.on_policy)
        begun = self.history[-1].update if self.history else 0
        if not begun <= trainer.global_step <= self._due:
            raise ValueError(
                f"this datamodule has collected until update {begun} and the trainer is at "
                f"{trainer.global_step}: make a new one, or fit with ckpt_path"
            )
        self._state_with(learner.collecting(self.collection.sample), learner.in_keys)
        if not self._resumed and self.memory_map is not None:
            self._replays.to_file(self.memory_map)
            self._bind()
        self._chunks = self._round_sampler()  # with the windows that this learner reads
        keys = self.batch_keys()
        check_keys(learner.in_keys, keys)
        self._check_weights(learner, keys)
        self._use_learner()
        imagined = () if self._imagining is None else self._imagining.marks
        self._marks = sorted({*update_marks(trainer), *imagined})
        self._stop = trainer.max_steps if trainer.max_steps > 0 else None
        if self.history and not self._resumed:
            learner.report(self.history[-1].metrics(), trainer.global_step)
        return Tickets()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the next chunk; a round that is due is collected first.

        Lightning calls this right before the training step of a batch, so the policy that collects
        is the one the last update left, however far ahead the loader is read.

        Args:
            batch: A placeholder; of other loaders a batch, which is returned as it is.
            dataloader_idx: Not used.

        Returns:
            TensorDict ``[K, B]``, not yet relabeled.
        """
        if isinstance(batch, TensorDict) or not self._running.training:
            return batch
        update = self._running.global_step
        self._next.check()
        if update >= self._due:
            self._collect()
        if self.collection.delayed and not self._next.begun and self._due < _NEVER:
            self._begin_next()
        if self._imagining is not None and self._imagining.due(update):
            learner = learner_of(self._running)
            self._imagining.collect(learner, update)
            self._bind(self.relabel.state_dict())
            self._rows_changed(learner)
        size = chunk_size(update, self.updates_per_step, self._marks, self._stop)
        return self._chunks.chunk(update, min(size, self._due - update))

    def val_dataloader(self) -> list[Any]:
        """Return nothing: no episode is held out, evaluation episodes are the learner's."""
        return []

    def teardown(self, stage: str) -> None:
        """Close the environments."""
        self._next.finish()
        self._collector.close()

    def on_exception(self, exception: BaseException) -> None:
        """End a round that is collected in the background."""
        self._next.close()

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the data: the replay and the table of rounds."""
        coming = self._next.state_dict()  # first, for it waits for the round
        return {
            "seed": self.seed,
            "log_hash": self.log_hash,
            "history": [asdict(each) for each in self.history],
            "mix": self.mix,
            "replay": self._replays.state_dict(),
            "relabel": self.relabel.state_dict(),
            "next": coming,
            "expert": self._collector.state_dict(),
            "imagined": None if self._imagining is None else self._imagining.state_dict(),
            "priorities": None if self._priorities is None else self._priorities.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the replay of a checkpoint.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            LogError: The checkpoint belongs to other data.
        """
        # A release without experts wrote rounds without questions.
        rounds = [asdict(Round(**each)) for each in state_dict["history"]]
        saved = state_dict | {"history": rounds}
        check_resumed(saved, self.state_dict(), self._first, self._collector.name)
        if not stated_in(state_dict["replay"]):
            self._leave_unstated("the run was started without it")
        fitting = self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        self._replays.load_state_dict(state_dict["replay"], self.memory_map, cut=fitting)
        self.history = [Round(**each) for each in state_dict["history"]]
        self._resumed = True
        self._next.load_state_dict(state_dict.get("next"))
        self._collector.load_state_dict(state_dict.get("expert", {}))
        if self._imagining is not None:
            self._imagining.load_state_dict(state_dict.get("imagined"))
        self._take_priorities(state_dict)
        self._bind(state_dict["relabel"])
