"""Equations of planners: TB9, TB10 and TB11 by hand, and the power of coloured noise."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import planning
from hindsight_rl.maths.planning import Gaussian

F64 = torch.float64


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def plans(*values: float) -> Tensor:
    """Plans of one step and one number."""
    return numbers(*values).view(-1, 1, 1)


def gaussian(mean: float, variance: float) -> Gaussian:
    return Gaussian(numbers(mean).view(1, 1), numbers(variance).view(1, 1))


# --- TB10: the cross-entropy method


CANDIDATES = plans(-2, -1, 0, 1, 2)
QUADRATIC = -(CANDIDATES.flatten() - 0.7).square()


@pytest.mark.parametrize(
    ("momentum", "mean", "std"), [(0.0, 0.5, 0.5), (0.1, 0.45, 0.570088)], ids=["none", "a tenth"]
)
def test_the_elites_make_the_next_distribution(momentum: float, mean: float, std: float) -> None:
    """Elites 1 and 0: mean .5, population std .5; a tenth of (0, 1) stays: .45, sqrt(.325)."""
    found = planning.elite_update(
        gaussian(0, 1), CANDIDATES, QUADRATIC, elites=2, momentum=momentum
    )
    assert found.mean.item() == pytest.approx(mean, abs=2e-6)
    assert found.variance.sqrt().item() == pytest.approx(std, abs=2e-6)


def test_one_elite_has_no_spread_and_is_no_error() -> None:
    found = planning.elite_update(gaussian(0, 1), CANDIDATES, QUADRATIC, elites=1, momentum=0.0)
    assert found.mean.item() == 1.0 and found.variance.item() == 0.0


def test_plans_that_nobody_can_judge_are_no_elites() -> None:
    score = QUADRATIC.clone()
    score[[0, 1, 2, 4]] = -torch.inf
    found = planning.elite_update(gaussian(0, 1), CANDIDATES, score, elites=3, momentum=0.0)
    assert found.mean.item() == 1.0 and found.variance.item() == 0.0
    none = planning.elite_update(
        gaussian(0, 1), CANDIDATES, torch.full_like(score, -torch.inf), elites=3, momentum=0.0
    )
    assert none.mean.isnan().all()


def test_gradient_of_the_elites_reaches_the_elites_alone() -> None:
    """Of two elites each moves the mean by 1/2, and the variance by u - mean."""
    drawn = CANDIDATES.clone().requires_grad_()
    found = planning.elite_update(gaussian(0, 1), drawn, QUADRATIC, elites=2, momentum=0.0)
    (of_mean,) = torch.autograd.grad(found.mean.sum(), drawn, retain_graph=True)
    (of_variance,) = torch.autograd.grad(found.variance.sum(), drawn)
    assert_close(of_mean.flatten(), numbers(0, 0, 0.5, 0.5, 0))
    assert_close(of_variance.flatten(), numbers(0, 0, -0.5, 0.5, 0))


def test_variance_keeps_two_deviations_inside_the_bounds() -> None:
    """Mean 1.2 in [-2, 2], variance 1: (2 - 1.2) / 2 = .4."""
    found = planning.bounded_variance(gaussian(1.2, 1.0), -2.0, 2.0)
    assert found.sqrt().item() == pytest.approx(0.4)
    assert planning.bounded_variance(gaussian(0.0, 0.09), -2.0, 2.0).item() == pytest.approx(0.09)


# --- TB11: path integrals


@pytest.mark.parametrize(
    ("temperature", "weights", "mean"),
    [
        (1.0, (0.090031, 0.244728, 0.665241), 0.575210),
        (0.5, (0.015876, 0.117310, 0.866813), 0.850937),
        (2.0, None, 0.320157),
    ],
)
def test_weights_are_a_softmax_of_scores(
    temperature: float, weights: tuple[float, ...] | None, mean: float
) -> None:
    found = planning.path_integral_weights(numbers(1, 2, 3), temperature)
    if weights is not None:
        assert_close(found, numbers(*weights), atol=2e-6, rtol=0)
    assert (found @ numbers(-1, 0, 1)).item() == pytest.approx(mean, abs=2e-6)


def test_a_constant_on_all_scores_changes_nothing_in_float32() -> None:
    """An exponential that is not shifted is infinite beyond 88, and its ratio NaN."""
    score = torch.tensor([1.0, 2.0, 3.0])
    assert_close(
        planning.path_integral_weights(score + 1000.0, 1.0),
        planning.path_integral_weights(score, 1.0),
    )
    assert (score + 1000.0).exp().isinf().all()


def test_temperature_goes_from_the_best_plan_to_the_mean_of_all() -> None:
    score = numbers(1, 2, 3)
    assert_close(planning.path_integral_weights(score, 1e-3), numbers(0, 0, 1))
    assert_close(
        planning.path_integral_weights(score, 1e9), numbers(1, 1, 1) / 3, atol=1e-8, rtol=0
    )


def test_information_theoretic_form() -> None:
    """Lambda 1, mean .5, Sigma 1, noise (-1, 0, 1): scores less (-.5, 0, .5), new mean .820157."""
    drawn = 0.5 + plans(-1, 0, 1)
    mean, variance = numbers(0.5).view(1, 1), numbers(1.0).view(1, 1)
    cost = planning.control_cost(drawn, mean, variance, 1.0)
    assert_close(cost, numbers(-0.5, 0.0, 0.5))
    weight = planning.path_integral_weights(numbers(1, 2, 3) - cost, 1.0)
    assert_close(weight, numbers(0.186324, 0.307196, 0.506480), atol=2e-6, rtol=0)
    assert (weight @ drawn.flatten()).item() == pytest.approx(0.820157, abs=2e-6)


def test_gradient_of_the_mean_plan_by_the_scores() -> None:
    """The derivative of sum_p w_p u_p by score p is w_p (u_p - mean) / lambda."""
    score, drawn, temperature = numbers(1, 2, 3).requires_grad_(), numbers(-1, 0, 1), 2.0
    weight = planning.path_integral_weights(score, temperature)
    mean = weight @ drawn
    (found,) = torch.autograd.grad(mean, score)
    assert_close(found, (weight * (drawn - mean) / temperature).detach())


def test_range_of_scores_leaves_out_what_is_not_judged() -> None:
    score = torch.stack([numbers(1, -torch.inf, 4), numbers(2, 2, 2)])
    assert planning.score_range(score).flatten().tolist() == [3.0, 1e-6]


# --- scores


def test_nothing_counts_after_the_end() -> None:
    """Rewards 1, 2, NaN with an end in step 2: 1 + .5 * 2; without one: 1 + 1 + .25 * 4 + 1."""
    reward = torch.stack([numbers(1, 2, torch.nan), numbers(1, 2, 4)])
    ended = torch.tensor([[False, True, False], [False, False, False]])
    found = planning.promised_return(reward, ended, numbers(8, 8), discount=0.5)
    assert found.tolist() == [2.0, 4.0]


def test_pessimism_takes_off_deviations_and_no_number_is_the_worst() -> None:
    """Particles 1 and 3: mean 2, population std 1."""
    score = torch.stack([numbers(1, 3), numbers(1, torch.nan), numbers(1, torch.inf)])
    assert planning.pessimistic_score(score, pessimism=0.5).tolist() == [
        1.5,
        -math.inf,
        -math.inf,
    ]
    assert planning.pessimistic_score(score, pessimism=0.0)[0].item() == 2.0


def test_one_particle_leaves_no_doubt() -> None:
    assert planning.pessimistic_score(numbers(1, 2).unsqueeze(-1), pessimism=3.0).tolist() == [1, 2]


# --- coloured noise


def filters(steps: int, exponent: float) -> Tensor:
    """Return the linear map of white noise to coloured noise, ``[H, H]``."""
    return planning.coloured(torch.eye(steps, dtype=F64), exponent).T


@pytest.mark.parametrize("steps", [2, 5, 8])
@pytest.mark.parametrize("exponent", [0.5, 2.0, 4.0])
def test_coloured_noise_has_variance_one_at_every_step(steps: int, exponent: float) -> None:
    matrix = filters(steps, exponent)
    covariance = matrix @ matrix.T
    assert_close(covariance.diagonal(), torch.ones(steps, dtype=F64))
    frequency = torch.fft.fftfreq(steps, dtype=F64).abs().clamp(min=1 / steps)
    power = torch.fft.fft(covariance[0]).real  # circulant: its spectrum is the power
    assert_close(power / power[-1], (frequency / frequency[-1]).pow(-exponent))


def test_white_noise_stays_as_it_is() -> None:
    white = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    assert planning.coloured(white, 0.0) is white
    assert planning.coloured(white[:, :1], 2.0).shape == (3, 1)


# --- TB9: beam step


def test_beam_step() -> None:
    """Discount .9, t 1: .9 r + sums + .81 V = (5.05, 2.21, 2.8, 5.36); rows 3 and 0 are kept."""
    found = planning.beam_step(
        numbers(1, 0.5, 1, 0.5),
        numbers(0, 1, 2, 0),
        numbers(5, 1, 0, 6),
        discount=0.9,
        step=1,
        beam=2,
    )
    assert found.parent.tolist() == [3, 0]
    assert_close(found.sums, numbers(0.5, 1.0))
    assert_close(found.value, numbers(5.36, 5.05))


def test_beam_step_keeps_all_where_there_are_fewer() -> None:
    one = numbers(1)
    assert planning.beam_step(one, one, one, discount=1.0, step=0, beam=5).value.tolist() == [3.0]
