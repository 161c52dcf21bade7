"""What is sent for an answer of a policy: inside the bounds, whole numbers, choices that exist."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipAction, RescaleAction, TimeLimit

from hindsight_rl.envs.actions import ActionSpace, inside
from hindsight_rl.envs.behaviors import Behavior, record
from hindsight_rl.envs.interface import Interface, RolloutError
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.spec import WHOLE, ActionSpec, Spec, Vector


class Sent(gymnasium.Env[Any, Any]):
    """Keeps what it is sent, checks it against its action space, and lasts four steps."""

    def __init__(self, action: spaces.Space[Any]) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = action
        self.sent: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = 4
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.sent.append(action)
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


def sent(action: spaces.Space[Any], answer: Any) -> Any:
    """Return what an environment is sent for an answer."""
    env = Sent(action)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rollout(lambda seen: np.array([answer]), lambda: env, episodes=1, seed=0)
    return env.sent[0]


def test_the_nearest_float32_inside_float64_bounds_is_sent() -> None:
    """float32(0.1) is 0.100000001, outside [-0.1, 0.1]; the number before it is inside."""
    tenth = spaces.Box(-0.1, 0.1, (1,), np.float64)
    below = float(np.nextafter(np.float32(0.1), np.float32(0)))
    assert below < 0.1 < float(np.float32(0.1))
    for answer, wanted in ((0.1, below), (7.0, below), (-0.1, -below), (-7.0, -below)):
        found = sent(tenth, np.float32([answer]))
        assert found.dtype == np.float64 and found.tolist() == [wanted]
    assert sent(tenth, np.float32([0.05])).tolist() == [float(np.float32(0.05))]
    # No float32 number lies between these: the bound itself is sent.
    assert sent(spaces.Box(0.1, 0.1, (1,), np.float64), np.float32([0.3])).tolist() == [0.1]


@pytest.mark.parametrize(
    ("dtype", "low", "high", "answer", "wanted"),
    [
        (np.int64, -10, 10, 7.175, 7),
        (np.int64, -10, 10, 7.9, 8),
        (np.int64, -10, 10, -7.9, -8),
        (np.int64, -10, 10, 99.0, 10),
        (np.uint8, 0, 255, -3.0, 0),  # a plain cast makes 253 of it
        (np.uint8, 0, 255, 300.0, 255),  # and 44 of this
        (np.int64, -(2**62), 2**63 - 1, 1e30, 2**63 - 2**39),
        (np.float16, -1, 1, 0.3, float(np.float16(0.3))),
    ],
)
def test_what_is_sent_is_what_is_recorded(
    dtype: Any, low: int, high: int, answer: float, wanted: float
) -> None:
    space = spaces.Box(low, high, (1,), dtype)
    found = sent(space, np.float32([answer]))
    assert found.dtype == dtype and found.tolist() == [wanted]
    executed = ActionSpace(Sent(space), "env").executed(np.float32([[answer]]))
    assert executed.dtype == np.float32 and executed.tolist() == [[wanted]]


def test_half_open_bounds_are_held_on_their_side() -> None:
    space = ActionSpace(Sent(spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 1]))), "env")
    assert space.low.tolist() == [0, -np.inf] and space.high.tolist() == [np.inf, 1]
    found = space.executed(np.float32([[-5, -50], [50, 5]]))
    assert found.tolist() == [[0, -50], [50, 1]]


def test_inside_is_exact_for_whole_numbers_and_open_ends() -> None:
    low, high = np.array([2**53 + 1, -np.inf]), np.array([2**63 - 1, np.inf])
    assert inside(low, high)[0].tolist() == [2**53, -np.inf]  # as float64 numbers
    low, high = inside(np.array([2**60 + 1]), np.array([2**63 - 1]))
    assert int(low[0]) == 2**60 + 2**37 and int(high[0]) == 2**63 - 2**39
    assert inside(np.array([-1e300]), np.array([1e300]))[1].tolist() == [np.inf]


def test_what_a_clipping_wrapper_does_is_recorded() -> None:
    """Of what it makes of 3.5 under bounds of 1, wherever it lies; its own space is unbounded."""
    box = spaces.Box(-1.0, 1.0, (1,), np.float32)
    for wrapped in (ClipAction(Sent(box)), TimeLimit(ClipAction(Sent(box)), 9)):
        space = ActionSpace(wrapped, "env")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # who wraps it so wants it so
            assert space.executed(np.float32([[3.5]])).tolist() == [[1.0]]
    # In the units of the outermost one.
    scaled = ClipAction(RescaleAction(Sent(box), np.float32(-4), np.float32(4)))
    assert ActionSpace(scaled, "env").executed(np.float32([[3.5], [9]])).tolist() == [[3.5], [4]]
    inner = RescaleAction(Sent(box), np.float32(-4), np.float32(4))
    assert ActionSpace(inner, "env").executed(np.float32([[3.5]])).tolist() == [[3.5]]


def test_answers_outside_the_space_are_warned_of_once() -> None:
    space = ActionSpace(Sent(spaces.Box(-1.0, 1.0, (1,), np.float32)), "Arm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space.executed(np.float32([[1.000001]]))
    with pytest.warns(UserWarning, match=r"Arm: the policy answered 7, outside .*clipped") as told:
        space.executed(np.float32([[0.5], [7.0]]))
        space.executed(np.float32([[8.0]]))
    assert len(told) == 1


def logged(least: float, most: float, **facts: Any) -> ActionSpec:
    return ActionSpec("continuous", (1,), quantiles=((least, 0.0, most),), **facts)


def test_logged_shares_of_the_bounds_are_warned_of() -> None:
    """Torques of 2 at most, and a log of a network's -1 to 1."""
    space = ActionSpace(Sent(spaces.Box(-2.0, 2.0, (1,), np.float32)), "Pendulum")
    with pytest.warns(UserWarning, match=r"Pendulum: .*within -1 and 1.*give action_scale"):
        space.warn_of_scale(logged(-0.97, 1.0))


@pytest.mark.parametrize(
    ("bound", "action"),
    [
        (2.0, logged(-1.3, 0.9)),
        (2.0, logged(-0.4, 0.5)),
        (2.0, logged(-1.0, 1.0, low=(-2.0,), high=(2.0,))),
        (1.0, logged(-1.0, 1.0)),
        (np.inf, logged(-1.0, 1.0)),
    ],
    ids=["beyond 1", "gentle", "bounds stated", "bounds of 1", "no bounds there"],
)
def test_other_logged_actions_are_not_warned_of(bound: float, action: ActionSpec) -> None:
    space = ActionSpace(Sent(spaces.Box(-bound, bound, (1,), np.float32)), "Arm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space.warn_of_scale(action)


def test_a_policy_of_scaled_actions_is_warned_of_before_its_episodes() -> None:
    taken = Spec({WHOLE: Vector((3,), (0.0,) * 3, (1.0,) * 3)}, logged(-1.0, 1.0), task=None)
    with pytest.warns(UserWarning, match="Pendulum-v1: .*give action_scale"):
        rollout(
            lambda seen, task=None: np.zeros((len(seen), 1), np.float32),
            "Pendulum-v1",
            episodes=1,
            seed=0,
            max_steps=2,
            spec=taken,
        )


# --- choices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [-1, 0, 1, 5])
def test_choices_are_sent_in_the_numbers_of_the_environment(start: int) -> None:
    space = spaces.Discrete(3, start=start)
    for number in range(start, start + 3):
        assert sent(space, number) == number and type(sent(space, float(number))) is int
    for wrong in (start - 1, start + 3, start + 0.5):
        message = rf"the policy chose {wrong}, and the choices are {start} to {start + 2}"
        with pytest.raises(ValueError, match=message):
            sent(space, wrong)


def spec(n: int, start: int | None = None) -> Spec:
    """Return what is checked of a policy."""
    return Spec({WHOLE: Vector((1,))}, ActionSpec("discrete", (), n=n, start=start or 0))


def test_a_policy_fits_whose_choices_are_some_of_the_environments() -> None:
    interface = Interface(Sent(spaces.Discrete(3, start=1)), "Env")
    for n, start in ((3, 1), (2, 1), (2, 2)):
        interface.check_fit(spec(n, start))
    for n, start, there in ((3, None, "3 choices"), (4, None, "4 choices"), (3, 2, "from 2")):
        with pytest.raises(RolloutError, match=f"takes one of 3 choices from 1, .*{there}"):
            interface.check_fit(spec(n, start))


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)])
def test_several_choices_at_once_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(RolloutError, match=r"Env: its actions are Multi.*one choice.*Wrap"):
        Interface(Sent(space), "Env")


# --- scripted behaviour ---------------------------------------------------------------------------


def test_recorded_behaviour_is_what_was_sent() -> None:
    for space, answer, wanted in (
        (spaces.Box(-0.1, 0.1, (1,), np.float64), np.float32([0.1]), np.float32(0.099999994)),
        (spaces.Box(-10, 10, (1,), np.int64), np.array([7.175]), 7),
        (spaces.Discrete(3, start=-1), -1, -1),
    ):
        env = Sent(space)
        behavior = Behavior("one", False, 1.0, lambda _, answer=answer: lambda seen: answer)
        found = record(env, behavior, (0, 1), 9)
        assert len(found.actions) == 4 and found.terminated
        for sent_, kept in zip(env.sent, found.actions, strict=True):
            assert np.ravel(kept).tolist() == np.ravel(sent_).tolist() == [float(wanted)]
