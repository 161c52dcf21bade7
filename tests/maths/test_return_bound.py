"""The return bound: closed form T5 with its gradient, and that it is a bound."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hindsight_rl.maths.losses import return_bound


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def leaf(*values: float) -> Tensor:
    return f64(*values).requires_grad_()


def close(actual: Tensor | None, expected: Tensor | list[float]) -> None:
    assert actual is not None
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=2e-6)


def randoms(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_return_bound_of_t5() -> None:
    """T5: pi = .5, .3, .2, R = 1, 2, 4: E[R] = 1.9, log 1.9 = .641854.

    q* = pi R / 1.9 makes the bound tight; q = pi gives E[log R] = .3 log 2 + .2 log 4 = .485203.
    Gradient by log pi: q.
    """
    log_policy, reward = f64(0.5, 0.3, 0.2).log().requires_grad_(), f64(1, 2, 4)
    best = f64(0.263158, 0.315789, 0.421053)
    close(log_policy.exp() * reward / 1.9, best)
    result = return_bound(log_policy, reward, log_policy.detach().exp() * reward / 1.9)
    result.backward()
    close(result, torch.tensor(0.641854))
    close(log_policy.grad, best)
    close(return_bound(log_policy, reward, log_policy.exp()), torch.tensor(0.485203))


@given(seed=st.integers(0, 2**32 - 1), outcomes=st.integers(1, 6))
def test_the_bound_lies_below_log_return_and_touches_it(seed: int, outcomes: int) -> None:
    log_policy, other = randoms(seed, 2, 3, outcomes).log_softmax(-1)
    reward = randoms(seed + 1, 3, outcomes).exp()
    log_return = (log_policy + reward.log()).logsumexp(-1)
    tight = (log_policy + reward.log()).softmax(-1)
    torch.testing.assert_close(return_bound(log_policy, reward, tight), log_return)
    assert bool((return_bound(log_policy, reward, other.exp()) <= log_return + 1e-12).all())


def test_impossible_outcomes_count_nothing() -> None:
    """An outcome that neither q nor the policy takes adds 0 to the bound and to its gradient."""
    log_policy = leaf(0.0, -math.inf)
    result = return_bound(log_policy, f64(3, 1), f64(1, 0))
    result.backward()
    close(result, torch.tensor(math.log(3)))
    close(log_policy.grad, [1.0, 0.0])
