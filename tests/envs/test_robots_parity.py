"""Robots move and observe as in dm_control and Meta-World, from which their models are."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from robots_installed import needs, needs_robots

import hindsight_rl.envs  # noqa: F401  registers the environments

pytestmark = needs_robots

STEPS = 40
# Name, domain and task of dm_control, parts of its observation in the order of ours, where ours
# begin. The solver starts cold in ours and warm in dm_control: it ends in the same place.
_QUADRUPED = ["egocentric_state", "force_torque", "imu", "torso_upright", "torso_velocity"]
ROBOTS = [
    ("Walker", "walker", "run", ["height", "orientations", "velocity"], 0),
    ("HalfCheetah", "cheetah", "run", ["position", "velocity"], 0),
    ("Reacher", "reacher", "hard", ["velocity"], 5),
    ("Finger", "finger", "turn_hard", ["position", "velocity", "touch"], 0),
    ("Quadruped", "quadruped", "run", _QUADRUPED, 4),
]


@pytest.mark.parametrize(("name", "domain", "task", "shown", "begin"), ROBOTS)
def test_the_same_actions_lead_to_the_same_states(
    name: str, domain: str, task: str, shown: list[str], begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    suite: Any = pytest.importorskip("dm_control.suite")
    env = gymnasium.make(f"Hindsight/{name}-v0").unwrapped
    env.reset(seed=3)
    theirs = suite.load(domain, task)
    theirs.reset()
    with theirs.physics.reset_context():
        theirs.physics.data.qpos[:] = env.data.qpos
        theirs.physics.data.qvel[:] = env.data.qvel
    low, high = env.action_space.low, env.action_space.high
    for action in np.random.default_rng(1).uniform(low, high, (STEPS, len(low))):
        seen = theirs.step(action).observation
        expected = np.concatenate([np.ravel(seen[part]) for part in shown])
        ours = env.step(action)[0]["observation"][begin:]
        assert np.allclose(env.data.qpos, theirs.physics.data.qpos, rtol=0, atol=1e-8)
        assert np.allclose(ours[: len(expected)], expected, rtol=1e-6, atol=1e-6)


@needs("metaworld")
@pytest.mark.parametrize("cold", [True, False])
def test_the_sawyer_moves_as_in_meta_world(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit where its solver starts cold as ours does; else as far as solvers agree."""
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    theirs = pytest.importorskip("metaworld.envs.sawyer_reach_v3").SawyerReachEnvV3()
    theirs._set_task_called, theirs._last_rand_vec = True, np.array([0, 0.6, 0.02, 0, 0.85, 0.2])
    theirs.reset()
    env = gymnasium.make("Hindsight/SawyerReach-v0", ends=False).unwrapped
    first, _ = env.reset(seed=3)
    assert np.array_equal(env.data.qpos, theirs.data.qpos)
    assert np.array_equal(env.data.qvel, theirs.data.qvel)
    for action in np.random.default_rng(1).uniform(-1, 1, (150, 4)):
        if cold:
            theirs.data.qacc_warmstart[:] = 0
        seen = theirs.step(action)[0]
        ours = env.step(action)[0]["observation"]
        error = np.abs(env.data.qpos - theirs.data.qpos).max()
        assert error == 0 if cold else error < 1e-8
        expected = np.concatenate([seen[:4], theirs.data.mocap_pos[0], seen[4:7]])
        assert np.allclose(ours, expected, rtol=0, atol=1e-6)
    assert np.linalg.norm(ours[:3] - first["achieved_goal"]) > 0.05


@pytest.mark.parametrize("cold", [True, False])
def test_the_jaco_moves_as_in_dm_control(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its own first states; joint positions are radians, torques signed logarithms."""
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    theirs = pytest.importorskip("dm_control.manipulation").load("reach_site_features", seed=0)
    env = gymnasium.make("Hindsight/JacoReach-v0", ends=False).unwrapped
    low, high = env.action_space.low, env.action_space.high
    assert np.allclose(theirs.action_spec().minimum, low) and theirs.action_spec().shape == (9,)
    arm, hand = "jaco_arm/joints_", "jaco_arm/jaco_hand/"
    for seed in range(3):
        theirs.reset()
        env.reset(seed=seed)
        physics = theirs.physics
        env.data.qpos[:], env.data.qvel[:] = physics.data.qpos, physics.data.qvel
        for action in np.random.default_rng(seed).uniform(low, high, (STEPS, 9)):
            if cold:
                physics.data.qacc_warmstart[:] = 0
            seen = theirs.step(action).observation
            ours = env.step(action)[0]
            turned = seen[f"{arm}pos"][0].T
            names = [f"{hand}joints_pos", f"{arm}vel", f"{hand}joints_vel", f"{arm}torque"]
            names += [f"{hand}pinch_site_pos", f"{hand}pinch_site_rmat"]
            parts = [turned, *(seen[name] for name in names)]
            expected = np.concatenate([np.ravel(part) for part in parts])
            error = np.abs(env.data.qpos - physics.data.qpos).max()
            assert error < 1e-12 if cold else error < 1e-5
            close = 1e-6 if cold else 1e-3
            assert np.allclose(ours["observation"], expected, rtol=close, atol=close)
            assert np.allclose(ours["achieved_goal"], expected[30:33], atol=close)
