"""Trials of several episodes, and the bandit whose arms are found out in one."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tiny_envs import HORIZON, Reach, Walk

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.bandit import Bandit
from hindsight_rl.envs.interface import Interface, RolloutError, make
from hindsight_rl.envs.lockstep import Singles, open_envs
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.envs.trials import Trial

BANDIT = "Hindsight/Bandit-v0"
TASKS: dict[str, Any] = {"trial": 4, "randomise": {"paying": [0, 2]}}
WALK = "tiny_envs:Tiny/Walk-v0"


def test_what_was_before_is_shown_and_the_trial_ends_with_its_last_episode() -> None:
    """Arm 1 pays: pulls of 1, 0, 1."""
    env = Trial(Bandit(), 3)
    env.unwrapped.paying = 1
    seen, _ = env.reset(seed=0)
    assert {name: part.tolist() for name, part in seen.items()} == {
        "observation": [0.0],
        "previous_action": [0.0, 0.0],
        "previous_reward": [0.0],
        "previous_end": [0.0],
    }
    shown, ends = [], []
    for arm in (1, 0, 1):
        seen, reward, terminated, truncated, _ = env.step(arm)
        assert env.observation_space.contains(seen) and not truncated
        shown.append((*seen["previous_action"], *seen["previous_reward"], *seen["previous_end"]))
        assert reward == shown[-1][2]
        ends.append(terminated)
    assert shown == [(0.0, 1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 1.0, 1.0)]
    assert ends == [False, False, True]


def test_episodes_of_a_trial_go_on_with_one_generator_and_a_seed_begins_anew() -> None:
    """Real actions are shown as they were sent; only the trial's first reset has a seed."""
    played = []
    for _ in range(2):
        walk = Walk()
        env = Trial(walk, 2)
        seen, over, rows = env.reset(seed=5)[0], False, []
        while not over:
            action = np.array([0.25], np.float32)
            seen, _, over, _, _ = env.step(action)
            assert seen["previous_action"].tolist() == [0.25]
            rows.append(np.concatenate(list(seen.values())))
        assert walk.resets == [5, None]
        played.append(np.stack(rows))
    assert (played[0] == played[1]).all()
    ends = played[0][:, -1]
    assert ends.sum() == 2 and ends[-1] == 1 and len(ends) <= 2 * HORIZON
    begun = int(np.flatnonzero(ends)[0])
    assert played[0][begun, 1] == 0.0  # the next episode's first observation: its time is 0


def test_a_policy_sees_one_row_of_named_numbers() -> None:
    env = make("Pendulum-v1", {"trial": 2}, draw=False)
    interface = Interface(env, "Pendulum-v1")
    assert interface.observation_shape == (6,)
    assert interface.names["observation"] == [
        *(f"observations/observation[{number}]" for number in range(3)),
        *(f"observations/previous_{name}" for name in ("action", "reward", "end")),
    ]
    assert env.spec is not None and env.spec.max_episode_steps == 400
    assert isinstance(open_envs("Hindsight/FourRooms-v0", {"trial": 2}, env, 2), Singles)


def test_numbers_that_are_drawn_stay_for_a_trial() -> None:
    """One arm pays in every episode of a trial, and another in another trial."""
    collector = Collector(BANDIT, TASKS, seed=1, num_envs=3)
    found = collector.collect(None, 0, 40)
    assert found.lengths.tolist() == [4] * 40
    column = {name: value for name, value in found.columns.items()}
    action, reward = column["action"].view(40, 4), column["next", "reward"].view(40, 4)
    paying = column["context"].view(40, 4).int()
    assert (paying == paying[:, :1]).all() and 5 < int(paying[:, 0].sum()) < 35
    assert (reward == (action == paying)).all()
    ends = column["next", "terminated"].view(40, 4)
    assert ends[:, -1].all() and not ends[:, :-1].any()
    assert not column["next", "truncated"].any()


def test_an_arm_that_paid_is_pulled_again_and_one_that_did_not_is_left() -> None:
    """That is worth 3.5 of 4; the same arm, whatever it paid, 2."""
    pulls = {"tries": lambda seen: _next_arm(seen), "holds": lambda seen: np.ones(len(seen), int)}
    mean = {
        name: float(np.mean(rollout(act, BANDIT, episodes=400, seed=3, env_kwargs=TASKS).returns))
        for name, act in pulls.items()
    }
    assert mean["tries"] == pytest.approx(3.5, abs=0.1)
    assert mean["holds"] == pytest.approx(2.0, abs=0.3)


def _next_arm(seen: np.ndarray) -> np.ndarray:
    """Return arm 0 first, then the arm that paid, or the one that was not pulled."""
    before, paid = seen[:, 1:3], seen[:, 3] > 0
    held = before.argmax(1)
    return np.where(before.any(1), np.where(paid, held, 1 - held), 0)


def test_chances_may_be_drawn_one_by_one() -> None:
    env = make(BANDIT, {"randomise": {"chance.0": [0.2, 0.2], "chance.1": [0.7, 0.7]}}, draw=False)
    paid = []
    env.reset(seed=0)
    for _ in range(2000):
        paid.append(env.step(1)[1])
        env.reset()
    assert np.mean(paid) == pytest.approx(0.7, abs=0.03)
    assert set(paid) == {0.0, 1.0}


class Odd(Walk):
    """A walk with two actions at once."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space: Any = spaces.MultiBinary(2)


@pytest.mark.parametrize(
    ("source", "trial", "message"),
    [
        (WALK, 0, "Walk-v0: trial is 0: give how many episodes a trial has, at least 1"),
        (WALK, True, "trial is True"),
        (WALK, 2.0, "trial is 2.0"),
        (Reach, 2, "Reach: trial is for tasks that a policy must find out, .* its goal"),
        (Odd, 2, "Odd: trial needs actions of real numbers or one choice"),
    ],
)
def test_what_cannot_be_a_trial(source: Any, trial: Any, message: str) -> None:
    with pytest.raises(RolloutError, match=message):
        make(source, {"trial": trial}, draw=False)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Bandit(arms=1), "arms is 1, it must be at least 2"),
        (lambda: Bandit().step(2), "action is 2: it must be an arm, 0 to 1"),
    ],
)
def test_what_is_no_bandit(make_it: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it()


def test_gymnasium_accepts_the_bandit() -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make("hindsight_rl.envs:" + BANDIT).unwrapped)
