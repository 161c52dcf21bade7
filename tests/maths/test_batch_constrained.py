"""Batch constraint: T16's allowed actions, the soft clipped minimum."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.batch_constrained import allowed_actions, soft_clipped_minimum


def randoms(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- allowed actions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.0, [True, True, True]),
        (0.166, [True, True, True]),
        (0.167, [True, True, False]),
        (0.3, [True, True, False]),
        (0.499, [True, True, False]),
        (0.501, [True, False, False]),
        (0.999, [True, False, False]),
    ],
)
def test_allowed_actions_of_t16(threshold: float, expected: list[bool]) -> None:
    """T16: pi = .6, .3, .1 has the ratios 1, .5, .166667; so has a quarter of each."""
    log_prob = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    for constant in (0.0, math.log(0.25)):
        assert allowed_actions(log_prob + constant, threshold=threshold).tolist() == expected


def test_best_allowed_action_of_t16() -> None:
    """T16: of Q = 0, 1, 5 the third is out, so the best is the second."""
    allowed = allowed_actions(torch.tensor([0.6, 0.3, 0.1]).log(), threshold=0.3)
    assert torch.tensor([0.0, 1.0, 5.0]).masked_fill(~allowed, -math.inf).argmax() == 1


def test_threshold_0_allows_what_has_hardly_any_probability() -> None:
    log_prob = torch.log_softmax(torch.tensor([0.0, -500.0]), -1)
    assert log_prob.exp()[1] == 0.0
    assert allowed_actions(log_prob, threshold=0.0).all()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.999])
def test_the_likeliest_action_is_always_allowed(threshold: float) -> None:
    """And allowed actions of rows side by side are those of each row."""
    logits = 10 * randoms(0, 100, 5)
    allowed = allowed_actions(logits, threshold=threshold)
    assert allowed.gather(-1, logits.argmax(-1, keepdim=True)).all()
    for row, found in zip(logits, allowed, strict=True):
        assert allowed_actions(row, threshold=threshold).equal(found)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=rf"threshold is {threshold}, it must lie in \[0, 1\)"):
        allowed_actions(torch.zeros(3), threshold=threshold)


# --- soft clipped minimum -------------------------------------------------------------------------


def test_soft_clipped_minimum_by_hand() -> None:
    """.75 min + .25 max of (1, 5), (4, 2) and (-1, -1): 2, 2.5 and -1.

    The gradient is .75 for the smaller one, .25 for the larger.
    """
    value = torch.tensor([[1.0, 4.0], [5.0, 2.0]], dtype=torch.float64, requires_grad=True)
    found = soft_clipped_minimum(value, min_weight=0.75)
    assert found.tolist() == [2.0, 2.5]
    assert soft_clipped_minimum(torch.full((2, 1), -1.0), min_weight=0.75).tolist() == [-1.0]
    found.sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_weights_1_and_0_are_minimum_and_maximum() -> None:
    """Of three estimates those in the middle count nothing; one alone is itself."""
    value = randoms(1, 3, 4)
    assert soft_clipped_minimum(value, min_weight=1.0).equal(value.amin(0))
    assert soft_clipped_minimum(value, min_weight=0.0).equal(value.amax(0))
    torch.testing.assert_close(soft_clipped_minimum(value[:1], min_weight=0.75), value[0])


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"min_weight is {weight}, it must lie in \[0, 1\]"):
        soft_clipped_minimum(torch.zeros(2, 1), min_weight=weight)
