"""Layers: perceptrons whose last layer stays in float32, and networks with fixed parameters."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hindsight_rl.nets.network import Network


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


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: type[nn.Module] = nn.ReLU,
    *,
    norm: bool = False,
) -> nn.Sequential:
    """Return a multilayer perceptron, ReLU between layers, the last one always in float32.

    Args:
        inputs: Width of the input.
        hidden: Width of each hidden layer.
        outputs: Width of the output.
        activation: Between layers; SiLU where slopes of the network are to be smooth.
        norm: Whether the units of each hidden layer are normalised before they bend.

    Returns:
        The network.

    Raises:
        ValueError: A width is below 1.
    """
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden is {list(hidden)}: every layer needs at least 1 unit")
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), *([nn.LayerNorm(width)] if norm else []), activation()]
        inputs = width
    return nn.Sequential(*layers, LastLayer(inputs, outputs))


def activation_of(network: Network) -> type[nn.Module]:
    """Return what stands between the layers of a network."""
    return {"relu": nn.ReLU, "tanh": nn.Tanh}[network.activation]


@torch.no_grad()
def start_orthogonal(network: nn.Sequential, last: float) -> None:
    """Set the first weights of a perceptron: orthogonal, with biases of 0.

    Args:
        network: What :func:`mlp` returns.
        last: Gain of the last layer; a small one makes all answers begin alike. The others have
            sqrt(2).
    """
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, last if layer is layers[-1] else math.sqrt(2.0))
        nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """x + W relu(V norm(x)): a step beside a shortcut, for deep networks.

    Args:
        width: Of what goes in and comes out.
        wider: How many times wider the layer between is.

    Reference:
        Hansen-Estruch et al. 2023, arXiv 2304.10573, appendix (without dropout).
    """

    def __init__(self, width: int, wider: int = 4) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, wider * width),
            nn.ReLU(),
            nn.Linear(wider * width, width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features ``[..., D]``."""
        return features + cast(Tensor, self.path(features))


def residual_mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a network of residual blocks, the last layer always in float32.

    Args:
        inputs: Width of the input.
        hidden: Width of each block, all equal, at least one.
        outputs: Width of the output.

    Returns:
        The network.
    """
    blocks = [ResidualBlock(width) for width in hidden]
    first = nn.Linear(inputs, hidden[0])
    return nn.Sequential(first, *blocks, nn.ReLU(), LastLayer(hidden[-1], outputs))


def outputs(network: nn.Module, features: Tensor) -> Tensor:
    """Return what a perceptron answers, in float64 where its features are.

    Between candidates of nearly equal value rounding decides, and the first steps of a diffusion
    magnify it a thousandfold; in float32 it differs from runtime to runtime: an exported policy
    would answer now and then with another candidate.

    Args:
        network: What :func:`mlp` or :func:`residual_mlp` returns, in float32.
        features: ``[..., D]``.

    Returns:
        ``[..., W]``, of the dtype of ``features``.
    """
    if features.dtype != torch.float64:
        return cast(Tensor, network(features))
    # Layer by layer: tracing, the way to old operator sets, knows no functional_call.
    if isinstance(network, nn.Linear):
        return functional.linear(features, network.weight.double(), network.bias.double())
    if isinstance(network, nn.LayerNorm):
        shape, weight, bias = network.normalized_shape, network.weight, network.bias
        return functional.layer_norm(features, shape, weight.double(), bias.double(), network.eps)
    if isinstance(network, ResidualBlock):
        return features + outputs(network.path, features)
    if isinstance(network, nn.Sequential):
        for layer in network:
            features = outputs(layer, features)
        return features
    return cast(Tensor, network(features))


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


class FlatWeights:
    """The trained parameters of a network as one vector, and the network as a function of it.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._held = {n: p for n, p in network.named_parameters() if p.requires_grad}

    @property
    def vector(self) -> Tensor:
        """Return the parameters as they are, ``[D]``, without gradient."""
        return torch.cat([value.detach().flatten() for value in self._held.values()])

    def __call__(self, vector: Tensor, *inputs: Any) -> Any:
        """Return what the network answers with other parameters ``[D]``, differentiable."""
        parts = vector.split([value.numel() for value in self._held.values()])
        pairs = zip(self._held.items(), parts, strict=True)
        given = {name: part.view_as(value) for (name, value), part in pairs}
        return functional_call(self._network, given, inputs)

    @torch.no_grad()
    def move(self, step: Tensor) -> None:
        """Add a step ``[D]`` to the parameters, in place."""
        parts = step.split([value.numel() for value in self._held.values()])
        for value, part in zip(self._held.values(), parts, strict=True):
            value.add_(part.view_as(value))
