"""Divergences by hand, value and gradient, and torch's own."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from hindsight_rl.maths.divergences import categorical_kl, normal_kl, standard_normal_kl


def column(*values: float) -> Tensor:
    """Return ``[m, 1]``: m actions in one state."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def close(actual: Tensor, expected: Tensor | list[float], atol: float = 2e-6) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def randoms(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_categorical_kl_by_hand() -> None:
    """KL((1/2, 1/2) || (1/4, 3/4)) = log 2 / 2 + log(2/3) / 2 = .143841; slope -share."""
    log_other = column(0.25, 0.75).log().requires_grad_()
    found = categorical_kl(column(0.5, 0.5), log_other)
    close(found, [0.143841])
    close(torch.autograd.grad(found.sum(), log_other)[0], column(-0.5, -0.5))


def test_categorical_kl_counts_nothing_where_the_share_is_0() -> None:
    log_other = column(0.5, 0.0).log().requires_grad_()
    found = categorical_kl(column(1.0, 0.0), log_other)
    close(found, [math.log(2)])
    close(torch.autograd.grad(found.sum(), log_other)[0], column(-1, 0))


def test_normal_kl_equals_torch() -> None:
    mean, log_std, other, other_log = (randoms(n, 4, 3).requires_grad_() for n in range(4))
    found = normal_kl(mean, log_std, other, other_log)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(other, other_log.exp()))
    close(found, expected.detach(), atol=1e-12)
    inputs = (mean, log_std, other, other_log)
    for one, two in zip(
        torch.autograd.grad(found.sum(), inputs),
        torch.autograd.grad(expected.sum(), inputs),
        strict=True,
    ):
        close(one, two, atol=1e-12)


def test_small_changes_of_spread_survive_float32() -> None:
    """A spread off by d = 1e-3 diverges by d^2 + O(d^3), as far as d is known in float32."""
    log_std = torch.full((1,), 0.25)
    zero = torch.zeros(1)
    ratio = (log_std + 1e-3 - log_std).double()
    found = normal_kl(zero, log_std + 1e-3, zero, log_std)
    expected = 0.5 * torch.expm1(2 * ratio) - ratio
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
    assert normal_kl(zero, log_std, zero, log_std).item() == 0.0


def test_standard_normal_kl_by_hand_and_its_gradient() -> None:
    """KL = (m^2 + s^2 - 1 - 2 log s) / 2: 0 for the standard normal itself, 1/2 for a mean of 1.

    At mean 2, std e: (4 + e^2 - 1 - 2) / 2. Its slopes are m, and s^2 - 1 in log s.
    """
    mean = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    each = standard_normal_kl(mean.unsqueeze(-1), log_std.unsqueeze(-1))
    assert each.tolist() == pytest.approx([0.0, 0.5, 0.5 * (1 + math.exp(2.0))], abs=1e-12)
    whole = standard_normal_kl(mean, log_std)
    assert whole.item() == pytest.approx(each.sum().item())
    whole.backward()
    assert mean.grad is not None and log_std.grad is not None
    assert mean.grad.tolist() == pytest.approx([0.0, 1.0, 2.0])
    assert log_std.grad.tolist() == pytest.approx([0.0, 0.0, math.exp(2.0) - 1.0])


def test_standard_normal_kl_equals_torch() -> None:
    mean, log_std = randoms(2, 5, 3), randoms(3, 5, 3)
    normal, standard = Normal(mean, log_std.exp()), Normal(torch.zeros(3).double(), 1.0)
    expected = kl_divergence(normal, standard).sum(-1)
    torch.testing.assert_close(standard_normal_kl(mean, log_std), expected)
