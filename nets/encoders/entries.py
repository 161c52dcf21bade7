"""What a network is given of an observation of several entries: one encoder each, side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hindsight_rl.nets.encoders.image import ImageEncoder
from hindsight_rl.nets.encoders.vector import (
    GatedInputs,
    Inputs,
    Standardize,
    task_statistics,
)
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Discrete, Entry, Image, Spec, SpecError, Vector

Observation = Tensor | Mapping[str, Tensor]
"""``[..., O]``, or by entry ``[..., *shape]``."""


def rows_of(observation: Observation) -> int:
    """Return N of an observation ``[N, ...]``, whole or by entry."""
    part = observation if isinstance(observation, Tensor) else next(iter(observation.values()))
    return part.shape[0]


class Choice(nn.Module):
    """One number per choice.

    Args:
        n: Choices.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, value: Tensor) -> Tensor:
        """Return ``[..., n]`` float32 of choices ``[...]`` int64."""
        return nn.functional.one_hot(value, self.n).float()


class EntryInputs(nn.Module):
    """Entries of an observation and the task, in the order of the spec, each encoded by its kind.

    Vectors are standardised, images go through :class:`ImageEncoder`, choices become one-hot.

    Args:
        spec: The data's spec.
        task_scale: As in :class:`Inputs`.

    Raises:
        ValueError: An entry is of a shape that no encoder takes.
    """

    def __init__(self, spec: Spec, task_scale: Sequence[float] | None = None) -> None:
        super().__init__()
        self.names = list(spec.observation)
        found = [_encoder(name, entry) for name, entry in spec.observation.items()]
        self.encoders = nn.ModuleList(encoder for encoder, _ in found)
        task = spec.task
        self.task = Standardize(*task_statistics(task, task_scale)) if task else None
        self.task_scale = None if task_scale is None else list(task_scale)
        self.width = sum(width for _, width in found) + (task.width if task else 0)

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return features ``[..., D]``.

        Args:
            observation: ``[..., *shape]`` by entry; others are not read.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., D]``.

        Raises:
            ValueError: The observation is one array, or the task is missing.
        """
        if isinstance(observation, Tensor):
            raise ValueError(f"this network takes the entries {', '.join(self.names)} by name")
        parts = [
            encoder(observation[name])
            for name, encoder in zip(self.names, self.encoders, strict=True)
        ]
        if self.task is not None:
            if task is None:
                raise ValueError("this network is conditioned on a task: pass task [..., Z]")
            parts.append(self.task(task))
            parts = [part.expand(*task.shape[:-1], part.shape[-1]) for part in parts]
        return torch.cat(parts, dim=-1)


def _encoder(name: str, entry: Entry) -> tuple[nn.Module, int]:
    """Return the encoder of an entry, and how many numbers it gives."""
    if isinstance(entry, Vector) and len(entry.shape) == 1:
        return Standardize(*entry.statistics), entry.width
    if isinstance(entry, Image):
        encoder = ImageEncoder(entry.shape)
        return encoder, encoder.width
    if isinstance(entry, Discrete) and not entry.shape:
        return Choice(entry.n), entry.n
    raise SpecError(f"entry '{name}' has shape {list(entry.shape)}: no encoder takes it")


class Encoded(NamedTuple):
    """What stands before the layers of a network, and the layers that are left."""

    inputs: Inputs | EntryInputs | GatedInputs
    """A module from observation and task to ``[..., width]``."""
    hidden: tuple[int, ...]
    """Width of each hidden layer behind it: a gated input is itself the first one."""


def make_inputs(spec: Spec, network: Network) -> Encoded:
    """Return what encodes the observation and the task of a spec, and the layers behind it.

    Args:
        spec: The data's spec.
        network: Its frequencies and gates are of one flat vector only.

    Returns:
        The inputs, and the widths of the hidden layers that are left.

    Raises:
        ValueError: Frequencies or gates are asked of several entries, gates without a task, or no
            encoder takes the observation.
    """
    scale, hidden = network.task_scale, network.hidden
    if network.gate_task:
        return Encoded(GatedInputs(spec, hidden[0], scale), hidden[1:])
    if spec.whole is not None:
        return Encoded(Inputs(spec, scale, frequencies=network.frequencies), hidden)
    if network.frequencies:
        raise ValueError("frequencies are of one flat vector: this log has entries, leave them out")
    return Encoded(EntryInputs(spec, scale), hidden)
