"""The gap between two dynamics by hand (TB21): optima, slopes, rewards, ranks.

Target p(s') = (.9, .1), source (.5, .5), visited p_target(s, a) = .2, p_source(s, a) = .6.
"""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.dynamics_gap import corrected_reward, gap_loss, ranked_above

ATOL = 2e-6
F64 = torch.float64
TARGET = torch.tensor([0.9, 0.1], dtype=F64)
SOURCE = torch.tensor([0.5, 0.5], dtype=F64)
RATIO = [0.587787, -1.609438]


def close(found: Tensor, expected: object) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=0, atol=ATOL)


def expected_loss(pair: Tensor, gap: Tensor, prior: float) -> Tensor:
    """Return the loss over both next states, where a share ``prior`` of rows is the target's."""
    masses = prior * 0.2 * TARGET, (1.0 - prior) * 0.6 * SOURCE
    total = pair.new_zeros(())
    for mass, label in zip(masses, (True, False), strict=True):
        told = torch.full((2,), label)
        total = total + (mass * gap_loss(pair.expand(2), gap, told)).sum()
    return total


@pytest.mark.parametrize(
    ("prior", "pair", "step"),
    [(0.3, -1.945910, [-1.358123, -3.555348]), (0.5, -1.098612, [-0.510826, -2.708050])],
)
def test_the_gap_is_the_log_ratio_whatever_the_share_of_target_rows(
    prior: float, pair: float, step: list[float]
) -> None:
    odds = prior * 0.2 / ((1.0 - prior) * 0.6)
    best_pair = torch.tensor(math.log(odds), dtype=F64, requires_grad=True)
    best_step = (prior * 0.2 * TARGET / ((1.0 - prior) * 0.6 * SOURCE)).log()
    close(best_pair.detach(), pair)
    close(best_step, step)
    gap = (best_step - best_pair.detach()).requires_grad_()
    close(gap.detach(), RATIO)
    slopes = torch.autograd.grad(expected_loss(best_pair, gap, prior), (best_pair, gap))
    close(slopes[0], 0.0)
    close(slopes[1], [0.0, 0.0])


def test_slopes_away_from_the_optimum() -> None:
    """At logits 0 and share .5 each label pulls by half its mass.

    d/d gap(s') = .5 (.3 p_source(s') - .1 p_target(s')) = (.03, .07); l_sa is in both classifiers:
    twice the sum, .2.
    """
    pair = torch.zeros((), dtype=F64, requires_grad=True)
    gap = torch.zeros(2, dtype=F64, requires_grad=True)
    slopes = torch.autograd.grad(expected_loss(pair, gap, 0.5), (pair, gap))
    close(slopes[0], 0.2)
    close(slopes[1], [0.03, 0.07])


def test_equal_dynamics_have_no_gap() -> None:
    best = (0.3 * 0.2 * SOURCE / (0.7 * 0.6 * SOURCE)).log()
    gap = torch.zeros(2, dtype=F64, requires_grad=True)
    loss = sum(
        (mass * gap_loss(best, gap, torch.full((2,), label))).sum()
        for mass, label in ((0.06 * SOURCE, True), (0.42 * SOURCE, False))
    )
    (slope,) = torch.autograd.grad(loss, gap)
    close(slope, [0.0, 0.0])


def test_only_source_rows_are_corrected_and_the_gap_is_clipped() -> None:
    reward = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=F64)
    gap = torch.tensor([0.5, -30.0, 2.0, math.inf], dtype=F64, requires_grad=True)
    source = torch.tensor([True, True, False, True])
    found = corrected_reward(reward, gap, source, coefficient=0.5, clip=10.0)
    close(found, [1.25, -4.0, 1.0, 4.0])
    assert not found.requires_grad


def test_coefficient_nothing_is_the_identity_bit_for_bit() -> None:
    reward = torch.tensor([-0.0, 0.0, 1e-30])
    gap = torch.tensor([1.0, math.inf, math.nan])
    found = corrected_reward(reward, gap, torch.ones(3).bool(), coefficient=0.0, clip=1.0)
    assert found.view(torch.int32).equal(reward.view(torch.int32))


def test_ranks_of_two_sides() -> None:
    """Of the six pairs (1 | 0, 1, 2) and (3 | ...) one above, one tied, one below; three above."""
    found = ranked_above(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0, 2.0]))
    assert found.item() == pytest.approx(4.5 / 6)
    assert ranked_above(torch.ones(3), torch.ones(2)).item() == 0.5


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match="gap"):
        gap_loss(torch.zeros(3), torch.zeros(3, 1), torch.ones(3).bool())
    with pytest.raises(ValueError, match="source"):
        corrected_reward(
            torch.zeros(3), torch.zeros(3), torch.ones(2).bool(), coefficient=1.0, clip=1.0
        )
