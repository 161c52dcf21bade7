"""Robots: the numbers are the simulator's, one alone and many together give the same ones."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv
from robots_installed import needs_robots, params
from tensordict import TensorDict

from hindsight_rl.envs.entry_spaces import RolloutError
from hindsight_rl.envs.interface import make as make_env
from hindsight_rl.envs.robots.engine import engine, suite_model
from hindsight_rl.envs.robots.reacher import PLACES
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.tasks.environment import EnvGoals
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching, TaskFamily
from hindsight_rl.tasks.linear import LinearTasks

COUNT = 5
FAMILIES: dict[str, tuple[dict[str, Any], TaskFamily]] = {
    "Walker": ({}, LinearTasks([-1.0] * 7, [1.0] * 6 + [0.0])),
    "HalfCheetah": ({"pool": 8}, GoalReaching(kind="dense", ends=False, effort=0.05)),
    "Reacher": ({"radius": 0.1}, GoalReaching(0.1)),
    "Reacher32": ({"radius": 0.1}, DiscreteTasks(GoalReaching(0.1), PLACES.tolist())),
    "Finger": ({"radius": 0.1}, GoalReaching(0.1)),
    "Quadruped": ({"radius": 0.9}, GoalReaching(0.9)),
    "QuadrupedDense": (
        {"radius": 0.9},
        GoalReaching(0.9, kind="dense", ends=False, effort=0.1),
    ),
    "SawyerReach": ({"radius": 0.25}, GoalReaching(0.25)),
    "SawyerReachMargins": ({"margins": [0.1, 0.5]}, GoalReaching((0.1, 0.5))),
    "JacoReach": ({"radius": 0.2}, GoalReaching(0.2)),
}
"""Arguments that let random actions succeed now and then, and the family of such tasks."""

each_robot = pytest.mark.parametrize("name", params())
ENDING = ["Reacher", "Reacher32", "Finger", "Quadruped"]
ENDING += ["SawyerReach", "SawyerReachMargins", "JacoReach"]


def make(name: str, mode: str, **kwargs: Any) -> VectorEnv:
    return gymnasium.make_vec(f"Hindsight/{name}-v0", COUNT, vectorization_mode=mode, **kwargs)


def same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for key in ours:
        assert np.array_equal(ours[key], theirs[key]), key
        assert ours[key].dtype == theirs[key].dtype


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, from the commands, and from a family that asks the environment."""
    monkeypatch.setitem(sys.modules, "mujoco", None)
    words = r'need mujoco, which is not installed: pip install "hindsight-rl\[robots\]"$'
    with pytest.raises(ImportError, match=words):
        gymnasium.make("Hindsight/Walker-v0")
    with pytest.raises(RolloutError, match=f"^Hindsight/SawyerReach-v0: .*{words}"):
        make_env("Hindsight/SawyerReach-v0", draw=False)
    with pytest.raises(
        ValueError, match=f"^EnvGoals cannot make Hindsight/JacoReach-v0: .*{words}"
    ):
        EnvGoals("Hindsight/JacoReach-v0")._environment()


@needs_robots
def test_without_the_models_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'need dm_control.*pip install "hindsight-rl\[robots\]"'):
        suite_model("walker")
    with pytest.raises(ImportError, match=r'need metaworld.*pip install "hindsight-rl\[robots\]"'):
        gymnasium.make("Hindsight/SawyerReach-v0")


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
    for _ in range(55):
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
    assert ends.any() == (name in ENDING)


@each_robot
def test_every_number_has_a_name(name: str) -> None:
    env = gymnasium.make(f"Hindsight/{name}-v0").unwrapped
    observation, _ = env.reset(seed=0)
    for names, part in (
        (env.observation_names, observation["observation"]),
        (env.achieved_names, observation["achieved_goal"]),
    ):
        assert len(names) == len(set(names)) == len(part)


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


@each_robot
@pytest.mark.parametrize("steps", [0, 2])
def test_a_simulation_that_diverges_is_an_error(
    name: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MuJoCo starts it anew by itself, and goes on as if nothing had happened."""
    monkeypatch.chdir(tmp_path)  # where MuJoCo writes of it
    env, many = gymnasium.make(f"Hindsight/{name}-v0"), make(name, "vector_entry_point")
    env.reset(seed=0)
    many.reset(seed=0)
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape, np.float32))
        many.step(np.zeros(many.action_space.shape, np.float32))
    env.unwrapped.data.qvel[0] = 1e12
    model = env.unwrapped.world.model
    many._physics._now[3, 1 + model.nq] = 1e12
    with pytest.raises(RuntimeError, match="environment 0 diverged"):
        env.unwrapped.step(np.zeros(env.action_space.shape, np.float32))
    with pytest.raises(RuntimeError, match="environment 3 diverged"):
        many.step(np.zeros(many.action_space.shape, np.float32))
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


def simulated(name: str, steps: int = 30) -> tuple[Any, Any]:
    """Return an environment and its data after some random steps, positions up to date."""
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


@needs_robots
def test_speed_and_effort_of_the_half_cheetah() -> None:
    """-|2.5 - v| - 0.05 |a|^2 of a speed given by hand."""
    env, data = simulated("HalfCheetah")
    expected = [data.qvel[0], (data.ctrl**2).sum()]
    assert np.allclose(env.seen["achieved_goal"], expected, atol=1e-6)
    assert env.compute_reward([1.5, 4.0], [2.5]) == pytest.approx(-1.0 - 0.2)
    assert env.compute_reward([3.5, 0.0], [2.5]) == pytest.approx(-1.0)


@needs_robots
@pytest.mark.parametrize("pool", [0, 3])
def test_the_half_cheetah_has_fallen_before_it_starts(pool: int) -> None:
    env = gymnasium.make("Hindsight/HalfCheetah-v0", pool=pool)
    starts = [env.reset(seed=seed)[0]["observation"] for seed in range(12)]
    assert len(np.unique([start[0] for start in starts])) == (12 if pool == 0 else pool)
    # Dropped by two seconds of gravity, it lies on the ground and hardly moves.
    assert all(-0.8 < start[0] < 0.0 and np.abs(start[8:]).max() < 3 for start in starts)
    with pytest.raises(ValueError, match="pool is -1"):
        gymnasium.make("Hindsight/HalfCheetah-v0", pool=-1)


@needs_robots
@pytest.mark.parametrize("name", ["Reacher", "Reacher32"])
def test_the_tip_of_the_reacher_is_that_of_the_simulator(name: str) -> None:
    env, data = simulated(name)
    assert np.allclose(env.seen["achieved_goal"], data.geom("finger").xpos[:2], atol=1e-6)
    goals = np.array([env.reset(seed=seed)[0]["desired_goal"] for seed in range(200)])
    if name == "Reacher32":
        assert (goals.sum(1) == 1).all() and (goals.sum(0) > 0).sum() > 25
        goals = env.world.goal(goals)
    lengths = np.linalg.norm(goals, axis=1)
    assert lengths.min() >= 0.05 and lengths.max() <= 0.2
    assert (lengths < 0.09).any() and (lengths > 0.16).any()
    assert env.world.success(goals, goals if name == "Reacher" else np.eye(32)[:1]).any()


@needs_robots
def test_a_place_of_the_reacher_is_reached_within_its_radius() -> None:
    env = gymnasium.make("Hindsight/Reacher32-v0", radius=0.02).unwrapped
    third = np.eye(32, dtype=np.float32)[3]
    near, far = PLACES[3] + [0.019, 0.0], PLACES[3] + [0.021, 0.0]
    assert env.compute_reward([near, far], third).tolist() == [0.0, -1.0]
    assert env.compute_terminated([near, far], third).tolist() == [True, False]


@needs_robots
def test_the_knob_of_the_finger_is_that_of_the_simulator() -> None:
    env, data = simulated("Finger", steps=200)
    tip = data.site("tip").xpos - data.body("spinner").xpos
    assert np.allclose(env.seen["achieved_goal"], tip[[0, 2]], atol=1e-6)
    task = env.reset(seed=1)[0]["desired_goal"]
    assert np.linalg.norm(task) == pytest.approx(0.13, abs=1e-6) and env.data.ncon == 0


@needs_robots
@pytest.mark.parametrize("name", ["Quadruped", "QuadrupedDense"])
def test_goals_of_the_quadruped_lie_on_a_circle(name: str) -> None:
    env = gymnasium.make(f"Hindsight/{name}-v0", distance=2.0).unwrapped
    goals = np.array([env.reset(seed=seed)[0]["desired_goal"] for seed in range(20)])
    assert np.allclose(np.linalg.norm(goals, axis=1), 2.0) and len(np.unique(goals)) > 20
    with pytest.raises(ValueError, match="distance is 0.2: it must be above radius, 0.3"):
        gymnasium.make(f"Hindsight/{name}-v0", distance=0.2)


@needs_robots
def test_the_quadruped_knows_where_its_front_is() -> None:
    env, data = simulated("Quadruped")
    turn = data.body("torso").xmat.reshape(3, 3)
    names = list(env.observation_names)
    shown = env.seen["observation"]
    assert np.allclose(shown[[names.index("front_x"), names.index("front_y")]], turn[:2, 0])
    assert shown[names.index("upright")] == pytest.approx(turn[2, 2], abs=1e-6)
    assert np.allclose(env.seen["achieved_goal"], data.body("torso").xpos[:2], atol=1e-6)


@needs_robots
def test_dense_and_sparse_rewards_of_the_quadruped() -> None:
    sparse = gymnasium.make("Hindsight/Quadruped-v0").unwrapped
    dense = gymnasium.make("Hindsight/QuadrupedDense-v0").unwrapped
    goal = [0.6, 0.8]
    assert sparse.compute_reward([[0.6, 0.51], [0.6, 0.49]], goal).tolist() == [0.0, -1.0]
    assert sparse.compute_terminated([[0.6, 0.51], [0.6, 0.49]], goal).tolist() == [True, False]
    # 0 of the way, no effort; all of the way, an effort of 5 at 0.1.
    rewards = dense.compute_reward([[0.0, 0.0, 0.0], [0.6, 0.8, 5.0]], goal)
    assert np.allclose(rewards, [-1.0, -0.5])
    assert not dense.compute_terminated([0.6, 0.8, 5.0], goal)


@pytest.mark.parametrize("name", params(ENDING))
def test_goals_that_do_not_end_episodes(name: str) -> None:
    kwargs = FAMILIES[name][0]
    many = make(name, "vector_entry_point", ends=False, **kwargs)
    many.reset(seed=0)
    many.action_space.seed(0)
    success = 0
    for _ in range(200):
        _, _, terminated, _, info = many.step(many.action_space.sample())
        assert not terminated.any()
        success += info["is_success"].sum()
    assert success > 0
    many.close()
    bad, words = ({"radius": 0}, "radius is 0: it must be above 0")
    if name == "SawyerReachMargins":
        bad, words = ({"margins": [0.1, 0.1]}, "give low and high, 0 <= low < high")
    with pytest.raises(ValueError, match=words):
        gymnasium.make(f"Hindsight/{name}-v0", **bad)
