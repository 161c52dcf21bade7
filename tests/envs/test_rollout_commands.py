"""Tasks that change with the rewards received: commands."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hindsight_rl.envs.rollout import RolloutError, lowered, rollout


class Counter(gymnasium.Env[Any, Any]):
    """Lasts as many steps as its seed says; step k pays k, and (steps left, k) is observed."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 100, (2,), np.float64)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left, self.taken = int(self.np_random.integers(1, 9)), 0
        return np.array([self.left, self.taken], np.float64), {}

    def step(self, action: Any) -> Any:
        self.left, self.taken = self.left - 1, self.taken + 1
        seen = np.array([self.left, self.taken], np.float64)
        return seen, float(self.taken), self.left == 0, False, {}


def ones(observation: np.ndarray) -> np.ndarray:
    """Choose action 1."""
    return np.ones(len(observation), np.int64)


def test_a_command_is_lowered_by_the_rewards_of_its_own_episode() -> None:
    """Rewards 1, 2, ...: k steps earned k (k + 1) / 2; every episode starts anew."""
    commands = []

    def act(observation: np.ndarray, task: np.ndarray) -> np.ndarray:
        taken = observation[:, 1]
        np.testing.assert_array_equal(task[:, 0], 10.0 - taken * (taken + 1) / 2)
        np.testing.assert_array_equal(task[:, 1], np.maximum(3.0 - taken, 1.0))
        commands.extend(task[:, 1])
        return ones(observation)

    rollout(act, Counter, episodes=9, seed=0, num_envs=2, task=[10.0, 3.0], next_task=lowered)
    assert set(commands) == {1.0, 2.0, 3.0}


def test_lowering_leaves_its_input_and_further_numbers_alone() -> None:
    task = np.array([[10.0, 5.0, 7.0], [4.0, 1.0, 7.0]], np.float32)
    left = lowered(task, np.array([2.5, -1.0], np.float32))
    assert left.tolist() == [[7.5, 4.0, 7.0], [5.0, 1.0, 7.0]] and left.dtype == np.float32
    assert task[0, 0] == 10.0
    assert lowered(np.array([3.0], np.float32), np.float32(1.0)).tolist() == [2.0]


def test_a_command_to_change_must_be_given() -> None:
    with pytest.raises(RolloutError, match=r"Counter: next_task changes a task, so give one to st"):
        rollout(ones, Counter, episodes=1, seed=0, next_task=lowered)
