"""MPO's dual and shares: T13, value and gradient."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.divergences import categorical_kl
from hindsight_rl.maths.mpo import improved_share, temperature_dual

ATOL = 2e-6
LIMIT = 0.1


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def column(*values: float) -> Tensor:
    """Return ``[m, 1]``: m actions in one state."""
    return f64(*values).unsqueeze(-1)


def close(actual: Tensor, expected: Tensor | list[float], atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


VALUE, UNIFORM = column(1, 2, 3), torch.full((3, 1), 1 / 3, dtype=torch.float64)


# --- the E-step -----------------------------------------------------------------------------------


def test_dual_of_t13() -> None:
    """T13, Q = 1, 2, 3 at eta 1: .1 + log(e + e^2 + e^3) - log 3 = 2.408994.

    Its slope is the limit minus the divergence: w = softmax(Q) = .090031, .244728, .665241, and
    sum w log(3 w) = .266217.
    """
    eta = f64(1.0).squeeze().requires_grad_()
    dual = temperature_dual(VALUE, UNIFORM, eta, limit=LIMIT)
    close(dual, [2.408994])
    close(improved_share(VALUE, UNIFORM, eta)[:, 0], [0.090031, 0.244728, 0.665241])
    slope = torch.autograd.grad(dual.sum(), eta)[0]
    assert slope.item() == pytest.approx(0.1 - 0.266217, abs=ATOL)


def test_optimal_temperature_of_t13() -> None:
    """T13: at eta 1.755735 the slope is 0, and the divergence is the limit, .1."""
    eta = f64(1.755735).squeeze().requires_grad_()
    dual = temperature_dual(VALUE, UNIFORM, eta, limit=LIMIT)
    assert torch.autograd.grad(dual.sum(), eta)[0].item() == pytest.approx(0.0, abs=ATOL)
    weight = improved_share(VALUE, UNIFORM, eta)
    close(weight[:, 0], [0.169735, 0.300006, 0.530259])
    close(categorical_kl(weight, UNIFORM.log()), [0.1])


def test_slope_of_the_dual_is_what_is_left_of_the_limit() -> None:
    """For any values and shares, state by state: limit - KL(improved || share)."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    share = torch.softmax(torch.randn(5, 7, generator=generator, dtype=torch.float64), 0)
    for eta in (0.1, 1.0, 30.0):
        found = f64(*[eta] * 7).requires_grad_()
        dual = temperature_dual(value, share, found, limit=0.3)
        slope = torch.autograd.grad(dual.sum(), found)[0]
        weight = improved_share(value, share, found.detach())
        close(slope, 0.3 - categorical_kl(weight, share.log()), atol=1e-10)
        close(weight.sum(0), torch.ones(7))


def test_nothing_but_the_temperature_gets_a_gradient() -> None:
    value, share = VALUE.clone().requires_grad_(), UNIFORM.clone().requires_grad_()
    eta = f64(2.0).squeeze().requires_grad_()
    temperature_dual(value, share, eta, limit=LIMIT).sum().backward()
    assert value.grad is None and share.grad is None and eta.grad is not None
    assert not improved_share(value, share, eta).requires_grad


def test_shares_at_the_ends_of_the_temperature() -> None:
    """Hot: the policy as it is. Cold: the best action alone. A shift of all values: no change."""
    share = column(0.5, 0.3, 0.2)
    close(improved_share(VALUE, share, f64(1e9)), share)
    close(improved_share(VALUE, share, f64(1e-3)), column(0, 0, 1))
    shifted = improved_share(VALUE + 100.0, share, f64(0.7))
    close(shifted, improved_share(VALUE, share, f64(0.7)), atol=1e-12)


def test_actions_that_the_policy_excludes_stay_excluded() -> None:
    """Share 0 and the largest value: the dual and its slope are those of the two others."""
    eta = f64(1.0).squeeze().requires_grad_()
    share = column(0.5, 0.5, 0.0)
    dual = temperature_dual(VALUE, share, eta, limit=LIMIT)
    two = temperature_dual(VALUE[:2], share[:2], eta, limit=LIMIT)
    close(dual, two.detach())
    slopes = [torch.autograd.grad(found.sum(), eta)[0] for found in (dual, two)]
    assert slopes[0].item() == pytest.approx(slopes[1].item(), abs=1e-12)
    weight = improved_share(VALUE, share, eta)
    assert weight[2] == 0 and bool(torch.isfinite(categorical_kl(weight, share.log())).all())
