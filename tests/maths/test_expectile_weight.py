"""Weights of the policy that an expectile value stands for: closed form T27."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.losses import expectile_loss
from hindsight_rl.maths.weights import expectile_weight


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("expectile", "shares", "value"),
    [
        (0.5, [0.25, 0.25, 0.25, 0.25], 3.25),
        (0.7, [0.1875, 0.1875, 0.1875, 0.4375], 4.9375),
        (0.9, [0.083333, 0.083333, 0.083333, 0.75], 7.75),
    ],
)
def test_implicit_policy_of_expectiles(expectile: float, shares: list[float], value: float) -> None:
    """T27: Q = 0, 1, 2, 10 under a uniform policy: the weights are of the policy whose mean is V.

    V is where the expectile loss has slope 0.
    """
    q, v = f64(0, 1, 2, 10), f64(value)[0].requires_grad_()
    expectile_loss(q - v, expectile=expectile).mean().backward()
    assert v.grad is not None and v.grad.item() == pytest.approx(0, abs=1e-12)
    weight = expectile_weight(q - value, expectile=expectile)
    torch.testing.assert_close(weight / weight.sum(), f64(*shares), rtol=0, atol=2e-6)
    assert (weight * q).sum().item() / weight.sum().item() == pytest.approx(value)


@pytest.mark.parametrize("expectile", [0.0, 1.0])
def test_an_expectile_out_of_range_has_no_weights(expectile: float) -> None:
    with pytest.raises(ValueError, match=f"expectile is {expectile}"):
        expectile_weight(f64(1, -1), expectile=expectile)
