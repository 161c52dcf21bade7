"""Counts, hashes, pseudo-counts and their bonuses: TB15 by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import counts

A = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.2]], dtype=torch.float64)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- codes ----------------------------------------------------------------------------------------


def test_sign_codes_by_hand() -> None:
    """Signs of A x for (1, 0): ++-, so 1 + 2; for (0, 1): -++, so 2 + 4."""
    rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    assert counts.sign_codes(rows, A).tolist() == [3, 3, 6, 6]


def test_sign_codes_hold_62_bits_and_no_more() -> None:
    assert counts.sign_codes(torch.ones(1), torch.ones(62, 1)).item() == 2**62 - 1
    with pytest.raises(ValueError, match="63 directions: a code has at most 62 bits"):
        counts.sign_codes(torch.ones(1), torch.ones(63, 1))


def test_cells_are_left_closed_below_zero_too() -> None:
    found = counts.cells(f64(-0.1, 0.0, 0.49, 0.5), 0.5)
    assert found.tolist() == [-1, 0, 0, 1]


def test_counts_of_rows_of_several_numbers() -> None:
    """Two rows agree in both numbers, the third in one of them only."""
    assert counts.counts_of(torch.tensor([[1, 2], [1, 3], [1, 2]])).tolist() == [2, 1, 2]
    codes = torch.tensor([7, 7, 7, 0])
    assert counts.counts_of(codes).tolist() == [3, 3, 3, 1]
    assert counts.counts_of(codes, codes == 7).tolist() == [3, 3, 3, 0]


# --- bonuses --------------------------------------------------------------------------------------


def test_count_bonus_and_its_slope() -> None:
    """N^(-1/2) at 4 is 1/2, its slope -N^(-3/2) / 2 = -1/16; nothing seen is worth any number."""
    count = f64(4.0, 0.0, math.inf).requires_grad_()
    bonus = counts.count_bonus(count)
    assert bonus.tolist() == [0.5, math.inf, 0.0]
    bonus[0].backward()
    assert count.grad[0].item() == pytest.approx(-1 / 16)
    assert counts.count_bonus(torch.tensor([4])).dtype == torch.float32


def test_optimism_reaches_what_was_never_tried() -> None:
    """Q + .1 / sqrt(N + 1) for N = 0, 3: + .1 and + .05; a bonus alone leaves the first at 0."""
    found = counts.optimistic(f64(0.0, 0.01), torch.tensor([0, 3]), scale=0.1)
    assert_close(found, f64(0.1, 0.06), atol=1e-8, rtol=0)
    with pytest.raises(ValueError, match="value"):
        counts.optimistic(f64(0.0), torch.tensor([0, 3]), scale=0.1)


def test_ucb_bonus_by_hand() -> None:
    """sqrt(2 ln 100 / N) for N = 1, 4, 100."""
    found = counts.ucb_bonus(f64(1.0, 4.0, 100.0, 0.0), 100)
    assert_close(found, f64(3.034854, 1.517427, 0.303485, math.inf), atol=2e-6, rtol=0)


# --- densities as counts --------------------------------------------------------------------------


def test_pseudo_count_of_a_model_that_counts() -> None:
    """Densities 3/10 then 4/11 are those of a count of 3 in 10; .02 and .025 give 3.9.

    The total is N / p = 10. To take N for the total, as is in print, would give a count of .9.
    """
    found = counts.pseudo_count(f64(0.3, 0.02), f64(4 / 11, 0.025))
    assert_close(found, f64(3.0, 3.9), atol=2e-6, rtol=0)
    assert found[0].item() / 0.3 == pytest.approx(10.0)
    assert found[0].item() * 0.3 == pytest.approx(0.9)


def test_pseudo_count_slope() -> None:
    """dN/dp' = -p (1 - p) / (p' - p)^2: for p = .25, p' = .5 it is -3."""
    after = f64(0.5).requires_grad_()
    counts.pseudo_count(f64(0.25), after).sum().backward()
    assert after.grad.item() == pytest.approx(-3.0)


def test_a_model_that_does_not_learn_gives_no_bonus() -> None:
    before, after = f64(0.3, 0.3), f64(0.3, 0.2).requires_grad_()
    for function in (counts.pseudo_count, counts.gain_count):
        found = function(before, after)
        assert found.tolist() == [math.inf, math.inf]
        assert counts.count_bonus(found).tolist() == [0.0, 0.0]
    counts.pseudo_count(before, after).sum().backward()
    assert not after.grad.isnan().any()


def test_prediction_gain_overestimates_by_the_share_of_others() -> None:
    """(p'/p - 1)^-1 is 4.714286 where the count is 3: too much by 1 / (1 - 4/11)."""
    found = counts.gain_count(f64(0.3), f64(4 / 11))
    assert found.item() == pytest.approx(4.714286, abs=2e-6)
    assert found.item() == pytest.approx(3.0 / (1 - 4 / 11))
