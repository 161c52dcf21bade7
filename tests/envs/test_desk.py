"""The stand-in for the desk: OGBench's scene, and nine tasks judged from one state each."""

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from robots_installed import needs
from tensordict import TensorDict

import hindsight_rl.envs  # noqa: F401  registers the environments
from hindsight_rl.envs.robots.desk import TASKS
from hindsight_rl.tasks.family import DiscreteTasks
from hindsight_rl.tasks.linear import LinearTasks

NAME = "Hindsight/DeskStandIn-v0"


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """The environment, which takes two seconds to make."""
    env = gymnasium.make(NAME, render_mode="rgb_array")
    yield env
    env.close()


@needs("ogbench")
def test_gymnasium_accepts_it(made: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Box observation space m.* -?infinity")
        check_env(made.unwrapped, skip_render_check=True)
    assert made.spec.max_episode_steps == 128
    made.reset(seed=0)
    assert made.render().shape == (360, 480, 3)


@needs("ogbench")
def test_it_moves_as_the_scene_of_ogbench(made: Any) -> None:
    pytest.importorskip("ogbench.manipspace")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = gymnasium.make("scene-v0", mode="data_collection", disable_env_checker=True)
    made.reset(seed=4)
    drawn = np.random.default_rng()
    drawn.bit_generator.state = gymnasium.utils.seeding.np_random(4)[0].bit_generator.state
    theirs.reset(seed=int(drawn.integers(2**31)))
    for action in np.random.default_rng(1).uniform(-1, 1, (40, 5)):
        expected = theirs.step(action)[0].astype(np.float32)
        assert np.array_equal(made.step(action)[0]["observation"], expected)


@needs("ogbench")
def test_the_seed_decides_all_and_no_task_is_fulfilled_at_first(made: Any) -> None:
    seen = [made.reset(seed=seed)[0] for seed in range(100)]
    again = made.reset(seed=7)[0]
    assert all(np.array_equal(seen[7][name], again[name]) for name in again)
    assert all((one["achieved_goal"] * one["desired_goal"]).sum() == 0 for one in seen)
    assert all(sum(one["desired_goal"][k] for one in seen) > 0 for k in range(9))
    task = np.eye(9, dtype=np.float32)[2]
    chosen, _ = made.reset(seed=7, options={"task": task})
    assert np.array_equal(chosen["desired_goal"], task)
    assert np.array_equal(chosen["observation"], again["observation"])


@needs("ogbench")
def test_each_task_is_judged_from_one_state(made: Any) -> None:
    """The states of OGBench's own tasks: open is 0.16 m for the drawer and 0.2 m for the window."""
    world = made.unwrapped
    made.reset(seed=0)
    data = world.scene.data
    still = np.zeros(5, np.float32)

    def fulfilled(cube: list[float], buttons: list[int], drawer: float, window: float) -> set[str]:
        for joint, place in (("drawer_slide", drawer), ("window_slide", window)):
            data.joint(joint).qpos[0], data.joint(joint).qvel[0] = place, 0.0
        data.joint("object_joint_0").qpos[:], data.joint("object_joint_0").qvel[:] = (
            [*cube, 0.02, 1, 0, 0, 0],
            0.0,
        )
        world.scene.set_state(data.qpos.copy(), data.qvel.copy(), np.array(buttons))
        got = made.step(still)[0]["achieved_goal"]
        return {name for name, yes in zip(TASKS, got, strict=True) if yes}

    near = fulfilled([0.35, -0.05], [1, 0], -0.16, 0.0)
    assert near == {"cube_near", "first_button", "open_drawer", "close_window"}
    far = fulfilled([0.42, 0.08], [0, 1], 0.0, 0.2)
    assert far == {"cube_far", "second_button", "close_drawer", "open_window"}
    assert fulfilled([0.35, 0.11], [0, 0], -0.08, 0.1) == set()
    assert fulfilled([0.35, 0.13], [0, 0], -0.08, 0.1) == {"cube_middle"}


@needs("ogbench")
def test_the_family_computes_what_the_environment_said(made: Any) -> None:
    family = DiscreteTasks(LinearTasks([0.0] * 9, [1.0] * 9), np.eye(9).tolist())
    rows = []
    for seed in range(30):
        made.reset(seed=seed)
        made.action_space.seed(seed)
        seen, reward, terminated, _, info = made.step(made.action_space.sample())
        assert not terminated and info == {"is_success": reward == 1}
        rows.append((seen["achieved_goal"], reward))
    achieved = torch.tensor(np.array([row[0] for row in rows]))
    batch = TensorDict({"next": {"achieved_goal": achieved}}, [30])
    tasks = torch.eye(9)
    pairs = family.reward(batch, tasks, pairwise=True)
    assert np.array_equal(pairs, made.unwrapped.compute_reward(achieved[:, None], tasks))
    assert torch.equal(pairs, achieved) and not family.terminated(batch, tasks[:1]).any()


@needs("ogbench")
def test_errors_name_the_fault(made: Any) -> None:
    with pytest.raises(ValueError, match="it must be one-hot, of 9"):
        made.reset(options={"task": np.ones(9)})
    with pytest.raises(ValueError, match="options has .'tusk'.; known is 'task'"):
        made.reset(options={"tusk": 0})
    made.reset(seed=0)
    with pytest.raises(ValueError, match="has NaN: the policy that gave it is broken"):
        made.unwrapped.step(np.full(5, np.nan))
    made.unwrapped.scene.data.qvel[0] = 1e12
    with pytest.raises(RuntimeError, match="diverged"):
        made.unwrapped.step(np.zeros(5))


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ogbench.manipspace.envs.scene_env", None)
    with pytest.raises(ImportError, match=r'need ogbench.*pip install "hindsight-rl\[robots\]"'):
        gymnasium.make(NAME)
