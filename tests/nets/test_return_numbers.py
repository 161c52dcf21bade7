"""What the numbers of an action mean: the loss of C51 and its slope, and which arguments fit."""

import math
from typing import Any

import pytest
import torch

from hindsight_rl.nets.return_numbers import AtomReturn, return_numbers

SHARE = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1])
PROJECTED = torch.tensor([0.05, 0.17, 0.36, 0.28, 0.14])


def test_loss_of_atoms_and_its_slope() -> None:
    """Reward .5 and discount .9 on atoms 0 to 4; logits of nothing cost log 5, slope 1/5 - target.

    At the target itself the loss is its entropy and the slope 0. Nothing flows to the target.
    """
    atoms = AtomReturn(5, 0.0, 4.0)
    place = 0.5 + 0.9 * torch.arange(5.0)
    share = SHARE.clone().requires_grad_()
    for logits, loss in (
        (torch.zeros(5), math.log(5.0)),
        (PROJECTED.log() + 3.0, -(PROJECTED * PROJECTED.log()).sum().item()),
    ):
        numbers = logits.clone().requires_grad_()
        found = atoms.loss(numbers, place, share.detach())
        found.backward()
        assert found.item() == pytest.approx(loss, abs=1e-6)
        expected = torch.softmax(logits, -1) - PROJECTED
        torch.testing.assert_close(numbers.grad, expected, rtol=0, atol=1e-6)


def test_atoms_stand_for_returns_with_shares() -> None:
    place, share = AtomReturn(5, -1.0, 1.0).returns(SHARE.log().expand(2, 3, 5))
    assert place[1, 2].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    torch.testing.assert_close(share[0, 1], SHARE)
    assert AtomReturn(5, 0.0, 4.0).mean(SHARE.log()).item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantiles": -1}, r"quantiles -1 and atoms 0 must be at least 0"),
        ({"quantiles": 5, "atoms": 5}, r"quantiles is 5 and atoms 5: returns are one or the other"),
        ({"atoms": 51}, r"atoms is 51 and value_range None: give both"),
        ({"value_range": (0.0, 1.0)}, r"atoms is 0 and value_range \(0.0, 1.0\): give both"),
        ({"atoms": 1, "value_range": (0.0, 1.0)}, r"atoms is 1 .* it takes two atoms at least"),
        ({"atoms": 5, "value_range": (1.0, 1.0)}, r"value_range \[1.0, 1.0\]: .* comes first"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {"quantiles": 0, "atoms": 0, "value_range": None, "limit": 1.0}
    with pytest.raises(ValueError, match=message):
        return_numbers(**plain | arguments)
