"""Scripted behaviour: who is good, who is not, and that seeds decide everything."""

from collections import Counter

import gymnasium
import numpy as np
import pytest

from hindsight_rl.envs.behaviors import Behavior, behaviors_for, record, schedule


def returns(name: str, episodes: int = 20) -> dict[str, np.ndarray]:
    """Return the returns of every behaviour of an environment."""
    env = gymnasium.make(name)
    return {
        behavior.name: np.array(
            [record(env, behavior, (0, i), 500).rewards.sum() for i in range(episodes)]
        )
        for behavior in behaviors_for(env)
    }


def test_cartpole_is_mastered_by_one_behaviour_only() -> None:
    got = returns("CartPole-v1")
    assert (got["park"] == 500).mean() >= 0.95
    assert got["wobble"].mean() < 100 and np.quantile(got["wobble"], 0.9) < 200
    assert 100 < got["drift"].mean() < 160 and got["drift"].max() < 200
    assert got["random"].mean() < 40


def test_cartpole_clumsy_episodes_hold_most_rows() -> None:
    env = gymnasium.make("CartPole-v1")
    plan = schedule(behaviors_for(env), 100, 0.1, seed=0)
    steps = Counter()
    for number, behavior in enumerate(plan):
        steps[behavior.good] += len(record(env, behavior, (0, number), 500).rewards)
    assert sum(behavior.good for behavior in plan) == 10
    assert steps[False] > steps[True]


def test_the_good_cartpole_parks_on_the_left() -> None:
    """Where most rows of good episodes lie, clumsy ones hardly come: they stay near the start."""
    env = gymnasium.make("CartPole-v1")
    behaviors = {behavior.name: behavior for behavior in behaviors_for(env)}
    park = np.stack(record(env, behaviors["park"], (0, 0), 500).observations)
    wobble = [
        np.stack(record(env, behaviors["wobble"], (0, i), 500).observations) for i in range(9)
    ]
    assert np.median(park[:, 0]) == pytest.approx(-1, abs=0.15)
    assert abs(np.median(np.concatenate(wobble)[:, 0])) < 0.2


def test_pendulum_is_swung_up_by_one_behaviour_only() -> None:
    got = returns("Pendulum-v1")
    assert got["swing up"].mean() > -250
    assert all(numbers.mean() < -500 for name, numbers in got.items() if name != "swing up")


def test_random_actions_come_from_the_space() -> None:
    env = gymnasium.make("MountainCarContinuous-v0")
    (behavior,) = behaviors_for(env)
    before = env.action_space.np_random.bit_generator.state
    actions = np.stack(record(env, behavior, (0, 1), 50).actions)
    assert all(env.action_space.contains(action) for action in actions)
    assert actions.std() > 0.3
    # The environment's own space was not drawn from.
    assert env.action_space.np_random.bit_generator.state == before


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0"])
def test_an_episode_follows_from_its_seed(name: str) -> None:
    env = gymnasium.make(name)
    behavior = behaviors_for(env)[-2:][0]
    runs = [record(env, behavior, seed, 60) for seed in ((3, 1), (3, 2), (3, 1))]
    first, other, again = (np.stack(run.observations) for run in runs)
    assert np.array_equal(first, again) and not np.array_equal(first[0], other[0])


def test_an_episode_is_cut_at_the_limit() -> None:
    env = gymnasium.make("CartPole-v1")
    park = behaviors_for(env)[0]
    cut = record(env, park, (0, 0), 30)
    assert len(cut.rewards) == len(cut.actions) == 30 and len(cut.observations) == 31
    assert cut.truncated and not cut.terminated
    own = record(env, park, (0, 0), 10_000)
    assert len(own.rewards) == 500 and own.truncated and not own.terminated
    fallen = record(env, behaviors_for(env)[-1], (0, 0), 500)
    assert fallen.terminated and not fallen.truncated


def kinds(**shares: float) -> list[Behavior]:
    return [
        Behavior(name, name == "good", share, lambda generator: lambda observation: 0)
        for name, share in shares.items()
    ]


def test_schedule_keeps_shares_and_shuffles() -> None:
    plan = schedule(kinds(good=1, wobble=8, drift=1, random=1), 200, 0.1, seed=0)
    counts = Counter(behavior.name for behavior in plan)
    assert counts == {"good": 20, "wobble": 144, "drift": 18, "random": 18}
    names = [behavior.name for behavior in plan]
    assert names != sorted(names)
    other = schedule(kinds(good=1, wobble=8, drift=1, random=1), 200, 0.1, seed=1)
    assert [behavior.name for behavior in other] != names


def test_the_share_of_good_episodes_is_never_exceeded() -> None:
    for episodes in (1, 9, 10, 19, 25):
        plan = schedule(kinds(good=1, bad=1), episodes, 0.1, seed=0)
        assert len(plan) == episodes
        assert sum(behavior.good for behavior in plan) == episodes // 10


@pytest.mark.parametrize(
    ("episodes", "good", "told"),
    [
        (0, 0.1, "episodes is 0, it must be at least 1"),
        (5, -0.1, r"good is -0.1, it must lie in \[0, 1\]"),
        (5, 0.5, "no good behaviour is scripted for this environment: set good to 0"),
    ],
)
def test_schedule_refuses(episodes: int, good: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        schedule(kinds(bad=1), episodes, good, seed=0)


@pytest.mark.parametrize("name", ["FourRooms", "FourCorners", "FourMargins", "PointMass"])
def test_where_one_walks_behaviour_is_aimless(name: str) -> None:
    env = gymnasium.make(f"Hindsight/{name}-v0")
    *others, wander = behaviors_for(env)
    assert (wander.name, wander.good) == ("wander", False)
    assert [one.name for one in others] == (["pursue"] if name == "PointMass" else [])
    runs = [record(env, wander, (0, episode), 75).actions for episode in range(40)]
    actions = np.array([action for run in runs for action in run])
    assert all(env.action_space.contains(action) for action in actions[:100])
    assert np.abs(actions.mean(0)).max() < 0.1
    turns = np.mean([np.any(np.diff(run, axis=0), axis=-1).mean() for run in runs])
    if name == "PointMass":  # uniform over the box, and held for ten steps on average
        assert np.abs(actions.std(0) - 0.577).max() < 0.05
        assert turns == pytest.approx(0.1, abs=0.02)
    else:  # at full speed, for twenty
        assert np.allclose(np.abs(actions).max(-1), 1.0)
        assert turns == pytest.approx(0.05, abs=0.015)


def test_a_wanderer_gets_further_than_random_actions() -> None:
    env = gymnasium.make("Hindsight/FourRooms-v0", ends=False)
    (wander,) = behaviors_for(env)

    def way(behavior: Behavior, episode: int) -> float:
        seen = record(env, behavior, (0, episode), 75).observations
        return float(np.linalg.norm(seen[-1]["observation"] - seen[0]["observation"]))

    fresh = Behavior("fresh", False, 1.0, lambda g: lambda seen: g.uniform(-1, 1, 2))
    ways = [np.mean([way(kind, episode) for episode in range(60)]) for kind in (wander, fresh)]
    assert ways[0] > 1.3 * ways[1]
