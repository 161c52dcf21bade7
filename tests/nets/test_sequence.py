"""Recurrent cells: numbers by hand, PyTorch's cells, steps against segments."""

import math

import pytest
import torch
from torch import nn

from hindsight_rl.nets.encoders.sequence import GRU, LSTM, CellKind, Recurrence


def test_one_unit_by_hand() -> None:
    """All weights 1, all biases 0 but b_hn = 0.5; inputs 1, 0, 1."""
    gru = GRU(1, 1).double()
    with torch.no_grad():
        for layer in (gru.of_input, gru.of_state):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        gru.of_state.bias[2] = 0.5
    found = gru(torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64))[:, 0]
    expected = torch.tensor([0.236042, 0.303773, 0.436716], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_one_unit_of_long_memory_by_hand() -> None:
    """All weights 1, all biases 0; inputs 1, 0, 1: i = f = o = sigmoid(x + h), g = tanh(x + h)."""
    lstm = LSTM(1, 1).double()
    with torch.no_grad():
        for layer in (lstm.of_input, lstm.of_state):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    values, state = torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64), torch.zeros(1, 2)
    expected = [[0.369606, 0.556770], [0.290813, 0.538388], [0.626750, 1.096216]]
    for value, wanted in zip(values, expected, strict=True):
        state = lstm.step(value[None], state.double())
        found = torch.tensor([wanted], dtype=torch.float64)
        torch.testing.assert_close(state, found, atol=2e-6, rtol=0)
    torch.testing.assert_close(lstm(values)[-1], state[0])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 3])
def test_equals_the_module_of_pytorch(cell: CellKind, layers: int) -> None:
    ours = Recurrence(3, 5, cell, layers)
    theirs = (nn.GRU if cell == "gru" else nn.LSTM)(3, 5, layers, batch_first=True)
    with torch.no_grad():
        for layer, part in enumerate(ours.cells):
            for name, linear in (("ih", part.of_input), ("hh", part.of_state)):
                getattr(theirs, f"weight_{name}_l{layer}").copy_(linear.weight)
                getattr(theirs, f"bias_{name}_l{layer}").copy_(linear.bias)
    values = torch.randn(4, 7, 3)
    torch.testing.assert_close(ours(values), theirs(values)[0])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_carried_steps_equal_the_segment_and_a_reset_makes_two(cell: CellKind, layers: int) -> None:
    memory = Recurrence(2, 4, cell, layers)
    values = torch.randn(3, 10, 2)
    state, found = memory.initial(3), []
    assert state.shape == (3, layers * (4 if cell == "gru" else 8))
    for step in range(10):
        if step == 6:
            state = memory.initial(3)
        features, state = memory.step(values[:, step], state)
        found.append(features)
    expected = torch.cat([memory(values[:, :6]), memory(values[:, 6:])], dim=1)
    torch.testing.assert_close(torch.stack(found, dim=1), expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_later_inputs_do_not_reach_back(cell: CellKind) -> None:
    memory, values = Recurrence(2, 4, cell, 2), torch.randn(5, 2)
    changed = values.clone()
    changed[3:] += 1.0
    assert torch.equal(memory(values)[:3], memory(changed)[:3])
    assert not torch.equal(memory(values)[3:], memory(changed)[3:])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gates_begin_with_what_keeps_for_so_many_steps(cell: CellKind) -> None:
    """A unit that nothing else moves keeps u / (u + 1) of its value a step, u in [1, 30]."""
    memory = Recurrence(2, 200, cell, horizon=31)
    (part,) = memory.cells
    reach = [module.bias.detach().abs().max() for module in (part.of_input, part.of_state)]
    assert float(reach[0]) == pytest.approx(math.log(30.0), abs=0.05)
    with torch.no_grad():
        for layer in (part.of_input, part.of_state):
            layer.weight.zero_()
        new = slice(-200, None) if cell == "gru" else slice(400, 600)
        part.of_input.bias[new] = part.of_state.bias[new] = 0.0
    kept = memory.step(torch.zeros(1, 2), torch.ones(1, sum(memory.held)))[1][0, -200:].detach()
    span = kept / (1.0 - kept)
    assert 1.0 - 1e-4 <= float(span.min()) < 2.0 and 28.0 < float(span.max()) <= 30.0 + 1e-3
    assert float(span.mean()) == pytest.approx(15.5, abs=2.0)  # uniform on [1, 30]


@pytest.mark.parametrize("kind", [GRU, LSTM])
@pytest.mark.parametrize("widths", [(0, 1), (1, 0)])
def test_widths_below_one(kind: type[GRU] | type[LSTM], widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        kind(*widths)


def test_layers_and_kinds_that_are_none() -> None:
    with pytest.raises(ValueError, match="layers is 0, it must be at least 1"):
        Recurrence(2, 4, "gru", 0)
    with pytest.raises(ValueError, match=r"cell is 'ltsm'.* Did you mean 'lstm'\?"):
        Recurrence(2, 4, "ltsm")  # type: ignore[arg-type]
