"""Four rooms: the walls hold, a step is the one that was published, tasks are where they say."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hindsight_rl.envs.four_corners import CORNERS
from hindsight_rl.envs.four_rooms import (
    HORIZON,
    SIDE,
    WALLS,
    FourRooms,
    draw_position,
    is_free,
    step_many,
)
from hindsight_rl.envs.paths import shortest_path
from hindsight_rl.envs.rollout import rollout

ROOMS, FOUR = "Hindsight/FourRooms-v0", "Hindsight/FourCorners-v0"


def positions(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([draw_position(generator) for _ in range(count)])


def literal_step(position: np.ndarray, action: np.ndarray, noise: float) -> np.ndarray:
    """Return one step as the published code takes it: substep by substep, axis by axis."""
    velocity = np.clip(np.asarray(action, np.float64) + noise, -1, 1)
    here = np.asarray(position, np.float64)
    for _ in range(10):
        for axis in range(2):
            there = here.copy()
            there[axis] += velocity[axis] / 10
            if is_free(there):
                here = there
    return here


PLAN = """
    00000100000 00000100000 00000000000 00000100000 00000100000 10111100000
    00000111011 00000100000 00000100000 00000000000 00000100000
"""


def test_the_walls_are_the_published_ones() -> None:
    plan = np.array([[int(mark) for mark in row] for row in PLAN.split()])
    assert plan.shape == (11, 11) and np.array_equal(WALLS, np.kron(plan, np.ones((3, 3))))


def test_outside_is_wall() -> None:
    edge = [[-0.01, 3], [3, -0.01], [33, 3], [3, 33], [1e9, 3], [-1e9, 3]]
    assert not is_free(edge).any() and is_free([[0, 0], [32.999, 32.999]]).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_ten_substeps_blocked_axis_by_axis(seed: int) -> None:
    generator = np.random.default_rng(seed)
    where = positions(1500, seed)
    # Close to edges, where order and timing of the axes matter.
    where[::2] = np.clip(np.round(where[::2]) + generator.normal(0, 0.3, (750, 2)), 0, 32.99)
    where = where[is_free(where)]
    action, noise = generator.uniform(-1, 1, where.shape), generator.standard_normal(len(where))
    expected = [literal_step(*row) for row in zip(where, action, noise, strict=True)]
    assert np.allclose(step_many(where, action, noise), expected, atol=1e-5)


def test_corners_are_passed_as_the_substeps_say() -> None:
    """By hand, at the door in the wall i in [15, 18), open for j in [3, 6).

    From (14.95, 2.95) with velocity (1, 1): i is blocked at once, j enters cell 3 in substep 1,
    and from substep 2 on i is free: nine substeps. From (14.95, 5.95) with velocity (1, 1): i
    enters the door in substep 1, j would leave it into the wall and stays.
    """
    moved = step_many([[14.95, 2.95], [14.95, 5.95]], [[1, 1], [1, 1]], [0.0, 0.0])
    assert np.allclose(moved, [[15.85, 3.95], [15.95, 5.95]], atol=1e-5)


def test_one_number_of_noise_moves_both_axes_and_the_sum_is_clipped() -> None:
    moved = step_many([[8.0, 8.0]] * 3, [[0.5, -0.5], [0.5, -0.5], [0, 0]], [0.2, 3.0, -0.4])
    assert np.allclose(moved, [[8.7, 7.7], [9.0, 9.0], [7.6, 7.6]], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), strength=st.floats(0, 5))
def test_walls_are_never_crossed(seed: int, strength: float) -> None:
    """Every point on the way of every axis is free, from edges and corners too."""
    generator = np.random.default_rng(seed)
    cells = np.argwhere(~WALLS)[generator.integers(WALLS.size - WALLS.sum(), size=200)]
    inside = generator.choice([0, 1e-6, 0.1, 0.5, 0.9, 0.999999], size=(200, 2))
    where = (cells + inside).astype(np.float32)
    where = where[is_free(where)]
    action = generator.choice([-1, -0.999, -0.1, 0, 0.3, 1], size=where.shape)
    for _ in range(10):
        moved = step_many(where, action, strength * generator.standard_normal(len(where)))
        assert is_free(moved).all() and np.abs(moved - where).max() <= 1 + 1e-5
        straight = is_free(np.stack([moved[:, 0], where[:, 1]], -1))
        sideways = is_free(np.stack([where[:, 0], moved[:, 1]], -1))
        assert (straight | sideways).all()
        where = moved


def test_rounding_does_not_carry_over_two_edges() -> None:
    """0.9999999 + 1 rounds to 2, which would be the second edge."""
    start = np.nextafter(np.float32(9), np.float32(0))
    moved = step_many([[start, 8.5]], [[1, 0]], [0.0])
    assert np.floor(moved[0, 0]) == 9


def test_start_and_goal_are_uniform_and_far_apart() -> None:
    env = gymnasium.make(ROOMS)
    first = [env.reset(seed=seed)[0] for seed in range(1500)]
    start, goal = (np.stack([x[key] for x in first]) for key in ("observation", "desired_goal"))
    assert is_free(start).all() and is_free(goal).all()
    assert (np.linalg.norm(start - goal, axis=-1) >= 15).all()
    # Each quadrant holds about a quarter of the free space.
    share = np.bincount((start > SIDE / 2) @ [2, 1], minlength=4) / 1500
    free = np.argwhere(~WALLS) + 0.5
    expected = np.bincount((free > SIDE / 2) @ [2, 1], minlength=4) / len(free)
    assert np.abs(share - expected).max() < 0.05


def test_corners_are_far_from_the_start_and_equally_likely() -> None:
    env = gymnasium.make(FOUR)
    first = [env.reset(seed=seed)[0] for seed in range(800)]
    task = np.stack([x["desired_goal"] for x in first])
    start = np.stack([x["observation"] for x in first])
    goals = CORNERS[task.argmax(-1)]
    assert is_free(CORNERS).all() and (task.sum(-1) == 1).all()
    assert (np.linalg.norm(start - goals, axis=-1) >= 15).all()
    assert np.abs(task.mean(0) - 0.25).max() < 0.06


def test_success_is_judged_after_the_step() -> None:
    env = gymnasium.make(ROOMS, noise=0.0)
    env.reset(seed=0, options={"start": [8, 8], "goal": [8, 10.5]})
    assert env.step(np.array([0, 1], np.float32))[1:3] == (-1.0, False)
    observation, reward, terminated, truncated, info = env.step(np.array([0, 0.5], np.float32))
    assert np.allclose(observation["achieved_goal"], [8, 9.5])
    assert (reward, terminated, truncated, info) == (0.0, True, False, {"is_success": True})


def test_without_ends_an_episode_goes_on_at_the_goal() -> None:
    env = gymnasium.make(ROOMS, noise=0.0, ends=False)
    env.reset(options={"start": [8, 8], "goal": [8, 8]})
    told = [env.step(np.zeros(2, np.float32))[1:] for _ in range(HORIZON)]
    going_on = (0.0, False, False, {"is_success": True})
    assert told[:-1] == [going_on] * (HORIZON - 1) and told[-1][:3] == (0.0, False, True)


def test_noise_does_not_run_out() -> None:
    env = FourRooms(ends=False)
    env.reset(seed=0)
    seen = [env.step(np.zeros(2))[0]["observation"] for _ in range(2 * HORIZON + 5)]
    assert len(np.unique(seen, axis=0)) > HORIZON


def test_the_corner_is_chosen_by_its_number() -> None:
    env = gymnasium.make(FOUR)
    observation, _ = env.reset(options={"start": [8, 8], "goal": 2})
    assert observation["desired_goal"].tolist() == [0, 0, 1, 0]
    assert observation["observation"].tolist() == [8, 8]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (ROOMS, {"begin": [1, 1]}, r"options has \['begin'\]; known are 'start' and 'goal'"),
        (ROOMS, {"start": [15.5, 9.5]}, r"start is \[15.5, 9.5\]: it must be a position \[2\]"),
        (ROOMS, {"goal": [33, 0]}, "goal is .* that is not in a wall"),
        (ROOMS, {"goal": [np.nan, 0]}, "goal is .* that is not in a wall"),
        (ROOMS, {"goal": 3}, "goal is 3: it must be a position"),
        (FOUR, {"goal": 4}, "goal is 4: it must be the number of a corner, 0 to 3"),
    ],
)
def test_options_are_refused(name: str, options: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        gymnasium.make(name).reset(options=options)


@pytest.mark.parametrize("given", [{"radius": 0}, {"noise": -1}, {"apart": 21}])
def test_arguments_are_refused(given: dict) -> None:
    with pytest.raises(ValueError, match="radius must be above 0, noise at least 0, and apart"):
        FourRooms(**given)


def test_the_shortest_path_reaches_the_goals() -> None:
    done = rollout(shortest_path, ROOMS, episodes=200, seed=0)
    assert done.successes.mean() == 1.0 and done.lengths.mean() < 45
    corners = rollout(
        lambda seen, task: shortest_path(seen, CORNERS[task.argmax(-1)]), FOUR, episodes=50, seed=0
    )
    assert corners.successes.mean() >= 0.96


def test_random_actions_reach_nothing() -> None:
    generator = np.random.default_rng(0)
    done = rollout(
        lambda seen, task: generator.uniform(-1, 1, seen.shape), ROOMS, episodes=100, seed=0
    )
    assert done.successes.mean() <= 0.02


def test_margin_is_part_of_the_task_and_can_be_chosen() -> None:
    env = gymnasium.make("Hindsight/FourMargins-v0").unwrapped
    observation, _ = env.reset(seed=0, options={"start": [2, 2], "goal": [4, 2, 2.5]})
    assert observation["desired_goal"].tolist() == [4.0, 2.0, 2.5]
    tasks = np.array([[4, 2, 2.0], [4, 2, 1.9]], np.float32)
    assert env.compute_reward(np.array([2, 2]), tasks).tolist() == [0.0, -1.0]
    drawn = [env.reset(seed=seed)[0]["desired_goal"][2] for seed in range(200)]
    assert 0.3 <= min(drawn) < 0.5 and 2.8 < max(drawn) <= 3.0
    for goal in ([4, 2], [4, 2, 3.5]):
        with pytest.raises(ValueError, match="it must be a position and a margin in"):
            env.reset(options={"goal": goal})
    with pytest.raises(ValueError, match="not in a wall"):
        env.reset(options={"goal": [16, 1, 1]})
    with pytest.raises(TypeError, match="FourMargins takes no radius: its tasks have margins"):
        gymnasium.make("Hindsight/FourMargins-v0", radius=1.0)
