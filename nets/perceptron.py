"""A perceptron whose first weights are a function of a seed, whatever was drawn before."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hindsight_rl.maths.draws import counters, fork, uniform

Activation = Literal["relu", "tanh"]
_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class SeededPerceptron(nn.Module):
    """A multilayer perceptron for data steps that learn, which draw from counters alone.

    Args:
        widths: Of the input, each hidden layer and the output.
        seed: Of the first weights, uniform within 1 / sqrt(inputs of the layer).
        activation: Between layers.
    """

    def __init__(
        self, widths: Sequence[int], *, seed: int, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        for number, (weight, bias) in enumerate(_initial(widths, seed)):
            self.register_parameter(f"weight{number}", weight)
            self.register_parameter(f"bias{number}", bias)
        self._bend = _ACTIVATIONS[activation]

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs ``[N, D]`` of features ``[N, F]``."""
        parameters = list(self.parameters())
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            features = self._bend(torch.addmm(bias, features, weight))
        weight, bias = parameters[-2:]
        return torch.addmm(bias, features, weight)


def _initial(widths: Sequence[int], seed: int) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Return weight ``[in, out]`` and bias ``[out]`` of each layer."""
    found = []
    layers = zip(widths[:-1], widths[1:], strict=True)
    for number, (inputs, outputs) in enumerate(layers):
        rows = torch.arange((inputs + 1) * outputs)
        draws = fork(counters(seed, torch.zeros(1, dtype=torch.int64), rows), f"layer {number}")[0]
        values = ((2.0 * uniform(draws) - 1.0) / math.sqrt(inputs)).reshape(inputs + 1, outputs)
        found.append((nn.Parameter(values[:-1].clone()), nn.Parameter(values[-1].clone())))
    return found
