"""Executed actions: densities and masses sum to 1, slopes at bounds, and what is beyond them."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.executed import Units, clipped_laplace, clipped_normal, squashed_normal


def doubles(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


MEAN, SPREAD = doubles(0.4), doubles(0.7)
BOUNDS = doubles(-1.0), doubles(1.5)
SQUASHED = Units(doubles(0.25), doubles(1.25), *BOUNDS)
KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda action: clipped_normal(action, MEAN, SPREAD, *BOUNDS),
    "laplace": lambda action: clipped_laplace(action, MEAN, SPREAD, *BOUNDS),
    "squashed": lambda action: squashed_normal(action, 4 * MEAN, SPREAD, SQUASHED),
    # Bounds of the environment inside the ends of the tanh.
    "squashed and clipped": lambda action: squashed_normal(
        action, MEAN, SPREAD, SQUASHED._replace(low=doubles(-0.5), high=doubles(1.0))
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_density_and_masses_sum_to_one(kind: str) -> None:
    low, high = (-0.5, 1.0) if "clipped" in kind else (-1.0, 1.5)
    inside = torch.linspace(low, high, 400_001, dtype=torch.float64)[1:-1, None]
    mass = torch.trapezoid(KINDS[kind](inside).exp(), inside[:, 0])
    ends = KINDS[kind](doubles(low, high)[:, None]).exp()
    assert float(mass + ends.sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(ends.sum()) == pytest.approx(0.0, abs=1e-6) or kind != "squashed"


def test_masses_at_bounds_by_hand() -> None:
    """Normal: Phi(-2) and Phi(-11/7); Laplace: exp(-2) / 2 and exp(-11/7) / 2."""
    ends = doubles(-1.0, 1.5)[:, None]
    normal, laplace = KINDS["normal"](ends).exp(), KINDS["laplace"](ends).exp()
    assert normal.tolist() == pytest.approx([0.0227501, 0.0580416], abs=1e-7)
    assert laplace.tolist() == pytest.approx([math.exp(-2) / 2, math.exp(-11 / 7) / 2], rel=1e-12)


def test_squashed_density_is_that_of_a_change_of_variables() -> None:
    """At u = .3, twice tanh(u): log N(.3; .1, .5) - log(1 - tanh^2 .3) - log 2."""
    units = Units(doubles(0.0), doubles(2.0), doubles(-2.0), doubles(2.0))
    found = squashed_normal(2 * torch.tanh(doubles(0.3)), doubles(0.1), doubles(0.5), units)
    normal = -0.5 * 0.4**2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    expected = normal - math.log(1 - math.tanh(0.3) ** 2) - math.log(2)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_a_squashed_action_that_is_rounded_to_its_bound_has_the_mass_of_all_such() -> None:
    """float32 rounds [-1, 1] from 1 - 2^-25 on, which is u = 9.0109; [0, 1] from twice as far."""
    at_bound = torch.ones(1)
    for centre, scale, edge in ((0.0, 1.0, 2.0**-25), (0.5, 0.5, 2.0**-24)):
        units = Units(doubles(centre), doubles(scale), doubles(centre - scale), doubles(1.0))
        found = squashed_normal(at_bound, doubles(9.0), doubles(1.5), units)
        place = (math.atanh(1.0 - edge) - 9.0) / 1.5
        assert float(found.exp()) == pytest.approx(0.5 * math.erfc(place / math.sqrt(2)), rel=1e-6)


def test_the_slope_of_a_mass_is_the_hazard() -> None:
    """That of log Phi(-z) in the mean is phi(z) / (std Phi(-z)); the density's is z / std, 2.24."""
    mean = doubles(0.4).requires_grad_()
    (slope,) = torch.autograd.grad(clipped_normal(doubles(1.5), mean, SPREAD, *BOUNDS), mean)
    z = 1.1 / 0.7
    density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    expected = density / (0.7 * 0.5 * math.erfc(z / math.sqrt(2)))
    assert float(slope) == pytest.approx(expected, rel=1e-9)


def test_what_the_policy_cannot_do_and_what_it_cannot_but_do() -> None:
    """Beyond a bound -inf; by the rounding of a log alone it is at the bound; equal bounds 0."""
    place = doubles(1.6, 1.5 + 1e-7, 1.5)[:, None]
    beyond, rounded, there = clipped_normal(place, MEAN, SPREAD, *BOUNDS).tolist()
    assert beyond == -math.inf and rounded == pytest.approx(there, abs=1e-6)
    fixed = doubles(0.2)
    assert float(clipped_normal(fixed, doubles(0.4), doubles(0.7), fixed, fixed)) == 0.0
    far = clipped_normal(doubles(3e4), MEAN, SPREAD, doubles(-math.inf), doubles(math.inf))
    assert math.isfinite(float(far))
