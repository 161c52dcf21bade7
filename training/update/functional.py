"""Functional: a learner's losses as a function of tensors, where the learner has its own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.keys import Key
from hindsight_rl.training.update.state import SeedStates

if TYPE_CHECKING:
    from hindsight_rl.training.module import LearnerModule


def fixed_of(learner: nn.Module, states: SeedStates) -> dict[str, tuple[nn.Module, str]]:
    """Return where the learner's tensors are that updates read and do not move, by name."""
    moved = {name for layout in states.layouts for name in layout.shapes}
    named = [*dict(learner.named_parameters()), *dict(learner.named_buffers())]
    found = {}
    for name in named:
        path, _, last = name.rpartition(".")
        if name not in moved:
            found[name] = learner.get_submodule(path), last
    return found


class Losses(nn.Module):
    """Calls a learner's losses with other tensors than its own."""

    def __init__(self, learner: "LearnerModule") -> None:
        super().__init__()
        self.learner = learner

    def forward(self, batch: TensorDict) -> Any:
        """Return the losses of a batch."""
        return self.learner.losses(batch)

    def call(self, held: Mapping[str, Tensor], batch: TensorDict) -> Any:
        """Return the losses with the tensors of ``held``, by the learner's names for them."""
        named = {f"learner.{name}": tensor for name, tensor in held.items()}
        return torch.func.functional_call(self, named, (batch,))


def batch_of(names: Sequence[Key], columns: Sequence[Tensor]) -> TensorDict:
    """Return a batch of entries ``[B, ...]`` by their keys."""
    nested: dict[str, Any] = {}
    for name, column in zip(names, columns, strict=True):
        *outer, last = (name,) if isinstance(name, str) else name
        place = nested
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = column
    return TensorDict(nested, batch_size=columns[0].shape[:1])


def online_names(states: SeedStates, targets: Mapping[str, str]) -> list[str]:
    """Return which parameter each target parameter follows, in the order of the state."""
    names = []
    for name in states.layouts[1].shapes:
        target, rest = name.split(".", 1)
        names.append(f"{targets[target]}.{rest}")
    return names
