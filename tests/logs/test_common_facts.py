"""Facts of several sources: equal, or refused with both named; never those of the first."""

from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
from small_logs import small

from hindsight_rl.logs.append import append
from hindsight_rl.logs.common_facts import SourceFacts, joint_facts
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_logs


def joint(*infos: dict[str, Any]) -> dict[str, Any]:
    return joint_facts([SourceFacts(f"log{i}", info) for i, info in enumerate(infos)])


BOUNDS = {"action": {"low": [-1.0], "high": [1.0]}}
DIFFERENT = {
    "low": (BOUNDS, {"action": {"low": [-2.0], "high": [1.0]}}),
    "open": (BOUNDS, {"action": {"low": [-1.0], "high": [None]}}),
    "start": ({"action_start": 1}, {}),
    "family": ({"task_family": "goal"}, {"task_family": "return"}),
    "rate": ({"control_rate_hz": 50.0}, {"control_rate_hz": 25.0}),
    "names": ({"names": {"observation": ["x", "v"]}}, {"names": {"observation": ["v", "x"]}}),
    "units": ({"units": {"action": ["N"]}}, {"units": {"action": ["mN"]}}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_meaning_is_refused_and_both_are_named(name: str) -> None:
    one, other = DIFFERENT[name]
    for pair in ((one, other), (other, one), (one, one, other)):
        with pytest.raises(LogError) as raised:
            joint(*pair)
        told = str(raised.value)
        assert "log0" in told and f"log{len(pair) - 1}" in told
    assert joint(one, dict(one)) == one


@pytest.mark.parametrize("one", [BOUNDS, {"task_family": "goal"}, {"rate_limit": [2.0]}])
def test_what_gives_rows_their_meaning_is_stated_by_all_or_none(one: dict[str, Any]) -> None:
    for pair, silent in (((one, {}), "log1"), (({}, one), "log0")):
        with pytest.raises(LogError, match=f"^{silent}: .* is not known, and .*state it for both"):
            joint(*pair)
    assert joint({}, {}) == {}


@pytest.mark.parametrize(
    "one",
    [
        {"names": {"observation": ["x", "v"]}},
        {"units": {"observation": ["m", "m/s"]}},
        {"control_rate_hz": 50.0},
    ],
)
def test_what_only_describes_is_taken_with_a_warning(one: dict[str, Any]) -> None:
    for pair in ((one, {}), ({}, one)):
        with pytest.warns(UserWarning, match=r"log\d: .* is not known, and taken to be that of"):
            assert joint(*pair) == one


def test_names_that_count_dimensions_are_not_known() -> None:
    counted = {"names": {"observation": ["observation[0]", "observation[1]"]}}
    other = {"names": {"observation": ["obs_0", "obs_1"]}}
    assert joint(counted, other) == counted
    named = {"names": {"observation": ["hip_0", "hip_1"]}}
    with pytest.warns(UserWarning, match="log0: names of the observation is not known"):
        assert joint(counted, named) == named
    with pytest.raises(LogError, match="names of the observation"):
        joint(named, {"names": {"observation": ["knee_0", "knee_1"]}})
    with pytest.raises(LogError, match="names of the observation"):
        joint({"names": {"observation": ["obs_1", "obs_0"]}}, named)


def test_bounds_may_differ_by_the_precision_of_float32() -> None:
    assert joint({"action": {"low": [0.1]}}, {"action": {"low": [float(np.float32(0.1))]}})


def test_counts_are_summed_and_the_rest_is_equal_or_left_out() -> None:
    one = {"clipped_actions": 2, "discrete_actions": 2, "format": "csv", "task_names": ["a"]}
    other = {"clipped_actions": 3, "discrete_actions": 5, "format": "npz", "task_names": ["a"]}
    found = joint(one | {"source": "a"}, other | {"source": "b"})
    assert found == {
        "clipped_actions": 5,
        "discrete_actions": 5,
        "task_names": ["a"],
        "source": "a",
    }


def test_other_environments_are_named() -> None:
    with pytest.warns(UserWarning, match="log1 is of Ant-v5, and log0 of Hopper-v5: one policy"):
        assert joint({"environment": "Hopper-v5"}, {"environment": "Ant-v5"}) == {}
    same = {"environment": "Hopper-v5"}
    assert joint(same, same) == same


def test_reading_names_the_files(tmp_path: Path) -> None:
    """Of the issue: actions of 7.0 in one source, bounds of 1.0 in the map of the other alone."""
    made = foreign.columns()
    one = foreign.npz(tmp_path / "one.npz", made)
    other = foreign.npz(tmp_path / "other.npz", made | {"action": made["action"] * 7})
    bounds = {"action_low": -1.0, "action_high": 1.0}
    with pytest.raises(LogError, match=r"other.npz: action low is not known, and .*one.npz has"):
        read_logs([one, other], [bounds, None])
    for field, values in {
        "names": ({"observation": ["x", "y"]}, {"observation": ["y", "x"]}),
        "units": ({"action": ["N", "N"]}, {"action": ["kN", "N"]}),
        "control_rate_hz": (50, 25),
    }.items():
        with pytest.raises(LogError, match=r"other.npz: .* differs from .*one.npz"):
            read_logs([one, foreign.npz(other, made)], [{field: value} for value in values])


def test_logs_in_memory_and_on_disk_are_compared_too(tmp_path: Path) -> None:
    def log(rate: float) -> Log:
        made = small()
        return Log(made.blocks, made.info | {"control_rate_hz": rate}, made.sources)

    with pytest.raises(LogError, match="control_rate_hz: 25.0 differs from 50.0"):
        Log.concatenate([log(50.0), log(25.0)], [1, 1])
    log(50.0).save(tmp_path / "log")
    with pytest.raises(LogError, match="control_rate_hz: 25.0 differs from 50.0"):
        append(tmp_path / "log", log(25.0))
    append(tmp_path / "log", log(50.0))
    assert Log.load(tmp_path / "log").info["control_rate_hz"] == 50.0
