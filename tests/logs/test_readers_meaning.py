"""What the columns of a column map mean: episodes, ends, next observations, actions, facts."""

import warnings
from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log


def without(values: dict, *names: str) -> dict:
    return {name: value for name, value in values.items() if name not in names}


def test_one_observation_more_than_actions(tmp_path: Path) -> None:
    made = foreign.columns()
    seen = np.insert(
        made["observation"], foreign.LAST + 1, made["next_observation"][foreign.LAST], 0
    )
    values = without(made, "next_observation", "episode") | {"observation": seen}
    values |= {"split_indices": np.array([4, 5])}
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    foreign.expect_same(log)
    assert log.info["repeated_next_observation"] == 0


@pytest.mark.parametrize(
    ("delimiter", "value"),
    [
        ("episode_end", np.isin(np.arange(8), foreign.LAST)),
        ("split_indices", np.array([0, 4, 5, 8])),
        ("split_indices", np.array([4, 5])),
    ],
)
def test_delimiters(delimiter: str, value: np.ndarray, tmp_path: Path) -> None:
    values = without(foreign.columns(), "episode") | {"mark": value}
    foreign.expect_same(read_log(foreign.npz(tmp_path / "log.npz", values), {delimiter: "mark"}))


def test_flags_and_jumps_delimit_too(tmp_path: Path) -> None:
    values = without(foreign.columns(), "episode")
    path = foreign.npz(tmp_path / "log.npz", values)
    foreign.expect_same(read_log(path))
    foreign.expect_same(read_log(path, {"episode_jump": True}))


def test_fixed_length(tmp_path: Path) -> None:
    values = without(foreign.columns(), "episode", "terminated", "truncated", "step")
    path = foreign.npz(tmp_path / "log.npz", values)
    log = read_log(path, {"episode_length": 4})
    assert log.column("step").tolist() == [0, 1, 2, 3] * 2
    assert log.column(("next", "truncated")).tolist() == [False, False, False, True] * 2
    with pytest.raises(LogError, match="8 rows are no multiple of episode_length 3"):
        read_log(path, {"episode_length": 3})


def test_the_last_episode_may_be_unfinished(tmp_path: Path) -> None:
    values = without(foreign.columns(), "episode")
    values["terminated"] = values["terminated"] & (np.arange(8) < 7)
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    assert log.episodes == 3 and log.column(("next", "truncated")).tolist()[-1]


def done_log(path: Path) -> Path:
    values = without(foreign.columns(), "terminated", "truncated")
    return foreign.npz(path / "log.npz", values | {"done": np.isin(np.arange(8), foreign.LAST)})


@pytest.mark.parametrize(
    ("means", "terminated"),
    [
        ({"done_means": "terminated"}, [3, 4, 7]),
        ({"done_means": "truncated"}, []),
        ({"done_means": "time_limit", "time_limit": 4}, [4, 7]),
    ],
)
def test_what_done_means(means: dict, terminated: list[int], tmp_path: Path) -> None:
    log = read_log(done_log(tmp_path), means)
    assert log.column(("next", "terminated")).nonzero()[:, 0].tolist() == terminated
    ends = log.column(("next", "terminated")) | log.column(("next", "truncated"))
    assert ends.nonzero()[:, 0].tolist() == foreign.LAST.tolist()


def test_done_must_say_what_it_means(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="column 'done', row 3: done can mean that the task ended"):
        read_log(done_log(tmp_path))
    with pytest.raises(LogError, match="row 3: the episode has 4 steps, time_limit is 3"):
        read_log(done_log(tmp_path), {"done_means": "time_limit", "time_limit": 3})


def test_done_that_is_never_set_means_nothing(tmp_path: Path) -> None:
    values = without(foreign.columns(), "terminated", "truncated") | {"done": np.zeros(8)}
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    assert log.column(("next", "truncated")).sum() == 3


def test_the_hint_counts_equal_lengths(tmp_path: Path) -> None:
    values = without(foreign.columns(), "terminated", "truncated", "episode", "step")
    values |= {"done": np.arange(8) % 2 == 1}
    with pytest.raises(LogError, match=r"\(4 of 4 stop after exactly 2 steps: a time limit\?\)"):
        read_log(foreign.npz(tmp_path / "log.npz", values), {"episode_length": 2})


def test_next_observation_shifted_ignores_what_is_stored(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    log = read_log(path, {"next_observation": "shifted"})
    foreign.expect_same(log, next_at_cut=100)
    assert log.info["repeated_next_observation"] == 1


def test_a_next_observation_is_not_guessed_for_another_observation(tmp_path: Path) -> None:
    values = foreign.columns() | {"sensors": foreign.columns()["observation"] + 7}
    path = foreign.npz(tmp_path / "log.npz", values)
    log = read_log(path, {"observation": "sensors"})
    assert log.column(("next", "observation"))[0].tolist() == values["sensors"][1].tolist()


def test_a_reset_in_the_next_observation_is_refused(tmp_path: Path) -> None:
    """Twenty episodes of 10 steps, each from 0 to 9; the stored next of 9 is the 0 after the reset.

    The same numbers as one continuous count, cut into pieces, are as they should be.
    """
    count = np.tile(np.arange(10.0), 20)
    values = {
        "observation": count[:, None],
        "next_observation": np.roll(count, -1)[:, None],
        "action": np.zeros((200, 1)),
        "reward": np.zeros(200),
    }
    path = foreign.npz(tmp_path / "log.npz", values)
    with pytest.raises(
        LogError, match="row 9: at 19 of 19 cut episodes the next observation is al"
    ):
        read_log(path, {"episode_length": 10})
    assert read_log(path, {"episode_length": 10, "next_observation": "shifted"}).episodes == 20
    running = np.arange(200.0)[:, None]
    values |= {"observation": running, "next_observation": running + 1}
    assert read_log(foreign.npz(path, values), {"episode_length": 10}).episodes == 20


def test_actions_in_environment_units(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    log = read_log(
        path,
        {
            "action_scale": [2.0, 0.5],
            "action_offset": 1.0,
            "action_low": [-1.0, 0.5],
            "action_high": [3, 1.5],
        },
    )
    logged = foreign.columns()["action"]
    np.testing.assert_allclose(log.column("action"), logged * [2.0, 0.5] + 1, rtol=1e-6)
    assert log.info["action"] == {"low": [-1.0, 0.5], "high": [3.0, 1.5]}
    assert "clipped_actions" not in log.info


def test_clipping_is_asked_for_and_counted(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    log = read_log(path, {"action_low": -0.5, "action_high": 0.5, "clip": True})
    assert log.column("action").abs().max() == 0.5
    assert log.info["clipped_actions"] == int((np.abs(foreign.columns()["action"]) > 0.5).sum())


@pytest.mark.parametrize(
    ("action", "fix"),
    [
        (np.arange(8) % 3 + 0.0, "set `discrete_actions: true`"),
        (np.eye(2)[np.arange(8) % 2], "give one number per row"),
        (np.stack([np.arange(8) % 3, np.arange(8) % 2], 1), "give one number per row"),
    ],
)
def test_whole_numbers_read_as_real_ones_are_warned_of(
    action: np.ndarray, fix: str, tmp_path: Path
) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns() | {"action": action})
    with pytest.warns(UserWarning, match=f"every action is a whole number.*{fix}"):
        assert read_log(path).shape("action") == (action[0].size,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_log(path, {"discrete_actions": False})
        read_log(path, {"action_low": 0, "action_high": 5})
        read_log(foreign.npz(tmp_path / "half.npz", foreign.columns() | {"action": action / 2}))
        read_log(foreign.npz(tmp_path / "sign.npz", foreign.columns() | {"action": action - 1}))


def test_flags_are_choices(tmp_path: Path) -> None:
    values = foreign.columns() | {"action": np.arange(8) % 2 == 1}
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    assert log.info["discrete_actions"] == 2
    assert log.column("action").tolist() == [0, 1] * 4


def test_discrete_actions(tmp_path: Path) -> None:
    values = foreign.columns() | {"action": np.array([0, 1, 0, 1, 1, 0, 2, 0], np.int8)}
    path = foreign.npz(tmp_path / "log.npz", values)
    log = read_log(path)
    assert log.column("action").tolist() == values["action"].tolist()
    assert log.shape("action") == () and log.info["discrete_actions"] == 3
    assert read_log(path, {"action_count": 5}).info["discrete_actions"] == 5
    assert read_log(path, {"discrete_actions": False}).shape("action") == (1,)
    column = values | {"action": values["action"][:, None].astype(float)}
    path = foreign.npz(tmp_path / "column.npz", column)
    assert read_log(path, {"discrete_actions": True}).shape("action") == ()
    assert read_log(path).shape("action") == (1,)


def test_images_stay_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 4, 4, 3), np.uint8)
    values = without(foreign.columns(), "next_observation") | {"observation": images}
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    np.testing.assert_array_equal(log.column("observation"), images)
    np.testing.assert_array_equal(log.column(("next", "observation"))[0], images[1])
    assert "observation" not in log.info["names"]


def test_goals_of_plain_columns(tmp_path: Path) -> None:
    goal = np.arange(8.0)[:, None]
    values = foreign.columns() | {"achieved_goal": goal, "desired_goal": goal + 50}
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    assert log.column("task")[:, 0].tolist() == list(range(50, 58))
    assert log.column(("next", "achieved_goal"))[:, 0].tolist() == [1, 2, 3, 3, 4, 6, 7, 7]
    values |= {"next_achieved_goal": goal + 1}
    log = read_log(foreign.npz(tmp_path / "log.npz", values))
    assert log.column(("next", "achieved_goal"))[:, 0].tolist() == list(range(1, 9))
    log = read_log(foreign.npz(tmp_path / "log.npz", without(values, "achieved_goal")))
    assert log.column(("next", "achieved_goal"))[:, 0].tolist() == list(range(1, 9))
    with pytest.raises(LogError, match="no 'achieved_goal'.*in the column map: 'achieved_goal:"):
        log.column("achieved_goal")


def test_names_units_and_rate(tmp_path: Path) -> None:
    facts = {"names": {"action": ["left", "right"]}, "units": {"action": ["N m", "N m"]}}
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    log = read_log(path, facts | {"control_rate_hz": 50})
    assert log.info["names"]["action"] == ["left", "right"]
    assert log.info["units"] == facts["units"] and log.info["control_rate_hz"] == 50.0
    with pytest.raises(LogError, match="1 names for 2 dimensions of action"):
        read_log(path, {"names": {"action": ["left"]}})
    with pytest.raises(LogError, match="3 units for 2 dimensions of observation"):
        read_log(path, {"units": {"observation": ["m", "m", "m"]}})


def test_a_log_without_rewards_says_so(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", without(foreign.columns(), "reward"))
    with pytest.raises(LogError, match="no column looks like the reward"):
        read_log(path)
    assert read_log(path, {"reward": 0.5}).column(("next", "reward")).tolist() == [0.5] * 8


@pytest.mark.parametrize(
    ("low", "stated"),
    [
        ("[-.inf, -1]", [None, -1.0]),
        ("[null, -1]", [None, -1.0]),
        ("-.inf", None),
        ("[-.inf, null]", None),
        ("-1e39", None),
        ("-1e0", [-1.0, -1.0]),
    ],
)
def test_dimensions_without_a_bound(low: str, stated: list | None, tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    log = read_log(path, "{action_low: " + low + ", action_high: 1.0}")
    foreign.expect_same(log)
    assert log.info["action"] == {"low": stated, "high": [1.0, 1.0]}
    log.save(tmp_path / "saved")
    assert Log.load(tmp_path / "saved").info["action"] == log.info["action"]


def test_a_bound_on_one_side_is_held_and_clipped_to(tmp_path: Path) -> None:
    made = foreign.columns() | {"action": np.linspace([-4.0, -2.0], [4.0, 2.0], 8)}
    path = foreign.npz(tmp_path / "log.npz", made)
    bounds = {"action_low": [None, -1.0], "action_high": [3.0, float("inf")]}
    with pytest.raises(LogError, match=r"row 0: action\[1\] = -2 lies outside \[-1.0, inf\]"):
        read_log(path, bounds)
    log = read_log(path, bounds | {"clip": True})
    expected = np.minimum(made["action"][:, 0], 3), np.maximum(made["action"][:, 1], -1)
    np.testing.assert_allclose(log.column("action").T, expected, rtol=1e-6)
    assert log.info["clipped_actions"] == 1 + 2


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"action_low": float("inf")}, r"action_low is inf in one .* Write null or -.inf where"),
        ({"action_high": [1.0, float("-inf")]}, r"action_high is -inf in .* null or .inf where"),
        ({"action_low": float("nan")}, "action_low is nan"),
        ({"action_scale": float("inf")}, "action_scale is not finite. Give finite numbers"),
        ({"action_low": [None, None, None]}, "action_low has 3 numbers for 2 action dimensions"),
    ],
)
def test_bounds_that_no_action_can_keep(bounds: dict, told: str, tmp_path: Path) -> None:
    with pytest.raises(LogError, match=told):
        read_log(foreign.npz(tmp_path / "log.npz", foreign.columns()), bounds)
