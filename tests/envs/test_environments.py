"""What all environments of the house promise: Gymnasium's rules, tasks, seeds, pictures."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from robots_installed import HORIZONS as ROBOT_HORIZONS
from robots_installed import params

from hindsight_rl.envs.registration import register
from hindsight_rl.envs.rollout import rollout

HORIZONS = {"FourRooms": 75, "FourCorners": 75, "FourMargins": 75, "PointMass": 100, "Crossing": 20}
IDS = [f"Hindsight/{name}-v0" for name in HORIZONS]
ROBOTS = params(form="Hindsight/{}-v0")
HORIZONS |= ROBOT_HORIZONS

pytestmark = pytest.mark.parametrize("name", [*IDS, *ROBOTS])


def play(env: gymnasium.Env[Any, Any], seed: int, steps: int = 120) -> list[Any]:
    """Return observations and rewards of random steps, over several episodes."""
    env.action_space.seed(seed)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        seen += [observation, reward]
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


def flat(seen: list[Any]) -> np.ndarray:
    parts = [list(x.values()) if isinstance(x, dict) else [np.atleast_1d(x)] for x in seen]
    return np.concatenate([array for part in parts for array in part])


def test_gymnasium_accepts_it(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Joint positions and velocities of robots have no bounds, some actuators uneven ones.
        for usual in (
            "Box observation space m.* value is -?infinity",
            "a symmetric and normalized",
        ):
            warnings.filterwarnings("ignore", message=f".*{usual}")
        check_env(gymnasium.make(name, render_mode="rgb_array").unwrapped)


def test_registering_again_changes_nothing(name: str) -> None:
    before = gymnasium.spec(name)
    register()
    assert gymnasium.spec(name) is before
    assert gymnasium.make(f"hindsight_rl.envs:{name}").spec.id == name


def test_observations_are_float32_goal_dictionaries(name: str) -> None:
    space = gymnasium.make(name).observation_space
    assert set(space) == {"observation", "achieved_goal", "desired_goal"}
    assert all(part.dtype == np.float32 for part in space.values())


def test_the_seed_decides_everything(name: str) -> None:
    first, again = (flat(play(gymnasium.make(name), seed=3)) for _ in range(2))
    other = flat(play(gymnasium.make(name), seed=4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_observations_are_the_callers_own(name: str) -> None:
    env = gymnasium.make(name)
    observation, _ = env.reset(seed=0)
    for array in observation.values():
        array[:] = 77
    following, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(following)


def test_rewards_and_ends_follow_from_what_was_achieved(name: str) -> None:
    """The family that relabels computes what the environment said, for many steps at once."""
    env = gymnasium.make(name)
    env.action_space.seed(0)
    rows = []
    for episode in range(6):
        env.reset(seed=episode)
        over = False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            rows.append((seen["achieved_goal"], seen["desired_goal"], reward, terminated))
            over = terminated or truncated
    achieved, desired, reward, terminated = (np.array(column) for column in zip(*rows, strict=True))
    whole = env.unwrapped
    assert np.allclose(whole.compute_reward(achieved, desired, {}), reward, atol=1e-6)
    assert np.array_equal(whole.compute_terminated(achieved, desired, {}), terminated)
    pairs = whole.compute_reward(achieved[:, None], desired[None, :5], {})
    assert pairs.shape == (len(rows), 5) and pairs.dtype == np.float32
    assert np.array_equal(pairs[:, 3], whole.compute_reward(achieved, desired[3], {}))
    assert whole.compute_terminated(achieved[:, None], desired[None, :5], {}).shape == pairs.shape


def test_an_episode_is_cut_at_its_horizon(name: str) -> None:
    space = gymnasium.make(name).action_space
    still = np.zeros(space.shape, space.dtype)
    horizon = HORIZONS[name.split("/")[1].removesuffix("-v0")]
    done = rollout(
        lambda observation, task: np.stack([still] * len(observation)), name, episodes=4, seed=0
    )
    assert (done.lengths[~done.terminated] == horizon).all() and not done.terminated.all()


def test_pictures_show_what_happens(name: str) -> None:
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=1)
    before = env.render()
    env.action_space.seed(1)
    for _ in range(3):
        env.step(env.action_space.sample())
    after = env.render()
    assert before.dtype == np.uint8 and before.shape == after.shape and min(before.shape[:2]) >= 256
    assert not np.array_equal(before, after)
    assert gymnasium.make(name).unwrapped.render() is None
