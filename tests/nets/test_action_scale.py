"""The ends of the data in policy units: bounds, or what the log holds where there are none."""

import pytest
import torch

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.spec import ActionSpec

SEEN = {
    "mean": (1.0, 2.0),
    "std": (2.0, 4.0),
    "quantiles": ((-3.0, 0.0, 7.0), (-6.0, 1.0, 4.0)),
}


def ends(action: ActionSpec) -> list[list[float]]:
    return torch.stack(ActionScale(action).data_limits(action)).tolist()


def test_of_bounded_actions_they_are_one_in_each_direction() -> None:
    """Whatever the log holds; a dimension whose bounds are equal is a point."""
    action = ActionSpec("continuous", (2,), low=(0.0, 4.0), high=(2.0, 4.0), **SEEN)
    assert ends(action) == [[-1, 0], [1, 0]]


def test_of_unbounded_actions_they_are_those_of_the_log() -> None:
    """(-3 - 1)/2 and (7 - 1)/2; (-6 - 2)/4 and (4 - 2)/4: not one standard deviation."""
    assert ends(ActionSpec("continuous", (2,), **SEEN)) == [[-2, -2], [3, 0.5]]


def test_the_bounds_that_are_given_hold_too() -> None:
    action = ActionSpec("continuous", (2,), low=(0.0, None), high=(None, 3.0), **SEEN)
    assert ends(action) == [[-0.5, -2], [3, 0.25]]


def test_a_spec_that_does_not_say_them_is_an_error() -> None:
    action = ActionSpec("continuous", (1,), mean=(0.0,), std=(1.0,))
    with pytest.raises(ValueError, match="no bounds, and the spec does not hold the quantiles"):
        ends(action)
