"""Layers: perceptrons whose last layer stays in float32, and networks with fixed parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


class LastLayer(nn.Linear):
    """A linear layer that stays in float32 when the others are in half precision.

    What it returns are means, spreads, logits and values: in bfloat16 a value near 1000 would move
    in steps of 4 or 8, and losses, targets and advantages are small differences of such values.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs ``[..., D]`` of features ``[..., H]``."""
        return float32_linear(features, self.weight, self.bias)


def float32_linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the outputs ``[..., D]`` of a linear layer, in float32 in any precision.

    Args:
        features: ``[..., H]``.
        weight: ``[D, H]``.
        bias: ``[D]``, or none.

    Returns:
        ``[..., D]``.
    """
    device = features.device.type
    # Checked first, so that exported graphs hold no trace of it.
    if not torch.is_autocast_enabled(device):
        return functional.linear(features, weight, bias)
    with torch.autocast(device, enabled=False):
        return functional.linear(features.float(), weight, bias)


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a multilayer perceptron with ReLU between layers, the last one always in float32.

    Args:
        inputs: Width of the input.
        hidden: Width of each hidden layer.
        outputs: Width of the output.

    Returns:
        The network.

    Raises:
        ValueError: A width is below 1.
    """
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden is {list(hidden)}: every layer needs at least 1 unit")
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, LastLayer(inputs, outputs))


def frozen(network: nn.Module) -> Callable[..., Tensor]:
    """Return a network as a function without trained parameters; its inputs get a gradient.

    A critic within an actor's loss is called so: its own parameters must not follow that loss.

    Args:
        network: The network.

    Returns:
        What calls the network.
    """
    detached = {name: value.detach() for name, value in network.named_parameters()}

    def call(*inputs: Any, **named: Any) -> Tensor:
        answer: Tensor = functional_call(network, detached, inputs, named)
        return answer

    return call
