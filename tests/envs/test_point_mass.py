"""Point mass: forces move it, walls stop it, and weights say what is good."""

import gymnasium
import numpy as np
import pytest

from hindsight_rl.envs.point_mass import HIGH, LOW

NAME = "Hindsight/PointMass-v0"
TASK = [1.0, 0.5, -1.0, 0.25, -0.5]


def test_two_steps_by_hand() -> None:
    """Force (1, -0.5) for 0.1 s: velocity (0.1, -0.05), position (0.01, -0.005); then again."""
    env = gymnasium.make(NAME)
    env.reset(options={"start": [0, 0, 0, 0], "task": TASK})
    observation, reward, *_ = env.step(np.array([1, -0.5], np.float32))
    assert np.allclose(observation["observation"], [0.01, -0.005, 0.1, -0.05])
    assert np.allclose(observation["achieved_goal"], [0.01, -0.005, 0.1, -0.05, 1.25])
    assert reward == pytest.approx(0.01 - 0.0025 - 0.1 - 0.0125 - 0.625)
    observation, *_ = env.step(np.array([1, -0.5], np.float32))
    assert np.allclose(observation["observation"], [0.03, -0.015, 0.2, -0.1])


def test_walls_and_the_speed_limit() -> None:
    env = gymnasium.make(NAME)
    env.reset(options={"start": [0.95, 0, 1, 1], "task": TASK})
    observation, *_ = env.step(np.array([9, 9], np.float32))
    assert np.allclose(observation["observation"], [1, 0.1, 0, 1])
    assert observation["achieved_goal"][4] == 2


def test_an_episode_starts_at_rest_with_a_task_of_the_box() -> None:
    env = gymnasium.make(NAME)
    first = [env.reset(seed=seed)[0] for seed in range(400)]
    start, task = (np.stack([x[key] for x in first]) for key in ("observation", "desired_goal"))
    assert (start[:, 2:] == 0).all() and np.abs(start[:, :2].mean(0)).max() < 0.1
    assert ((task >= LOW) & (task <= HIGH)).all()
    assert np.allclose(task.mean(0), np.add(LOW, HIGH) / 2, atol=0.1)
    assert all((x["achieved_goal"] == [*x["observation"], 0]).all() for x in first)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"goal": [1, 2]}, "options has 'goal'; known are 'start' and 'task'"),
        ({"start": [0, 0, 0, 2]}, r"start is \[0, 0, 0, 2\]: it must lie in Box"),
        ({"task": [0, 0, 0, 0, 1]}, "task is .*: it must lie in Box"),
    ],
)
def test_options_are_refused(options: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        gymnasium.make(NAME).reset(options=options)
