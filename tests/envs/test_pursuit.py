"""The scripted controller of the point mass: what it does, how likely that was, what it earns."""

import math

import gymnasium
import numpy as np
import pytest

from hindsight_rl.envs.behaviors import behaviors_for, record
from hindsight_rl.envs.pursuit import pursue, pursuing

QUIET = 1e-6


def seen(state: list[float], weights: list[float]) -> dict[str, np.ndarray]:
    return {
        "observation": np.array(state, np.float32),
        "desired_goal": np.array(weights, np.float32),
    }


def force(state: list[float], weights: list[float], eagerness: float = 1.0) -> np.ndarray:
    return pursue(seen(state, weights), eagerness, QUIET, np.random.default_rng(0))[0]


def test_force_is_what_it_earns_by_twice_its_price() -> None:
    # (0.5 * 0.8 + 0.3 * 0.2) / (2 * 0.9 + 0.001), and the same of y.
    found = force([0.0, 0.0, 0.0, 0.0], [0.8, -0.4, 0.2, 0.0, -0.9], eagerness=0.5)
    assert found == pytest.approx([0.46 / 1.801, -0.2 / 1.801], abs=1e-5)


def test_free_effort_is_spent_whole() -> None:
    assert force([0.0] * 4, [0.5, -0.5, 0.0, 0.0, 0.0]) == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([1.0, 0.0, 0.0, 0.0], [0.0, -1.0]),  # at the wall it would push against
        ([-1.0, 0.0, 0.0, 0.0], [1.0, -1.0]),  # away from a wall
        ([0.0, 0.0, 0.0, -1.0], [1.0, 0.0]),  # at the limit of speed
        ([0.0, 0.0, -1.0, 1.0], [1.0, -1.0]),  # against its speed
    ],
)
def test_nothing_is_pushed_in_vain(state: list[float], expected: list[float]) -> None:
    assert force(state, [1.0, -1.0, 0.0, 0.0, 0.0]) == pytest.approx(expected, abs=1e-5)


def test_probability_is_that_of_clipped_noise() -> None:
    observation = seen([0.0] * 4, [0.5, 0.0, 0.0, 0.0, -0.5])
    noise, mean = 0.4, np.array([0.5 / 1.001, 0.0])
    generator, at_bounds = np.random.default_rng(3), 0
    for _ in range(300):
        action, log_prob = pursue(observation, 1.0, noise, generator)
        expected = 0.0
        for one, middle in zip(action.astype(float), mean, strict=True):
            if abs(one) < 1.0:
                expected += -0.5 * ((one - middle) / noise) ** 2
                expected -= math.log(noise * math.sqrt(2 * math.pi))
            else:
                at_bounds += 1
                beyond = (1.0 - math.copysign(1.0, one) * middle) / noise
                expected += math.log(0.5 * math.erfc(beyond / math.sqrt(2)))
        assert log_prob == pytest.approx(expected, abs=1e-5)
    assert at_bounds > 20


def test_a_pursuit_earns_what_its_task_asks() -> None:
    env = gymnasium.make("Hindsight/PointMass-v0")
    earned = {
        behavior.name: np.mean(
            [np.sum(record(env, behavior, (1, episode), 100).rewards) for episode in range(40)]
        )
        for behavior in behaviors_for(env)
    }
    assert earned["pursue"] > 55.0
    assert earned["wander"] < 0.0


def test_episodes_are_more_or_less_eager() -> None:
    observation = seen([0.0] * 4, [0.2, 0.0, 0.0, 0.0, -1.0])
    pushes = []
    for seed in range(30):
        act = pursuing(np.random.default_rng(seed))
        pushes.append(np.mean([act(observation)[0][0] for _ in range(200)]))
    # Eagerness 0.5 to 2 by a fifth, divided by twice the price.
    assert 0.04 < min(pushes) < 0.09
    assert 0.15 < max(pushes) < 0.24
