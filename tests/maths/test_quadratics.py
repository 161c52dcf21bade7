"""Parts and maxima of quadratic functions, by hand and by automatic differentiation."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.least_squares import quadratic_features
from hindsight_rl.maths.quadratics import Quadratic, linear_maximiser, quadratic_parts


def test_parts_and_maximiser_of_a_quadratic_function() -> None:
    """1 + 2 x + 3 a - x^2 + x a - 2 a^2 is largest at a = (3 + x) / 4."""
    theta = torch.tensor([1.0, 2.0, 3.0, -1.0, 1.0, -2.0], requires_grad=True)
    parts = quadratic_parts(theta, 2)
    assert parts.slope.tolist() == [2.0, 3.0]
    assert parts.curvature.tolist() == [[-2.0, 1.0], [1.0, -4.0]]
    gain, constant = linear_maximiser(parts, 1)
    assert gain.tolist() == [[0.25]] and constant.tolist() == [0.75]
    # theta_a / (-2 theta_aa): by theta_a it grows by 1 / 4, by theta_aa by 3 / 8.
    constant.sum().backward()
    assert theta.grad is not None
    assert theta.grad.tolist() == pytest.approx([0.0, 0.0, 0.25, 0.0, 0.0, 0.375])


def test_parts_are_those_of_the_features() -> None:
    random = torch.Generator().manual_seed(0)
    theta = torch.randn(1 + 5 + 15, generator=random, dtype=torch.float64)
    point = torch.randn(5, generator=random, dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return quadratic_features(at) @ theta

    parts = quadratic_parts(theta, 5)
    torch.testing.assert_close(parts.curvature, torch.func.hessian(value)(point))
    gradient = parts.slope + parts.curvature @ point
    torch.testing.assert_close(gradient, torch.func.grad(value)(point))


def test_maximiser_has_no_gradient_left() -> None:
    random = torch.Generator().manual_seed(1)
    factor = torch.randn(6, 6, generator=random, dtype=torch.float64)
    slope = torch.randn(6, generator=random, dtype=torch.float64)
    parts = Quadratic(slope, -factor @ factor.T)
    gain, constant = linear_maximiser(parts, 4)
    assert gain.shape == (4, 2)
    state = torch.randn(2, generator=random, dtype=torch.float64)
    action = gain @ state + constant
    gradient = slope + parts.curvature @ torch.cat([state, action])
    torch.testing.assert_close(gradient[2:], torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-9)


def test_flat_functions_are_largest_at_0() -> None:
    gain, constant = linear_maximiser(Quadratic(torch.zeros(3), torch.zeros(3, 3)), 2)
    assert gain.tolist() == [[0.0], [0.0]] and constant.tolist() == [0.0, 0.0]
