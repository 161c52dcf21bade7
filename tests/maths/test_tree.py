"""Scores of tree search: TB13 by hand, and what temperature makes of visits."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import tree

F64 = torch.float64
TOTAL = torch.tensor([6.0, 2.0, 0.5], dtype=F64)
VISITS = torch.tensor([6.0, 3.0, 1.0], dtype=F64)
PARENT = torch.tensor(10.0, dtype=F64)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def test_uct_tries_the_rarely_tried_child() -> None:
    """N = 10, (W, N) = (6, 6), (2, 3), (.5, 1): 2.238974, 2.418841, 3.534854."""
    found = tree.uct_score(TOTAL / VISITS, VISITS, PARENT, exploration=1 / math.sqrt(2))
    assert_close(found, numbers(2.238974, 2.418841, 3.534854), atol=2e-6, rtol=0)
    assert found.argmax().item() == 2


def test_the_parent_below_the_fraction_line_would_never_look_elsewhere() -> None:
    """With one bonus for all: 1.959705, 1.626372, 1.459705, the first wins, as without a bonus."""
    one = torch.sqrt(2 * PARENT.log() / PARENT) * 2 / math.sqrt(2)
    wrong = TOTAL / VISITS + one
    assert_close(wrong, numbers(1.959705, 1.626372, 1.459705), atol=2e-6, rtol=0)
    assert wrong.argmax() == (TOTAL / VISITS).argmax()


def test_what_was_never_tried_comes_first() -> None:
    visits = numbers(6, 0, 4)
    found = tree.uct_score(TOTAL / visits, visits, PARENT, exploration=0.0)
    assert found[1].item() == math.inf
    assert_close(found[[0, 2]], numbers(1.0, 0.125))


def test_gradient_of_the_bonus_by_the_mean_is_one() -> None:
    mean = (TOTAL / VISITS).requires_grad_()
    (found,) = torch.autograd.grad(
        tree.uct_score(mean, VISITS, PARENT, exploration=1.0).sum(), mean
    )
    assert found.tolist() == [1.0, 1.0, 1.0]


def test_puct() -> None:
    """C 1.25, p = (.5, .3, .2), sqrt(10) = 3.162278: the bonus of a third child .790569 / 2."""
    found = tree.puct_score(
        TOTAL / VISITS, VISITS, PARENT, numbers(0.5, 0.3, 0.2), exploration=1.25
    )
    root = math.sqrt(10)
    expected = [
        1 + 1.25 * 0.5 * root / 7,
        2 / 3 + 1.25 * 0.3 * root / 4,
        0.5 + 1.25 * 0.2 * root / 2,
    ]
    assert_close(found, numbers(*expected))


def test_returns_are_scaled_by_what_was_seen() -> None:
    found = tree.scaled_returns(numbers(-4, 0, 2), numbers(-4), numbers(4))
    assert_close(found, numbers(0, 0.5, 0.75))
    assert tree.scaled_returns(numbers(3), numbers(3), numbers(3)).item() == 0.0


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, (0.5, 0.4, 0.1, 0.0)),
        (0.5, (25 / 42, 16 / 42, 1 / 42, 0.0)),
        (0.0, (1.0, 0.0, 0.0, 0.0)),
    ],
)
def test_soft_labels(temperature: float, expected: tuple[float, ...]) -> None:
    found = tree.visit_distribution(torch.tensor([5.0, 4.0, 1.0, 0.0]), temperature)
    assert_close(found, torch.tensor(expected))
