"""Learner: everything a learner needs that is not in its paper.

K updates per ``training_step``, one optimiser, clipping per network, target networks, mixed
precision, ranks, counting, logging, evaluation episodes, and the guard against non-finite numbers.
A learner file says what is in its paper: networks, losses, targets.

The file is longer than the house's guide because it is the one place where the update lives.
"""

import atexit
import copy
import logging
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.distributed
from lightning import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import OptimizerCallable
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hindsight_rl.arguments import check_choices
from hindsight_rl.diagnostics.divergence import check_finite
from hindsight_rl.diagnostics.evaluation import episodes, evaluate, held_out_values, test_report
from hindsight_rl.keys import Key
from hindsight_rl.maths.draws import fork, normals
from hindsight_rl.maths.losses import td_target
from hindsight_rl.nets.policy import Policy
from hindsight_rl.training.checkpoints.callbacks import prepare
from hindsight_rl.training.checkpoints.warm_start import warm_start
from hindsight_rl.training.sweep import LogPass
from hindsight_rl.training.update.engine import CompileError, Engine
from hindsight_rl.training.update.plan import Compile, Plan, Precision, make_plan
from hindsight_rl.training.update.state import Copies

LOGGER = logging.getLogger("hindsight_rl")

# What a trainer may be given: all keep float32 for weights and for what follows the last layer.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


# What a learner reads that learns from single transitions.
TRANSITION: tuple[Key, ...] = (
    "observation",
    "action",
    ("next", "observation"),
    ("next", "reward"),
    ("next", "terminated"),
)


class LossTerms(NamedTuple):
    """What one batch says: named scalars to minimise, and detached scalars to look at."""

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor]


def row_discount(batch: TensorDict, constant: float) -> Tensor:
    """Return the bootstrap discount ``[B]`` of each row: its own where it has one."""
    own = batch.get("discount", None)
    return torch.full_like(batch["next", "reward"], constant) if own is None else own


def bootstrap(batch: TensorDict, next_value: Tensor, constant: float) -> Tensor:
    """Return what a critic regresses on, r + discount * (1 - terminated) * V(s').

    Args:
        batch: TensorDict ``[B]`` of transitions.
        next_value: ``[B]``, value of each next observation, reward units.
        constant: Discount of rows that bring none of their own, in [0, 1].

    Returns:
        ``[B]``, reward units, without gradient.
    """
    following = batch["next"]
    return td_target(
        following["reward"], following["terminated"], next_value, row_discount(batch, constant)
    )


class Learner(LightningModule, ABC):
    """Base class of every learner: owns the update.

    The unit of everything is one update: ``trainer.global_step``, ``max_steps``, checkpoint,
    validation and logging intervals all count updates.

    Args:
        spec: What the data look like; linked from the datamodule by the command.
        optimizer: Builds the one optimiser from a list of parameter groups.
        learning_rates: Rates of single networks by name (``actor``, ``critic``, ``value``), where
            they differ from the optimiser's.
        decay: Updates after which a network's rate has fallen to 0 on a cosine, by name.
        clip_norm: Largest gradient norm of each network, clipped separately; ``None`` for no limit.
        compile: ``"losses"`` compiles the loss function; ``"update"`` all updates of a chunk into
            one graph (one process, Adam or AdamW); ``"auto"`` the latter where it pays.
        threads: Threads of an update on the CPU; ``None`` chooses by size.
        matmul_precision: Precision of float32 matrix products during updates, as
            ``torch.set_float32_matmul_precision`` knows it; ``"auto"`` takes a faster one where its
            error, measured at the start, is about float32's own.
        seeds: Independent copies trained at once, each with its own initial weights, batches and
            relabeling draws: those of ``seeds`` runs with consecutive seeds.
        weights_from: Checkpoint of this kind of learner to start from: its weights and the
            statistics that go with them, no counters. ``None`` for fresh weights.
        env: Gymnasium id for evaluation episodes.
        env_kwargs: Passed to ``gymnasium.make``.
        eval_task: Task of evaluation episodes where the environment does not give one, Z numbers.
        eval_command: ``"lowered"`` for a task that is a command: after every step its first number,
            the return asked for, falls by the reward, its second, the steps left, by 1 to no less
            than 1. ``"held"`` keeps it.
        eval_max_steps: Steps after which an episode is cut (truncated) in evaluation and ``test``;
            ``None``: the environment's own limit, and 10,000 steps, with a warning, where it has
            none.
        eval_every: Updates between evaluations during ``fit``; 0 for none.
        eval_episodes: Episodes of each.
        test_episodes: Episodes of ``test``.
        eval_seed: Seed of evaluation episodes during ``fit``.
        test_seed: Seed of the test episodes; differs from ``eval_seed`` so that a checkpoint
            chosen on the one is judged on the other.

    Raises:
        ValueError: An argument is out of range or none of its choices.

    Attributes:
        in_keys: Keys the losses read.
        actions: Kinds of actions it can choose.
        one_hot: Whether observations must be one-hot vectors, as a table needs them.
        reads_weight: Whether the losses weigh rows by their ``weight``.
        targets: Which target network follows which network, by attribute name.
        tau: Share of the way a target network moves per update.
        every: Networks and target networks, by attribute name, that move only at updates whose
            number, counted from 1, is a multiple.
    """

    in_keys: ClassVar[tuple[Key, ...]] = ()
    actions: ClassVar[tuple[str, ...]] = ("continuous", "discrete")
    one_hot: ClassVar[bool] = False
    reads_weight: ClassVar[bool] = False
    targets: ClassVar[dict[str, str]] = {}
    actor: Policy
    tau: float = 0.005
    every: Mapping[str, int] = MappingProxyType({})

    def __init__(
        self,
        spec: dict[str, Any] | None = None,
        *,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=3e-4, fused=True),
        learning_rates: dict[str, float] | None = None,
        decay: dict[str, int] | None = None,
        clip_norm: float | None = None,
        compile: Compile = "auto",
        threads: int | None = None,
        matmul_precision: Precision = "auto",
        seeds: int = 1,
        weights_from: str | None = None,
        env: str | None = None,
        env_kwargs: dict[str, Any] | None = None,
        eval_task: list[float] | None = None,
        eval_command: Literal["held", "lowered"] = "held",
        eval_max_steps: int | None = None,
        eval_every: int = 0,
        eval_episodes: int = 10,
        test_episodes: int = 50,
        eval_seed: int = 1_000_000,
        test_seed: int = 2_000_000,
    ) -> None:
        super().__init__()
        if spec is None:
            raise ValueError("spec is missing: pass datamodule.spec (the command links it itself)")
        if spec["action"]["kind"] not in self.actions:
            raise ValueError(
                f"{type(self).__name__} chooses {' or '.join(self.actions)} actions, and those of "
                f"the log are {spec['action']['kind']}: use another learner"
            )
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm is {clip_norm}, it must be above 0 or null")
        most = 1 if eval_max_steps is None else eval_max_steps
        if eval_every < 0 or min(eval_episodes, test_episodes, most) < 1:
            raise ValueError(
                f"eval_every {eval_every} must be at least 0, eval_episodes {eval_episodes} and "
                f"test_episodes {test_episodes} at least 1, eval_max_steps {eval_max_steps} too "
                "(or null)"
            )
        if seeds < 1 or (threads is not None and threads < 1):
            raise ValueError(f"seeds {seeds} and threads {threads} must be at least 1")
        for name, horizon in (decay or {}).items():
            if horizon < 1:
                raise ValueError(f"decay of '{name}' is {horizon} updates, it must be at least 1")
        self._start = warm_start(weights_from, type(self), spec, seeds)
        spec = spec if self._start is None else self._start.spec
        self.save_hyperparameters(ignore=["optimizer"], logger=False)
        for kind in type(self).__mro__:
            if issubclass(kind, Learner):
                check_choices(kind.__init__, self.hparams)
        # A checkpoint holds the weights itself: whoever reads it needs no other one.
        self.hparams.update(spec=spec, weights_from=None)
        self.automatic_optimization = False
        self.spec = spec
        self.build_optimizer = optimizer
        self.learning_rates, self.decay = learning_rates or {}, decay or {}
        self.clip_norm, self.compile_mode = clip_norm, compile
        self.threads, self.matmul_precision, self.seeds = threads, matmul_precision, seeds
        self.env, self.env_kwargs, self.eval_task = env, env_kwargs or {}, eval_task
        self.eval_command, self.eval_max_steps = eval_command, eval_max_steps
        self.eval_every, self.eval_episodes = eval_every, eval_episodes
        self.test_episodes = test_episodes
        self.eval_seed, self.test_seed = eval_seed, test_seed
        self.log_pass: LogPass | None = None
        self.copies: Copies | None = None
        self.plan: Plan | None = None
        self.watch_gradients = False
        self._number = 0
        self._initial_seed = torch.initial_seed()
        self._saved: dict[str, Any] = {}
        self.latest: dict[str, float] = {}
        self.test_report: dict[str, Any] = {}

    # ------------------------------------------------------------------ what a learner file says

    @abstractmethod
    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms to minimise on one batch.

        Terms touch disjoint networks (stop-gradients make their sum separable), so one backward
        pass serves all.

        Args:
            batch: TensorDict ``[B]`` with the learner's ``in_keys``.

        Returns:
            Scalar terms and metrics.
        """

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action: the graph that is exported.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, A]`` in environment units within the bounds, or ``[N]`` int64 from 0.
        """
        return self.actor.mode(observation, task)

    def scores(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return what a discrete policy's argmax is taken of.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, n]``.
        """
        return self.actor(observation, task).logits

    def act(
        self, observation: Tensor, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions in environment units: the mode, or a sample where draws are given.

        Choices are numbered from 0, as learners do; :attr:`first_choice` makes them the
        environment's.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.
            draws: ``[N, 3]`` int64 counters.

        Returns:
            ``[N, A]``, or ``[N]`` int64.
        """
        if draws is None:
            return self(observation, task)
        return self.actor.scale.to_environment(self.actor(observation, task).sample(draws))

    @property
    def first_choice(self) -> int:
        """Return the environment's number of what a learner calls action 0; 0 for real numbers."""
        return int(self.spec["action"].get("start", 0))

    @staticmethod
    def follow(network: nn.Module) -> nn.Module:
        """Return a target network: a copy without gradients, moved after every update."""
        return copy.deepcopy(network).requires_grad_(False)

    @property
    def noise(self) -> dict[str, int]:
        """Return how many normal numbers each row needs, by name; losses read ("noise", name)."""
        return {}

    def complete(self, batch: TensorDict, copy: int | None = None) -> TensorDict:
        """Return a batch with what the losses need beside the data.

        Args:
            batch: TensorDict ``[K, B]`` or ``[K, S, B]`` with ``index`` and ``draws``.
            copy: Copy whose columns a batch ``[K, B]`` gets, where there are several.

        Returns:
            A shallow copy with the columns of the last sweep and ("noise", name) ``[..., width]``.
        """
        if self.log_pass is not None:
            batch = self.log_pass.attach(batch, copy)
        if not self.noise:
            return batch
        draws = batch["draws"]
        found = {name: normals(fork(draws, name), width) for name, width in self.noise.items()}
        return batch.copy().set("noise", TensorDict(found, batch.batch_size))

    def batch_mean(self, value: Tensor) -> Tensor:
        """Return the mean of ``[B]`` over the batch of all ranks, without gradient, ``[]``."""
        mean = value.detach().mean()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean = mean / torch.distributed.get_world_size()
        return mean

    # ------------------------------------------------------------------ networks and optimiser

    def networks(self) -> dict[str, nn.Module]:
        """Return what is trained, by attribute name; each is clipped by itself.

        A bare parameter of the learner (an entropy temperature, say) counts as a network.
        """
        bare = {n: nn.ParameterList([p]) for n, p in self.named_parameters(recurse=False)}
        children = {
            name: child
            for name, child in self.named_children()
            if name not in self.targets and next(child.parameters(), None) is not None
        }
        return {**children, **bare}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the one optimiser.

        Networks with a rate, a decay or a rhythm of their own form a parameter group each; the
        others share one, because every group costs a kernel call per update.

        Returns:
            The optimiser.

        Raises:
            ValueError: ``learning_rates`` or ``decay`` names a network that does not exist.
        """
        networks = self.networks()
        for name in {**self.learning_rates, **self.decay}:
            if name not in networks:
                raise ValueError(f"'{name}' is no network of this learner: it has {list(networks)}")
        groups: list[dict[str, Any]] = []
        shared: dict[str, Any] = {"params": [], "name": "shared"}
        for name, network in networks.items():
            if name in {*self.learning_rates, *self.decay, *self.every}:
                group = {"params": list(network.parameters()), "name": name}
                groups.append(group | _rate(self.learning_rates.get(name)))
            else:
                shared["params"] += network.parameters()
        optimizer = self.build_optimizer([shared, *groups] if shared["params"] else groups)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def setup(self, stage: str) -> None:
        """Have checkpoints written whole and compared with their hash, whatever the trainer."""
        prepare(self.trainer)
        if self._start is not None:
            self._start.give_to(self)
            self._start = None
        if self.trainer.world_size > 1:
            atexit.unregister(_let_ranks_end)
            atexit.register(_let_ranks_end)

    def on_fit_start(self) -> None:
        """Collect what every update needs, once, and refuse what could not end well.

        Raises:
            ValueError: Nothing ends the run, the policy does not fit the environment, or the
                trainer's precision is not one of ``PRECISIONS``.
        """
        if self.trainer.precision not in PRECISIONS:
            raise ValueError(
                f"precision is {self.trainer.precision}: use one of {', '.join(PRECISIONS)}. "
                "Weights, targets and losses stay in float32: in half of it small steps are lost"
            )
        timed = any(isinstance(callback, Timer) for callback in self.trainer.callbacks)
        if self.trainer.max_steps < 0 and not timed:
            raise ValueError("batches never run out: set max_steps (updates) or max_time")
        if self.env:
            episodes(self, 1, self.eval_seed, max_steps=1)
        elif self.eval_every:
            warnings.warn(
                f"eval_every is {self.eval_every}, and there is no environment to evaluate in: "
                "nothing is evaluated. Give --env ID (or the argument env)",
                stacklevel=2,
            )
        # Saving after the last update of a chunk is what is meant here.
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
        self._optimizer = self.optimizers(use_pl_optimizer=False)
        self.plan = make_plan(self, self._optimizer, self._saved.get("plan", {}))
        LOGGER.info(
            "updates: compile %s (%s); %d thread(s), matmul_precision %s (%s)",
            self.plan.compile,
            self.plan.why_compile,
            self.plan.threads,
            self.plan.matmul_precision,
            self.plan.why_products,
        )
        compiled = self.plan.compile == "losses"
        self._losses = torch.compile(self.losses, dynamic=False) if compiled else self.losses
        self._trained = {n: list(network.parameters()) for n, network in self.networks().items()}
        self._scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        plain = self._scaler is None and self.trainer.world_size == 1
        # Lightning's backward synchronises ranks and scales; alone it only costs time.
        self._backward = Tensor.backward if plain else self.manual_backward
        self._target_pairs = {
            target: [list(getattr(self, name).parameters()) for name in (target, online)]
            for target, online in self.targets.items()
        }

    def on_train_start(self) -> None:
        """Take validation into our own hands: Lightning would count chunks, not updates."""
        self.trainer.val_check_batch = math.inf
        if self.seeds > 1 or self._plan.compile == "update":
            self._pack()

    @property
    def has_own_update(self) -> bool:
        """Whether a paper's order of steps replaces :meth:`update`."""
        return type(self).update is not Learner.update

    def _pack(self) -> None:
        """Move all that updates change into flat matrices, one row per copy."""
        copies = Copies.of(self, self.seeds, self._optimizer)
        copies.adopt(self._optimizer)
        saved = self._saved.pop("copies", None)
        if saved is not None:
            copies.load_state_dict(saved)
        elif self.seeds > 1 and self.updates:
            raise ValueError(
                f"the checkpoint holds one seed, this run has {self.seeds}: set --model.seeds 1"
            )
        else:
            for copy in range(1, self.seeds):
                copies.write(copy, self._fresh(self._initial_seed + copy).state_dict())
        copies.select(0)
        self.copies = copies
        self._engine = Engine(
            self,
            self._optimizer,
            copies,
            self._trained,
            clip_norm=self.clip_norm,
            watch=self.watch_gradients,
            compiled=self._plan.compile == "update",
            capture=self.device.type == "cuda",
            threads=self._plan.threads if self._plan.shared else 1,
        )

    def _fresh(self, seed: int) -> "Learner":
        """Return a learner with the same arguments and the initial weights of a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
            return type(self)(**{k: v for k, v in self.hparams.items() if not k.startswith("_")})

    def each_copy(self) -> Iterable[int]:
        """Select every copy in turn; a learner alone is its own only copy."""
        return self.copies.each() if self.copies else (0,)

    @property
    def _plan(self) -> Plan:
        if self.plan is None:
            raise RuntimeError("updates are planned when fit starts")
        return self.plan

    def on_train_batch_start(self, batch: TensorDict, batch_idx: int) -> None:
        """Keep the chunk at hand: where training diverges, its rows may say why."""
        self._chunk = batch

    @property
    def marks(self) -> list[int]:
        """Return the intervals in updates at which this learner stops to do something."""
        marks = [self.eval_every if self.env else 0, self.log_pass.every if self.log_pass else 0]
        return [mark for mark in marks if mark]

    @property
    def updates(self) -> int:
        """Return the number of updates done."""
        return self.trainer.global_step

    # ------------------------------------------------------------------ the update

    def training_step(self, chunk: TensorDict, batch_idx: int) -> None:
        """Run the updates of one chunk.

        Args:
            chunk: TensorDict ``[K, B]``.
            batch_idx: Number of the chunk.

        Raises:
            DivergenceError: A loss term or a parameter is not finite.
        """
        first = self.updates
        self._sweep_if_due()
        chunk = self.complete(chunk)
        with self._plan.applied():
            found = self._many(chunk, first) if self.copies else self._one_by_one(chunk, first)
        check_finite(self, found.terms, first)
        self._count(len(chunk))
        self._report(found, len(chunk))
        if self.env and self.eval_every and self.updates % self.eval_every == 0:
            self._evaluate()

    def _sweep_if_due(self) -> None:
        if self.log_pass is not None and self.log_pass.due(self.updates):
            self.log_pass.sweep(
                self.trainer.datamodule, self.updates, self.device, self.each_copy()
            )

    def _many(self, chunk: TensorDict, first: int) -> LossTerms:
        """Make the updates of a chunk as one function; values are ``[K, S]``."""
        started = self._engine.started
        rates = self._decay_rates if self.decay else None
        try:
            track = self._engine.run(chunk, rates, first)
        except CompileError as error:
            self._give_up_compiling(error)
            return self._many(chunk, first) if self.copies else self._one_by_one(chunk, first)
        if not started and self.seeds > 1 and self._engine.why_sequential:
            LOGGER.info(
                "%s cannot be vectorised, its %d copies run one after another: %s",
                type(self).__name__,
                self.seeds,
                self._engine.why_sequential,
            )
        values = dict(zip(track.names, track.values.unbind(-1), strict=True))
        terms = {name: values.pop(name) for name in track.names[: track.terms]}
        return LossTerms(terms, values)

    def _give_up_compiling(self, error: CompileError) -> None:
        """Go on without where nobody asked for it; nothing has happened yet."""
        name = type(self).__name__
        if self.compile_mode != "auto":
            raise CompileError(
                f"the updates of {name} cannot be compiled: {error}. Use compile 'losses' or 'off'"
            ) from error.__cause__
        LOGGER.warning(
            "updates of %s go on uncompiled, the compiler failed: %s. Mend that for more speed, or "
            "set compile 'losses' or 'off'",
            name,
            error,
        )
        self.plan = replace(self._plan, compile="off", why_compile=str(error), shared=False)
        self._engine.give_up_compiling()
        if self.seeds == 1:  # parameters stay where they are, and are updated one by one
            self.copies = None

    def _one_by_one(self, chunk: TensorDict, first: int) -> LossTerms:
        """Make the updates of a chunk one after another; values are ``[K]``."""
        history = []
        for number, batch in enumerate(chunk.unbind(0), start=first):
            self._decay_rates(number)
            self._number = number
            history.append(self.update(batch))
        return LossTerms(*(_stacked([found[part] for found in history]) for part in (0, 1)))

    def update(self, batch: TensorDict) -> LossTerms:
        """Make one update: losses, gradients, clipping, optimiser, targets.

        Args:
            batch: TensorDict ``[B]``.

        Returns:
            Detached terms and metrics of the batch before the update.
        """
        for parameters in self._trained.values():
            for parameter in parameters:
                parameter.grad = None
        found = self._losses(batch)
        # Ranks wait for the gradients of every network, due or not.
        ranks = self.trainer.world_size > 1
        self._backward(sum(term for name, term in found.terms.items() if ranks or self._due(name)))
        for name in self.every.keys() & self._trained.keys():
            if not self._due(name):  # Adam moves on zeros too
                for parameter in self._trained[name]:
                    parameter.grad = None
        norms = self._step()
        with torch.no_grad():
            for name, (target, online) in self._target_pairs.items():
                if self._due(name):
                    torch._foreach_lerp_(target, online, self.tau)
        terms = {name: term.detach() for name, term in found.terms.items()}
        return LossTerms(terms, found.metrics | norms)

    def _due(self, name: str) -> bool:
        return (self._number + 1) % self.every.get(name, 1) == 0

    def _step(self) -> dict[str, Tensor]:
        if self._scaler is not None:
            # Clipping needs true gradients; the scaler then skips a step that overflowed.
            self._scaler.unscale_(self._optimizer)
        norms = self._clip() if self.clip_norm is not None or self.watch_gradients else {}
        if self._scaler is not None:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.step()
        return norms

    def _clip(self) -> dict[str, Tensor]:
        """Clip every network by itself, and return the norms before."""
        norms = {}
        for name, parameters in self._trained.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            if self.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
            norms[f"{name}/gradient_norm"] = norm
        return norms

    def _decay_rates(self, number: int) -> None:
        for group in self._optimizer.param_groups if self.decay else ():
            horizon = self.decay.get(group["name"])
            if horizon:
                share = min(1.0, number / horizon)
                group["lr"] = group["initial_lr"] * 0.5 * (1.0 + math.cos(math.pi * share))

    def _count(self, updates: int) -> None:
        """Advance ``trainer.global_step``, which Lightning derives from this counter."""
        manual = self.trainer.fit_loop.epoch_loop.manual_optimization
        for tracker in (manual.optim_step_progress.total, manual.optim_step_progress.current):
            tracker.ready += updates
            tracker.completed += updates

    def _report(self, found: LossTerms, updates: int) -> None:
        """Log the means of the chunk where the update count crosses a logging interval or ends."""
        every = self.trainer.log_every_n_steps
        crossed = every and self.updates // every > (self.updates - updates) // every
        if not crossed and self.updates != self.trainer.max_steps:
            return
        values = {**found.terms, **found.metrics}
        means = {f"train/{name}": float(value.mean()) for name, value in values.items()}
        relabel = getattr(getattr(self.trainer, "datamodule", None), "relabel", None)
        seen = getattr(relabel, "metrics", {})
        means |= {f"data/{name}": float(value) for name, value in seen.items()}
        self.latest |= means
        for logger in self.loggers:
            logger.log_metrics(means, step=self.updates)

    # ------------------------------------------------------------------ validation, test, predict

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let Lightning validate after this chunk if its interval, in updates, is reached."""
        every = self.trainer.val_check_interval
        due = isinstance(every, int) and self.updates % every == 0
        self.trainer.val_check_batch = 1 if due else math.inf

    def on_validation_start(self) -> None:
        """Take over all copies of a checkpoint that is loaded to be looked at."""
        if self.trainer.state.fn != "fit" and "copies" in self._saved:
            self.take_copies(self._saved.pop("copies"))

    on_test_start = on_validation_start

    def validation_step(self, batch: TensorDict, batch_idx: int) -> None:
        """Log the losses and the action error on held-out episodes.

        Args:
            batch: TensorDict ``[1, B]``.
            batch_idx: Number of the batch.
        """
        if self.log_pass is not None and not self.log_pass.columns:  # before the first update
            self.log_pass.sweep(
                self.trainer.datamodule, self.updates, self.device, self.each_copy()
            )
        named = {f"validation/{k}": v for k, v in held_out_values(self, batch).items()}
        # By hand to the loggers, see on_validation_epoch_end. Lightning's own way to give a step, a
        # metric "step", would stay behind and misname every checkpoint until the next validation.
        self.log_dict(named, batch_size=batch.shape[1], logger=False)

    def on_validation_epoch_end(self) -> None:
        """Show the validation numbers beside the loss terms, and log them."""
        metrics = self.trainer.callback_metrics.items()
        found = {k: float(v) for k, v in metrics if k.startswith("validation/")}
        self.latest |= found
        for logger in [] if self.trainer.sanity_checking else self.loggers:
            logger.log_metrics(found, step=self.updates)

    def act_numpy(self, observation: np.ndarray, task: np.ndarray | None = None) -> np.ndarray:
        """Return deterministic actions for arrays: what a rollout calls.

        Args:
            observation: ``[n, O]`` float32.
            task: ``[n, Z]`` float32 or ``None``.

        Returns:
            ``[n, A]`` float32, or ``[n]`` int64 in the environment's numbers.
        """
        with torch.inference_mode():
            there = torch.as_tensor(observation, dtype=torch.float32, device=self.device)
            goal = None
            if task is not None:
                goal = torch.as_tensor(task, dtype=torch.float32, device=self.device)
            found: np.ndarray = self(there, goal).cpu().numpy()
            return found + self.first_choice

    def _evaluate(self) -> None:
        values = evaluate(self)
        self.latest |= values
        # For checkpoints that watch the return; loggers get it by hand, Lightning counts chunks.
        self.log_dict(values, batch_size=1, logger=False)
        for logger in self.loggers:
            logger.log_metrics(values, step=self.updates)

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
        """Add the learner's name and the columns of the last sweep."""
        checkpoint["hindsight"] = {"learner": f"{type(self).__module__}.{type(self).__qualname__}"}
        if self.plan is not None:
            checkpoint["hindsight"]["plan"] = self.plan.state_dict()
        if self.log_pass is not None:
            checkpoint["hindsight"]["log_pass"] = self.log_pass.state_dict()
        if self.copies is not None and self.copies.count > 1:
            checkpoint["hindsight"]["copies"] = self.copies.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the plan, the columns of the last sweep, and the other copies."""
        self._saved = dict(checkpoint.get("hindsight", {}))
        state = self._saved.get("log_pass")
        if self.log_pass is not None and state is not None:
            self.log_pass.load_state_dict(state)

    def take_copies(self, saved: dict[str, Any], seed_index: int | None = None) -> None:
        """Take over all copies of a checkpoint, or one of them as the only one.

        Args:
            saved: What the checkpoint holds of them.
            seed_index: Which copy; ``None`` for all.

        Raises:
            ValueError: There is no such copy.
        """
        count = len(next(iter(saved["parameters"].values())))
        if seed_index is not None and not 0 <= seed_index < count:
            raise ValueError(
                f"seed index {seed_index}: the checkpoint holds seeds 0 to {count - 1}"
            )
        copies = Copies.of(self, count)
        copies.load_state_dict(saved)
        copies.select(seed_index or 0)
        self.copies = copies if seed_index is None else None
        self.seeds = count if seed_index is None else 1


def _stacked(history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return lists of named scalars as named vectors."""
    return {name: torch.stack([found[name] for found in history]) for name in history[0]}


def _rate(rate: float | None) -> dict[str, float]:
    return {} if rate is None else {"lr": rate}


def _let_ranks_end() -> None:
    """Let go of Python's lock for a moment, once, when the process of a rank ends.

    Gloo's threads wait for it to free the tensors of the last broadcast. Where the interpreter has
    begun to shut down by then, PyTorch aborts the process: a good run ends with exit code -6.
    """
    time.sleep(0.1)
