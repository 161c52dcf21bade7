"""Many rooms at once: seed for seed the single environments."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from hindsight_rl.envs.four_rooms import HORIZON
from hindsight_rl.envs.rooms_vector import FourRoomsVectorEnv

COUNT = 6


def make(name: str, mode: str, **kwargs: Any) -> VectorEnv:
    return gymnasium.make_vec(f"Hindsight/{name}-v0", COUNT, vectorization_mode=mode, **kwargs)


def same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["FourRooms", "FourCorners", "FourMargins"])
def test_episodes_are_those_of_single_environments(name: str) -> None:
    """Over ends at the goal, cuts and automatic resets."""
    kwargs = {"apart": 3.0, "noise": 0.5} | ({} if name == "FourMargins" else {"radius": 4.0})
    many, single = make(name, "vector_entry_point", **kwargs), make(name, "sync", **kwargs)
    generator = np.random.default_rng(0)
    same(many.reset(seed=3)[0], single.reset(seed=3)[0])
    ends = np.zeros(2)
    for _ in range(3 * HORIZON):
        action = generator.uniform(-1, 1, (COUNT, 2)).astype(np.float32)
        ours, theirs = many.step(action), single.step(action)
        same(ours[0], theirs[0])
        for part, other in zip(ours[1:4], theirs[1:4], strict=True):
            assert np.array_equal(part, other) and part.dtype == other.dtype
        told = ours[4]["_is_success"]
        theirs_told = theirs[4].get("_is_success", np.zeros(COUNT, bool))
        assert np.array_equal(told, theirs_told)
        if told.any():
            assert np.array_equal(ours[4]["is_success"], theirs[4]["is_success"])
        ends += ours[2].sum(), ours[3].sum()
    assert (ends > 0).all()


def test_episodes_longer_than_the_noise_that_was_drawn() -> None:
    kwargs = {"apart": 20.0, "max_episode_steps": 3 * HORIZON}
    many = make("FourRooms", "vector_entry_point", **kwargs)
    single = [gymnasium.make("Hindsight/FourRooms-v0", **kwargs) for _ in range(COUNT)]
    many.reset(seed=list(range(COUNT)))
    for seed, env in enumerate(single):
        env.reset(seed=seed)
    still = np.zeros((COUNT, 2), np.float32)
    for _ in range(2 * HORIZON + 2):
        ours = many.step(still)[0]["observation"]
        assert np.array_equal(ours, [env.step(still[0])[0]["observation"] for env in single])


def test_the_caller_resets_what_is_over() -> None:
    many = make("FourRooms", "vector_entry_point", autoreset_mode="Disabled", max_episode_steps=2)
    assert many.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    many.reset(seed=0)
    action = np.zeros((COUNT, 2), np.float32)
    many.step(action)
    assert many.step(action)[3].all()
    with pytest.raises(ValueError, match="environment 0 has no episode to step: reset it first"):
        many.step(action)
    mask = np.arange(COUNT) < 2
    before = many.reset(seed=5)[0]["observation"]
    options = {"reset_mask": mask, "start": [8, 8]}
    after = many.reset(seed=[9] * COUNT, options=options)[0]["observation"]
    assert (after[mask] == 8).all() and np.array_equal(after[~mask], before[~mask])
    assert set(options) == {"reset_mask", "start"}


def test_spaces_hold() -> None:
    many = make("FourCorners", "vector_entry_point")
    observation, _ = many.reset(seed=0)
    assert many.observation_space.contains(observation)
    assert many.single_observation_space["desired_goal"].shape == (4,)
    assert many.action_space.shape == (COUNT, 2)


def test_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_envs is 0 and autoreset_mode 'NextStep'"):
        FourRoomsVectorEnv(0)
    with pytest.raises(ValueError, match="the mode be 'NextStep' or 'Disabled'"):
        FourRoomsVectorEnv(2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="2 seeds and a reset_mask of shape .3. for 3 env"):
        FourRoomsVectorEnv(3).reset(seed=[1, 2])
    with pytest.raises(ValueError, match="reset_mask of shape .2."):
        FourRoomsVectorEnv(3).reset(options={"reset_mask": np.ones(2, bool)})
