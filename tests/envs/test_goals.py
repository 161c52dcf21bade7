"""Goal environments of others: rewards and ends for many goals, success, float32."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hindsight_rl.envs.goals import TaskGoals
from hindsight_rl.envs.rollout import rollout


class Line(gymnasium.Env[Any, Any]):
    """A goal on a line, told as Gymnasium-Robotics does: float64, equal shapes, no end."""

    action_space = spaces.Box(-1, 1, (1,))
    observation_space = spaces.Dict(
        {
            name: spaces.Box(-9, 9, (1,), np.float64)
            for name in ("observation", "achieved_goal", "desired_goal")
        }
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.place, self.goal = np.zeros(1), np.full(1, 2.0)
        return self.see(), {"begun": True}

    def see(self) -> dict[str, Any]:
        place = self.place.copy()
        return {"observation": place, "achieved_goal": place, "desired_goal": self.goal}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + action
        return self.see(), self.compute_reward(self.place, self.goal, {}), False, False, {"seen": 1}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        assert achieved.shape == desired.shape and info == {}
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.1).astype(np.float64)


def test_observations_are_float32() -> None:
    env = TaskGoals(Line())
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation) and info == {"begun": True}
    assert all(array.dtype == np.float32 for array in observation.values())


def test_success_is_told_and_ends_the_episode_if_asked() -> None:
    for ends in (False, True):
        env = TaskGoals(Line(), ends=ends)
        env.reset(seed=0)
        _, reward, terminated, truncated, info = env.step(np.ones(1))
        assert (reward, terminated, truncated) == (-1, False, False)
        assert info == {"seen": 1, "is_success": False}
        assert env.step(np.ones(1))[1:] == (0, ends, False, {"seen": 1, "is_success": True})


def test_rewards_and_ends_of_many_goals() -> None:
    achieved, desired = np.array([[0.0], [2.0], [5.0]]), np.array([[2.0], [5.0]])
    env = TaskGoals(Line(), ends=True)
    rewards = env.compute_reward(achieved[:, None], desired)
    assert rewards.tolist() == [[-1, -1], [0, -1], [-1, 0]] and rewards.dtype == np.float32
    assert np.array_equal(env.compute_terminated(achieved[:, None], desired), rewards == 0)
    assert not TaskGoals(Line()).compute_terminated(achieved, desired[:1]).any()


def test_what_success_is_can_be_said() -> None:
    never = TaskGoals(Line(), success_reward=0.5, ends=True)
    assert not never.compute_terminated([2.0], [2.0])


def test_other_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="a goal environment observes a Dict of boxes named obs"):
        TaskGoals(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("name", "success_reward"), [("FetchReach-v4", 0.0), ("PointMaze_UMaze-v3", 1.0)]
)
def test_environments_of_gymnasium_robotics(name: str, success_reward: float) -> None:
    pytest.importorskip("gymnasium_robotics")

    def make() -> TaskGoals:
        env = gymnasium.make(f"gymnasium_robotics:{name}", disable_env_checker=True)
        return TaskGoals(env, success_reward, ends=True)

    env = make()
    env.action_space.seed(0)
    env.reset(seed=0)
    rows = []
    for _ in range(20):
        seen, reward, *_ = env.step(env.action_space.sample())
        assert env.observation_space.contains(seen)
        rows.append((seen["achieved_goal"], seen["desired_goal"], reward))
    achieved, desired, reward = (np.stack(column) for column in zip(*rows, strict=True))
    assert np.array_equal(env.compute_reward(achieved, desired), reward)
    assert env.compute_terminated(achieved[:, None], achieved[None]).diagonal().all()
    still = np.zeros((2, *env.action_space.shape))
    done = rollout(lambda seen, task: still[: len(seen)], make, episodes=2, seed=0, max_steps=15)
    assert done.successes is not None and np.array_equal(done.successes, done.terminated)
