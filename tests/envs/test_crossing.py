"""The crossing gridworld: ALGORITHMS.md T8."""

import gymnasium
import numpy as np
import pytest

from hindsight_rl.envs.crossing import CELLS, GOALS, STARTS, TRAJECTORIES, Crossing

NAME = "Hindsight/Crossing-v0"
WAYS = {("A", "B"): "AaXuB", ("C", "D"): "CcXdD"}
UNREACHABLE = -20


def steps_to(state: str, goal: str) -> int | None:
    """Return the fewest steps between cells, found by trying every action."""
    reached, steps = {state}, 0
    while goal not in reached:
        following = reached | {moved(cell, action)[0] for cell in reached for action in range(3)}
        if following == reached:
            return None
        reached, steps = following, steps + 1
    return steps


def moved(cell: str, action: int, goal: str = "B") -> tuple[str, float, bool]:
    """Return where an action leads, with reward and end."""
    env = gymnasium.make(NAME)
    env.reset(options={"start": cell, "goal": goal})
    observation, reward, terminated, *_ = env.step(action)
    return list(CELLS)[observation["observation"].argmax()], reward, terminated


def test_the_trajectories_cross_in_one_cell() -> None:
    for (start, goal), actions in TRAJECTORIES.items():
        env = gymnasium.make(NAME)
        observation, _ = env.reset(options={"start": start, "goal": goal})
        states, told = [observation["observation"].argmax()], []
        for action in actions:
            observation, *rest = env.step(action)
            states.append(observation["observation"].argmax())
            told.append(tuple(rest[:2]))
        assert "".join(list(CELLS)[state] for state in states) == WAYS[start, goal]
        assert told == [(-1, False)] * 3 + [(0, True)]
    assert set("AaXuB") & set("CcXdD") == {"X"}


def test_values_of_the_two_trajectories() -> None:
    """T8's table: Q(s, a, g) = -(steps to g - 1), -20 where the action leads past the goal."""
    table = {}
    for (start, goal), actions in TRAJECTORIES.items():
        table[start] = []
        for cell, action in zip(WAYS[start, goal], actions, strict=False):
            after = [steps_to(moved(cell, action)[0], end) for end in GOALS]
            table[start].append(tuple(UNREACHABLE if k is None else -k for k in after))
    assert table == {
        "A": [(-3, -3), (-2, -2), (-1, -20), (0, -20)],
        "C": [(-3, -3), (-2, -2), (-20, -1), (-20, 0)],
    }


def test_every_start_reaches_every_goal() -> None:
    assert all(steps_to(start, goal) == 4 for start in STARTS for goal in GOALS)


def test_a_move_into_a_wall_stays() -> None:
    assert moved("A", 0) == ("A", -1, False) and moved("A", 2) == ("A", -1, False)
    assert moved("X", 1)[0] == "X" and moved("B", 1, "D") == ("B", -1, False)


def test_the_task_is_a_cell_and_so_is_what_is_achieved() -> None:
    observation, _ = gymnasium.make(NAME).reset(options={"start": "C", "goal": "B"})
    assert observation["achieved_goal"].tolist() == [2, 0]
    assert observation["desired_goal"].tolist() == [0, 4]
    assert observation["observation"].tolist() == list(np.eye(9)[5])


def test_starts_and_goals_are_drawn() -> None:
    env = gymnasium.make(NAME)
    first = [env.reset(seed=seed)[0] for seed in range(200)]
    drawn = {(*x["achieved_goal"], *x["desired_goal"]) for x in first}
    assert drawn == {(*CELLS[start], *CELLS[goal]) for start in STARTS for goal in GOALS}


def test_what_it_refuses() -> None:
    for options in ({"start": "Z"}, {"end": "B"}):
        with pytest.raises(ValueError, match="it may hold 'start' and 'goal', each one of A, a, X"):
            Crossing().reset(options=options)
    env = Crossing()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action is 3: it must be 0"):
        env.step(3)
