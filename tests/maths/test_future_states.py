"""The classifier of future states: TB6, its fixed point, values and gradients."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.future_states import future_loss, future_ratio

ATOL = 2e-6
DISCOUNT = 0.9
# Of the chain 0 -> 1 -> 2, 2 for ever: which state is met, the present one counted.
SHARES = torch.tensor([[0.1, 0.09, 0.81], [0.0, 0.1, 0.9], [0.0, 0.0, 1.0]], dtype=torch.float64)
MARGINAL = SHARES.mean(0)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor | None, expected: object, atol: float = ATOL) -> None:
    assert actual is not None
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), wanted, rtol=0, atol=atol)


def expected_loss(logit: Tensor) -> Tensor:
    """Return the loss of state 0, ``[]``, in expectation over all states as the other one.

    It leads to state 1, from where the ratio is known; the present state is the one it met.
    """
    following = SHARES[1] / MARGINAL
    goes_on = torch.zeros(3, dtype=torch.bool)
    each = future_loss(logit[0].expand(3), logit, following, goes_on, discount=DISCOUNT)
    return (MARGINAL * each).sum()


def test_marginal_and_classifier_of_the_chain() -> None:
    """TB6: balanced, C = mu / (mu + marginal), and the marginal times C / (1 - C) returns mu."""
    close(MARGINAL, [0.033333, 0.063333, 0.903333])
    best = SHARES[0] / (SHARES[0] + MARGINAL)
    close(best, [0.75, 0.586957, 0.472763])
    close(MARGINAL * future_ratio(torch.logit(best), limit=100.0), SHARES[0])


def test_the_right_classifier_is_where_the_gradient_is_0() -> None:
    logit = (SHARES[0] / MARGINAL).log().requires_grad_()
    expected_loss(logit).backward()
    close(logit.grad, [0.0, 0.0, 0.0], atol=1e-12)


def test_descent_ends_at_the_right_classifier() -> None:
    logit = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    newton = torch.optim.LBFGS([logit], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> Tensor:
        newton.zero_grad()
        loss = expected_loss(logit)
        loss.backward()
        return loss

    newton.step(closure)
    close(torch.sigmoid(logit), [0.75, 0.586957, 0.472763])


def test_twice_as_many_negatives_halve_the_ratio() -> None:
    """The seed's ratio is the wrong one where classes are not drawn in equal number."""
    skewed = SHARES[0] / (SHARES[0] + 2 * MARGINAL)
    close(MARGINAL * future_ratio(torch.logit(skewed), limit=100.0), SHARES[0] / 2)


def test_value_and_gradient_of_one_row() -> None:
    """Logits 0: 0.1 log 2 + 0.9 * 2 log 2 + log 2; slopes -0.1 / 2 and -1.8 / 2 + 1 / 2."""
    reached, other = f64(0.0).requires_grad_(), f64(0.0).requires_grad_()
    ratio = f64(2.0).requires_grad_()
    loss = future_loss(reached, other, ratio, torch.tensor([False]), discount=DISCOUNT)
    loss.sum().backward()
    close(loss, [2.9 * math.log(2)])
    close(reached.grad, [-0.05])
    close(other.grad, [-0.4])
    assert ratio.grad is None


def test_nothing_is_ahead_of_an_end() -> None:
    loss = future_loss(f64(0.0), f64(0.0), f64(2.0), torch.tensor([True]), discount=DISCOUNT)
    close(loss, [1.1 * math.log(2)])


def test_ratio_has_a_limit_and_no_gradient() -> None:
    logit = f64(-1.0, 0.0, 9.0).requires_grad_()
    found = future_ratio(logit, limit=10.0)
    close(found, [math.exp(-1), 1.0, 10.0])
    assert not found.requires_grad
    with pytest.raises(ValueError, match="limit is 0"):
        future_ratio(logit, limit=0.0)


def test_arguments_that_do_not_fit_are_refused() -> None:
    zero, one = f64(0.0), torch.tensor([False])
    with pytest.raises(ValueError, match=r"reached \(1,\), other \(2,\)"):
        future_loss(zero, f64(0.0, 0.0), zero, one, discount=DISCOUNT)
    with pytest.raises(ValueError, match="discount is 1"):
        future_loss(zero, zero, zero, one, discount=1.0)
