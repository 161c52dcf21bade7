"""Errors by horizon: ranges of samples, likelihoods and rank correlations, by hand."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.horizons import PARTICLES, held, rank_correlation, sample_nll


def f64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("spread", [0.1, 7.0])
def test_the_range_of_samples_holds_nine_tenths(spread: float) -> None:
    """Of a normal and of a skewed distribution: (19 - 1) / (19 + 1)."""
    generator = torch.Generator().manual_seed(0)
    drawn = spread * torch.randn(PARTICLES + 1, 40_000, generator=generator)
    for numbers in (drawn, drawn.exp()):
        share = held(numbers[1:], numbers[0]).double().mean()
        assert float(share) == pytest.approx(0.9, abs=0.006)
    assert held(f64([1.0, 2.0]), f64(2.0)) and not held(f64([1.0, 2.0]), f64(2.1))


def test_likelihood_of_samples() -> None:
    """Samples 0, 2: mean 1, variance 2, by 1 + 1 / 2: 3. (2.5 - 1)^2 / 3 = .75; slope 1.5 / 3."""
    truth = f64(2.5).requires_grad_()
    found = sample_nll(f64([0.0, 2.0]), truth)
    assert float(found.detach()) == pytest.approx(0.5 * (0.75 + math.log(6 * math.pi)))
    assert float(torch.autograd.grad(found, truth)[0]) == pytest.approx(0.5)
    sure = sample_nll(f64([1.0, 1.0]), f64(1.0), least=1e-3)
    assert float(sure) == pytest.approx(math.log(1e-3) + 0.5 * math.log(2 * math.pi))


def test_rank_correlation() -> None:
    """Ranks differ by (0, 1, 1, 0): 1 - 6 x 2 / (4 x 15) = .8; bent numbers too."""
    one, other = f64([1, 2, 3, 4]), f64([10, 30, 20, 40])
    assert float(rank_correlation(one, other)) == pytest.approx(0.8)
    assert float(rank_correlation(one.exp(), other.log())) == pytest.approx(0.8)
    assert float(rank_correlation(one, -one)) == pytest.approx(-1.0)
    # Ties share their mean rank: ranks 1.5, 1.5, 3 and 1, 2, 3: 1.5 / sqrt(1.5 x 2).
    tied = rank_correlation(f64([5, 5, 9]), f64([1, 2, 3]))
    assert float(tied) == pytest.approx(1.5 / math.sqrt(3))
    assert float(rank_correlation(f64([2, 2, 2]), f64([1, 2, 3]))) == 0.0
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        rank_correlation(one[:3], other[:2])
