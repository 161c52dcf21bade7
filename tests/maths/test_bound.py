"""The bound over rows: T5, its parts, and that it lies below its limit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hindsight_rl.maths.bound import normalized, row_bound


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: float) -> None:
    assert actual.item() == pytest.approx(expected, abs=2e-6)


POLICY, REWARD = f64(0.5, 0.3, 0.2), f64(1, 2, 4)


def test_bound_of_t5() -> None:
    """One row of each outcome: b = 1/3. q* = pi R / 1.9 reaches log 1.9; q = pi gives E[log R]."""
    log_ratio = (POLICY * 3).log()
    best = row_bound(log_ratio, REWARD, POLICY * REWARD)
    close(best.value, 0.641854)
    close(best.limit, 0.641854)
    plain = row_bound(log_ratio, REWARD, POLICY)
    close(plain.value, 0.485203)
    close(plain.log_reward, 0.485203)
    close(plain.log_policy, 0.0)  # -KL(pi || pi)
    close(plain.limit, 0.641854)


def test_rows_drawn_by_the_policy_itself() -> None:
    """Ten rows as pi takes them, pi / b = 1: weights R give log E[R], with no policy named."""
    reward = REWARD.repeat_interleave(torch.tensor([5, 3, 2]))
    found = row_bound(torch.zeros(10, dtype=torch.float64), reward, reward)
    close(found.value, 0.641854)
    found = row_bound(torch.zeros(10), reward, torch.ones(10))
    close(found.value, 0.485203)


def test_gradient_is_that_of_weighted_cloning() -> None:
    """The policy step raises F by raising E_q[log pi]: slope q."""
    log_ratio = f64(0.1, -0.4, 0.2).requires_grad_()
    row_bound(log_ratio, REWARD, f64(1, 1, 2)).value.backward()
    torch.testing.assert_close(log_ratio.grad, f64(0.25, 0.25, 0.5))


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9))
def test_no_q_is_above_the_limit(seed: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_ratio, log_reward, log_weight = torch.randn(3, rows, generator=generator).double()
    reward = log_reward.exp()
    found = row_bound(log_ratio, reward, log_weight.exp())
    assert found.value <= found.limit + 1e-12
    torch.testing.assert_close(found.log_reward + found.log_policy, found.value)
    tight = row_bound(log_ratio, reward, reward * log_ratio.exp())
    torch.testing.assert_close(tight.value, found.limit)
    torch.testing.assert_close(found.limit, (reward * log_ratio.exp()).mean().log())


@given(seed=st.integers(0, 2**32 - 1))
def test_both_steps_raise_it(seed: int) -> None:
    """Rows of four actions by a known b: q proportional to R pi / b, then the best policy for q."""
    generator = torch.Generator().manual_seed(seed)
    action = torch.arange(12) % 4
    reward = torch.randn(12, generator=generator).double().exp()
    acted, policy = torch.randn(2, 4, generator=generator).double().softmax(-1)
    last = -math.inf
    for _ in range(4):
        ratio = (policy / acted)[action]
        weight = reward * ratio
        data = row_bound(ratio.log(), reward, weight)
        policy = torch.zeros_like(policy).index_add(0, action, normalized(weight))
        fitted = row_bound((policy / acted)[action].log(), reward, weight)
        assert last - 1e-9 <= data.value <= fitted.value + 1e-9
        torch.testing.assert_close(data.value, data.limit)
        torch.testing.assert_close(data.log_reward, fitted.log_reward)
        last = fitted.value


def test_rows_left_out_count_nothing() -> None:
    found = row_bound(f64(0, -math.inf), f64(3, 0), f64(2, 0))
    close(found.value, math.log(3) - math.log(2))
    close(found.log_reward, math.log(3))


def test_weights_are_normalized() -> None:
    found = normalized(torch.tensor([1.0, 3.0]))
    assert found.dtype == torch.float64 and found.tolist() == [0.25, 0.75]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"log_ratio \(3,\), reward \(3, 1\), weight \(3,\)"):
        row_bound(POLICY, REWARD[:, None], POLICY)
