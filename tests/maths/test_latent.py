"""Policies of a latent vector: closed form T21, and bits that cost nothing."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.latent import decoder_constant, decoder_error, latent_divergence

ATOL = 2e-6
F64 = torch.float64


def bound(mean: float, variance: float) -> tuple[float, float]:
    """Return divergence and expected log-density of T21 under q = N(mean, variance).

    The decoder is a = l + N(0, .5^2), the action 1. The points mean -+ one spread have the moments
    of q up to the second, and the error is a square: their mean is the expectation.
    """
    log_std = 0.5 * torch.tensor([variance], dtype=F64).log()
    divergence, counted = latent_divergence(torch.tensor([mean], dtype=F64), log_std)
    assert counted.equal(divergence)
    ends = torch.tensor([[-1.0], [1.0]], dtype=F64)
    latent = mean + log_std.exp() * ends
    error = decoder_error(torch.ones(2, 1, dtype=F64), latent, std=0.5).mean()
    return divergence.item(), -error.item() - decoder_constant(1, std=0.5)


def test_the_best_encoder_of_t21_makes_the_bound_tight() -> None:
    """The optimum q = N(.8, .2): -1.430510 = log N(1; 0, 1.25) exactly."""
    divergence, likelihood = bound(0.8, 0.2)
    assert divergence == pytest.approx(0.724719, abs=ATOL)
    assert likelihood == pytest.approx(-0.705791, abs=ATOL)
    exact = -0.5 / 1.25 - 0.5 * math.log(2 * math.pi * 1.25)
    assert likelihood - divergence == pytest.approx(exact, abs=1e-12)
    assert exact == pytest.approx(-1.430510, abs=ATOL)


def test_the_prior_as_encoder_leaves_a_gap() -> None:
    divergence, likelihood = bound(0.0, 1.0)
    assert divergence == 0.0
    assert likelihood == pytest.approx(-4.225791, abs=ATOL)


def test_gradients_vanish_at_the_best_encoder() -> None:
    """Of the bound by mean and log-spread; elsewhere d KL / d mean is the mean."""
    parameters = torch.tensor([0.8, 0.5 * math.log(0.2)], dtype=F64, requires_grad=True)
    mean, log_std = parameters[:1], parameters[1:]
    divergence, _ = latent_divergence(mean, log_std)
    latent = mean + log_std.exp() * torch.tensor([[-1.0], [1.0]], dtype=F64)
    error = decoder_error(torch.ones(2, 1, dtype=F64), latent, std=0.5).mean()
    (grad,) = torch.autograd.grad(error + divergence, parameters)
    torch.testing.assert_close(grad, torch.zeros(2, dtype=F64), rtol=0, atol=1e-12)
    mean = torch.tensor([0.3, -2.0], dtype=F64, requires_grad=True)
    latent_divergence(mean, torch.zeros(2, dtype=F64))[0].backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, mean.detach())


def test_error_is_summed_over_dimensions() -> None:
    """Errors 1 and 2 at spread .5: (1 + 4) / (2 * .25) = 10."""
    found = decoder_error(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]]), std=0.5)
    assert found.tolist() == [10.0]


@pytest.mark.parametrize("free", [0.0, 0.1, 0.5])
def test_free_bits_cost_at_least_themselves_and_have_no_gradient(free: float) -> None:
    """Numbers with means .2 and 2 and spread 1 hold .02 and 2 nats."""
    mean = torch.tensor([[0.2, 2.0]], dtype=F64, requires_grad=True)
    divergence, counted = latent_divergence(mean, torch.zeros(1, 2, dtype=F64), free=free)
    assert divergence.item() == pytest.approx(2.02)
    assert counted.item() == pytest.approx(max(0.02, free) + 2.0)
    counted.sum().backward()
    first: Tensor = mean.grad[0, 0]  # type: ignore[index]
    assert first.item() == pytest.approx(0.2 if free < 0.02 else 0.0)
