"""Flow matching against data whose field is known: a Gaussian, and two points."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.flow import (
    early_times,
    euler_flow,
    flow_error,
    heun_flow,
    interpolate,
    valid_sum,
)

MEAN, STD = 0.3, 0.2


def gaussian(x: Tensor, t: float) -> Tensor:
    """The velocity for data N(0.3, 0.2^2): E[a - eps | x_t = x], both jointly normal."""
    spread = (1 - t) ** 2 + (t * STD) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / spread * (x - t * MEAN)


def two_points(x: Tensor, t: float) -> Tensor:
    """The velocity for data -1 or 1, half each: (E[a | x] - x) / (1 - t)."""
    return (torch.tanh(t * x / (1 - t) ** 2) - x) / (1 - t)


@pytest.mark.parametrize(
    ("steps", "spread"),
    [
        (1, 0),
        (2, 0.038462),
        (4, 0.095864),
        (8, 0.143768),
        (10, 0.154175),
        (20, 0.176003),
        (100, 0.194979),
    ],
)
def test_euler_of_a_gaussian_is_affine(steps: int, spread: float) -> None:
    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    start, one = euler_flow(gaussian, noise, steps)
    assert start.item() == pytest.approx(MEAN, abs=1e-12)
    assert (one - start).item() == pytest.approx(spread, abs=2e-6)
    (slope,) = torch.autograd.grad(one, noise)
    assert slope.flatten().tolist() == pytest.approx([0, spread], abs=2e-6)


@pytest.mark.parametrize(
    ("steps", "spread"), [(1, 0.5), (2, 0.289571), (4, 0.219663), (8, 0.206358), (10, 0.204506)]
)
def test_heun_of_a_gaussian_is_affine(steps: int, spread: float) -> None:
    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    start, one = heun_flow(gaussian, noise, steps)
    assert start.item() == pytest.approx(MEAN, abs=1e-12)
    assert (one - start).item() == pytest.approx(spread, abs=2e-6)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [0, 0, 0, 0, 0]),
        (2, [-0.761594, -0.291313, 0.099668, 0.291313, 0.761594]),
        (4, [-1, -0.996713, 0.799165, 0.996713, 1]),
        (8, [-1, -1, 1, 1, 1]),
    ],
)
def test_few_steps_average_two_points(steps: int, expected: list[float]) -> None:
    noise = torch.tensor([-1, -0.3, 0.1, 0.3, 1], dtype=torch.float64).unsqueeze(-1)
    found = euler_flow(two_points, noise, steps).squeeze(-1)
    torch.testing.assert_close(found, torch.tensor(expected).double(), atol=2e-6, rtol=0)


def test_without_noise_the_two_points_are_averaged_at_any_number_of_steps() -> None:
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for steps in (1, 4, 32):
        assert euler_flow(two_points, zero, steps).item() == 0


def test_early_times_lean_to_the_noise() -> None:
    """1 - t / .999 ~ Beta(1.5, 1): quantiles u^(2/3), mean .6, so that the mean time is .3996."""
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    found = early_times(uniform)
    assert found.mean().item() == pytest.approx(0.999 * 0.4, abs=1e-5)
    quarter = early_times(torch.tensor(0.125, dtype=torch.float64)).item()
    assert quarter == pytest.approx(0.999 * 0.75)
    assert (found >= 0).all() and (found <= 0.999).all()
    torch.testing.assert_close(early_times(uniform, concentration=1.0, latest=1.0), 1 - uniform)


def test_line_and_error() -> None:
    """At t = 1/4 between noise 2 and data 6: 3; the velocity is 4, so an answer of 5 errs by 1."""
    data, noise = torch.tensor([[6.0]]), torch.tensor([[2.0]])
    assert interpolate(data, noise, torch.tensor([0.25])).item() == 3
    velocity = torch.tensor([[5.0]], requires_grad=True)
    error = flow_error(velocity, data, noise)
    assert error.item() == 1
    error.sum().backward()
    assert velocity.grad is not None and velocity.grad.item() == 2


def test_sum_counts_valid_entries_only() -> None:
    """T24's mask: 3 + 3 over 5 valid entries is 1.2; each entry is the mean of its two numbers."""
    error = torch.tensor([[1.0, 2, 9, 9], [1, 1, 1, 9]], requires_grad=True)
    valid = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    found = valid_sum(error.repeat_interleave(2, -1), valid)
    assert found.tolist() == [3, 3]
    assert found.sum().item() / valid.sum().item() == pytest.approx(1.2)
    found.sum().backward()
    assert error.grad is not None and error.grad.equal(valid.float())
