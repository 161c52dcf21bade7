"""Weights that adapt: gradients through inner steps, worked out by hand on quadratic tasks.

L_i = curvature_i / 2 (theta - centre_i)^2. An inner step leads to
theta_i = theta - rate curvature_i (theta - centre_i), and with k_i = 1 - rate curvature_i

    MAML         mean_i k_i^2 curvature_i (theta - centre_i)
    first order  mean_i k_i curvature_i (theta - centre_i)
    Reptile      mean_i curvature_i (theta - centre_i)
"""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.inner_steps import Weights, displacement_loss, inner_steps

CENTRE = torch.tensor([1.0, -1.0, 3.0], dtype=torch.float64)
EQUAL = torch.ones(3, dtype=torch.float64)
UNEQUAL = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
RATE = 0.4


def ended(theta: Tensor, curvature: Tensor, *, rate: float = RATE, **options: object) -> Tensor:
    """Return where each task's inner step ends, ``[3]``."""

    def end(centre: Tensor, curve: Tensor) -> Tensor:
        def loss(weights: Weights) -> Tensor:
            return 0.5 * curve * (weights["theta"] - centre).square()

        return inner_steps(loss, {"theta": theta}, rate=rate, **options)["theta"]

    return torch.vmap(end)(CENTRE, curvature)


def meta_loss(theta: Tensor, curvature: Tensor, **options: object) -> Tensor:
    """Return the mean over tasks of the loss after the inner steps."""
    return (0.5 * curvature * (ended(theta, curvature, **options) - CENTRE).square()).mean()


def slope(theta: float, curvature: Tensor, **options: object) -> float:
    """Return the derivative of the mean loss after the inner steps."""
    at = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(meta_loss(at, curvature, **options), at)[0])


def near(value: float) -> object:
    return pytest.approx(value, abs=2e-6)


def test_ends_and_gradients_of_equal_curvatures() -> None:
    """At theta .5: ends .7, -.1, 1.5; .6 mean(-.3, .9, -1.5) = -.18; first order -.3."""
    theta = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(ended(theta, EQUAL), theta.new_tensor([0.7, -0.1, 1.5]))
    assert slope(0.5, EQUAL) == near(-0.18)
    assert slope(0.5, EQUAL, first_order=True) == near(-0.3)


def test_ends_and_gradients_of_unequal_curvatures() -> None:
    """Curvatures 1, 4, .5: the first order even has the other sign."""
    theta = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(ended(theta, UNEQUAL), theta.new_tensor([0.7, -1.9, 1.0]))
    assert slope(0.5, UNEQUAL) == near(0.393333)
    assert slope(0.5, UNEQUAL, first_order=True) == near(-1.633333)


@pytest.mark.parametrize(
    ("options", "share", "expected"),
    [
        ({}, UNEQUAL * (1 - RATE * UNEQUAL) ** 2, -0.056604),
        ({"first_order": True}, UNEQUAL * (1 - RATE * UNEQUAL), -3.0),
        ({"steps": 0}, UNEQUAL, -0.272727),
    ],
    ids=["MAML", "first order", "joint training"],
)
def test_fixed_points(options: dict[str, object], share: Tensor, expected: float) -> None:
    """Means of the centres, weighted by k^2 c, k c and c; there the slope is 0."""
    mean = float((share * CENTRE).sum() / share.sum())
    assert mean == near(expected)
    assert slope(mean, UNEQUAL, **options) == pytest.approx(0.0, abs=1e-12)
    assert slope(mean + 0.1, UNEQUAL, **options) != pytest.approx(0.0, abs=1e-3)


def test_no_inner_step_is_joint_training() -> None:
    """Zero steps: the gradient of the mean loss itself, mean_i c_i (theta - centre_i)."""
    expected = float((UNEQUAL * (0.5 - CENTRE)).mean())
    assert slope(0.5, UNEQUAL, steps=0) == near(expected)


def test_several_steps_multiply() -> None:
    """After n steps theta_i - c_i = k^n (theta - c_i), and the slope has the factor k^2n."""
    factor = 1 - RATE * UNEQUAL
    expected = float((factor**6 * UNEQUAL * (0.5 - CENTRE)).mean())
    assert slope(0.5, UNEQUAL, steps=3) == near(expected)


def test_displacement_has_the_gradient_of_reptile() -> None:
    """Per rate: mean_i c_i (theta - centre_i), -.5 for equal curvatures."""
    for curvature, expected in ((EQUAL, -0.5), (UNEQUAL, float((UNEQUAL * (0.5 - CENTRE)).mean()))):
        theta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        ends = ended(theta, curvature)
        losses = [displacement_loss({"t": theta}, {"t": end}, rate=RATE) for end in ends]
        found = torch.autograd.grad(torch.stack(losses).mean(), theta)[0]
        assert float(found) == near(expected)


def test_displacement_is_the_squared_norm_over_twice_the_rate() -> None:
    weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    moved = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor(1.0)}
    assert float(displacement_loss(weights, moved, rate=0.5)) == pytest.approx(8.0)
