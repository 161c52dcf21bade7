"""The policy that a value function fitted by expectiles implies: closed form T27."""

import pytest
import torch

from hindsight_rl.maths.losses import expectile_loss

SAMPLE = (0.0, 1.0, 2.0, 10.0)


@pytest.mark.parametrize(
    ("expectile", "shares", "value"),
    [
        (0.5, [0.25, 0.25, 0.25, 0.25], 3.25),
        (0.7, [0.1875, 0.1875, 0.1875, 0.4375], 4.9375),
        (0.9, [1 / 12, 1 / 12, 1 / 12, 0.75], 7.75),
    ],
)
def test_implicit_policy_of_t27(expectile: float, shares: list[float], value: float) -> None:
    """V weighs actions by |L'(u)| / |u|, u = Q - V, and so weighted, values are V on average."""
    q = torch.tensor(SAMPLE, dtype=torch.float64)
    u = (q - value).requires_grad_()
    expectile_loss(u, expectile=expectile).sum().backward()
    assert u.grad is not None
    weight = u.grad.abs() / (2 * u.detach().abs())
    expected = torch.tensor(shares, dtype=torch.float64)
    torch.testing.assert_close(weight / weight.sum(), expected, rtol=0, atol=2e-6)
    assert float((weight * q).sum() / weight.sum()) == pytest.approx(value)
