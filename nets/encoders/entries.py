"""What a network is given of an observation of several entries: one encoder each, side by side."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hindsight_rl.nets.encoders.encoder import IMAGES, Encoder
from hindsight_rl.nets.encoders.image import ImageEncoder, Pixels
from hindsight_rl.nets.encoders.own import OwnEncoder, prepare
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

    Vectors are standardised, images go through :class:`ImageEncoder`, choices become one-hot,
    unless an encoder of the network says otherwise.

    Args:
        spec: The data's spec.
        task_scale: As in :class:`Inputs`.
        encoders: How entries are encoded, by name; see :class:`Encoder`.

    Raises:
        ValueError: An entry is of a shape that no encoder takes, or an encoder does not go with it.

    Attributes:
        shifts: Pixels by which entries are shifted while training, by name, where they are.
        rates: Learning rates of encoders by the number of their entry, where they have one.
    """

    def __init__(
        self,
        spec: Spec,
        task_scale: Sequence[float] | None = None,
        encoders: Mapping[str, Encoder] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.names = list(spec.observation)
        chosen = _chosen(spec, encoders)
        found = [
            made_encoder(name, entry, chosen[name]) for name, entry in spec.observation.items()
        ]
        self.encoders = nn.ModuleList(encoder for encoder, _ in found)
        self.widths = [width for _, width in found]
        given = {name: encoder for name, encoder in chosen.items() if encoder is not None}
        self.shifts = {name: encoder.shift for name, encoder in given.items() if encoder.shift}
        self.rates = {
            number: rate
            for number, name in enumerate(self.names)
            if name in given and (rate := given[name].rate) is not None
        }
        task = spec.task
        self.task = Standardize(*task_statistics(task, task_scale)) if task else None
        self.task_scale = None if task_scale is None else list(task_scale)
        self.observed = sum(self.widths)
        self.width = self.observed + (task.width if task else 0)

    def encode(self, observation: Observation) -> Tensor:
        """Return the features of the entries alone, ``[..., D]``.

        Args:
            observation: ``[..., *shape]`` by entry; others are not read.

        Returns:
            ``[..., observed]``.

        Raises:
            ValueError: The observation is one array.
        """
        if isinstance(observation, Tensor):
            raise ValueError(f"this network takes the entries {', '.join(self.names)} by name")
        parts = zip(self.names, self.encoders, strict=True)
        return torch.cat([encoder(observation[name]) for name, encoder in parts], dim=-1)

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
        return self.join(self.encode(observation), task)

    def join(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        """Return what a network is given.

        Args:
            features: ``[..., observed]``, of :meth:`encode`.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., D]``.

        Raises:
            ValueError: The task is missing.
        """
        if self.task is None:
            return features
        if task is None:
            raise ValueError("this network is conditioned on a task: pass task [..., Z]")
        features = features.expand(*task.shape[:-1], features.shape[-1])
        return torch.cat([features, self.task(task)], dim=-1)


def _chosen(spec: Spec, encoders: Mapping[str, Encoder]) -> dict[str, Encoder | None]:
    """Return the encoder of every entry, ``None`` where nothing was said of it."""
    images = [name for name, entry in spec.observation.items() if isinstance(entry, Image)]
    for name in encoders:
        if name not in spec.observation and not (name == IMAGES and images):
            raise ValueError(
                f"encoders names '{name}', and the entries are {', '.join(spec.observation)}"
                + (f" ('{IMAGES}' stands for all images)" if images else "")
            )
    return {
        name: encoders.get(name, encoders.get(IMAGES) if name in images else None)
        for name in spec.observation
    }


def made_encoder(name: str, entry: Entry, encoder: Encoder | None) -> tuple[nn.Module, int]:
    """Return the encoder of an entry, and how many numbers it gives.

    Args:
        name: Of the entry, for messages.
        entry: The entry.
        encoder: What is said of it.

    Returns:
        A module from ``[..., *shape]`` to ``[..., D]``, and D.

    Raises:
        ValueError: No encoder takes the entry, or this one does not go with it.
    """
    chosen = encoder or Encoder()
    try:
        built, width = _built(name, entry, chosen)
        prepare(built.module if isinstance(built, OwnEncoder) else built, chosen)
    except SpecError:
        raise
    except ValueError as error:
        raise ValueError(f"encoder of entry '{name}': {error}") from error
    if encoder and not isinstance(entry, Image) and (encoder.shift or encoder.module is None):
        what = "shift" if encoder.shift else "an encoder without a module of its own"
        raise ValueError(f"encoder of entry '{name}': {what} is for images, and this is none")
    return built, width


def _built(name: str, entry: Entry, chosen: Encoder) -> tuple[nn.Module, int]:
    if isinstance(entry, Image) and chosen.module is None:
        built = ImageEncoder(entry.shape, chosen.width, chosen.channels)
        return built, built.width
    before, given = _before(name, entry)
    if chosen.module is None:
        return before, given[0]
    own = OwnEncoder(chosen, before, given)
    return own, own.width


def _before(name: str, entry: Entry) -> tuple[nn.Module, tuple[int, ...]]:
    """Return what makes numbers of an entry before anything is learned, and their shape."""
    if isinstance(entry, Vector) and len(entry.shape) == 1:
        return Standardize(*entry.statistics), (entry.width,)
    if isinstance(entry, Image) and len(entry.shape) in (3, 4):
        pixels = Pixels(entry.shape)
        return pixels, pixels.given
    if isinstance(entry, Discrete) and not entry.shape:
        return Choice(entry.n), (entry.n,)
    raise SpecError(f"entry '{name}' has shape {list(entry.shape)}: no encoder takes it")


def encoder_rates(network: nn.Module) -> dict[nn.Parameter, float]:
    """Return the learning rates of encoders that have their own, by parameter."""
    return {
        parameter: rate
        for part in network.modules()
        if isinstance(part, EntryInputs)
        for number, rate in part.rates.items()
        for parameter in part.encoders[number].parameters()
    }


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
        network: Its frequencies and gates are of one flat vector only, its encoders of entries.

    Returns:
        The inputs, and the widths of the hidden layers that are left.

    Raises:
        ValueError: Frequencies or gates are asked of several entries, encoders of a flat vector,
            gates without a task, or no encoder takes the observation.
    """
    if network.gate_task:
        gated = GatedInputs(spec, network.hidden[0], network.task_scale)
        return Encoded(gated, network.hidden[1:])
    return Encoded(ungated_inputs(spec, network), network.hidden)


def ungated_inputs(spec: Spec, network: Network) -> Inputs | EntryInputs:
    """Return what encodes the observation, alone and with the task beside it.

    Args:
        spec: The data's spec.
        network: As in :func:`make_inputs`; its gates are not looked at.

    Returns:
        Inputs with ``encode``, of the observation alone, and ``join``, with the task.

    Raises:
        ValueError: As in :func:`make_inputs`.
    """
    if spec.whole is None:
        if network.frequencies:
            raise ValueError(
                "frequencies are of one flat vector: this log has entries, leave them out"
            )
        return EntryInputs(spec, network.task_scale, network.encoders)
    if network.encoders:
        raise ValueError(
            f"encoders names {', '.join(network.encoders)}, and the observation has no entries: "
            "name them in the column map, `observation: {front: COLUMN}`"
        )
    return Inputs(spec, network.task_scale, frequencies=network.frequencies)
