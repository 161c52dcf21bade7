"""A gated recurrent unit (GRU): one vector, carried from step to step, summarises the past.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr),   z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)),   h' = (1 - z) n + z h

Written out, not ``nn.GRU``: its kernel takes neither ``vmap`` nor other parameters than its own,
and one step of it is what is exported. Weights and results are those of ``torch.nn.GRUCell``.

Reference: Cho et al. 2014, arXiv 1406.1078; the reset gate multiplies W_hn h + b_hn, as in PyTorch
and cuDNN (ONNX: ``linear_before_reset=1``).
"""

import math

import torch
from torch import Tensor, nn


class GRU(nn.Module):
    """One layer of gated recurrent units.

    Args:
        inputs: Width of the input, D.
        units: Width of the state, H.

    Raises:
        ValueError: A width is below 1.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        if inputs < 1 or units < 1:
            raise ValueError(f"inputs {inputs} and units {units} must be at least 1")
        self.units = units
        self.of_input = nn.Linear(inputs, 3 * units)
        self.of_state = nn.Linear(units, 3 * units)
        reach = 1.0 / math.sqrt(units)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -reach, reach)

    def initial(self, count: int) -> Tensor:
        """Return the state of episodes that begin, ``[n, H]`` zeros."""
        return torch.zeros(count, self.units, device=self.of_input.weight.device)

    def step(self, value: Tensor, state: Tensor) -> Tensor:
        """Return the next state.

        Args:
            value: ``[..., D]``.
            state: ``[..., H]``.

        Returns:
            ``[..., H]``.
        """
        return self._advance(self.of_input(value), state)

    def forward(self, values: Tensor) -> Tensor:
        """Return the state after every step of segments that begin with the zero state.

        Args:
            values: ``[..., L, D]``.

        Returns:
            ``[..., L, H]``.
        """
        inner = self.of_input(values)
        state = torch.zeros_like(inner[..., 0, : self.units])
        states = []
        for step in range(values.shape[-2]):
            state = self._advance(inner[..., step, :], state)
            states.append(state)
        return torch.stack(states, dim=-2)

    def _advance(self, inner: Tensor, state: Tensor) -> Tensor:
        reset_in, update_in, new_in = inner.chunk(3, dim=-1)
        reset_by, update_by, new_by = self.of_state(state).chunk(3, dim=-1)
        reset, update = torch.sigmoid(reset_in + reset_by), torch.sigmoid(update_in + update_by)
        new = torch.tanh(new_in + reset * new_by)
        return (1.0 - update) * new + update * state
