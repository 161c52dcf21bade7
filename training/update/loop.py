"""Loop: updates one after another, in eager PyTorch.

The counterpart is :mod:`hindsight_rl.training.update.engine`, which makes the updates of a chunk
one function. What both must agree on stands in :mod:`hindsight_rl.training.update.steps`.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Protocol

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.training.terms import LossTerms
from hindsight_rl.training.update.groups import Phases
from hindsight_rl.training.update.steps import (
    clip_factor,
    due,
    in_phase,
    set_rates,
    target_rate,
)


class Updated(Protocol):
    """What the loop asks of a learner.

    Attributes:
        every: Networks and targets that move only at multiples of an interval, by name.
        begins: Updates before the first at which a network moves, by name.
        phases: Networks that move together, one phase after the other; () for all at once.
        tau: Share of the way a target moves.
        until: Updates after which targets move no more, by name.
        decay: Updates after which a network's rate is 0, by name.
        clip_norm: Largest gradient norm of each network, ``None`` for no limit.
        watch_gradients: Measure gradient norms even where nothing is clipped.
    """

    every: Mapping[str, int]
    begins: Mapping[str, int]
    phases: Phases
    tau: float
    until: Mapping[str, int]
    decay: dict[str, int]
    clip_norm: float | None
    watch_gradients: bool

    def update(self, batch: TensorDict) -> LossTerms:
        """Make one update."""


class Loop:
    """Makes the updates of a chunk one by one.

    Args:
        learner: Its ``update`` is called once per batch; its settings are read at every update.
        optimizer: The one optimiser.
        losses: Losses of a batch, compiled or not.
        networks: Parameters of each trained network by name.
        targets: Parameters of each target network and of the network it follows, by name.
        backward: Takes the gradient of a scalar.
        scaler: Of mixed precision, ``None`` without.
        ranks: Whether there are several: they wait for the gradients of every network, due or not.
    """

    def __init__(
        self,
        learner: Updated,
        optimizer: torch.optim.Optimizer,
        losses: Callable[[TensorDict], LossTerms],
        networks: Mapping[str, list[nn.Parameter]],
        targets: Mapping[str, tuple[list[Tensor], list[Tensor]]],
        *,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        scaler: Any | None = None,
        ranks: bool = False,
    ) -> None:
        self._learner, self._optimizer, self._losses = learner, optimizer, losses
        self._networks, self._targets = networks, targets
        self._backward, self._scaler, self._ranks = backward, scaler, ranks
        self._number = 0

    def run(self, chunk: TensorDict, first: int) -> LossTerms:
        """Make the updates of a chunk.

        Args:
            chunk: TensorDict ``[K, B]``.
            first: Number of the first update, counted from 0.

        Returns:
            Terms and metrics, ``[K]``, each before its update.
        """
        history = []
        for number, batch in enumerate(chunk.unbind(0), start=first):
            set_rates(self._optimizer, self._learner.decay, number)
            self._number = number
            history.append(self._learner.update(batch))
        return LossTerms(*(_stacked([found[part] for found in history]) for part in (0, 1)))

    def update(self, batch: TensorDict) -> LossTerms:
        """Make one update: losses, gradients, clipping, optimiser, targets.

        Args:
            batch: TensorDict ``[B]``.

        Returns:
            Detached terms and metrics of the batch before the update.
        """
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        for phase in self._learner.phases or (None,):
            found, norms = self._phase(batch, phase)
            moved = {name: term for name, term in found.terms.items() if in_phase(name, phase)}
            terms |= {name: term.detach() for name, term in moved.items()}
            metrics = found.metrics | metrics | norms
        self._follow()
        return LossTerms(terms, metrics)

    def _phase(
        self, batch: TensorDict, phase: tuple[str, ...] | None
    ) -> tuple[LossTerms, dict[str, Tensor]]:
        """Move the networks of a phase, or all; return what its losses said, and norms."""
        for parameters in self._networks.values():
            for parameter in parameters:
                parameter.grad = None
        found = self._losses(batch)
        summed = [
            term
            for name, term in found.terms.items()
            if in_phase(name, phase) and (self._ranks or self._due(name))
        ]
        if not summed:
            return found, {}
        self._backward(reduce(torch.add, summed))
        for name, parameters in self._networks.items():
            # A term may lead through a network of another phase. And Adam moves on zeros too.
            if not in_phase(name, phase) or not self._due(name):
                for parameter in parameters:
                    parameter.grad = None
        return found, self._step()

    def _due(self, name: str) -> bool:
        given = self._learner
        return bool(due(self._number, given.every.get(name, 1), given.begins.get(name, 0)))

    def _step(self) -> dict[str, Tensor]:
        """Clip and step; return the gradients' norms where they were measured."""
        if self._scaler is not None:
            # Clipping needs true gradients; the scaler then skips a step that overflowed.
            self._scaler.unscale_(self._optimizer)
        watched = self._learner.clip_norm is not None or self._learner.watch_gradients
        norms = self._clip(self._learner.clip_norm) if watched else {}
        if self._scaler is not None:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.step()
        return norms

    def _clip(self, limit: float | None) -> dict[str, Tensor]:
        """Clip every network by itself, and return the norms before."""
        norms = {}
        for name, parameters in self._networks.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            if self._learner.phases and not gradients:
                continue
            # As nn.utils.get_total_norm does on one device, in half of its time.
            each = torch._foreach_norm(gradients) if gradients else (torch.zeros(()),)
            norm = torch.linalg.vector_norm(torch.stack(each))
            if limit is not None and gradients:
                torch._foreach_mul_(gradients, clip_factor(norm, limit))
            norms[f"{name}/gradient_norm"] = norm
        return norms

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the targets that are due."""
        given = self._learner
        for name, (target, online) in self._targets.items():
            interval, until = given.every.get(name, 1), given.until.get(name)
            rate = target_rate(self._number, interval, given.tau, until)
            if rate:
                torch._foreach_lerp_(target, online, rate)


def _stacked(history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return lists of named scalars as named vectors."""
    return {name: torch.stack([found[name] for found in history]) for name in history[0]}
