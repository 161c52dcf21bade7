"""The controller for point mazes: shortest ways, and that it arrives."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from hindsight_rl.cli.collect import main
from hindsight_rl.envs.behaviors import behaviors_for, record
from hindsight_rl.envs.waypoints import distances, waypoints
from hindsight_rl.logs.reading import read_log

MAP = [
    [1, 1, 1, 1, 1, 1],
    [1, 0, "g", 1, 0, 1],
    [1, 1, 0, 1, 1, 1],
    [1, 0, 0, "r", 0, 1],
    [1, 1, 1, 1, 1, 1],
]
GOAL = np.array([1.4, -3.6])


class Maze:
    """What a maze tells, its corner at the origin and its cells of one metre."""

    maze_map = MAP

    def cell_xy_to_rowcol(self, place: Any) -> Any:
        """Return row and column of a place."""
        return np.array([np.floor(-place[1]), np.floor(place[0])])

    def cell_rowcol_to_xy(self, cell: Any) -> Any:
        """Return the middle of a cell."""
        return np.array([cell[1] + 0.5, -cell[0] - 0.5])


def walk(noise: float, detours: int, seed: int, steps: int = 600) -> np.ndarray:
    """Return the places ``[T, 2]`` of a point without mass, until it is at the goal."""
    act = waypoints(Maze(), noise, detours, np.random.default_rng(seed))
    place, speed = np.array([4.3, -3.4]), np.zeros(2)
    seen = [place]
    while len(seen) < steps and np.linalg.norm(place - GOAL) > 0.1:
        state = np.concatenate([place, speed])
        force = act({"observation": state, "desired_goal": GOAL})
        assert force.shape == (2,) and force.dtype == np.float32 and np.abs(force).max() <= 1
        speed = force
        place = place + 0.1 * force
        seen.append(place)
    return np.stack(seen)


def cells(places: np.ndarray) -> list[tuple[int, int]]:
    """Return the cells that are passed, each once for every visit."""
    found = [tuple(Maze().cell_xy_to_rowcol(place).astype(int).tolist()) for place in places]
    return [cell for cell, before in zip(found, [None, *found], strict=False) if cell != before]


def test_distances_count_steps_round_walls() -> None:
    """By hand: one way leads from the left of the first row to the right of the third."""
    found = distances(MAP, (1, 1))
    free = {(1, 1): 0, (1, 2): 1, (2, 2): 2, (3, 2): 3, (3, 1): 4, (3, 3): 4, (3, 4): 5}
    for cell, steps in free.items():
        assert found[cell] == steps
    # A cell without a way, and walls.
    assert np.isfinite(found).sum() == len(free) and np.isinf(found[1, 4])


def test_the_way_is_the_shortest() -> None:
    places = walk(0.0, 0, seed=0)
    assert np.linalg.norm(places[-1] - GOAL) <= 0.1
    assert cells(places) == [(3, 4), (3, 3), (3, 2), (3, 1)]


def test_detours_come_before_the_goal() -> None:
    lengths = [len(walk(0.0, number, seed=1)) for number in (0, 3)]
    assert lengths[0] + 20 < lengths[1] < 600


def test_the_generator_decides_everything() -> None:
    first, again, other = (walk(0.5, 1, seed) for seed in (2, 2, 3))
    assert np.array_equal(first, again) and first.tolist() != other.tolist()


@pytest.mark.filterwarnings("ignore")
def test_mazes_of_gymnasium_robotics() -> None:
    pytest.importorskip("gymnasium_robotics")
    env = gymnasium.make("gymnasium_robotics:PointMaze_UMaze-v3", continuing_task=False)
    behaviors = {behavior.name: behavior for behavior in behaviors_for(env)}
    assert [name for name, behavior in behaviors.items() if behavior.good] == ["waypoints"]
    lengths = {}
    for name in ("waypoints", "detour"):
        runs = [record(env, behaviors[name], (0, i), 300) for i in range(10)]
        assert all(run.terminated for run in runs)
        lengths[name] = np.mean([len(run.rewards) for run in runs])
    assert lengths["waypoints"] < 80 < lengths["detour"]


@pytest.mark.filterwarnings("ignore")
def test_a_collected_maze_has_its_goal_as_task(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium_robotics")
    words = ["--env", "gymnasium_robotics:PointMaze_UMaze-v3", "--root", str(tmp_path)]
    words += ["--env_kwargs", '{"continuing_task": false}', "--output", "maze-v0"]
    assert main([*words, "--episodes", "3", "--good", "1"]) == 0
    log = read_log(tmp_path / "maze-v0")
    ends = log.episode_ends()
    assert log.column(("next", "terminated"))[ends].all() and log.shape("observation") == (4,)
    reached = log.column(("next", "achieved_goal"))[ends] - log.column("task")[ends]
    assert (reached.norm(dim=-1) <= 0.45).all()
