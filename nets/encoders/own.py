"""Encoders of users: a ``torch.nn.Module`` by its dotted name, and weights out of a file."""

import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hindsight_rl.nets.encoders.encoder import Encoder
from hindsight_rl.restoring import is_restoring


class OwnEncoder(nn.Module):
    """A module of a user's, given what modules of that kind expect.

    Images are ``[N, C, H, W]`` float32 in [0, 1], frames of a stack side by side as channels;
    everything else is ``[N, D]`` float32. What the module returns is flattened to ``[N, D]``.

    Args:
        encoder: Names the module.
        before: What turns an entry ``[..., *shape]`` into rows for the module, ``[..., *given]``.
        given: Shape of a row that the module gets.

    Raises:
        ValueError: The module is not imported or no module, cannot be made, or keeps statistics of
            its batches.
    """

    def __init__(self, encoder: Encoder, before: nn.Module, given: Sequence[int]) -> None:
        super().__init__()
        self._frozen, self._given = encoder.frozen, tuple(given)
        self.before = before
        self.module = _made(encoder, self._given)
        statistics = [m for m in self.module.modules() if isinstance(m, _BatchNorm)]
        if statistics and not encoder.frozen:
            raise ValueError(
                f"{encoder.module} has {type(statistics[0]).__name__}, whose statistics depend on "
                "the other rows of a batch: freeze the encoder, or use group norm"
            )
        self.width = self._width(str(encoder.module))

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or back; a frozen module stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.module.train(False)
        return self

    def forward(self, value: Tensor) -> Tensor:
        """Return ``[..., D]`` of an entry ``[..., *shape]``."""
        rows = self.before(value)
        outer = rows.shape[: rows.ndim - len(self._given)]
        found: Tensor = self.module(rows.reshape(-1, *self._given))
        return found.flatten(1).reshape(*outer, self.width)

    def _width(self, name: str) -> int:
        """Return D: what the module says, or what it answers to two rows of zeros."""
        stated = getattr(self.module, "width", None)
        if isinstance(stated, int):
            return stated
        was = self.module.training
        self.module.eval()
        try:
            with torch.no_grad():
                found = self.module(torch.zeros(2, *self._given))
        except Exception as error:  # whatever somebody else's code raises
            raise ValueError(
                f"{name} cannot encode rows of {list(self._given)}: {_short(error)}"
            ) from error
        finally:
            self.module.train(was)
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != 2:
            raise ValueError(f"{name} must return a tensor [N, D], one row for each it is given")
        return math.prod(found.shape[1:])


def _made(encoder: Encoder, given: tuple[int, ...]) -> nn.Module:
    kind = _class(str(encoder.module))
    shape = {"shape": list(given)} if "shape" in inspect.signature(kind).parameters else {}
    try:
        return kind(**shape | encoder.arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{encoder.module} cannot be made: {_short(error)}") from error


def _class(name: str) -> type[nn.Module]:
    """Return a class whose module was imported; a name alone, of a checkpoint say, runs no code."""
    module, _, kind = name.rpartition(".")
    if module not in sys.modules:
        raise ValueError(
            f"encoder {name} is not imported; import {module} first. Add --import {module} to a "
            "command: it is looked for in the current folder too."
        )
    found = getattr(sys.modules[module], kind, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise ValueError(f"encoder {name} is no class of torch.nn.Module")
    return found


def prepare(network: nn.Module, encoder: Encoder) -> None:
    """Give a network the weights of a file, and freeze it, where an encoder says so.

    Args:
        network: What is encoded with.
        encoder: What it is made of.

    Raises:
        ValueError: The file cannot be read, or holds other weights.
    """
    if encoder.weights is not None and not is_restoring():
        _load(network, Path(encoder.weights))
    if encoder.frozen:
        network.requires_grad_(False)


def _load(network: nn.Module, path: Path) -> None:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(
            f"{path} is read by safetensors, which is not installed: pip install safetensors"
        ) from error
    try:
        given = load_file(path)
    except Exception as error:  # of a library in another language
        raise ValueError(f"{path} cannot be read as safetensors: {_short(error)}") from error
    held = network.state_dict()
    for name in dict.fromkeys([*held, *given]):
        there = list(given[name].shape) if name in given else "not there"
        here = list(held[name].shape) if name in held else "not there"
        if here != there:
            raise ValueError(
                f"{path} is of another encoder: '{name}' is {there} in it and {here} in this one"
            )
    network.load_state_dict(given)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
