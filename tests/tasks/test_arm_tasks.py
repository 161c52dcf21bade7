"""Ten tasks of an arm (``benchmarks/hipi``): done where Meta-World says so, paid once."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_scripts import arm_tasks, loaded
from robots_installed import needs
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.inverse_trajectory import InverseRL

NAMES = list(arm_tasks.TASKS)
FIXTURES = [name for name in NAMES if isinstance(arm_tasks.TASKS[name], arm_tasks.Turn)]
AWAY = (0.0, 0.6, 0.2)


def seen(scene: str, fingers: Any = AWAY, thing: Any = AWAY, mark: Any = AWAY, joint: Any = 0.0):
    """Return an observation ``[16]``."""
    found = torch.zeros(arm_tasks.WIDTH)
    found[:3], found[4:7], found[7:10] = map(torch.tensor, (fingers, thing, mark))
    found[10], found[11 + arm_tasks.SCENES.index(scene)] = joint, 1.0
    return found


def which(observation: Tensor) -> set[str]:
    """Return the tasks that are done."""
    return {name for name in NAMES if arm_tasks.done(name, observation)}


def test_the_puck_is_placed_in_the_air_and_pushed_on_the_table() -> None:
    mark, below = (0.1, 0.8, 0.2), (0.1, 0.8, 0.02)
    near, far = (0.1, 0.8, 0.249), (0.1, 0.8, 0.251)
    assert which(seen("puck", fingers=near, mark=mark)) == {"reach"}
    assert which(seen("puck", fingers=far, mark=mark)) == set()
    assert which(seen("puck", thing=near, mark=mark)) == {"pick-place"}
    assert which(seen("puck", thing=below, mark=mark)) == {"push"}
    assert which(seen("puck", thing=(0.1, 0.849, 0.02), mark=mark)) == {"push"}
    assert which(seen("puck", thing=(0.1, 0.851, 0.02), mark=mark)) == set()
    assert which(seen("puck", below, below, below)) == {"reach", "push", "pick-place"}


@pytest.mark.parametrize("name", FIXTURES)
def test_a_fixture_is_done_from_its_limit_on_and_in_its_own_scene_alone(name: str) -> None:
    task = arm_tasks.TASKS[name]
    beyond = math.copysign(1e-4, task.limit - task.start)
    assert which(seen(task.scene, joint=task.limit + beyond)) == {name}
    assert name not in which(seen(task.scene, joint=task.limit - beyond))
    assert name not in which(seen(task.scene, joint=task.start))
    for scene in set(arm_tasks.SCENES) - {task.scene, "puck"}:
        assert name not in which(seen(scene, joint=task.limit + beyond))


def test_a_step_that_does_a_task_earns_ten_and_one_that_undoes_it_pays_them_back() -> None:
    joints = [0.0, -0.1, -0.17, -0.18, -0.02]  # a drawer: closed, half, open, open, closed again
    path = torch.stack([seen("drawer", joint=joint) for joint in joints])
    batch = TensorDict({"observation": path[:-1], "next": {"observation": path[1:]}}, [4])
    family, tasks = arm_tasks.family(), torch.eye(len(NAMES))
    reward = family.reward(batch, tasks, pairwise=True)
    opens, closes = (NAMES.index(f"drawer-{word}") for word in ("open", "close"))
    assert reward[:, opens].tolist() == [0.0, 10.0, 0.0, -10.0]
    assert reward[:, closes].tolist() == [-10.0, 0.0, 0.0, 10.0]
    others = [number for number in range(len(NAMES)) if number not in (opens, closes)]
    assert not reward[:, others].any()
    row = family.reward(batch, tasks[[opens, closes, opens, closes]])
    assert row.tolist() == [0.0, 0.0, 0.0, 10.0]
    ended = family.terminated(batch, tasks, pairwise=True)
    assert ended.shape == (4, 10) and not ended.any()


def test_an_episode_that_does_two_tasks_goes_rather_to_the_one_that_few_episodes_do() -> None:
    """One step each: A places the puck with the fingers at the mark, B reaches the mark alone.

    Scores: reach 10 for both, pick-place 10 for A and 0 for B, all others 0. With log Z, exp(score)
    over its mean: A has 1 for reach, 2 / (1 + exp(-10)) for pick-place, 1 for each of the other
    eight; B has 2 / (1 + exp(10)) for pick-place.
    """
    mark = (0.1, 0.8, 0.2)
    before, only = seen("puck", mark=mark), seen("puck", fingers=mark, mark=mark)
    columns = {
        "observation": torch.stack([before, before]),
        "action": torch.zeros(2, 4),
        "episode": torch.arange(2),
        ("next", "observation"): torch.stack([seen("puck", mark, mark, mark), only]),
        ("next", "reward"): torch.zeros(2),
        ("next", "terminated"): torch.zeros(2, dtype=torch.bool),
        ("next", "truncated"): torch.ones(2, dtype=torch.bool),
    }
    relabel = InverseRL(arm_tasks.family(), tasks=arm_tasks.ONE_HOT)
    found = relabel.prepare(Log.from_columns(columns)).posterior
    reach, place = NAMES.index("reach"), NAMES.index("pick-place")
    for row, weight in enumerate((2 / (1 + math.exp(-10)), 2 / (1 + math.exp(10)))):
        expected = torch.full((10,), 1 / (9 + weight))
        expected[place] *= weight
        assert torch.allclose(found[row], expected, rtol=1e-5, atol=0)
    assert found[0, place] > found[0, reach]


def test_the_confusion_matrix_is_the_mean_posterior_of_the_episodes_of_a_task() -> None:
    posterior = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.25, 0.75]])
    found = arm_tasks.confusion(posterior, torch.tensor([0, 0, 2]))
    assert found == [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0], [0.0, 0.25, 0.75]]


@needs("metaworld")
@pytest.mark.parametrize("name", NAMES)
def test_success_is_that_of_meta_world(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    scenes = loaded("hipi/arm_scenes")
    theirs, expert = scenes.arm.simulator(name), scenes.expert(name)
    ours = scenes.Scene(name, shared=False)
    ours.simulator = theirs
    theirs.seed(1)
    now, found = theirs.reset()[0], []
    for _ in range(130):
        now, _, _, _, info = theirs.step(np.clip(expert.get_action(now), -1, 1))
        ours.mark = theirs._target_pos if ours.scene == "puck" else np.zeros(3)
        found.append((bool(arm_tasks.done(name, torch.as_tensor(ours.numbers()))), info["success"]))
    assert {theirs for _, theirs in found} == {0.0, 1.0}
    assert all(ours == bool(theirs) for ours, theirs in found)


@needs("metaworld")
def test_the_tasks_of_a_scene_share_their_start_and_their_steps_equal_those_of_meta_world(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    scenes = loaded("hipi/arm_scenes")
    starts = {}
    for name in ("window-open", "window-close"):
        for shared in (True, False):
            starts[name, shared] = scenes.Scene(name, shared).reset(seed=5)[0]["observation"]
    assert np.array_equal(starts["window-open", True], starts["window-close", True])
    joints = [starts[key][arm_tasks.JOINT] for key in starts]
    assert np.allclose(joints, [0.1, 0.0, 0.1, 0.2], rtol=0, atol=1e-6)

    ours, theirs = scenes.Scene("window-open", shared=False), scenes.arm.simulator("window-open")
    ours.reset(seed=5)
    theirs.reset()
    theirs.model.body_pos[:] = ours.simulator.model.body_pos
    theirs.set_state(ours.simulator.data.qpos.copy(), ours.simulator.data.qvel.copy())
    for action in np.random.default_rng(0).uniform(-1, 1, (10, 4)):
        seen_by_us = ours.step(action)[0]["observation"]
        seen_by_them = theirs.step(action)[0]
        assert np.allclose(seen_by_us[3:7], seen_by_them[3:7], rtol=0, atol=1e-6)
