"""Products of normal densities: by hand, by their log-densities, and as running sums."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.divergences import standard_normal_kl
from hindsight_rl.maths.normal_products import Evidence

MEAN = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
LOG_STD = 0.5 * torch.tensor([[1.0], [2.0]], dtype=torch.float64).log()


def pieces(count: int = 7, width: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shape = count, width
    return (
        torch.randn(shape, generator=draw, dtype=torch.float64),
        0.5 * torch.randn(shape, generator=draw, dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("prior", "mean", "variance", "divergence"),
    [(0.0, 1.666667, 0.666667, 1.424955), (1.0, 1.0, 0.4, 0.658145)],
    ids=["of the pieces", "and the prior"],
)
def test_two_pieces_by_hand(prior: float, mean: float, variance: float, divergence: float) -> None:
    """Precisions 1 and 1/2, shifts 1 and 3/2: 2.5 / 1.5 and 1 / 1.5; with the prior 2.5 / 2.5."""
    found, log_std = Evidence.of(MEAN, LOG_STD).sum(0).product(prior=prior)
    assert float(found) == pytest.approx(mean, abs=2e-6)
    assert float(torch.exp(2 * log_std)) == pytest.approx(variance, abs=2e-6)
    assert float(standard_normal_kl(found, log_std)) == pytest.approx(divergence, abs=2e-6)


def test_gradients_of_the_divergence_by_hand() -> None:
    """KL = (m^2 + v - 1 - log v) / 2 with v = 1 / P and m = S / P.

    dKL/dS = m v, and dKL/dP = -m^2 v + (1 - v) v / 2; S = sum_n mean_n / variance_n.
    """
    mean = MEAN.clone().requires_grad_()
    precision = torch.tensor([[1.0], [0.5]], dtype=torch.float64, requires_grad=True)
    loss = standard_normal_kl(*Evidence.of(mean, -0.5 * precision.log()).sum(0).product()).sum()
    by_mean, by_precision = torch.autograd.grad(loss, (mean, precision))
    m, v = 1.0, 0.4
    torch.testing.assert_close(by_mean, m * v * precision.detach())
    of_all = -(m**2) * v + (1 - v) * v / 2
    torch.testing.assert_close(by_precision, m * v * MEAN + of_all)


def test_product_is_the_product_of_densities() -> None:
    """Up to a constant: log-densities of the pieces and the prior add up to the product's."""
    mean, log_std = pieces(width=1)
    together = torch.distributions.Normal(*_spread(Evidence.of(mean, log_std).sum(0).product()))
    at = torch.linspace(-2, 2, 9, dtype=torch.float64)
    each = torch.distributions.Normal(mean, log_std.exp()).log_prob(at).sum(0)
    each = each - 0.5 * at.square()
    gap = each - together.log_prob(at)
    torch.testing.assert_close(gap, gap[:1].expand_as(gap))


def _spread(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return found[0], found[1].exp()


def test_running_sums_equal_the_batch_in_any_order() -> None:
    mean, log_std = pieces()
    whole = Evidence.of(mean, log_std).sum(0)
    for order in (range(7), [3, 1, 6, 0, 2, 5, 4]):
        running = Evidence(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        for number in order:
            running = running.joined(Evidence.of(mean[number], log_std[number]))
        for one, other in zip(running.product(), whole.product(), strict=True):
            torch.testing.assert_close(one, other)


def test_without_evidence_it_is_the_prior() -> None:
    nothing = Evidence(torch.zeros(2), torch.zeros(2))
    mean, log_std = nothing.product()
    assert not mean.any() and not log_std.any()
    _, wide = nothing.product(prior=0.25)
    torch.testing.assert_close(wide, torch.full((2,), math.log(2.0)))
