"""Robots: the numbers are the simulator's, one alone and many together give the same ones."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv
from robots_installed import NAMES, needs_robots
from tensordict import TensorDict

from hindsight_rl.envs.robots.engine import engine, suite_model
from hindsight_rl.envs.robots.world import World
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.tasks.family import TaskFamily
from hindsight_rl.tasks.linear import LinearTasks

COUNT = 5
FAMILIES: dict[str, tuple[dict[str, Any], TaskFamily]] = {
    "Walker": ({}, LinearTasks([-1.0] * 7, [1.0] * 6 + [0.0])),
}
"""Arguments that let random actions succeed now and then, and the family of such tasks."""

each_robot = pytest.mark.parametrize("name", NAMES)


def make(name: str, mode: str, **kwargs: Any) -> VectorEnv:
    return gymnasium.make_vec(f"Hindsight/{name}-v0", COUNT, vectorization_mode=mode, **kwargs)


def same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for key in ours:
        assert np.array_equal(ours[key], theirs[key]), key
        assert ours[key].dtype == theirs[key].dtype


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ImportError, match=r'need mujoco.*pip install "hindsight-rl\[robots\]"'):
        gymnasium.make("Hindsight/Walker-v0")


@needs_robots
def test_without_the_models_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'need dm_control.*pip install "hindsight-rl\[robots\]"'):
        suite_model("walker")


@needs_robots
@each_robot
def test_many_together_equal_single_ones_to_the_bit(name: str) -> None:
    """Over cuts, ends and automatic resets; threads change nothing."""
    kwargs, _ = FAMILIES[name]
    kwargs = {**kwargs, "max_episode_steps": 25}
    many = make(name, "vector_entry_point", threads=3, **kwargs)
    alone = make(name, "vector_entry_point", threads=1, **kwargs)
    single = make(name, "sync", **kwargs)
    generator = np.random.default_rng(0)
    low, high = many.single_action_space.low, many.single_action_space.high
    first = single.reset(seed=3)[0]
    same(many.reset(seed=3)[0], first)
    same(alone.reset(seed=3)[0], first)
    cuts = 0
    for _ in range(60):
        # Beyond the bounds too, where actions are clipped.
        action = generator.uniform(1.2 * low, 1.2 * high, (COUNT, len(low))).astype(np.float32)
        theirs = single.step(action)
        for ours in (many.step(action), alone.step(action)):
            same(ours[0], theirs[0])
            for part, other in zip(ours[1:4], theirs[1:4], strict=True):
                assert np.array_equal(part, other) and part.dtype == other.dtype
            if "_is_success" in theirs[4]:
                assert np.array_equal(ours[4]["is_success"], theirs[4]["is_success"])
        cuts += theirs[3].sum()
    assert cuts > 0
    many.close()
    alone.close()


@needs_robots
@each_robot
def test_the_family_computes_what_the_environment_said(name: str) -> None:
    kwargs, family = FAMILIES[name]
    many = make(name, "vector_entry_point", **kwargs)
    many.reset(seed=0)
    many.action_space.seed(0)
    rows, over = [], np.zeros(COUNT, bool)
    for _ in range(300):
        seen, reward, terminated, truncated, _ = many.step(many.action_space.sample())
        kept = ~over
        rows.append(
            (
                seen["achieved_goal"][kept],
                seen["desired_goal"][kept],
                reward[kept],
                terminated[kept],
            )
        )
        over = terminated | truncated
    many.close()
    achieved, task, reward, ends = (np.concatenate(part) for part in zip(*rows, strict=True))
    batch = TensorDict({"next": {"achieved_goal": torch.tensor(achieved)}}, [len(achieved)])
    given = torch.tensor(task)
    assert np.allclose(family.reward(batch, given), reward, atol=1e-5)
    assert np.array_equal(family.terminated(batch, given), ends)
    pairs = family.reward(batch, given[:3], pairwise=True)
    again = many.world.reward(achieved[:, None], task[:3])
    assert np.allclose(pairs, again, atol=1e-5) and len(np.unique(reward)) > 1


@needs_robots
@each_robot
def test_every_number_has_a_name(name: str) -> None:
    env = gymnasium.make(f"Hindsight/{name}-v0").unwrapped
    observation, _ = env.reset(seed=0)
    for names, part in (
        (env.observation_names, observation["observation"]),
        (env.achieved_names, observation["achieved_goal"]),
    ):
        assert len(names) == len(set(names)) == len(part)


@needs_robots
@each_robot
def test_a_task_can_be_given(name: str) -> None:
    env = gymnasium.make(f"Hindsight/{name}-v0")
    task = env.reset(seed=5)[0]["desired_goal"]
    other, _ = env.reset(seed=6, options={"task": task})
    assert np.array_equal(other["desired_goal"], task)
    # The task is drawn all the same: the start of seed 6 does not depend on it.
    assert np.array_equal(other["observation"], env.reset(seed=6)[0]["observation"])
    with pytest.raises(ValueError, match="it must lie in Box"):
        env.reset(options={"task": task + 100})
    with pytest.raises(ValueError, match="options has .'tusk'.; known is 'task'"):
        env.reset(options={"tusk": task})


@needs_robots
@each_robot
def test_actions_that_are_no_numbers_are_errors(name: str) -> None:
    env, many = gymnasium.make(f"Hindsight/{name}-v0"), make(name, "vector_entry_point")
    env.reset(seed=0)
    many.reset(seed=0)
    with pytest.raises(ValueError, match="has NaN: the policy that gave it is broken"):
        env.unwrapped.step(np.full(env.action_space.shape, np.nan))
    with pytest.raises(ValueError, match="has NaN"):
        many.step(np.full(many.action_space.shape, np.nan))
    many.close()


@needs_robots
def test_the_caller_resets_what_is_over() -> None:
    many = make("Walker", "vector_entry_point", autoreset_mode="Disabled", max_episode_steps=2)
    many.reset(seed=0)
    action = np.ones(many.action_space.shape, np.float32)
    many.step(action)
    last = many.step(action)
    assert last[3].all()
    with pytest.raises(ValueError, match="environment 0 has no episode to step: reset it first"):
        many.step(action)
    mask = np.arange(COUNT) < 2
    task = [0.5] * 6 + [0.0]
    after, _ = many.reset(seed=[9] * COUNT, options={"reset_mask": mask, "task": task})
    assert np.array_equal(after["observation"][~mask], last[0]["observation"][~mask])
    assert np.allclose(after["desired_goal"][mask], task)
    assert np.array_equal(after["desired_goal"][~mask], last[0]["desired_goal"][~mask])
    assert np.allclose(after["observation"][mask][:, 0], 1.3)
    many.close()


@needs_robots
@each_robot
def test_rollout_plays_many_together_as_it_plays_one(name: str) -> None:
    def push(observation: Any, task: Any) -> Any:
        return 0.5 * np.ones((len(observation), size), np.float32)

    made = gymnasium.make(f"Hindsight/{name}-v0")
    size = made.action_space.shape[0]
    together = rollout(push, f"Hindsight/{name}-v0", episodes=3, seed=1, max_steps=20)
    single = rollout(
        push, lambda: gymnasium.make(f"Hindsight/{name}-v0"), episodes=3, seed=1, max_steps=20
    )
    assert np.array_equal(together.returns, single.returns)


def simulated(name: str, steps: int = 30) -> tuple[World, Any]:
    """Return a world and its data after some random steps, positions up to date."""
    env = gymnasium.make(f"Hindsight/{name}-v0")
    env.action_space.seed(2)
    env.reset(seed=2)
    for _ in range(steps):
        seen, *_ = env.step(env.action_space.sample())
    whole = env.unwrapped
    engine().mj_forward(whole.world.model, whole.data)
    whole.seen = seen
    return whole, whole.data


@needs_robots
def test_features_of_the_walker_are_those_of_the_simulator() -> None:
    env, data = simulated("Walker")
    feet = data.xpos[[4, 7]][:, [0, 2]] - data.subtree_com[1][[0, 2]] + [0, 0.7]
    expected = [data.xpos[1][2] - 0.5, data.qvel[1], *feet.ravel(), (data.ctrl**2).sum()]
    assert np.allclose(env.seen["achieved_goal"], expected, atol=1e-6)
    assert env.seen["achieved_goal"][6] > 0.5
