"""Rewards that are arrays of one element, in everything that plays episodes."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny_envs import Reach, Walk

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.behaviors import behaviors_for, record
from hindsight_rl.envs.goals import TaskGoals
from hindsight_rl.envs.rewards import single
from hindsight_rl.envs.rollout import rollout

SHAPES = [(), (1,), (1, 1)]


class Shaped(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives its reward, and whether the task ended, in arrays of a shape."""

    def __init__(self, env: gymnasium.Env[Any, Any], shape: tuple[int, ...]) -> None:
        super().__init__(env)
        self.shape = shape

    def step(self, action: Any) -> Any:
        """Take one step."""
        observation, reward, *ends, info = self.env.step(action)
        ends = [np.full(self.shape, end) for end in ends]
        return observation, np.full(self.shape, reward, np.float32), *ends, info


def walks(shape: tuple[int, ...]) -> Any:
    return lambda: Shaped(Walk(), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_element_is_a_number(shape: tuple[int, ...]) -> None:
    for kind in (np.float32, np.float64, np.int64, bool):
        found = single(np.ones(shape, kind), "env")
        assert type(found) is float and found == 1.0
    assert single(3, "env") == 3.0 and single([0.5], "env") == 0.5


@pytest.mark.parametrize("reward", [np.zeros(2), np.zeros(0), [1.0, 2.0]])
def test_several_rewards_are_refused(reward: Any) -> None:
    with pytest.raises(ValueError, match=r"Walk: its reward is an array \[\d\], and one number"):
        single(reward, "Walk")
    with pytest.raises(ValueError, match="its reward is 'much', and one number is needed"):
        single("much", "Walk")


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_episodes_are_those_of_plain_rewards(shape: tuple[int, ...]) -> None:
    def act(observation: Any) -> Any:
        return np.full((len(observation), 1), 0.5, np.float32)

    plain, shaped = (rollout(act, walks(s), episodes=4, seed=1) for s in ((), shape))
    np.testing.assert_allclose(shaped.returns, plain.returns, rtol=1e-6)
    assert (shaped.lengths == plain.lengths).all()
    logs = []
    for source in (walks(()), walks(shape)):
        collector = Collector(source, seed=3, num_envs=2)
        logs.append(collector.collect(None, 0, 4, None).columns[("next", "reward")])
        collector.close()
    np.testing.assert_array_equal(*logs)
    assert logs[0].ndim == 1


class Near(Reach):
    """Reach, with the reward of any goal."""

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        """Return 0 near the goal, else -1."""
        return -1.0 * (np.abs(achieved - desired).max(-1) > 0.5)


def test_recording_and_goals() -> None:
    env = Shaped(Walk(), (1,))
    found = record(env, behaviors_for(env)[0], (0, 1), 5)
    assert found.rewards.ndim == 1 and found.rewards.dtype == np.float64
    goals = TaskGoals(Shaped(Near(), (1,)))
    goals.reset(seed=0)
    reward = goals.step(goals.action_space.sample())[1]
    assert type(reward) is float
