"""Entries of a dictionary: their names, what an image is, which policies an environment takes."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from tiny_envs import Arms, Walk

from hindsight_rl.entries import are_numbered, dimension_names, is_image, roles
from hindsight_rl.envs.interface import Interface, RolloutError
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.spec import WHOLE, ActionSpec, Spec, TaskSpec, Vector

ARMS = ["observations/arm/q", *(f"observations/arm-left[{i}]" for i in range(3))]


class Aims(Arms):
    """A goal of two entries, the second one of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        one, two = (spaces.Box(-np.inf, np.inf, (n,), np.float32) for n in (1, 2))
        goal = spaces.Dict(z=one, a=two)
        self.observation_space = spaces.Dict(
            {"observation": self.observation_space, "achieved_goal": goal, "desired_goal": goal}
        )


def spec(observed: list[str] | None, task: TaskSpec | None = None) -> Spec:
    names = None if observed is None else tuple(observed)
    seen = Vector((4,), names=names)
    return Spec({WHOLE: seen}, ActionSpec("continuous", (1,)), task)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (ARMS[1:] + ARMS[:1], r"in another order: \[arm-left\[0\], .*, arm/q\]"),
        ([ARMS[0], *ARMS[:0:-1]], r"in another order: \[arm/q, arm-left\[2\], arm-left\[1\]"),
        (["hand/q", *ARMS[1:]], r"takes others: \[hand/q, arm-left\[0\]"),
    ],
)
def test_inputs_of_other_names_or_order_are_refused(names: list[str], told: str) -> None:
    both = r"Arms: its observation shows \[arm/q, arm-left\[0\], .*\], and the policy .*"
    with pytest.raises(RolloutError, match=both + told):
        rollout(lambda seen: seen[:, :1], Arms, episodes=1, seed=0, spec=spec(names))


@pytest.mark.parametrize("prefix", ["observations/", ""])
def test_inputs_of_the_same_names_are_taken(prefix: str) -> None:
    names = [name.replace("observations/", prefix) for name in ARMS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Interface(Arms(), "Arms").check_fit(spec(names))


@pytest.mark.parametrize("names", [None, [f"observation[{i}]" for i in range(4)]])
def test_inputs_without_names_cannot_be_checked(names: list[str] | None) -> None:
    with pytest.warns(UserWarning, match="no names, so that the order .* cannot be checked"):
        Interface(Arms(), "Arms").check_fit(spec(names))


def test_names_of_a_goal_are_compared_too() -> None:
    seen = [name.replace("observations", "observation") for name in ARMS]
    goal = TaskSpec((3,), names=("desired_goal/a[0]", "desired_goal/a[1]", "desired_goal/z"))
    given = spec(seen, goal)
    with pytest.raises(RolloutError, match=r"its task shows \[desired_goal/z, desired_goal/a\[0\]"):
        Interface(Aims(), "Aims").check_fit(given)


def test_a_box_has_no_names_to_compare() -> None:
    given = Vector((2,), names=("place", "time"))
    Interface(Walk(), "Walk").check_fit(replace(spec(None), observation={WHOLE: given}))


def test_roles() -> None:
    """Goals are apart; beside one of them ``observation`` is all that is observed."""
    a, b, x = ("observation", "a"), ("observation", "b"), ("x",)
    task, achieved = ("desired_goal",), ("achieved_goal", "q")
    assert roles([()]) == (((),), (), ())
    assert roles([b, x, a]) == ((b, x, a), (), ())
    assert roles([b, x, task, achieved, a]) == ((b, a), (task,), (achieved,))
    assert roles([x, achieved]) == ((x,), (), (achieved,))


def test_names_of_dimensions() -> None:
    assert dimension_names(("arm", "q"), 1) == ["observations/arm/q"]
    assert dimension_names(("q",), 2) == ["observations/q[0]", "observations/q[1]"]
    assert are_numbered(["action"], "action") and are_numbered(None, "task")
    assert not are_numbered(["action[1]", "action[0]"], "action")


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((4,), np.uint8, False),
        ((2, 2), np.uint8, True),
        ((4, 84, 84), np.uint8, True),
        ((64, 64, 3), np.float32, True),
        ((3, 64, 64), np.float64, True),
        ((2, 2, 3), np.float32, False),
        ((11, 17), np.float32, False),
        ((16, 16, 3), np.int64, False),
    ],
)
def test_what_looks_like_an_image(shape: tuple[int, ...], dtype: Any, image: bool) -> None:
    assert is_image(shape, np.dtype(dtype).name) is image
