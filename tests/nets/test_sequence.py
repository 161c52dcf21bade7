"""The GRU: numbers by hand, PyTorch's cell, steps against segments."""

import pytest
import torch
from torch import nn

from hindsight_rl.nets.encoders.sequence import GRU


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


def test_equals_the_cell_of_pytorch() -> None:
    gru, cell = GRU(3, 5), nn.GRUCell(3, 5)
    with torch.no_grad():
        cell.weight_ih.copy_(gru.of_input.weight)
        cell.bias_ih.copy_(gru.of_input.bias)
        cell.weight_hh.copy_(gru.of_state.weight)
        cell.bias_hh.copy_(gru.of_state.bias)
    values, state = torch.randn(4, 7, 3), gru.initial(4)
    other = state
    for step in range(7):
        state, other = gru.step(values[:, step], state), cell(values[:, step], other)
        torch.testing.assert_close(state, other)


def test_carried_steps_equal_the_segment_and_a_reset_makes_two() -> None:
    gru = GRU(2, 4)
    values = torch.randn(3, 10, 2)
    state, found = gru.initial(3), []
    for step in range(10):
        if step == 6:
            state = gru.initial(3)
        state = gru.step(values[:, step], state)
        found.append(state)
    expected = torch.cat([gru(values[:, :6]), gru(values[:, 6:])], dim=1)
    torch.testing.assert_close(torch.stack(found, dim=1), expected)


def test_later_inputs_do_not_reach_back() -> None:
    gru, values = GRU(2, 4), torch.randn(5, 2)
    changed = values.clone()
    changed[3:] += 1.0
    assert torch.equal(gru(values)[:3], gru(changed)[:3])
    assert not torch.equal(gru(values)[3:], gru(changed)[3:])


@pytest.mark.parametrize("widths", [(0, 1), (1, 0)])
def test_widths_below_one(widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        GRU(*widths)
