"""How the layouts of other tools are read: borders, ends, what follows them, and actions.

The table of docs/logs.md says the same in words.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import foreign_logs as foreign
import layout_files as layouts
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "logs.md"
TERMINATED, CUT, BOTH = [3, 7], [4], [3, 4, 7]
IMITATION = {
    **{"observation": "obs", "action": "acts", "reward": "rews", "split_indices": "indices"},
    **{"done": "terminal", "done_means": "terminated"},
}
LIMITS = {"low": [-1.0, -1.0], "high": [1.0, 1.0]}
OPEN = {"low": None, "high": None}


class Layout(NamedTuple):
    """How a layout must be read.

    Args:
        name: As the table of the guide calls it.
        write: Writes it below a folder.
        columns: Column map.
        terminated: Rows that terminate.
        truncated: Rows that are cut.
        following: First entry of the next observation of rows 3, 4 and 7.
        bounds: Bounds of the actions, which are as logged.
    """

    name: str
    write: Callable[[Path], Path]
    columns: Any
    terminated: list[int]
    truncated: list[int]
    following: list[float]
    bounds: dict[str, Any] = OPEN


LAYOUTS = [
    Layout("D4RL", layouts.d4rl, None, TERMINATED, CUT, [3, 100, 202]),
    Layout("D4RL", lambda path: layouts.d4rl(path, True), None, TERMINATED, CUT, [4, 101, 203]),
    Layout("d3rlpy 1", layouts.d3rlpy_1, None, TERMINATED, CUT, [3, 100, 202]),
    Layout("d3rlpy 1", layouts.d3rlpy_1, "d3rlpy", TERMINATED, CUT, [3, 100, 202]),
    Layout("OGBench", layouts.ogbench, "ogbench", [], BOTH, [4, 101, 203]),
    Layout(
        "Minari 0.5",
        lambda path: foreign.minari(path / "minari"),
        None,
        TERMINATED,
        CUT,
        [4, 101, 203],
        LIMITS,
    ),
    Layout("RLlib", layouts.rllib, None, TERMINATED, CUT, [4, 101, 203]),
    Layout(
        "LeRobot 2.1",
        lambda path: foreign.lerobot(path / "lerobot", "v2.1"),
        None,
        [],
        BOTH,
        [3, 100, 202],
    ),
    Layout(
        "LeRobot 3.0",
        lambda path: foreign.lerobot(path / "lerobot", "v3.0"),
        None,
        [],
        BOTH,
        [3, 100, 202],
    ),
    Layout("RLDS steps", layouts.rlds, "rlds_steps", TERMINATED, CUT, [4, 101, 203]),
    Layout("diffusion policy", layouts.diffusion_policy, None, [], BOTH, [3, 100, 202]),
    Layout("imitation", layouts.imitation, IMITATION, TERMINATED, CUT, [4, 101, 203]),
]


def rows_with(log: Log, flag: str) -> list[int]:
    return log.column(("next", flag)).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_is_read_as_its_tool_means_it(layout: Layout, tmp_path: Path) -> None:
    log = read_log(layout.write(tmp_path), layout.columns)
    made = foreign.columns()
    np.testing.assert_array_equal(log.column("observation"), made["observation"])
    assert (log.column("step")[log.episode_ends()] + 1).tolist() == list(foreign.LENGTHS)
    assert rows_with(log, "terminated") == layout.terminated
    assert rows_with(log, "truncated") == layout.truncated
    after = log.column(("next", "observation"))
    assert after[foreign.LAST, 0].tolist() == layout.following
    inside = np.setdiff1d(np.arange(foreign.ROWS), foreign.LAST)
    np.testing.assert_array_equal(after[inside], made["next_observation"][inside])
    np.testing.assert_array_equal(log.column("action"), made["action"])
    assert log.info["action"] == layout.bounds
    if layout.name not in ("OGBench", "diffusion policy"):
        np.testing.assert_array_equal(log.column(("next", "reward")), made["reward"])


@pytest.mark.parametrize("layout", LAYOUTS[2:], ids=lambda layout: layout.name)
def test_scale_and_bounds_of_the_map_hold_for_every_layout(layout: Layout, tmp_path: Path) -> None:
    from hindsight_rl.logs.reading.column_map import ColumnMap

    given = ColumnMap.load(layout.columns).given()
    more = {"action_scale": 2.0, "action_low": -2.0, "action_high": 2.0}
    log = read_log(layout.write(tmp_path), given | more)
    np.testing.assert_array_equal(log.column("action"), 2 * foreign.columns()["action"])
    assert log.info["action"] == {"low": [-2.0] * 2, "high": [2.0] * 2}


GROUPS = r"each of 3 groups holds an episode \(data/demo_0, data/demo_1, data/demo_2\), and columns"
ONE = "`action: data/demo_0/actions`"
PATTERN = {"action": "data/demo_*/actions", "observation": "data/demo_*/obs/joints", "reward": 0.0}
LISTED = {
    "action": ["data/demo_0/actions", "data/demo_2/actions"],
    "observation": "data/demo_0/obs/joints",
    "reward": 0.0,
    "episode_length": 2,
}


@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("columns", [None, {"reward": 0.0}, PATTERN, LISTED])
def test_groups_of_episodes_are_refused(
    columns: Any, equal: bool, flags: bool, tmp_path: Path
) -> None:
    with pytest.raises(LogError, match=f"{GROUPS}.*{ONE}"):
        read_log(layouts.by_group(tmp_path, equal, flags), columns)


def test_one_group_is_read_alone(tmp_path: Path) -> None:
    group = "data/demo_0"
    columns = {"action": f"{group}/actions", "observation": f"{group}/obs/joints"}
    columns |= {"reward": f"{group}/rewards", "terminated": f"{group}/dones"}
    log = read_log(layouts.by_group(tmp_path), columns)
    assert log.episodes == 1 and rows_with(log, "terminated") == [3]


def test_groups_of_one_log_are_joined(tmp_path: Path) -> None:
    """Two arms: the reward and the episodes lie beside them."""
    made = foreign.columns()
    values = {f"arm_{i}/{n}": made[n] for i in range(2) for n in ("observation", "action")}
    values |= {n: made[n] for n in ("reward", "terminated", "truncated")}
    path = foreign.hdf5(tmp_path / "arms.hdf5", values)
    log = read_log(path, {"observation": "arm_*/observation", "action": "arm_*/action"})
    assert log.shape("action") == (4,) and log.episodes == 3


@pytest.mark.parametrize(
    "columns",
    [
        None,
        {"observation": "observations_*", "action": "actions_*", "reward": 0.0},
        {"observation": "observations_*", "action": "actions_*", "reward": "rewards_0"},
    ],
)
def test_columns_numbered_by_episode_are_refused(columns: Any, tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"each of 3 groups holds an episode \(..._0, .*actions_0`"):
        read_log(layouts.d3rlpy_2(tmp_path), columns)


REFUSED = {
    "RLDS steps": (
        layouts.rlds,
        None,
        r"holds is_first and is_last and is_terminal, as RLDS does.*column map to rlds_steps.*"
        r"\{episode_end: is_last, terminated: is_terminal, last_row: step\}",
    ),
    "RLDS steps, ends named": (layouts.rlds, {"episode_end": "is_last"}, "last_row: observation"),
    "OGBench": (layouts.ogbench, None, "column 'terminals': .*Set the column map to ogbench"),
    "OGBench, reward": (layouts.ogbench, {"reward": 0.0}, "Set the column map to ogbench"),
    "Minari 0.4": (layouts.minari_4, None, "from before Minari 0.5.*again with Minari 0.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layout_that_needs_a_map_is_refused_with_it(case: str, tmp_path: Path) -> None:
    write, columns, told = REFUSED[case]
    with pytest.raises(LogError, match=told):
        read_log(write(tmp_path), columns)


def test_the_main_file_of_an_old_minari_dataset_is_refused_too(tmp_path: Path) -> None:
    folder = layouts.minari_4(tmp_path) / "data"
    for path in (folder, folder / "main_data.hdf5"):
        with pytest.raises(LogError, match="from before Minari 0.5"):
            read_log(path)


def test_the_guide_has_a_row_for_every_layout() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", GUIDE.read_text(), re.M)
    wanted = {layout.name for layout in LAYOUTS} | {"Minari 0.4"}
    wanted |= {"robomimic, MimicGen, LIBERO", "Isaac Lab", "ALOHA"}
    assert wanted <= set(rows)
