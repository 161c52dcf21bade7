"""Ensembles of critics: minima over drawn subsets, likeness of slopes; by hand, with gradients."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.maths.ensembles import gradient_alignment, row_mask, subset_minimum


def f64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


VALUE = f64([1.0, 5.0], [2.0, 4.0], [3.0, 6.0])  # three critics, two rows


# --- minima ---------------------------------------------------------------------------------------


def test_subset_minimum_by_hand() -> None:
    """Row 0 draws critics 1 and 2, row 1 critics 0 and 2; gradients reach the two minima alone."""
    value = VALUE.clone().requires_grad_()
    lots = f64([-1.0, 0.5, 2.0], [0.1, -3.0, 0.2])
    found = subset_minimum(value, lots, subset=2)
    assert found.tolist() == [2.0, 5.0]
    found.sum().backward()
    assert value.grad.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]


def test_one_subset_serves_all_actions_of_a_row() -> None:
    """Values ``[E, n, B]`` of all actions: the minimum of each over the row's own critics."""
    value = torch.stack([VALUE, VALUE.flip(0)], dim=1)
    lots = f64([-1.0, 0.5, 2.0], [0.1, -3.0, 0.2])
    assert subset_minimum(value, lots, subset=2).tolist() == [[2.0, 5.0], [1.0, 5.0]]


def test_subset_of_all_is_the_minimum_and_of_one_a_critic() -> None:
    lots = f64([-1.0, 0.5, 2.0], [0.1, -3.0, 0.2])
    assert subset_minimum(VALUE, lots, subset=3).tolist() == [1.0, 4.0]
    assert subset_minimum(VALUE, lots, subset=1).tolist() == [3.0, 6.0]


def test_every_subset_is_drawn_as_often() -> None:
    """Of 4 critics with values 1, 2, 4, 8 pairs have minima 1, 2, 4 with chances 3, 2, 1 in 6."""
    count = 30_000
    draws = counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]
    value = torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None].expand(4, count)
    found = subset_minimum(value, normals(draws, 4), subset=2)
    for number, chance in ((1.0, 3 / 6), (2.0, 2 / 6), (4.0, 1 / 6)):
        error = math.sqrt(chance * (1 - chance) / count)
        assert (found == number).double().mean().item() == pytest.approx(chance, abs=4 * error)


def test_faulty_subsets_are_refused() -> None:
    lots = torch.zeros(2, 3)
    for subset in (0, 4):
        with pytest.raises(ValueError, match=rf"subset is {subset}, it must lie in \[1, 3\]"):
            subset_minimum(VALUE, lots, subset=subset)
    with pytest.raises(
        ValueError, match=r"value \(3, 2\) must begin and end with those of lots \(3, 2\)"
    ):
        subset_minimum(VALUE, torch.zeros(3, 2), subset=1)


# --- likeness of slopes ---------------------------------------------------------------------------


def test_alignment_by_hand() -> None:
    """Slopes at 0, 60 and 90 degrees, whatever their lengths: cos 60 + cos 90 + cos 30, twice, / 2.

    The gradient by an angle is minus the sum of sines of its differences: it turns them apart.
    """
    length = f64([2.0, 0.1, 30.0])[0]
    angle = torch.tensor([0.0, math.pi / 3, math.pi / 2], dtype=torch.float64, requires_grad=True)
    slope = length[:, None, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None]
    found = gradient_alignment(slope)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(0.5 + 0.0 + math.sqrt(0.75))
    found.sum().backward()
    for number in range(3):
        others = (angle[number] - angle).detach()
        assert angle.grad[number].item() == pytest.approx(-others.sin().sum().item(), abs=1e-8)


def test_alignment_is_the_sum_over_pairs() -> None:
    """Of the definition, pair by pair; each row of the batch by itself."""
    slope = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.zeros(7, dtype=torch.float64)
    for one, two in itertools.permutations(range(5), 2):
        expected += torch.cosine_similarity(slope[one], slope[two], dim=-1) / 4
    torch.testing.assert_close(gradient_alignment(slope), expected)


def test_alignment_at_its_ends() -> None:
    """E where all agree, -E / (E - 1) where directions cancel."""
    same = f64([1.0, 2.0]).expand(4, 1, 2)
    assert gradient_alignment(same).item() == pytest.approx(4.0)
    thirds = 2 * math.pi / 3 * torch.arange(3, dtype=torch.float64)
    star = torch.stack([thirds.cos(), thirds.sin()], dim=-1)[:, None]
    assert gradient_alignment(star).item() == pytest.approx(-1.5)


def test_a_flat_critic_agrees_with_none_and_has_a_finite_gradient() -> None:
    slope = f64([1.0, 0.0], [0.0, 0.0])[:, None].requires_grad_()
    found = gradient_alignment(slope)
    assert found.item() == pytest.approx(0.0)
    found.sum().backward()
    assert bool(slope.grad.isfinite().all())


def test_one_critic_is_refused() -> None:
    with pytest.raises(ValueError, match="one critic has no other to differ from"):
        gradient_alignment(torch.ones(1, 2, 3))


# --- rows of each ---------------------------------------------------------------------------------


def test_row_mask_is_a_function_of_row_and_member_alone() -> None:
    """Whatever the batch, its shape and the number of members after a member's own."""
    rows = torch.tensor([5, 900, 17])
    found = row_mask(rows, 10)
    assert found.shape == (10, 3)
    assert torch.equal(row_mask(rows.flip(0), 10), found.flip(1))
    assert torch.equal(row_mask(rows, 4), found[:4])
    assert torch.equal(row_mask(rows.reshape(3, 1), 10), found.unsqueeze(-1))


def test_row_mask_gives_each_member_its_share_by_itself() -> None:
    count = 40_000
    found = row_mask(torch.arange(count), 2, share=0.3).double()
    error = 4 * math.sqrt(0.3 * 0.7 / count)
    assert found.mean(1).tolist() == pytest.approx([0.3, 0.3], abs=error)
    assert (found[0] * found[1]).mean().item() == pytest.approx(0.09, abs=error)
    assert bool(row_mask(torch.arange(9), 2, share=1.0).all())
    with pytest.raises(ValueError, match="share is 0"):
        row_mask(torch.arange(9), 2, share=0)
