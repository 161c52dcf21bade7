"""Known models step as their environments do (TB8), and planners find goals and balance by them."""

import gymnasium
import numpy as np
import pytest
import torch

import hindsight_rl.envs
from hindsight_rl import CEM, ILQR, UCT, rollout
from hindsight_rl.envs.rollout import Rollout
from hindsight_rl.planners.classic import Pendulum
from hindsight_rl.planners.known import known_model
from hindsight_rl.planners.planner import of_tasks
from hindsight_rl.spec_parts import ActionSpec

hindsight_rl.envs.registration.register()
KNOWN = [
    "Pendulum-v1",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Hindsight/PointMass-v0",
    "Hindsight/FourRooms-v0",
]
MUJOCO = ["HalfCheetah-v5", "InvertedPendulum-v5", "Hopper-v5"]
TORQUE = ActionSpec("continuous", (1,), low=(-2.0,), high=(2.0,))
PUSH = ActionSpec("discrete", (), n=2)


def check_steps(name: str, exact: float, **kwargs: object) -> None:
    """Play random actions, and ask the model about each row: what came, what it paid, the end."""
    env = gymnasium.make(name, disable_env_checker=True, **kwargs)
    model = known_model(env, name)
    seen, ended = env.reset(seed=3)[0], False
    env.action_space.seed(3)
    rows = []
    for _ in range(60):
        action = env.action_space.sample()
        following, reward, ended, cut, _ = env.step(action)
        rows.append((seen, action, following, reward, ended))
        seen = following
        if ended or cut:
            seen = env.reset()[0]
    goals = isinstance(seen, dict)
    task = torch.tensor(np.stack([row[0]["desired_goal"] for row in rows])) if goals else None
    if goals:
        rows = [(s["observation"], a, n["observation"], *rest) for s, a, n, *rest in rows]
    here, done, there = (
        torch.tensor(np.stack([np.asarray(row[i]) for row in rows])) for i in range(3)
    )
    found = of_tasks(model, task)(here.float(), done)
    assert np.allclose(found.next_observation, there, atol=exact, rtol=exact)
    assert np.allclose(found.reward, [row[3] for row in rows], atol=exact, rtol=exact)
    assert found.terminated.tolist() == [row[4] for row in rows]
    assert not found.disagreement.any()


@pytest.mark.parametrize("name", KNOWN)
def test_a_step_of_the_model_is_a_step_of_the_environment(name: str) -> None:
    noiseless = {"noise": 0.0} if "Rooms" in name else {}
    check_steps(name, 2e-6, **noiseless)


@pytest.mark.parametrize("name", MUJOCO)
def test_a_simulator_is_put_where_an_observation_says(name: str) -> None:
    """To float32, of which the observation is: the solver iterates from elsewhere."""
    pytest.importorskip("mujoco")
    check_steps(name, 2e-3)


def test_numbers_of_the_environment_are_the_model_s() -> None:
    check_steps("Pendulum-v1", 2e-6, g=3.0)
    check_steps("CartPole-v1", 2e-6, sutton_barto_reward=True)


def test_branches_of_the_model_are_the_logged_rows() -> None:
    """TB8: three steps from a logged state by the logged actions."""
    env = gymnasium.make("Pendulum-v1")
    model, (seen, _) = known_model(env, "Pendulum-v1"), env.reset(seed=1)
    env.action_space.seed(1)
    imagined = torch.tensor(seen)
    for _ in range(30):
        action = env.action_space.sample()
        seen, reward, *_ = env.step(action)
        found = model(imagined, torch.tensor(action))
        imagined = found.next_observation
        assert np.allclose(imagined, seen, atol=2e-5) and float(found.reward) == pytest.approx(
            float(reward), abs=1e-4
        )


def played(planner: object, name: str, action: ActionSpec, episodes: int, steps: int) -> Rollout:
    env = gymnasium.make(name)
    actor = planner.actor(known_model(env, name), action)  # type: ignore[attr-defined]
    return rollout(actor, name, episodes=episodes, seed=5, max_steps=steps)


def test_cem_swings_the_pendulum_up() -> None:
    found = played(CEM(horizon=15, samples=60, iterations=3), "Pendulum-v1", TORQUE, 4, 100)
    assert found.returns.mean() > -400  # uniformly random actions: about -600 in 100 steps


def test_ilqr_balances_what_it_can_differentiate() -> None:
    env = gymnasium.make("Pendulum-v1")
    actor = ILQR(horizon=15, iterations=4).actor(Pendulum(env.unwrapped), TORQUE)
    seen = torch.tensor([[np.cos(0.3), np.sin(0.3), 0.0]], dtype=torch.float32)
    state, model = actor.initial_state(1), Pendulum(env.unwrapped)
    for step in range(40):
        action, state = actor.step(seen.numpy(), None, state, np.array([[0, 0, step]]))
        seen = model(seen, torch.from_numpy(action)).next_observation
    assert seen[0, 0] > 0.999 and abs(float(seen[0, 2])) < 0.1


def test_uct_balances_the_cart_pole() -> None:
    found = played(UCT(simulations=25, horizon=20), "CartPole-v1", PUSH, 2, 60)
    assert found.lengths.tolist() == [60, 60]  # uniformly random actions: about 22


def test_goals_of_the_episode_are_planned_for() -> None:
    """The weights of the position, velocity and effort are the task: each is driven to its end."""
    env = gymnasium.make("Hindsight/PointMass-v0")
    space = ActionSpec("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0))
    actor = CEM(horizon=10, samples=60, iterations=4).actor(known_model(env, "mass"), space)
    task = np.array([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], np.float32)
    seen, noise = np.zeros((3, 4), np.float32), np.array([[0, i, 0] for i in range(3)])
    action, _ = actor.step(seen, task, actor.initial_state(3), noise)
    assert action[0, 0] > 0.6 and action[1, 0] < -0.6 and action[2, 1] > 0.6


def test_what_is_not_known_says_what_is() -> None:
    with pytest.raises(ValueError, match=r"Acrobot-v1: no model of it is known.*module:function"):
        known_model(gymnasium.make("Acrobot-v1"), "Acrobot-v1")
    wrapped = gymnasium.wrappers.RescaleAction(gymnasium.make("Pendulum-v1"), -1.0, 1.0)
    with pytest.raises(ValueError, match="wrapper RescaleAction may change"):
        known_model(wrapped, "Pendulum-v1")


def test_an_observation_that_hides_velocities_is_no_state() -> None:
    pytest.importorskip("mujoco")
    with pytest.raises(ValueError, match="does not tell all positions and velocities"):
        known_model(gymnasium.make("Reacher-v5"), "Reacher-v5")
