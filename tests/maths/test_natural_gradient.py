"""TB28: the natural gradient of a softmax, its KL, and conjugate gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hindsight_rl.maths.natural_gradient import (
    Reached,
    conjugate_gradients,
    hessian_product,
    natural_step,
    shortened,
)

ATOL = 2e-6
LOGITS = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64)
GRADIENT = torch.tensor([-0.502011, -0.121810, 0.623822], dtype=torch.float64)
NATURAL = [-1.333333, -0.333333, 1.666667]


def close(actual: Tensor, expected: Tensor | list[float] | float, atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


def kl_from(old: Tensor, new: Tensor) -> Tensor:
    """Return KL(old || new) of softmax policies, nats."""
    policy, other = torch.log_softmax(old, -1), torch.log_softmax(new, -1)
    return (policy.exp() * (policy - other)).sum()


def fisher() -> Tensor:
    policy = torch.softmax(LOGITS, -1)
    return torch.diag(policy) - torch.outer(policy, policy)


def product(vector: Tensor) -> Tensor:
    found: Tensor = hessian_product(lambda new: kl_from(LOGITS, new), LOGITS)(vector)
    return found


def exact_gradient() -> Tensor:
    policy, reward = torch.softmax(LOGITS, -1), torch.tensor([1.0, 2.0, 4.0]).double()
    return policy * (reward - policy @ reward)


def test_the_hessian_of_the_kl_is_the_fisher_information() -> None:
    """TB28: eigenvalues 0, .278518, .374961; nothing changes where all logits move alike."""
    rows = torch.stack([product(row) for row in torch.eye(3, dtype=torch.float64)])
    close(rows, fisher(), atol=1e-12)
    close(torch.linalg.eigvalsh(rows), [0.0, 0.278518, 0.374961])
    close(product(torch.ones(3, dtype=torch.float64)), [0.0, 0.0, 0.0], atol=1e-12)


def test_the_kl_is_half_a_square() -> None:
    """KL(pi || pi + d) = d'F d / 2 up to the third order: halving d divides the rest by 8."""
    step = torch.tensor([0.04, -0.02, 0.01], dtype=torch.float64)

    def rest(scale: float) -> float:
        short = scale * step
        return float(kl_from(LOGITS, LOGITS + short) - 0.5 * short @ product(short))

    assert abs(rest(1.0)) < 0.05 * float(kl_from(LOGITS, LOGITS + step))
    assert rest(1.0) / rest(0.5) == pytest.approx(8.0, rel=0.05)


def test_the_natural_gradient_does_not_depend_on_the_policy() -> None:
    """TB28: F^+ g is the reward less its plain mean, whatever pi."""
    found = conjugate_gradients(product, exact_gradient())
    close(found, NATURAL)
    close(found, torch.linalg.pinv(fisher()) @ exact_gradient(), atol=1e-9)
    close(exact_gradient(), GRADIENT)


def test_the_step_ends_at_the_radius() -> None:
    """TB28: KL .01 is asked for; alpha .106915, and the KL of the step is .010029."""
    step = natural_step(product, exact_gradient(), radius=0.01)
    close(step / torch.tensor(NATURAL, dtype=torch.float64), [0.106915] * 3, atol=3e-6)
    close(kl_from(LOGITS, LOGITS + step), 0.010029)
    close(0.5 * step @ product(step), 0.01, atol=1e-12)


def test_a_length_by_the_plain_gradient_oversteps() -> None:
    """TB28: sqrt(2 eps / g'F g), as printed in places: alpha .285154, KL .070760."""
    gradient = exact_gradient()
    length = torch.sqrt(0.02 / (gradient @ product(gradient)))
    close(length, 0.285154)
    step = length * torch.tensor(NATURAL, dtype=torch.float64)
    close(kl_from(LOGITS, LOGITS + step), 0.070760)


def test_damping_lets_a_null_direction_alone() -> None:
    """A gradient along (1, 1, 1) is rounding: undamped there is no curvature to divide by."""
    noise = 1e-3 * torch.ones(3, dtype=torch.float64)
    damped = natural_step(product, exact_gradient() + noise, radius=0.01, damping=0.1)
    plain = natural_step(product, exact_gradient(), radius=0.01, damping=0.1)
    shift = (damped - plain).mean()
    close(damped - plain - shift, [0.0, 0.0, 0.0], atol=2e-5)
    assert float(natural_step(product, noise, radius=0.01).abs().max()) == 0.0


def judged(step: Tensor) -> tuple[Tensor, Tensor]:
    """Return gain and KL of a step: by half a unit and more the objective falls."""
    return step[0] * (0.5 - step[0]), step.square().sum()


def test_a_step_is_shortened_until_it_gains_within_the_radius() -> None:
    """Of 1 the shares 1, .8 and .64 lose, and .512; .4096 gains .037028 at KL .167772."""
    step = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = shortened(judged, step, radius=0.2)
    assert found == pytest.approx((0.4096, 0.037028, 0.167772), abs=2e-6)
    nearer = shortened(judged, step, radius=0.1)
    assert nearer.share == pytest.approx(0.8**6) and nearer.divergence <= 0.1
    assert shortened(judged, step, radius=0.2, shrink=0.5).share == 0.25
    assert shortened(judged, step, radius=0.2, tries=4) == Reached(0.0, 0.0, 0.0)


def test_of_two_that_lead_nowhere_nothing_is_taken() -> None:
    """A gain of 0 is none, and what is not a number is neither gain nor within the radius."""
    step = torch.ones(2, dtype=torch.float64)
    nan = torch.tensor(float("nan"))
    for gain, kl in ((0.0 * nan.new_ones(()), step[0] * 0), (nan, step[0] * 0), (step[0], nan)):
        assert shortened(lambda _, g=gain, k=kl: (g, k), step, radius=0.1).share == 0.0


@given(st.integers(0, 200), st.integers(1, 6))
def test_conjugate_gradients_solve_in_as_many_products_as_dimensions(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.T + torch.eye(size, dtype=torch.float64)
    right = torch.randn(size, generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda v: matrix @ v, right, iterations=size, tolerance=0.0)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right), rtol=1e-6, atol=1e-8)


def test_conjugate_gradients_of_nothing_are_nothing() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(conjugate_gradients(product, zero), zero)


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="iterations is 0"):
        conjugate_gradients(product, GRADIENT, iterations=0)
    for arguments in ({"radius": 0.0}, {"radius": 0.1, "damping": -1.0}):
        with pytest.raises(ValueError, match=r"radius .* damping"):
            natural_step(product, GRADIENT, **arguments)
    for arguments in ({"radius": 0.0}, {"shrink": 1.0}, {"tries": 0}):
        with pytest.raises(ValueError, match=r"radius .* shrink .* tries"):
            shortened(judged, GRADIENT, **{"radius": 0.1} | arguments)
