"""Environments stepped together: many at once are the single ones, seed for seed."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny_envs import Reach

from hindsight_rl.envs.interface import make
from hindsight_rl.envs.lockstep import Lockstep, Many, Singles, open_envs
from hindsight_rl.envs.rollout import rollout

ROOMS = "Hindsight/FourRooms-v0"


def opened(source: Any, count: int, **kwargs: Any) -> Lockstep:
    """Return environments to be stepped together."""
    return open_envs(source, kwargs, make(source, kwargs, draw=False), count)


def played(envs: Lockstep, action: np.ndarray, episodes: int, count: int) -> list[Any]:
    """Return what every episode gave, in the order of their numbers."""
    waiting, told = list(range(episodes)), {number: [] for number in range(episodes)}
    playing = {slot: waiting.pop(0) for slot in range(count)}
    for slot, seen in envs.reset(dict(playing)).items():
        told[playing[slot]].append(seen)
    while playing:
        for slot, step in envs.step(dict.fromkeys(playing, action)).items():
            told[playing[slot]].append(step)
            if step.terminated or step.truncated:
                del playing[slot]
                if waiting:
                    playing[slot] = waiting.pop(0)
                    told[playing[slot]] += envs.reset({slot: playing[slot]}).values()
    envs.close()
    return list(told.values())


@pytest.mark.parametrize("radius", [1.0, 14.0])
def test_many_at_once_are_the_single_ones(radius: float) -> None:
    """Episodes of different lengths, more than environments, some of which rest in the end."""
    many = opened(ROOMS, 3, radius=radius)
    single = opened(lambda: gymnasium.make(ROOMS, radius=radius), 3)
    assert isinstance(many, Many) and isinstance(single, Singles)
    action = np.array([0.9, -0.4], np.float32)
    one, two = played(many, action, 8, 3), played(single, action, 8, 3)
    assert len({len(steps) for steps in one}) > (radius > 1)
    np.testing.assert_equal(one, two)


@pytest.mark.parametrize("source", ["CartPole-v1", "Pendulum-v1", Reach])
def test_single_ones_where_the_caller_cannot_begin_episodes(source: Any) -> None:
    """CartPole's vector class has one generator for all and resets by itself."""
    assert isinstance(opened(source, 2), Singles)


def test_success_is_told_as_it_is_told() -> None:
    def steps_of(info: dict[str, Any]) -> list[bool | None]:
        class Told(gymnasium.vector.VectorEnv[Any, Any, Any]):
            metadata: dict[str, Any] = {}
            num_envs = 2
            single_action_space = gymnasium.spaces.Discrete(2)

            def reset(self, **_: Any) -> Any:
                return np.zeros((2, 1)), {}

            def step(self, actions: Any) -> Any:
                flags = np.zeros(2, bool)
                return np.zeros((2, 1)), np.zeros(2), flags, flags, info

        found = Many(Told()).step({0: 1, 1: 0})
        return [found[i].success for i in (0, 1)]

    yes = np.array([True, False])
    assert steps_of({}) == [None, None]
    assert steps_of({"success": yes}) == [True, False]
    assert steps_of({"is_success": yes, "_is_success": yes}) == [True, None]


@pytest.mark.parametrize("num_envs", [1, 3, 16])
def test_many_at_once_give_what_single_ones_give(num_envs: int) -> None:
    """More episodes than environments, of different lengths; what is kept of them too."""

    def towards(observation: Any, task: Any) -> Any:
        return np.clip(0.3 * (task - observation[:, :2]), -1, 1).astype(np.float32)

    kept: list[Any] = []
    rooms = "Hindsight/FourRooms-v0"
    options: Any = {"episodes": 18, "seed": 3, "keep": lambda *given: kept.append(given[0])}
    found = rollout(towards, rooms, num_envs=num_envs, **options)
    single = rollout(towards, lambda: gymnasium.make(rooms), num_envs=num_envs, **options)
    assert len(set(found.lengths.tolist())) > 2
    for name in ("returns", "lengths", "terminated", "successes", "final_successes", "seeds"):
        np.testing.assert_array_equal(getattr(found, name), getattr(single, name))
    assert kept[0].keys() == kept[1].keys()
    for name, column in kept[0].items():
        np.testing.assert_array_equal(column, kept[1][name])
