"""Bins of actions: closed forms T19 and T26, quantiles of a log, and the inverse of a draw."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hindsight_rl.maths.bins import (
    bin_centres,
    bin_means,
    bin_of,
    binned_log_prob,
    drawn_bin,
    drawn_lead,
    even_edges,
    lead,
    normal_share,
    quantile_edges,
    without_unlikely,
)

ATOL = 2e-6
F64 = torch.float64


def thirds() -> Tensor:
    """Return the edges of T19: three bins of [-1, 1] in two dimensions."""
    return even_edges(torch.full((2,), -1.0, dtype=F64), torch.full((2,), 1.0, dtype=F64), bins=3)


def conditional(first: int) -> list[float]:
    """Return the logits of T19's second dimension."""
    return [2.0 * (k == first) for k in range(3)]


def logits_of(first: int) -> Tensor:
    return torch.tensor([[0.0, 1.0, 2.0], conditional(first)], dtype=F64)


# --- T19 ------------------------------------------------------------------------------------------


def test_bins_and_centres_of_t19() -> None:
    """Edges -1, -1/3, 1/3, 1: .2 is in the middle, -.9 in the first; the bound in the last."""
    edges = thirds()
    assert bin_of(torch.tensor([0.2, -0.9], dtype=F64), edges).tolist() == [1, 0]
    assert bin_of(torch.tensor([1.0, -1.0], dtype=F64), edges).tolist() == [2, 0]
    assert bin_of(torch.tensor([9.0, -9.0], dtype=F64), edges).tolist() == [2, 0]
    centres = bin_centres(edges)[[0, 1], [1, 0]]
    torch.testing.assert_close(centres, torch.tensor([0.0, -2 / 3], dtype=F64))


def test_density_of_t19() -> None:
    """-log p(1, 0) = 3.647151; the density divides by widths of 2/3: -2.836221."""
    found = binned_log_prob(torch.tensor([1, 0]), logits_of(1), thirds())
    assert found.item() == pytest.approx(-2.836221, abs=ATOL)
    unit = torch.arange(4, dtype=F64).expand(2, 4)  # bins of width 1 leave the probability
    found = binned_log_prob(torch.tensor([1, 0]), logits_of(1), unit)
    assert found.item() == pytest.approx(-3.647151, abs=ATOL)


def test_gradient_of_t19_is_the_softmax_less_the_choice() -> None:
    logits = logits_of(1).requires_grad_()
    (-binned_log_prob(torch.tensor([1, 0]), logits, thirds())).backward()
    one_hot = torch.eye(3, dtype=F64)[[1, 0]]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.softmax(logits.detach(), -1) - one_hot)


def joint(edges: Tensor) -> dict[tuple[int, int], float]:
    """Return the mass of each of the nine pairs: density by area."""
    area = (edges[:, 1] - edges[:, 0]).prod()
    pairs = itertools.product(range(3), repeat=2)
    return {
        pair: (binned_log_prob(torch.tensor(pair), logits_of(pair[0]), edges).exp() * area).item()
        for pair in pairs
    }


def test_nine_probabilities_of_t19_sum_to_1() -> None:
    """The likeliest pair is (2, 2), with .523535."""
    mass = joint(thirds())
    assert sum(mass.values()) == pytest.approx(1.0, abs=1e-12)
    best = max(mass, key=mass.__getitem__)
    assert best == (2, 2) and mass[best] == pytest.approx(0.523535, abs=ATOL)


def test_two_answers_of_t19_cost_log_2_and_their_marginals_twice_that() -> None:
    """Data {(-, -), (+, +)} in halves: the second dimension follows from the first."""
    edges = even_edges(torch.zeros(2, dtype=F64), torch.full((2,), 2.0, dtype=F64), bins=2)
    near = math.log(1e12)
    even = [0.0, 0.0]
    follows = {0: [near, 0.0], 1: [0.0, near]}
    tied, apart = [], []
    for k in (0, 1):
        pair = torch.tensor([k, k])
        tied.append(binned_log_prob(pair, torch.tensor([even, follows[k]], dtype=F64), edges))
        apart.append(binned_log_prob(pair, torch.tensor([even, even], dtype=F64), edges))
    assert -torch.stack(tied).mean().item() == pytest.approx(0.693147, abs=ATOL)
    assert -torch.stack(apart).mean().item() == pytest.approx(1.386294, abs=ATOL)


# --- quantiles ------------------------------------------------------------------------------------


def test_quantile_edges_hold_equal_shares() -> None:
    """Squares of 0, .25, .5, .75, 1: two bins meet at the median, four at the quartiles."""
    quantiles = torch.linspace(0, 1, 5, dtype=F64).square().unsqueeze(0)
    assert quantile_edges(quantiles, bins=2, least=1e-6).tolist() == [[0.0, 0.25, 1.0]]
    assert quantile_edges(quantiles, bins=4, least=1e-6).tolist() == quantiles.tolist()
    # Between quantiles the line: the third of four steps of 5/3 lies at 3 1/3.
    thirds = quantile_edges(quantiles, bins=3, least=1e-6)[0]
    expected = torch.tensor([0.0, 0.0625 + (0.25 - 0.0625) / 3, 0.25 + (0.5625 - 0.25) * 2 / 3, 1])
    torch.testing.assert_close(thirds, expected.double())


def test_a_number_that_repeats_gets_a_bin_of_the_least_width() -> None:
    quantiles = torch.tensor([[0.0, 2.0, 2.0, 2.0, 3.0]], dtype=F64)
    edges = quantile_edges(quantiles, bins=4, least=0.1)
    torch.testing.assert_close(edges, torch.tensor([[0.0, 2.0, 2.1, 2.2, 3.0]], dtype=F64))
    constant = quantile_edges(torch.full((1, 5), 7.0, dtype=F64), bins=4, least=0.5)
    torch.testing.assert_close(constant, torch.tensor([[7.0, 7.5, 8.0, 8.5, 9.0]], dtype=F64))


@given(
    numbers=st.lists(st.floats(-5, 5), min_size=2, max_size=9),
    bins=st.integers(2, 30),
    least=st.floats(1e-3, 1.0),
)
def test_edges_rise_by_the_least_width(numbers: list[float], bins: int, least: float) -> None:
    edges = quantile_edges(torch.tensor([sorted(numbers)], dtype=F64), bins=bins, least=least)
    assert edges.shape == (1, bins + 1)
    assert bool((edges.diff() >= least - 1e-9).all())


@given(number=st.floats(-3, 3), bins=st.integers(2, 40))
def test_a_number_lies_between_the_edges_of_its_bin(number: float, bins: int) -> None:
    edges = even_edges(torch.tensor([-1.0], dtype=F64), torch.tensor([1.0], dtype=F64), bins=bins)
    found = int(bin_of(torch.tensor([number], dtype=F64), edges))
    below, above = edges[0, found].item(), edges[0, found + 1].item()
    assert below <= max(number, -1.0) and (number < above or found == bins - 1)
    assert above - below == pytest.approx(2 / bins)


# --- draws ----------------------------------------------------------------------------------------


def test_a_share_leads_to_the_bin_that_covers_it() -> None:
    """Masses .2, .5, .3: share .45 is half through the second; 0 and 1 are the outer ends."""
    logits = torch.tensor([0.2, 0.5, 0.3], dtype=F64).log().expand(4, 3)
    share = torch.tensor([0.45, 0.0, 1.0, 0.85], dtype=F64)
    chosen, place = drawn_bin(logits, share)
    assert chosen.tolist() == [1, 0, 2, 2]
    torch.testing.assert_close(place, torch.tensor([0.5, 0.0, 1.0, 0.5], dtype=F64))
    away = drawn_lead(logits, share)
    torch.testing.assert_close(away, torch.tensor([0.25, 0.2, 0.3, 0.15], dtype=F64))


def test_a_choice_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    share = torch.linspace(0, 1, 101)
    chosen, place = drawn_bin(logits.expand(101, 5), share)
    assert set(chosen[:-1].tolist()) == {1, 3}
    assert bool(((place >= 0) & (place <= 1)).all())


def test_one_choice_is_always_clear() -> None:
    chosen, place = drawn_bin(torch.zeros(3, 1), torch.tensor([0.0, 0.5, 1.0]))
    assert chosen.tolist() == [0, 0, 0] and place.tolist() == [0.0, 0.5, 1.0]
    assert drawn_lead(torch.zeros(3, 1), torch.rand(3)).tolist() == [1.0, 1.0, 1.0]


def test_shares_of_the_normal_distribution() -> None:
    found = normal_share(torch.tensor([0.0, 1.0, -1.0, 9.0], dtype=F64))
    expected = torch.tensor([0.5, 0.841345, 0.158655, 1.0], dtype=F64)
    torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)


def test_lead_is_that_of_the_best_over_the_second() -> None:
    scores = torch.tensor([[1.0, 4.0, 3.5], [2.0, 2.0, 0.0]])
    assert lead(scores).tolist() == [0.5, 0.0]
    assert lead(torch.zeros(2, 1)).tolist() == [math.inf, math.inf]


# --- what bins stand for --------------------------------------------------------------------------


def test_means_are_those_of_the_numbers_in_a_bin() -> None:
    """Edges -1, -1/3, 1/3, 1: 1, 1 and .4 are in the last; an empty bin has its middle."""
    value = torch.tensor([[0.4, -0.5], [1.0, -0.9], [1.0, 0.0]], dtype=F64)
    found = bin_means(value, thirds())
    expected = torch.tensor([[-2 / 3, 0.0, 0.8], [-0.7, 0.0, 2 / 3]], dtype=F64)
    torch.testing.assert_close(found, expected)


def test_a_number_that_a_log_repeats_stands_for_its_bin() -> None:
    """Rewards that are 0 but for a few of 1: both come back to the bit."""
    value = torch.tensor([0.0] * 97 + [1.0] * 3, dtype=F64).unsqueeze(-1)
    order = value.sort(dim=0).values[torch.linspace(0, 99, 101).round().long()].T
    edges = quantile_edges(order, bins=100, least=1e-4)
    assert bin_means(value, edges)[0, bin_of(value, edges)].equal(value)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.0, 4), (0.05, 4), (0.11, 3), (0.45, 3), (0.51, 1), (0.99, 1)]
)
def test_the_least_likely_bins_are_left_out(share: float, kept: int) -> None:
    """Of .5, .1, .2 and .2, .1 goes first; both of .2 hold .5 with it and go together."""
    log_prob = torch.tensor([0.5, 0.1, 0.2, 0.2], dtype=F64).log()
    found = without_unlikely(log_prob, share)
    assert found.isfinite().sum() == kept and found[0] == log_prob[0]
    assert found[found.isfinite()].equal(log_prob[found.isfinite()])
    both = without_unlikely(torch.tensor([0.5, 0.5], dtype=F64).log(), 0.6)
    assert both.isfinite().all()  # neither is the less likely one
