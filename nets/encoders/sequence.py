"""Recurrent cells: one vector, carried from step to step, summarises the past.

Written out, not ``nn.GRU`` and ``nn.LSTM``: their kernels take neither ``vmap`` nor other
parameters than their own, and one step of a cell is what is exported. Weights and results are those
of ``torch.nn.GRUCell`` and ``torch.nn.LSTMCell``.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from hindsight_rl.arguments import check_choices

CellKind = Literal["gru", "lstm"]


class Cell(nn.Module):
    """One layer: what every cell has; its features are the first H numbers of its state.

    A kind of cell names in ``keeping`` its gates that keep (1) or overwrite (-1) what is
    remembered, by their place among the gates.

    Args:
        inputs: Width of the input, D.
        units: Width of the features, H.
        gates: How many times H numbers are computed of the input, and of the features.
        held: Width of the state, S.

    Raises:
        ValueError: A width is below 1.
    """

    keeping: ClassVar[tuple[tuple[int, float], ...]]

    def __init__(self, inputs: int, units: int, gates: int, held: int) -> None:
        super().__init__()
        if inputs < 1 or units < 1:
            raise ValueError(f"inputs {inputs} and units {units} must be at least 1")
        self.units, self.held = units, held
        self.of_input = nn.Linear(inputs, gates * units)
        self.of_state = nn.Linear(units, gates * units)
        reach = 1.0 / math.sqrt(units)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -reach, reach)

    def step(self, value: Tensor, state: Tensor) -> Tensor:
        """Return the next state.

        Args:
            value: ``[..., D]``.
            state: ``[..., S]``.

        Returns:
            ``[..., S]``.
        """
        return self.advance(self.of_input(value), state)

    def forward(self, values: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the state after every step of segments.

        Args:
            values: ``[..., L, D]``.
            state: ``[..., S]``, with which they begin; ``None`` for zeros.

        Returns:
            ``[..., L, S]``.
        """
        inner = self.of_input(values)
        if state is None:
            state = inner.new_zeros(*inner.shape[:-2], self.held)
        found = []
        for step in range(values.shape[-2]):
            state = self.advance(inner[..., step, :], state)
            found.append(state)
        return torch.stack(found, dim=-2)

    def remember(self, horizon: int) -> None:
        """Begin with gates that keep what is remembered for 1 to about ``horizon`` steps.

        Their biases are log u with u ~ U(1, T - 1): a gate of sigmoid(log u) forgets over u + 1
        steps. With biases around 0 half is lost at every step, and so is the gradient.

        Args:
            horizon: T, steps, at least 2.

        Reference:
            Tallec and Ollivier 2018, arXiv 1804.11188, eq. 16.
        """
        spread = torch.empty(self.units).uniform_(1.0, max(2.0, horizon - 1.0)).log_()
        with torch.no_grad():
            for gate, sign in self.keeping:
                place = slice(gate * self.units, (gate + 1) * self.units)
                self.of_input.bias[place] = sign * spread
                self.of_state.bias[place] = 0.0

    @abstractmethod
    def advance(self, inner: Tensor, state: Tensor) -> Tensor:
        """Return the next state ``[..., S]``, given what is computed of the input."""


class GRU(Cell):
    """Gated recurrent units; the state is h, S = H.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr),   z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn)),   h' = (1 - z) n + z h

    Args:
        inputs: Width of the input, D.
        units: Width of the state, H.

    Reference:
        Cho et al. 2014, arXiv 1406.1078; the reset gate multiplies W_hn h + b_hn, as in PyTorch and
        cuDNN (ONNX: ``linear_before_reset=1``).
    """

    keeping = ((1, 1.0),)

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, gates=3, held=units)

    def advance(self, inner: Tensor, state: Tensor) -> Tensor:
        """Return the next state ``[..., H]``, given what is computed of the input."""
        reset_in, update_in, new_in = inner.chunk(3, dim=-1)
        reset_by, update_by, new_by = self.of_state(state).chunk(3, dim=-1)
        reset, update = torch.sigmoid(reset_in + reset_by), torch.sigmoid(update_in + update_by)
        new = torch.tanh(new_in + reset * new_by)
        return (1.0 - update) * new + update * state


class LSTM(Cell):
    """Long short-term memory; the state is h and c side by side, S = 2 H.

        i, f, o = sigmoid(W_i x + b_i + W_h h + b_h),   g = tanh(the same)
        c' = f c + i g,   h' = o tanh(c')

    Args:
        inputs: Width of the input, D.
        units: Width of the features, H.

    Reference:
        Hochreiter and Schmidhuber 1997; forget gate: Gers, Schmidhuber and Cummins 2000. Gates in
        PyTorch's order: input, forget, new, output.
    """

    keeping = ((0, -1.0), (1, 1.0))

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, gates=4, held=2 * units)

    def advance(self, inner: Tensor, state: Tensor) -> Tensor:
        """Return the next state ``[..., 2 H]``, given what is computed of the input."""
        # By numbers: exported by tracing, a chunk has a width that no runtime knows.
        sizes = [self.units] * 2
        features, carried = state.split(sizes, dim=-1)
        taken, kept, new, shown = (inner + self.of_state(features)).split(sizes * 2, dim=-1)
        carried = torch.sigmoid(kept) * carried + torch.sigmoid(taken) * torch.tanh(new)
        return torch.cat([torch.sigmoid(shown) * torch.tanh(carried), carried], dim=-1)


class Recurrence(nn.Module):
    """Layers of cells, each fed with the features of the one below; their states side by side.

    Args:
        inputs: Width of the input, D.
        units: Width of the features of every layer, H.
        cell: Kind of the cells.
        layers: How many, at least 1.
        horizon: Steps over which they begin to remember, at least 2; ``None``: a few.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        cell: CellKind = "gru",
        layers: int = 1,
        horizon: int | None = None,
    ) -> None:
        super().__init__()
        check_choices(Recurrence.__init__, locals())
        if layers < 1:
            raise ValueError(f"layers is {layers}, it must be at least 1")
        kind = GRU if cell == "gru" else LSTM
        made = [kind(units if layer else inputs, units) for layer in range(layers)]
        if horizon is not None:
            for each in made:
                each.remember(horizon)
        self.cells = cast(Iterable[Cell], nn.ModuleList(made))
        self.units, self.held = units, [made[0].held] * layers

    def initial(self, count: int) -> Tensor:
        """Return the state of episodes that begin, ``[n, S]`` zeros."""
        device = next(self.parameters()).device
        return torch.zeros(count, sum(self.held), device=device)

    def step(self, value: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the highest layer, and the next state of all.

        Args:
            value: ``[..., D]``.
            state: ``[..., S]``.

        Returns:
            ``[..., H]`` and ``[..., S]``.
        """
        states = []
        for cell, held in zip(self.cells, state.split(self.held, dim=-1), strict=True):
            states.append(cell.step(value, held))
            value = states[-1][..., : self.units]
        return value, torch.cat(states, dim=-1)

    def states(self, values: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the states of all layers after every step of segments.

        Args:
            values: ``[..., L, D]``.
            state: ``[..., S]``, with which they begin; ``None`` for zeros.

        Returns:
            ``[..., L, S]``.
        """
        begun = [None] * len(self.held) if state is None else state.split(self.held, dim=-1)
        found = []
        for cell, begins in zip(self.cells, begun, strict=True):
            found.append(cell(values, begins))
            values = found[-1][..., : self.units]
        return torch.cat(found, dim=-1)

    def features(self, states: Tensor) -> Tensor:
        """Return the features of the highest layer ``[..., H]`` in states ``[..., S]``."""
        highest: Tensor = states.split(self.held, dim=-1)[-1]
        return highest[..., : self.units]

    def forward(self, values: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the features after every step of segments.

        Args:
            values: ``[..., L, D]``.
            state: ``[..., S]``, with which they begin; ``None`` for zeros.

        Returns:
            ``[..., L, H]``.
        """
        return self.features(self.states(values, state))
