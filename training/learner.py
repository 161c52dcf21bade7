"""Learner: the contract that a learner file meets.

A learner file says what is in its paper: networks, losses, whose target is whose. All else is
elsewhere: Lightning's side in :mod:`hindsight_rl.training.module`, the updates in
:mod:`hindsight_rl.training.update`, episodes in :mod:`hindsight_rl.diagnostics.evaluation`.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import torch
import torch.distributed
from lightning.pytorch.cli import OptimizerCallable
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.arguments import check_choices
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.keys import Key
from hindsight_rl.maths.draws import fork, normals
from hindsight_rl.spec import Spec, SpecLike
from hindsight_rl.training.acting import Acts
from hindsight_rl.training.beside import BESIDE, spec_beside, with_beside
from hindsight_rl.training.checkpoints.arguments import constructor_arguments
from hindsight_rl.training.checkpoints.warm_start import warm_start
from hindsight_rl.training.limits import Limits, check_abilities
from hindsight_rl.training.module import LearnerModule
from hindsight_rl.training.terms import (
    COMPARED_STEPS,
    COMPARISON,
    COMPARISON_TASKS,
    TRANSITION,
    LossTerms,
    bootstrap,
    named,
    row_discount,
)
from hindsight_rl.training.transition import Transition
from hindsight_rl.training.update.groups import Phases
from hindsight_rl.training.update.plan import Compile, Precision
from hindsight_rl.training.update.state import SeedStates
from hindsight_rl.windows import (
    CHUNK,
    HISTORY,
    VALID,
    ActionWindow,
    Shots,
    Window,
    window_names,
)

__all__ = [
    "COMPARED_STEPS",
    "COMPARISON",
    "COMPARISON_TASKS",
    "TRANSITION",
    "Learner",
    "LossTerms",
    "Transition",
    "bootstrap",
    "named",
    "row_discount",
]

NO_EVALUATION = Evaluation()
Followed = TypeVar("Followed", bound=nn.Module)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are dataclasses, as dictionaries of their fields."""
    given = arguments.items()
    return {n: asdict(v) for n, v in given if is_dataclass(v) and not isinstance(v, type)}


class Learner(Acts, LearnerModule):
    """Base class of every learner.

    The unit of everything is one update: ``trainer.global_step``, ``max_steps``, checkpoint,
    validation and logging intervals all count updates.

        IQL(data.spec, evaluation=Evaluation(env="Pendulum-v1", every=1000))

    Args:
        spec: What the data look like; linked from the datamodule by the command.
        optimizer: Builds the one optimiser from a list of parameter groups.
        learning_rates: Rates of single networks by name (``actor``, ``critic``, ``value``), where
            they differ from the optimiser's; they stand beside a learner's own ``rates``.
        decay: Updates after which a network's rate has fallen to 0 on a cosine, by name.
        freeze: Updates before the first at which a network moves, by name: ``{actor: 5000}`` lets
            new critics learn before they move a policy that was fitted before.
        clip_norm: Largest gradient norm of each network, clipped separately; ``None`` for no limit.
        compile: ``"losses"`` compiles the loss function; ``"update"`` all updates of a chunk into
            one graph (one process, Adam or AdamW); ``"auto"`` the latter where it pays.
        threads: Threads of an update on the CPU; ``None`` chooses by size.
        matmul_precision: Precision of float32 matrix products during updates, as
            ``torch.set_float32_matmul_precision`` knows it; ``"auto"`` takes a faster one where its
            error, measured at the start, is about float32's own. ``"bfloat16"`` rounds what large
            products of compiled updates on the CPU multiply, and adds in float32.
        seeds: Independent runs trained at once, each with its own initial weights, batches and
            relabeling draws: those of ``seeds`` runs with consecutive seeds.
        weights_from: Checkpoint of this kind of learner to start from: its weights and the
            statistics that go with them, no counters. ``None`` for fresh weights.
        evaluation: Episodes in an environment, during ``fit`` and in ``test``.
        critic_reads: Columns that critics and values read beside the observation, and the policy
            does not: ``[context]``, what ``randomise`` drew for the episode.

    Raises:
        ValueError: An argument is out of range or none of its choices.

    Attributes:
        in_keys: Keys the losses read, without which there is no update.
        optional_keys: Keys the losses read where a batch has them. Whatever stands in neither is
            kept from them, in every compile mode.
        actions: Kinds of actions it can choose.
        one_hot: Whether observations must be one-hot vectors, as a table needs them.
        binned: Whether it reads numbers as the bins they lie in. There is then no network of plain
            numbers, whose inputs and layers a :class:`Network` would describe.
        linear: Whether values are weighted sums of fixed features: there is no network either.
        asymmetric: Whether its critics may read more than its policy (``critic_reads``).
        commanded: Whether the first number of a task must be the return to go.
        rates: Rates that the paper gives single networks, by attribute name: those of
            ``learning_rates`` where it does not name them.
        targets: Which target network follows which network, by attribute name.
        tau: Share of the way a target network moves per update.
        every: Networks and target networks, by attribute name, that move only at updates whose
            number, counted from 1, is a multiple.
        until: Target networks, by attribute name, that move no more after so many updates of a run.
        optimizer_options: Options of the optimiser for single networks, by attribute name.
        phases: Names of terms, which are those of their networks, that move together; phases follow
            each other within one update, and each sees what the one before moved. ``()``: all
            terms are summed and move at once.
        window: Which steps around a row the losses read with it.
        shots: How many rows of a row's task the losses read with it; ``None`` for none.
        action_windows: What the actions of its windows are to it, by part (``history``,
            ``chunk``). Of a part that is not named nobody else's actions may take the place of the
            executed ones (``ExpertAction``).
        limits: What of a run it cannot do, and why, see :mod:`hindsight_rl.training.limits`.
    """

    in_keys: tuple[Key, ...] = ()
    optional_keys: tuple[Key, ...] = ("task", "discount")
    actions: ClassVar[tuple[str, ...]] = ("continuous", "discrete")
    one_hot: ClassVar[bool] = False
    binned: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    asymmetric: ClassVar[bool] = False
    commanded: ClassVar[bool] = False
    rates: ClassVar[Mapping[str, float]] = MappingProxyType({})
    targets: ClassVar[dict[str, str]] = {}
    tau: float = 0.005
    every: Mapping[str, int] = MappingProxyType({})
    until: Mapping[str, int] = MappingProxyType({})
    optimizer_options: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    phases: Phases = ()
    window: Window = Window()
    shots: Shots | None = None
    action_windows: Mapping[str, ActionWindow] = MappingProxyType({})
    limits: ClassVar[Limits] = MappingProxyType({})

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=3e-4, fused=True),
        learning_rates: dict[str, float] | None = None,
        decay: dict[str, int] | None = None,
        freeze: dict[str, int] | None = None,
        clip_norm: float | None = None,
        compile: Compile = "auto",
        threads: int | None = None,
        matmul_precision: Precision = "auto",
        seeds: int = 1,
        weights_from: str | None = None,
        evaluation: Evaluation = NO_EVALUATION,
        critic_reads: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        if spec is None:
            raise ValueError("spec is missing: pass datamodule.spec (the command links it itself)")
        spec = Spec.of(spec)
        check_abilities(type(self), self.limits)
        if spec.action.kind not in self.actions:
            raise ValueError(
                f"{type(self).__name__} chooses {' or '.join(self.actions)} actions, and those of "
                f"the log are {spec.action.kind}: use another learner"
            )
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm is {clip_norm}, it must be above 0 or null")
        if seeds < 1 or (threads is not None and threads < 1):
            raise ValueError(f"seeds {seeds} and threads {threads} must be at least 1")
        for what, given in (("decay", decay), ("freeze", freeze)):
            for name, count in (given or {}).items():
                if count < 1:
                    raise ValueError(
                        f"{what} of '{name}' is {count} updates, it must be at least 1"
                    )
        self._check_evaluation(evaluation)
        self.start = warm_start(weights_from, type(self), spec, seeds)
        spec = spec if self.start is None else self.start.spec
        self.save_hyperparameters(ignore=["optimizer"], logger=False)
        for kind in type(self).__mro__:
            if issubclass(kind, Learner):
                check_choices(kind.__init__, self.hparams)
        # A checkpoint holds the weights itself: whoever reads it needs no other one. It holds plain
        # values only, or it could not be read without unpickling.
        rates = {**self.rates, **(learning_rates or {})}
        self.hparams.update(_plain(self.hparams), spec=spec.to_dict(), weights_from=None)
        self.hparams.update(evaluation=asdict(evaluation))
        self.hparams.update(learning_rates=rates or None)
        self.spec, self.evaluation = spec, evaluation
        self._read_beside(tuple(critic_reads))
        self.build_optimizer = optimizer
        self.learning_rates, self.decay, self.begins = rates, decay or {}, freeze or {}
        self.clip_norm, self.compile_mode = clip_norm, compile
        self.threads, self.matmul_precision, self.seeds = threads, matmul_precision, seeds
        self.log_pass = None
        self.seed_states = None
        self._initial_seed = torch.initial_seed()

    def _check_evaluation(self, evaluation: Evaluation) -> None:
        if not isinstance(evaluation, Evaluation):
            raise ValueError(f"evaluation is {evaluation!r}: give Evaluation(env=..., every=...)")
        if evaluation.env and not self.acts:
            raise ValueError(f"{type(self).__name__} fits no policy: leave the environment out")

    def _read_beside(self, names: tuple[str, ...]) -> None:
        if names and not self.asymmetric:
            raise ValueError(
                f"{type(self).__name__} has no critic that may read more than its policy: leave "
                "critic_reads out"
            )
        self.critic_reads, self.critic_spec = names, spec_beside(self.spec, names)
        self.in_keys = (*self.in_keys, *names)

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

    @staticmethod
    def follow(network: Followed) -> Followed:
        """Return a target network: a copy without gradients, moved after every update."""
        return copy.deepcopy(network).requires_grad_(False)

    @property
    def noise(self) -> dict[str, int]:
        """Return how many normal numbers each row needs, by name; losses read ("noise", name)."""
        return {}

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with what the losses need beside the data.

        Args:
            batch: TensorDict ``[K, B]`` or ``[K, S, B]`` with ``index`` and ``draws``.
            seed: Seed whose columns a batch ``[K, B]`` gets, where there are several.

        Returns:
            A shallow copy with the columns of the last sweep, what critics read beside the
            observation, and ("noise", name) ``[..., width]``.
        """
        batch = with_beside(batch, self.critic_reads)
        if self.log_pass is not None:
            batch = self.log_pass.attach(batch, seed)
        if not self.noise:
            return batch
        draws = batch["draws"]
        found = {name: normals(fork(draws, name), width) for name, width in self.noise.items()}
        return batch.copy().set("noise", TensorDict(found, batch.batch_size))

    @property
    def read_keys(self) -> tuple[Key, ...]:
        """Return the keys the losses may read: declared, of a sweep, and their noise."""
        declared = (*self.in_keys, *self.optional_keys)
        windows = [(part, VALID) for part in (HISTORY, CHUNK) if window_names(declared, part)]
        swept = () if self.log_pass is None else self.log_pass.keys
        noise = [("noise", name) for name in self.noise]
        sides: tuple[tuple[str, ...], ...] = ((BESIDE,), ("next", BESIDE))
        beside = [(*side, name) for side in sides for name in self.critic_reads]
        return tuple(dict.fromkeys((*declared, *windows, *swept, *noise, *beside)))

    def read(self, batch: TensorDict) -> TensorDict:
        """Return a batch with what the losses may read and nothing else.

        Args:
            batch: TensorDict of any shape, completed.

        Returns:
            A shallow copy, without the keys that are not declared.
        """
        return batch.select(*self.read_keys, strict=False)

    def batch_mean(self, value: Tensor) -> Tensor:
        """Return the mean of ``[B]`` over the batch of all ranks, without gradient, ``[]``."""
        mean = value.detach().mean()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean = mean / torch.distributed.get_world_size()
        return mean

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

    # ------------------------------------------------------------------ several seeds

    def fresh(self, seed_index: int) -> Self:
        """Return a learner with the same arguments and the initial weights of one of the seeds.

        Args:
            seed_index: Which one; 0 gives the weights this learner began with.

        Returns:
            The learner.
        """
        seed = self._initial_seed + seed_index
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
            return type(self)(**constructor_arguments(self.hparams, type(self)))

    def each_seed(self) -> Iterable[int]:
        """Select every seed in turn; a learner alone is its own only seed."""
        return self.seed_states.each() if self.seed_states else (0,)

    def take_seeds(self, saved: dict[str, Any], seed_index: int | None = None) -> None:
        """Take over all seeds of a checkpoint, or one of them as the only one.

        Args:
            saved: What the checkpoint holds of them.
            seed_index: Which seed; ``None`` for all.

        Raises:
            ValueError: There is no such seed.
        """
        count = len(next(iter(saved["parameters"].values())))
        if seed_index is not None and not 0 <= seed_index < count:
            raise ValueError(
                f"seed index {seed_index}: the checkpoint holds seeds 0 to {count - 1}"
            )
        states = SeedStates.of(self, count)
        states.load_state_dict(saved)
        states.select(seed_index or 0)
        self.seed_states = states if seed_index is None else None
        self.seeds = count if seed_index is None else 1
