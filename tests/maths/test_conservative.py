"""The conservative gap: T14, T3 with its thresholds, importance sampling, uniform actions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import scalars
from torch import Tensor

from hindsight_rl.maths.conservative import (
    conservative_gap,
    origin_sides,
    sampled_gap,
    uniform_actions,
)
from hindsight_rl.maths.losses import td_target

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor | None, expected: Tensor | list[float], atol: float = ATOL) -> None:
    assert actual is not None
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


# --- T14 ------------------------------------------------------------------------------------------


def test_gap_and_gradient_of_t14() -> None:
    """Q = [1, 2, 3], logged action 0: log(e + e^2 + e^3) - 1; soft-max less 1 at the action."""
    value = f64(1, 2, 3).requires_grad_()
    gap = conservative_gap(value, value[0])
    gap.backward()
    close(gap, torch.tensor(2.407606, dtype=torch.float64))
    close(value.grad, [-0.909969, 0.244728, 0.665241])


@given(scalars(), st.floats(-10, 10))
def test_a_constant_changes_nothing_and_the_gap_is_not_below_0(
    value: Tensor, constant: float
) -> None:
    gap = conservative_gap(value, value[0])
    assert gap >= 0
    close(conservative_gap(value + constant, value[0] + constant), gap, atol=1e-9)


def test_rows_stand_for_themselves() -> None:
    """``[2, 3, n]`` and ``[2, 3]``: as each row alone."""
    value = torch.randn(2, 3, 4, dtype=torch.float64)
    found = conservative_gap(value, value[..., 1])
    for row in range(2):
        for column in range(3):
            one = value[row, column]
            close(found[row, column], conservative_gap(one, one[1]))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"value \(5, 3\) must be chosen \(5, 1\) and one more"):
        conservative_gap(torch.zeros(5, 3), torch.zeros(5, 1))
    with pytest.raises(ValueError, match=r"value \(2, 5, 3\) must be chosen \(5,\)"):
        sampled_gap(torch.zeros(2, 5, 3), torch.zeros(5, 3), torch.zeros(5))


# --- T3: one state, actions 1 and 2, Q(s, a) = theta a, reward 0, only a = 1 is logged ------------


def test_gradient_of_t3_is_a_sigmoid() -> None:
    """log(e^theta + e^(2 theta)) - theta = softplus(theta)."""
    for number in (-2.0, 0.0, 1.0, 3.0):
        theta = f64(number).requires_grad_()
        gap = conservative_gap(theta.unsqueeze(-1) * f64(1, 2), theta)
        gap.sum().backward()
        close(gap, torch.nn.functional.softplus(f64(number)))
        close(theta.grad, torch.sigmoid(f64(number)))


def descend(weight: float, steps: int) -> list[float]:
    """Return theta after each step of size 1 on half the squared error and the weighted gap."""
    theta, found = f64(1.0), []
    zero, going_on = f64(0.0), torch.tensor([False])
    for _ in range(steps):
        theta = theta.detach().requires_grad_()
        value = theta.unsqueeze(-1) * f64(1, 2)
        target = td_target(zero, going_on, value.amax(-1), f64(1.0))
        loss = 0.5 * (target - theta).square() + weight * conservative_gap(value, theta)
        loss.sum().backward()
        assert theta.grad is not None
        theta = theta.detach() - theta.grad
        found.append(theta.item())
    return found


@pytest.mark.parametrize(
    ("weight", "first", "last"),
    [
        (0.0, [2.0, 4.0, 8.0, 16.0], 2.0**50),
        (1.0, [1.268941, 1.757321, 2.661769], 2.39e14),
        (1.4, [0.976518, 0.936053, 0.866483, 0.747347, 0.544653], -4.09874),
        (5.0, [-1.655293, -2.457267], -5.54696),
    ],
)
def test_iterates_of_t3(weight: float, first: list[float], last: float) -> None:
    """Values double without the gap, and still run away with too little of it."""
    found = descend(weight, 50)
    assert found[: len(first)] == pytest.approx(first, abs=ATOL)
    assert found[-1] == pytest.approx(last, rel=2e-3 if weight == 1.0 else 2e-6)


@pytest.mark.parametrize(("above", "expected"), [(-1e-3, True), (1e-3, False)])
def test_threshold_of_t3(above: float, expected: bool) -> None:
    """Values run away below the weight theta0 / sigmoid(theta0) = 1 + 1 / e, and only there."""
    assert (descend(1 + math.exp(-1) + above, 50)[-1] > 1) == expected


# --- importance sampling --------------------------------------------------------------------------


def test_sampled_gap_by_hand() -> None:
    """Two samples with densities 1/2 and 1/4: log(2 e^1 + 4 e^2) - 3, and its soft-max."""
    value = f64(1, 2).requires_grad_()
    log_density = f64(0.5, 0.25).log().requires_grad_()
    gap = sampled_gap(value, log_density, f64(3.0)[0])
    gap.backward()
    terms = f64(2 * math.e, 4 * math.e**2)
    close(gap, terms.sum().log() - 3.0)
    close(value.grad, terms / terms.sum())
    assert log_density.grad is None


def test_mean_of_samples_is_the_integral() -> None:
    """Q(a) = a on [-1, 1]: the integral of e^a is e - 1 / e, whatever the samples are drawn from.

    Half of the samples are uniform, half have the density (1 + a) / 2 there.
    """
    grid = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    flat, tilted = 2 * grid - 1, 2 * grid.sqrt() - 1
    action = torch.cat([flat, tilted])
    log_density = torch.cat([torch.full_like(flat, math.log(0.5)), ((1 + tilted) / 2).log()])
    found = sampled_gap(action, log_density, f64(0.0)[0]) - math.log(len(action))
    assert found.item() == pytest.approx(math.log(math.e - 1 / math.e), abs=1e-3)


def test_normal_numbers_become_uniform_actions() -> None:
    """Quantiles of the normal distribution go to those of the uniform one; density 0.5^A."""
    share = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    action, log_density = uniform_actions(torch.special.ndtri(share).view(-1, 3))
    close(action.flatten(), 2 * share - 1, atol=1e-12)
    assert log_density.shape == (333,)
    close(log_density.exp(), torch.full((333,), 0.125))
    ends, _ = uniform_actions(torch.tensor([[-9.0, 9.0]]))
    assert ends.tolist() == [[-1.0, 1.0]]


# --- by origin: TB5 -------------------------------------------------------------------------------

# Ten rows of a log and ten imagined ones of three pairs of state and action, in their shares.
CELLS = torch.tensor([0] * 6 + [1] * 4 + [0] * 2 + [1] * 3 + [2] * 5)
IMAGINED = torch.arange(20) >= 10
D, RHO, MIXED = f64(0.6, 0.4, 0.0), f64(0.2, 0.3, 0.5), f64(0.4, 0.35, 0.25)
BACKED_UP = f64(1, 2, 5)


def combo_loss(q: Tensor, weight: float) -> Tensor:
    """Return COMBO's loss of a table ``[3]``: one action per row, so its sum is its own value."""
    value, target = q[CELLS], BACKED_UP[CELLS]
    sides = origin_sides(IMAGINED, f64(0.5)[0])
    gap = conservative_gap(value.unsqueeze(-1), value, sides)
    return (0.5 * (value - target).square() + weight * gap).mean()


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(0.0, [1, 2, 5]), (0.5, [1.5, 2.142857, 4.0]), (1.0, [2.0, 2.285714, 3.0])],
)
def test_fixed_point_of_tb5(weight: float, expected: list[float]) -> None:
    """Q = T Q - weight (rho - d) / d_f: the gradient is 0 there, and a Newton step leads there."""
    close(BACKED_UP - weight * (RHO - D) / MIXED, expected)
    start = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    combo_loss(start, weight).backward()
    close(start - start.grad / MIXED, expected)
    there = f64(*expected).requires_grad_()
    combo_loss(there, weight).backward()
    close(there.grad, [0.0, 0.0, 0.0])


def test_values_of_tb5_are_pessimistic_where_the_model_goes() -> None:
    """At weight 1 E_rho Q is at most E_rho T Q, and the gap falls by sum (rho - d)^2 / d_f."""
    q = BACKED_UP - (RHO - D) / MIXED
    close(RHO @ q, 2.585714)
    close(RHO @ BACKED_UP, 3.3)
    close((RHO - D) @ (q - BACKED_UP), -1.428571)
    close(-((RHO - D).square() / MIXED).sum(), -1.428571)


def test_sides_count_1_on_average_each() -> None:
    """Of eight rows two are imagined: 4 at each of them, 4/3 at each of the others."""
    imagined = torch.tensor([True, False, False, False, True, False, False, False])
    sides = origin_sides(imagined, imagined.double().mean())
    close(sides.down, (4.0 * imagined).double())
    close(sides.up, (~imagined).double() * 4 / 3)
    close(sides.down.mean() + sides.up.mean(), 2.0)


@pytest.mark.parametrize("every", [False, True])
def test_rows_of_one_kind_have_no_gap(every: bool) -> None:
    """Before anything is imagined, and where a batch drew nothing else: finite, and 0."""
    imagined = torch.full((4,), every)
    value = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    sides = origin_sides(imagined, imagined.double().mean())
    gap = conservative_gap(value, value[:, 0], sides)
    gap.sum().backward()
    close(gap, torch.zeros(4))
    close(value.grad, torch.zeros(4, 3))


def test_sampled_sum_counts_by_origin_too() -> None:
    value, density = torch.randn(2, 4, 5).double(), torch.randn(4, 5).double()
    chosen = torch.randn(2, 4).double()
    sides = origin_sides(torch.tensor([True, False, False, True]), f64(0.5)[0])
    total = torch.logsumexp(value - density, -1)
    found = sampled_gap(value, density, chosen, sides)
    close(found[:, [0, 3]], 2 * total[:, [0, 3]])
    close(found[:, [1, 2]], -2 * chosen[:, [1, 2]])
