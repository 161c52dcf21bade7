"""Arms that reach: tasks, first states, and that every goal can be reached."""

import gymnasium
import numpy as np
from robots_installed import needs, needs_robots

import hindsight_rl.envs  # noqa: F401  registers the environments
from hindsight_rl.envs.robots.engine import engine
from hindsight_rl.envs.robots.sawyer import HIGH, LOW, MARGINS


@needs("metaworld")
def test_margins_of_the_sawyer_are_part_of_its_tasks() -> None:
    env = gymnasium.make("Hindsight/SawyerReachMargins-v0").unwrapped
    tasks = np.array([env.reset(seed=seed)[0]["desired_goal"] for seed in range(200)])
    assert np.all((tasks[:, :3] >= np.float32(LOW)) & (tasks[:, :3] <= np.float32(HIGH)))
    assert MARGINS[0] <= tasks[:, 3].min() < 0.01 and 0.09 < tasks[:, 3].max() <= MARGINS[1]
    task, at = np.array([0.0, 0.85, 0.2, 0.04]), np.array([[0.0, 0.85, 0.239], [0.041, 0.85, 0.2]])
    assert env.compute_reward(at, task).tolist() == [0.0, -1.0]
    assert env.compute_terminated(at, task).tolist() == [True, False]


@needs("metaworld")
def test_the_sawyer_reaches_every_goal() -> None:
    """A policy that moves the pull by what the hand lacks; the hand hangs below its pull."""
    env = gymnasium.make("Hindsight/SawyerReach-v0", radius=0.005)
    for seed in range(10):
        seen, _ = env.reset(seed=seed)
        for _ in range(150):
            way = 10 * (seen["desired_goal"] - seen["achieved_goal"])
            seen, reward, terminated, *_ = env.step(np.append(np.clip(way, -1, 1), 0.0))
            if terminated:
                break
        assert terminated and reward == 0


@needs_robots
def test_the_jaco_starts_anywhere_with_its_tool_down() -> None:
    env = gymnasium.make("Hindsight/JacoReach-v0").unwrapped
    starts = [env.reset(seed=seed)[0] for seed in range(40)]
    places = np.array([start["achieved_goal"] for start in starts])
    low, high = np.array(env.world.task_low), np.array(env.world.task_high)
    assert np.all((places >= low - 1e-6) & (places <= high + 1e-6))
    assert np.all(np.ptp(places, axis=0) > 0.8 * (high - low))
    turned = np.array([start["observation"][-9:].reshape(3, 3) for start in starts])
    assert np.allclose(turned, [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-6)
    fingers = np.array([start["observation"][12:15] for start in starts])
    assert fingers.min() < 0.4 and fingers.max() > 1.1 and np.ptp(fingers, axis=1).max() == 0


@needs_robots
def test_the_jaco_reaches_every_goal() -> None:
    """Speeds of the joints by the transposed Jacobian of the tool bring it there."""
    env = gymnasium.make("Hindsight/JacoReach-v0").unwrapped
    model, data = env.world.model, env.data
    slope = np.zeros((3, model.nv))
    for seed in range(5):
        seen, _ = env.reset(seed=seed)
        for _ in range(250):
            engine().mj_forward(model, data)
            engine().mj_jacSite(model, data, slope, None, model.site("hand/pinchsite").id)
            way = seen["desired_goal"] - seen["achieved_goal"]
            speeds = np.append(np.linalg.lstsq(slope[:, :6], 5 * way, rcond=None)[0], [0.0] * 3)
            seen, reward, terminated, *_ = env.step(speeds)
            if terminated:
                break
        assert terminated and reward == 0
