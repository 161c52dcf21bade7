"""Runner: the updates of one fit, one by one or as one function, as its plan says."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.training.terms import LossTerms
from hindsight_rl.training.update.engine import CompileError, Engine
from hindsight_rl.training.update.groups import followed, trained
from hindsight_rl.training.update.loop import Loop
from hindsight_rl.training.update.plan import Plan, make_plan
from hindsight_rl.training.update.state import SeedStates
from hindsight_rl.training.update.steps import set_rates

if TYPE_CHECKING:
    from hindsight_rl.training.module import LearnerModule

LOGGER = logging.getLogger("hindsight_rl")


class Runner:
    """Chooses how a fit's updates are computed, and computes them.

    Args:
        learner: A :class:`hindsight_rl.training.learner.Learner` with a trainer.
        optimizer: Its optimiser.
        saved: The plan of the checkpoint the run goes on from, {} for a new run.

    Raises:
        ValueError: What is asked for cannot be done here.

    Attributes:
        plan: How updates are computed.
        loop: Makes them one by one.
        engine: Makes those of a chunk as one function, where the plan says so.
    """

    def __init__(
        self, learner: "LearnerModule", optimizer: torch.optim.Optimizer, saved: dict[str, Any]
    ) -> None:
        self.plan: Plan = make_plan(learner, optimizer, saved)
        LOGGER.info(
            "updates: compile %s (%s); %d thread(s), matmul_precision %s (%s)",
            self.plan.compile,
            self.plan.why_compile,
            self.plan.threads,
            self.plan.matmul_precision,
            self.plan.why_products,
        )
        self._learner, self.optimizer = learner, optimizer
        self._networks = {name: trained(each) for name, each in learner.networks().items()}
        trainer = learner.trainer
        scaler, ranks = getattr(trainer.precision_plugin, "scaler", None), trainer.world_size > 1
        losses: Callable[[TensorDict], LossTerms] = learner.losses
        self.loop = Loop(
            learner,
            optimizer,
            torch.compile(losses, dynamic=False) if self.plan.compile == "losses" else losses,
            self._networks,
            {
                target: followed(getattr(learner, target), getattr(learner, online))
                for target, online in learner.targets.items()
            },
            # Lightning's backward synchronises ranks and scales; alone it only costs time.
            backward=learner.manual_backward if ranks or scaler is not None else Tensor.backward,
            scaler=scaler,
            ranks=ranks,
        )
        self.engine: Engine | None = None

    def pack(self, saved: dict[str, Any] | None) -> None:
        """Move all that updates change into flat matrices, where the plan needs them.

        Args:
            saved: What the checkpoint that the run goes on from holds of several seeds.

        Raises:
            ValueError: The checkpoint holds another number of seeds.
        """
        learner = self._learner
        if learner.seeds == 1 and self.plan.compile != "update":
            return
        states = SeedStates.of(learner, learner.seeds, self.optimizer)
        states.adopt(self.optimizer)
        if saved is not None:
            states.load_state_dict(saved)
        elif learner.seeds > 1 and learner.updates:
            raise ValueError(
                f"the checkpoint holds one seed, this run has {learner.seeds}: set --model.seeds 1"
            )
        else:
            for seed in range(1, learner.seeds):
                states.write(seed, learner.fresh(seed).state_dict())
        states.select(0)
        learner.seed_states = states
        self.engine = Engine(
            learner,
            self.optimizer,
            states,
            self._networks,
            clip_norm=learner.clip_norm,
            watch=learner.watch_gradients,
            compiled=self.plan.compile == "update",
            capture=learner.device.type == "cuda",
            threads=self.plan.threads if self.plan.shared else 1,
            inside=1 if self.plan.shared else self.plan.threads,
            products="bfloat16" if self.plan.matmul_precision == "bfloat16" else "float32",
        )

    def run(self, chunk: TensorDict, first: int) -> LossTerms:
        """Make the updates of a chunk.

        Args:
            chunk: TensorDict ``[K, B]``, or ``[K, S, B]`` of several seeds.
            first: Number of the first update, counted from 0.

        Returns:
            Terms and metrics ``[K]`` or ``[K, S]``, each before its update.

        Raises:
            CompileError: The updates cannot be compiled, and that was asked for.
        """
        with self.plan.applied():
            return self._run(chunk, first)

    def _run(self, chunk: TensorDict, first: int) -> LossTerms:
        if self.engine is None:
            return self.loop.run(chunk, first)
        started = self.engine.started
        decay = self._learner.decay
        rates = (lambda number: set_rates(self.optimizer, decay, number)) if decay else None
        try:
            track = self.engine.run(chunk, rates, first)
        except CompileError as error:
            self._give_up_compiling(error, self.engine)
            return self._run(chunk, first)
        if not started and self._learner.seeds > 1 and self.engine.why_sequential:
            LOGGER.info(
                "%s cannot be vectorised, its %d seeds run one after another: %s",
                type(self._learner).__name__,
                self._learner.seeds,
                self.engine.why_sequential,
            )
        values = dict(zip(track.names, track.values.unbind(-1), strict=True))
        terms = {name: values.pop(name) for name in track.names[: track.terms]}
        return LossTerms(terms, values)

    def _give_up_compiling(self, error: CompileError, engine: Engine) -> None:
        """Go on without where nobody asked for it; nothing has happened yet."""
        name = type(self._learner).__name__
        if self.plan.matmul_precision == "bfloat16":
            raise CompileError(
                f"the updates of {name} cannot be written as C++, and matmul_precision 'bfloat16' "
                f"is a matter of that: {error}. Use 'auto'"
            ) from error.__cause__
        if self._learner.compile_mode != "auto":
            raise CompileError(
                f"the updates of {name} cannot be compiled: {error}. Use compile 'losses' or 'off'"
            ) from error.__cause__
        LOGGER.warning(
            "updates of %s go on uncompiled, the compiler failed: %s. Fix that for more speed, or "
            "set compile 'losses' or 'off'",
            name,
            error,
        )
        self.plan = replace(self.plan, compile="off", why_compile=str(error), shared=False)
        engine.give_up_compiling()
        if self._learner.seeds == 1:  # parameters stay where they are, and are updated one by one
            self._learner.seed_states, self.engine = None, None
