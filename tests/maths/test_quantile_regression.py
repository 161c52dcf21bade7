"""Quantile regression: the loss and its gradient by hand, its minimum, quantiles of a mixture."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.quantile_regression import midpoints, mixture_quantiles, quantile_loss

D = torch.float64


def even(target: Tensor) -> Tensor:
    return torch.full_like(target, 1.0 / target.shape[-1])


def test_midpoints() -> None:
    assert midpoints(4).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_loss_and_gradient_by_hand() -> None:
    """Quantiles 0 and 2 at tau 1/4 and 3/4, targets 1 and 3.

    Of 0: errors 1 and 3, both above: .25 * (1 + 3) / 2 = .5. Of 2: errors -1 and 1: (.25 + .75) / 2
    = .5. The mean is .5. Slopes: -.25, and (.25 - .75) / 2 = -.25, each by 2 quantiles.
    """
    quantile = torch.tensor([0.0, 2.0], dtype=D, requires_grad=True)
    target = torch.tensor([1.0, 3.0], dtype=D, requires_grad=True)
    loss = quantile_loss(quantile, target, even(target))
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert quantile.grad is not None and quantile.grad.tolist() == [-0.125, -0.125]
    assert target.grad is None


def test_huber_by_hand() -> None:
    """With limit 2, error 1 costs 1 / 4, error 3 costs 3 - 1 = 2; both by tau 1/4 and 3/4."""
    quantile = torch.tensor([0.0, 0.0], dtype=D, requires_grad=True)
    target = torch.tensor([1.0, 3.0], dtype=D)
    loss = quantile_loss(quantile, target, even(target), limit=2.0)
    loss.backward()
    # (.25 + .75) / 2 quantiles * (.25 + 2) / 2 targets; slopes 1 / 2 and 1.
    assert loss.item() == pytest.approx(0.5 * 1.125)
    assert quantile.grad is not None
    torch.testing.assert_close(
        quantile.grad, torch.tensor([-0.25 * 0.75 / 2, -0.75 * 0.75 / 2], dtype=D)
    )


def test_sum_over_quantiles_of_dqn() -> None:
    """Quantiles 0, 1, 2, targets 1 and 3, limit 1: the sum over them, as the paper has it, is .875.

    At 1/6: (.5 + 2.5) / 2 / 6 = .25. At 1/2: 1.5 / 2 / 2 = .375. At 5/6: (1/6 + 5/6) .5 / 2 = .25.
    """
    quantile = torch.tensor([0.0, 1.0, 2.0], dtype=D, requires_grad=True)
    target = torch.tensor([1.0, 3.0], dtype=D)
    loss = 3 * quantile_loss(quantile, target, even(target), limit=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.875)
    assert quantile.grad is not None
    torch.testing.assert_close(quantile.grad, -torch.tensor([1 / 6, 1 / 4, 1 / 3], dtype=D))


def test_one_quantile_of_squares_is_half_the_squared_error() -> None:
    """Its tau is 1/2 and its slope half: limit times the loss is u^2 / 4."""
    quantile, target = torch.tensor([0.5], dtype=D), torch.tensor([2.0], dtype=D)
    found = 1e6 * quantile_loss(quantile, target, even(target), limit=1e6)
    assert found.item() == pytest.approx(0.5 * 0.5 * 1.5**2)


def test_weights_are_repeats() -> None:
    quantile = torch.tensor([[0.3, 1.2, 4.0]], dtype=D)
    short = quantile_loss(
        quantile, torch.tensor([[1.0, 3.0]], dtype=D), torch.tensor([[0.75, 0.25]], dtype=D)
    )
    long = torch.tensor([[1.0, 1.0, 1.0, 3.0]], dtype=D)
    torch.testing.assert_close(short, quantile_loss(quantile, long, even(long)))


def test_quantiles_of_the_sample_are_the_minimum() -> None:
    """Of 0, ..., 9 those at .1, .3, ..., .9 lie between 0 and 1, 2 and 3, ...: any there is one."""
    target = torch.arange(10.0, dtype=D)
    quantile = torch.tensor([0.5, 2.5, 4.5, 6.5, 8.5], dtype=D, requires_grad=True)
    quantile_loss(quantile, target, even(target)).backward()
    torch.testing.assert_close(quantile.grad, torch.zeros(5, dtype=D))


def test_rows_are_apart_and_shapes_are_checked() -> None:
    quantile, target = torch.randn(3, 4, 2), torch.randn(3, 4, 5)
    found = quantile_loss(quantile, target, even(target))
    assert found.shape == (3, 4)
    torch.testing.assert_close(
        found[1, 2], quantile_loss(quantile[1, 2], target[1, 2], even(target[1, 2]))
    )
    with pytest.raises(ValueError, match=r"shapes differ: target \(3, 4, 5\), weight \(4, 5\)"):
        quantile_loss(quantile, target, even(target)[0])


def test_quantiles_of_a_mixture() -> None:
    """.5 at 1, .25 at 2 and 3 each: shares 1/8 ... 7/8 lie at 1, 1, 2, 3."""
    value = torch.tensor([[3.0, 1.0, 2.0]])
    weight = torch.tensor([[0.25, 0.5, 0.25]])
    assert mixture_quantiles(value, weight, 4).tolist() == [[1.0, 1.0, 2.0, 3.0]]
    # N numbers of equal weight are their own quantiles, in order.
    sample = torch.randn(2, 7)
    assert mixture_quantiles(sample, even(sample), 7).equal(sample.sort(-1).values)
    assert mixture_quantiles(value, 8 * weight, 1).item() == 1.0
