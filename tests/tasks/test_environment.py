"""Goals that an environment judges: what its functions say is what its steps say."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from episode_logs import episode_log
from gymnasium import spaces
from tensordict import TensorDict

from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.environment import EnvGoals
from hindsight_rl.tasks.family import GoalReaching

NEXT_ACHIEVED = ("next", "achieved_goal")
PLACE = spaces.Box(-10.0, 10.0, (2,))


class Stub(gymnasium.Env[Any, Any]):
    """A goal environment of two numbers, never stepped."""

    observation_space = spaces.Dict(
        {"observation": PLACE, "achieved_goal": PLACE, "desired_goal": PLACE}
    )
    action_space = PLACE
    made = 0

    def __init__(self, radius: float = 0.5) -> None:
        type(self).made += 1
        self.radius = radius

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > self.radius).astype(np.float32)

    def compute_terminated(self, achieved: Any, desired: Any, info: Any) -> Any:
        return bool(np.linalg.norm(achieved - desired) <= self.radius)  # one pair only


class Informed(Stub):
    """Its reward needs the power that was spent."""

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -info["power"]


class Wordy(Stub):
    """Its reward is a vector."""

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return np.abs(achieved - desired)


class Endless(gymnasium.Env[Any, Any]):
    """Says what is rewarded, not when it is over."""

    observation_space = PLACE
    action_space = PLACE

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -np.linalg.norm(achieved - desired, axis=-1)


@pytest.fixture(autouse=True)
def stubs() -> Iterator[None]:
    kinds = {f"Test/{kind.__name__}-v0": kind for kind in (Stub, Informed, Wordy, Endless)}
    for name, kind in kinds.items():
        gymnasium.register(name, kind, disable_env_checker=True, order_enforce=False)
    yield
    for name in kinds:
        del gymnasium.registry[name]


def test_rewards_are_those_of_the_same_rule_in_torch() -> None:
    """Elementwise and pairwise, over leading dimensions; termination though for single pairs."""
    log = episode_log(goals=True)
    family, same = EnvGoals("Test/Stub-v0", {"radius": 0.8}).prepare(log), GoalReaching(0.8)
    batch = log.gather(torch.arange(24).view(2, 12))
    tasks = family.sample(counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(7)))[0]
    each = tasks[torch.arange(24) % 7].view(2, 12, 2)
    for judge in ("reward", "terminated"):
        ours, theirs = getattr(family, judge), getattr(same, judge)
        pairs = ours(batch, tasks, pairwise=True)
        assert pairs.shape == (2, 12, 7) and pairs.dtype == theirs(batch, each).dtype
        assert pairs.equal(theirs(batch, tasks, pairwise=True)) and len(pairs.unique()) == 2
        assert ours(batch, each).equal(theirs(batch, each))


def test_prior_is_that_of_states_reached() -> None:
    log = episode_log(goals=True).with_rows(torch.arange(5))
    family, same = EnvGoals("Test/Stub-v0").prepare(log), GoalReaching().prepare(log)
    draws = counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(20))
    assert family.sample(draws).equal(same.sample(draws))
    assert family.log_prior(family.sample(draws)).equal(same.log_prior(same.sample(draws)))
    assert family.task_of(log.column(NEXT_ACHIEVED), draws).equal(log.column(NEXT_ACHIEVED))


def test_the_environment_is_made_once() -> None:
    before, log = Stub.made, episode_log(goals=True)
    family = EnvGoals("Test/Stub-v0")
    assert Stub.made == before
    bound = InverseRL(family, candidates=4).prepare(log)
    bound.family.prepare(log).reward(log.gather(torch.arange(4)), bound.choices)
    assert Stub.made == before + 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Informed",
            r"compute_reward of Test/Informed-v0 cannot judge .*KeyError: 'power'.*family",
        ),
        ("Wordy", r"compute_reward of Test/Wordy-v0 .* the answer for one pair has shape \[2\]"),
        ("Endless", "Test/Endless-v0 has no compute_terminated: write a family of your own"),
    ],
)
def test_environments_that_cannot_judge_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnvGoals(f"Test/{name}-v0").prepare(episode_log(goals=True))


def test_an_environment_without_goals_is_refused() -> None:
    with pytest.raises(ValueError, match="CartPole-v1 has no compute_reward: write a family of yo"):
        EnvGoals("CartPole-v1").prepare(episode_log(goals=True))


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("No/Such-v0", {}, "EnvGoals cannot make No/Such-v0 .*name that package"),
        ("no_such_package:Env-v0", {}, "cannot make no_such_package:Env-v0 .*pip install"),
        ("Test/Stub-v0", {"size": 3}, "cannot make Test/Stub-v0 with {'size': 3} .*unexpected key"),
    ],
)
def test_an_environment_that_cannot_be_made(
    name: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EnvGoals(name, kwargs).prepare(episode_log(goals=True))


def test_goals_of_another_shape_are_refused() -> None:
    log = episode_log(goals=True)
    log = log.with_columns({NEXT_ACHIEVED: torch.zeros(len(log), 3)})
    with pytest.raises(
        ValueError, match=r"goals of shape \[2\], and 'next.achieved_goal' .* \[3\]"
    ):
        EnvGoals("Test/Stub-v0").prepare(log)


def test_unbound_family_has_no_prior() -> None:
    with pytest.raises(ValueError, match="no prior yet, it is taken from a log: call prepare"):
        EnvGoals("Test/Stub-v0").sample(torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("FetchReach-v4", {}),
        ("FetchReachDense-v4", {}),
        ("PointMaze_UMaze-v3", {"continuing_task": False}),
        ("PointMaze_UMazeDense-v3", {"continuing_task": True, "reset_target": False}),
    ],
)
def test_robot_environments_are_judged_as_they_judge_themselves(
    name: str, kwargs: dict[str, Any]
) -> None:
    """Reward and termination of a random episode, and of its steps under each other's places."""
    pytest.importorskip("gymnasium_robotics")
    name = f"gymnasium_robotics:{name}"
    env = gymnasium.make(name, disable_env_checker=True, **kwargs)
    seen, _ = env.reset(seed=0)
    env.action_space.seed(0)
    found: list[tuple[Any, ...]] = []
    for number in range(100):
        if number == 50:  # Half an episode away from its goal, half at it.
            env.unwrapped.goal = seen["achieved_goal"].copy()  # type: ignore[attr-defined]
        seen, reward, terminated, _, _ = env.step(env.action_space.sample())
        found.append((seen["achieved_goal"], seen["desired_goal"], reward, terminated))
    reached, goal, rewards, ends = (
        torch.as_tensor(np.array(part)) for part in zip(*found, strict=True)
    )
    batch = TensorDict({"next": {"achieved_goal": reached.float()}}, batch_size=[100])
    family = EnvGoals(name, kwargs)
    reward = family.reward(batch, goal.float())
    torch.testing.assert_close(reward, rewards.float(), rtol=1e-4, atol=1e-5)
    assert len(reward.unique()) > 1
    assert family.terminated(batch, goal.float()).equal(ends)
    assert ends.any() == ("UMaze-" in name)
    pairs = family.reward(batch, reached.float(), pairwise=True)
    assert pairs.shape == (100, 100) and pairs.diagonal().unique().numel() == 1
