"""LearnerModule: a learner as a LightningModule. The only file that knows Lightning's internals.

Lightning counts batches and epochs, here one update is the unit of everything: ``global_step``,
``max_steps``, intervals of logging, validation and checkpoints. What that takes stands here: K
updates per ``training_step``, the counter behind ``global_step``, validation on time, loggers that
are given their step by hand, and what a checkpoint holds beside weights.

The file is longer than others because all that Lightning calls stands in one place.
"""

import atexit
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hindsight_rl.attached import datamodule_of, log_interval
from hindsight_rl.diagnostics.divergence import check_finite
from hindsight_rl.diagnostics.evaluation import (
    Evaluation,
    evaluate,
    held_out_values,
    test_report,
)
from hindsight_rl.endings import let_ranks_end
from hindsight_rl.keys import Key
from hindsight_rl.nets.encoders.shifting import shifted, shifts_of
from hindsight_rl.ports import Act, Actor
from hindsight_rl.spec import Spec
from hindsight_rl.training.beside import check_beside
from hindsight_rl.training.checkpoints.callbacks import prepare
from hindsight_rl.training.checkpoints.warm_start import WarmStart
from hindsight_rl.training.fit_checks import check_fit
from hindsight_rl.training.limits import Limits, check_limits
from hindsight_rl.training.sweep import Sweep
from hindsight_rl.training.terms import LossTerms, chunk_means
from hindsight_rl.training.update.groups import (
    Phases,
    check_names,
    check_phases,
    parameter_groups,
)
from hindsight_rl.training.update.plan import Compile, Plan, Precision
from hindsight_rl.training.update.runner import Runner
from hindsight_rl.training.update.state import SeedStates
from hindsight_rl.windows import ActionWindow, Shots, Window

Floats = NDArray[np.float32]


class LearnerModule(LightningModule, ABC):
    """What Lightning calls of a learner.

    Derive from :class:`hindsight_rl.training.learner.Learner`, not from this class.

    The attributes are set by that class, from its arguments.

    Attributes:
        latest: The newest value of every metric, by name.
        test_report: What the last ``test`` found.
        runner: Makes the updates of a fit; ``None`` before one starts.
    """

    in_keys: tuple[Key, ...]
    acts: bool
    window: Window
    shots: Shots | None
    action_windows: Mapping[str, ActionWindow]
    spec: Spec
    tau: float
    every: Mapping[str, int]
    until: Mapping[str, int]
    clip_norm: float | None
    compile_mode: Compile
    threads: int | None
    matmul_precision: Precision
    limits: ClassVar[Limits]
    targets: ClassVar[dict[str, str]]
    optimizer_options: Mapping[str, Mapping[str, Any]]
    phases: Phases
    evaluation: Evaluation
    build_optimizer: OptimizerCallable
    learning_rates: dict[str, float]
    decay: dict[str, int]
    begins: Mapping[str, int]
    seeds: int
    log_pass: Sweep | None
    start: WarmStart | None
    seed_states: SeedStates | None
    critic_reads: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.watch_gradients = False
        self.runner: Runner | None = None
        self.latest: dict[str, float] = {}
        self.test_report: dict[str, Any] = {}
        self.at_hand: TensorDict | None = None
        self._saved: dict[str, Any] = {}

    # ------------------------------------------------------------------ what a learner gives

    @abstractmethod
    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms to minimise on one batch."""

    @abstractmethod
    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with what the losses need beside the data."""

    @abstractmethod
    def read(self, batch: TensorDict) -> TensorDict:
        """Return a batch with what the losses may read, and nothing else."""

    @property
    @abstractmethod
    def read_keys(self) -> tuple[Key, ...]:
        """Return the keys the losses may read."""

    @abstractmethod
    def act(
        self, observation: Tensor, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions, the mode or a sample where draws are given."""

    @abstractmethod
    def act_numpy(self, observation: Floats, task: Floats | None = None) -> NDArray[Any]:
        """Return deterministic actions for arrays."""

    @abstractmethod
    def fresh(self, seed_index: int) -> Self:
        """Return a learner with the same arguments and the initial weights of a seed."""

    @property
    @abstractmethod
    def first_choice(self) -> int:
        """Return the environment's number of what a learner calls action 0."""

    @property
    @abstractmethod
    def follows(self) -> bool:
        """Return whether acting takes more than the present."""

    @abstractmethod
    def player(self) -> Act | Actor:
        """Return what the loop that plays episodes asks."""

    @abstractmethod
    def collecting(self, sample: bool) -> Actor:
        """Return what the collector of episodes asks."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Return what is trained, by attribute name."""

    @abstractmethod
    def each_seed(self) -> Iterable[int]:
        """Select every seed's networks in turn."""

    @abstractmethod
    def take_seeds(self, saved: dict[str, Any], seed_index: int | None = None) -> None:
        """Take over the seeds of a checkpoint."""

    # ------------------------------------------------------------------ before the first update

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the one optimiser.

        Returns:
            The optimiser; networks with a rate, a decay or an interval of their own form a group.

        Raises:
            ValueError: ``learning_rates``, ``decay``, ``freeze`` or ``optimizer_options`` names a
                network that does not exist, or ``phases`` leave one out.
        """
        networks = self.networks()
        check_names({**self.learning_rates, **self.decay, **self.begins}, networks)
        check_names(self.optimizer_options, networks)
        check_phases(self.phases, networks)
        phased = (name for phase in self.phases for name in phase)
        apart = {*self.decay, *self.every, *self.begins, *phased}
        groups = parameter_groups(networks, self.learning_rates, apart, self.optimizer_options)
        optimizer = self.build_optimizer(groups)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def setup(self, stage: str) -> None:
        """Have checkpoints written whole and compared with their hash, whatever the trainer."""
        prepare(self.trainer)
        if self.start is not None:
            self.start.give_to(self)
            self.start = None
        if self.trainer.world_size > 1:
            atexit.unregister(let_ranks_end)
            atexit.register(let_ranks_end)

    def on_fit_start(self) -> None:
        """Plan the updates, once, after a check that the run can end well.

        Raises:
            ValueError: Nothing ends the run, the policy does not fit the environment, the
                trainer's precision is half of float32 throughout, or the learner's limits forbid
                what is asked for.
        """
        check_fit(self.trainer, self)
        check_limits(self.trainer, type(self), self.limits)
        if self.critic_reads:
            check_beside(datamodule_of(self.trainer).log, self.critic_reads)
        # Saving after the last update of a chunk is what is meant here.
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
        optimizer = self.optimizers(use_pl_optimizer=False)
        if isinstance(optimizer, list):
            raise ValueError(f"a learner has one optimiser, and this one has {len(optimizer)}")
        self.runner = Runner(self, optimizer, self._saved.get("plan", {}))

    def on_train_start(self) -> None:
        """Take validation into our own hands: Lightning would count chunks, not updates."""
        self.trainer.val_check_batch = math.inf
        self._shifts = shifts_of(self)
        self._running.pack(self._saved.pop("copies", None))
        if self.log_pass is not None and self.seeds > 1 and not self.updates:
            self.log_pass.expire()  # what a look at held-out rows found before was of one seed

    @property
    def _running(self) -> Runner:
        if self.runner is None:
            raise RuntimeError("updates are planned when fit starts")
        return self.runner

    @property
    def plan(self) -> Plan | None:
        """Return how updates are computed, ``None`` before a fit."""
        return None if self.runner is None else self.runner.plan

    # ------------------------------------------------------------------ updates

    def update(self, batch: TensorDict) -> LossTerms:
        """Make one update: losses, gradients, clipping, optimiser, targets.

        Args:
            batch: TensorDict ``[B]``.

        Returns:
            Detached terms and metrics of the batch before the update.
        """
        return self._running.loop.update(batch)

    @property
    def has_own_update(self) -> bool:
        """Whether a paper's order of steps replaces :meth:`update`."""
        return type(self).update is not LearnerModule.update

    @property
    def updates(self) -> int:
        """Return the number of updates done."""
        return self.trainer.global_step

    @property
    def marks(self) -> list[int]:
        """Return the intervals in updates at which this learner stops to do something."""
        marks = [self.evaluation.interval, self.log_pass.every if self.log_pass else 0]
        return [mark for mark in marks if mark]

    def on_train_batch_start(self, batch: TensorDict, batch_idx: int) -> None:
        """Keep the chunk at hand: where training diverges, its rows may say why."""
        self.at_hand = batch

    def training_step(self, chunk: TensorDict, batch_idx: int) -> None:
        """Run the updates of one chunk.

        Args:
            chunk: TensorDict ``[K, B]``.
            batch_idx: Number of the chunk.

        Raises:
            DivergenceError: A loss term or a parameter is not finite.
        """
        first = self.updates
        if self.log_pass is not None and self.log_pass.due(first):
            self._sweep(self.log_pass)
        seen = self.complete(shifted(chunk, self._shifts))
        found = self._running.run(self.read(seen), first)
        check_finite(self, found.terms, first)
        learned = getattr(getattr(self.trainer, "datamodule", None), "learned", None)
        if learned is not None:
            learned(seen, self)
        self._count(len(chunk))
        self._report_chunk(found, len(chunk))
        interval = self.evaluation.interval
        if interval and self.updates % interval == 0:
            self.report(evaluate(self), self.updates)

    def _sweep(self, log_pass: Sweep) -> None:
        log_pass.sweep(datamodule_of(self.trainer), self.updates, self.device, self.each_seed())

    def _count(self, updates: int) -> None:
        """Advance ``trainer.global_step``, which Lightning derives from this counter."""
        manual = self.trainer.fit_loop.epoch_loop.manual_optimization
        for tracker in (manual.optim_step_progress.total, manual.optim_step_progress.current):
            tracker.ready += updates
            tracker.completed += updates

    # ------------------------------------------------------------------ numbers

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Give metrics to the loggers, to ``latest``, and to callbacks that watch one.

        The one way of a number out of a fit: callbacks and datamodules use it too. Lightning's own
        ``log`` counts chunks, and may be called in some places only.

        Args:
            metrics: Numbers by name.
            step: The update after which they hold: number of updates done.
        """
        self.latest |= metrics
        self.trainer.callback_metrics.update(
            {name: torch.tensor(value, device=self.device) for name, value in metrics.items()}
        )
        for logger in [] if self.trainer.sanity_checking or not metrics else self.loggers:
            logger.log_metrics(dict(metrics), step=step)

    def _report_chunk(self, found: LossTerms, updates: int) -> None:
        """Report the means of a chunk where the updates cross a logging interval or end."""
        every = log_interval(self.trainer)
        crossed = every and self.updates // every > (self.updates - updates) // every
        if not crossed and self.updates != self.trainer.max_steps:
            return
        self.report(chunk_means(found, getattr(self.trainer, "datamodule", None)), self.updates)

    # ------------------------------------------------------------------ validation, test, predict

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let Lightning validate after this chunk if its interval, in updates, is reached."""
        every = self.trainer.val_check_interval
        due = isinstance(every, int) and self.updates % every == 0
        self.trainer.val_check_batch = 1 if due else math.inf

    def on_validation_start(self) -> None:
        """Take over all seeds of a checkpoint that is loaded to be looked at."""
        if self.trainer.state.fn != "fit" and "copies" in self._saved:
            self.take_seeds(self._saved.pop("copies"))

    on_test_start = on_validation_start

    def validation_step(self, batch: TensorDict, batch_idx: int) -> None:
        """Gather the losses and the action error on held-out episodes.

        Args:
            batch: TensorDict ``[1, B]``.
            batch_idx: Number of the batch.
        """
        if self.log_pass is not None and self.log_pass.pending:  # before the first update
            self._sweep(self.log_pass)
        named = {f"validation/{k}": v for k, v in held_out_values(self, batch).items()}
        # Lightning takes the mean over batches; loggers get it in on_validation_epoch_end. Its own
        # way to give a step, a metric "step", would stay behind and misname every checkpoint until
        # the next validation.
        self.log_dict(named, batch_size=batch.shape[1], logger=False)

    def on_validation_epoch_end(self) -> None:
        """Report the means over the held-out rows."""
        metrics = self.trainer.callback_metrics.items()
        found = {k: float(v) for k, v in metrics if k.startswith("validation/")}
        self.report(found, self.updates)

    def test_dataloader(self) -> DataLoader[int]:
        """Return one item: the test step runs all episodes."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Run the test episodes and keep the report in ``test_report``.

        Args:
            batch: Not used.
            batch_idx: Not used.
        """
        self.test_report = test_report(self)

    def predict_step(self, batch: TensorDict, batch_idx: int) -> dict[str, Tensor]:
        """Return the policy's actions beside the logged ones.

        Args:
            batch: TensorDict ``[1, B]``.
            batch_idx: Number of the batch.

        Returns:
            ``index``, ``episode``, ``action`` (the policy's), ``logged_action``: ``[B, ...]``, in
            the environment's units and numbers.
        """
        if not self.acts:
            raise ValueError(
                f"{type(self).__name__} fits no policy: there are no actions to predict"
            )
        batch = batch[0]
        action = self(batch["observation"], batch.get("task", None))
        return {
            "index": batch["index"],
            "episode": batch["episode"],
            "action": action + self.first_choice,
            "logged_action": batch["action"] + self.first_choice,
        }

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the learner's name, the plan, the columns of the last sweep and all seeds."""
        checkpoint["hindsight"] = {"learner": f"{type(self).__module__}.{type(self).__qualname__}"}
        if self.plan is not None:
            checkpoint["hindsight"]["plan"] = self.plan.state_dict()
        if self.log_pass is not None:
            checkpoint["hindsight"]["log_pass"] = self.log_pass.state_dict()
        if self.seed_states is not None and self.seed_states.count > 1:
            checkpoint["hindsight"]["copies"] = self.seed_states.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the plan and the seeds for the start, and take over the columns of the sweep."""
        self._saved = dict(checkpoint.get("hindsight", {}))
        state = self._saved.get("log_pass")
        if self.log_pass is not None and state is not None:
            self.log_pass.load_state_dict(state)
