"""Soft maxima and the Munchausen reward: closed forms, gradients, limits."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.soft_maximum import (
    mellow_maximum,
    munchausen_bonus,
    soft_expectation,
    soft_maximum,
)
from hindsight_rl.maths.soft_value import soft_values


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


VALUES = f64(1, 2, 3)


@pytest.mark.parametrize(
    ("temperature", "soft", "mellow"), [(1.0, 3.407606, 2.308994), (0.1, 3.000005, 2.890143)]
)
def test_closed_forms(temperature: float, soft: float, mellow: float) -> None:
    assert soft_maximum(VALUES, temperature=temperature).item() == pytest.approx(soft, abs=2e-6)
    assert mellow_maximum(VALUES, temperature=temperature).item() == pytest.approx(mellow, abs=2e-6)


def test_gradient_is_the_policy() -> None:
    """D V / d Q(a) = pi(a) = exp(Q - V): of 1, 2, 3 at alpha 1."""
    for function in (soft_maximum, mellow_maximum):
        value = VALUES.clone().requires_grad_()
        function(value, temperature=1.0).backward()
        assert value.grad is not None
        torch.testing.assert_close(value.grad, (VALUES - 3.4076059644).exp())


def test_limits() -> None:
    """Cold: the largest. Hot: mellowmax is the mean, where the soft maximum has no bound."""
    assert soft_maximum(VALUES, temperature=1e-3).item() == 3.0
    assert mellow_maximum(VALUES, temperature=1e6).item() == pytest.approx(2.0, abs=1e-5)
    assert soft_maximum(VALUES, temperature=1e6).item() > 1e6


def test_expectation_and_entropy_are_the_soft_maximum() -> None:
    values = torch.randn(4, 3, dtype=torch.float64)
    found = soft_expectation(values.unsqueeze(-1), values, temperature=0.7)
    torch.testing.assert_close(found.squeeze(-1), soft_maximum(values, temperature=0.7))


def test_numbers_of_actions_are_mixed_each_by_itself() -> None:
    """Two actions of equal value: the mean of their numbers, and alpha log 2."""
    number = torch.stack([f64(0, 2), f64(1, 5)])
    found = soft_expectation(number, f64(1, 1), temperature=0.5)
    torch.testing.assert_close(found, f64(0.5, 3.5) + 0.5 * math.log(2.0))


def test_next_states_are_averaged_by_value_and_not_by_its_exponential() -> None:
    """A lottery of 5 at .1: worth .5. By exact inference, log E exp, it would be 2.756."""
    assert f64(0.9 + 0.1 * math.exp(5.0)).log().item() == pytest.approx(2.756289, abs=2e-6)
    transition = torch.zeros(3, 1, 3, dtype=torch.float64)
    transition[0, 0] = f64(0, 0.9, 0.1)
    transition[1, 0, 1] = transition[2, 0, 2] = 1.0
    value = soft_values(f64(0, 0, 5), transition, 2).value
    assert value[0, 0].item() == pytest.approx(0.5)


def test_munchausen_closed_form() -> None:
    """Q 1 and 1.2 at .03: log pi is -6.667939 and -.001272."""
    log_prob = torch.log_softmax(f64(1, 1.2) / 0.03, -1).requires_grad_()
    found = munchausen_bonus(log_prob, weight=0.9, temperature=0.03)
    torch.testing.assert_close(found, f64(-0.180034, -0.000034), rtol=0, atol=1e-6)
    assert not found.requires_grad


def test_what_is_never_taken_costs_a_limited_reward() -> None:
    found = munchausen_bonus(f64(-1e6, 0.0, 1e-12), weight=0.9, temperature=0.03)
    assert found.tolist() == [-0.9, 0.0, 0.0]
