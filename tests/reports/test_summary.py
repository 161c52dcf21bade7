"""The numbers of a log, by hand on eight rows, and what is remarked on."""

import json
from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs import agreement
from hindsight_rl.logs.reading import survey, time_order
from hindsight_rl.reports.plots import plot
from hindsight_rl.reports.summary import Spread, Summary, summarize


def summary(path: Path, values: dict, columns: dict | None = None) -> Summary:
    return summarize(*survey(foreign.npz(path / "log.npz", values), columns))


def test_spread_by_hand() -> None:
    """Of 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5, quartiles 1.75, 2.5 and 3.75."""
    spread = Spread.of(np.array([1, 2, np.nan, 3, 6]))
    assert spread == Spread(3.0, 3.5**0.5, 1, 1.75, 2.5, 3.75, 6)
    assert np.isnan(Spread.of(np.array([np.nan])).mean)


def test_counts_and_returns(tmp_path: Path) -> None:
    """Rewards are 0 to 7; episodes of 4, 1 and 3 steps return 6, 4 and 18."""
    made = summary(tmp_path, foreign.columns())
    assert (made.transitions, made.episodes, made.terminated, made.truncated) == (8, 3, 2, 1)
    assert (made.returns.min, made.returns.median, made.returns.max) == (4, 6, 18)
    assert made.returns.mean == pytest.approx(28 / 3)
    assert (made.length.min, made.length.max) == (1, 4)
    assert made.problems == () and made.action_counts is None


def test_columns_are_described(tmp_path: Path) -> None:
    values = foreign.columns()
    values["observation"] = np.stack([np.arange(8.0), np.arange(8.0), np.full(8, 3.0)], 1)
    del values["next_observation"]
    described = {(c.key, c.name): c for c in summary(tmp_path, values).columns}
    copy = described["observation", "observation[1]"]
    assert copy.same_as == "observation observation[0]" and not copy.constant
    assert described["observation", "observation[2]"].constant
    assert described["observation", "observation[0]"].same_as is None
    assert described["next.reward", "next.reward"].spread.max == 7


def test_a_task_is_described_too(tmp_path: Path) -> None:
    values = foreign.columns() | {"desired_goal": np.ones((8, 2))}
    keys = [column.key for column in summary(tmp_path, values).columns]
    assert keys.count("task") == 2 and "episode" not in keys


@pytest.mark.parametrize("span", [1, 2, 3, 100])
def test_broken_chains_are_counted_across_spans(
    span: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of 4, 1 and 3 steps have 3 + 0 + 2 steps that another follows; two are broken."""
    monkeypatch.setattr(time_order, "SPAN", span)
    monkeypatch.setattr(agreement, "SPAN", span)
    values = foreign.columns()
    values["next_observation"] = values["next_observation"].copy()
    values["next_observation"][[1, 5]] += 100
    assert any(
        remark.startswith("40 % of next observations differ")
        for remark in summary(tmp_path, values).remarks
    )


def test_share_of_actions_at_their_bounds(tmp_path: Path) -> None:
    """The two action columns hold -1 to 13/15 and -13/15 to 1, clipped at 0.5 below and above."""
    columns = {"action_low": -0.5, "action_high": 0.5, "clip": True}
    made = summary(tmp_path, foreign.columns(), columns)
    action = [column for column in made.columns if column.key == "action"]
    logged = foreign.columns()["action"]
    assert action[0].at_low == (logged[:, 0] <= -0.5).mean() > 0
    assert action[1].at_high == (logged[:, 1] >= 0.5).mean() > 0
    assert made.clipped_actions == (np.abs(logged) > 0.5).sum()
    free = [c for c in summary(tmp_path, foreign.columns()).columns if c.key == "action"]
    assert free[0].at_low == 1 / 8 and free[0].at_high == 1 / 8


def test_discrete_actions_are_counted(tmp_path: Path) -> None:
    values = foreign.columns() | {"action": np.array([0, 1, 0, 1, 1, 0, 1, 1])}
    made = summary(tmp_path, values, {"action_count": 3})
    assert made.action_counts == [3, 5, 0]
    assert not [column for column in made.columns if column.key == "action"]


def test_problems_are_reported_and_the_rest_described(tmp_path: Path) -> None:
    values = foreign.columns()
    values["observation"][2, 1] = np.nan
    made = summary(tmp_path, values)
    assert len(made.problems) == 1 and "column 'observation', row 2: NaN" in made.problems[0]
    column = next(c for c in made.columns if c.name == "observation[1]")
    assert column.not_finite == 1 and column.spread.min == -202


@pytest.mark.parametrize(
    ("change", "columns", "told"),
    [
        ({"reward": np.zeros(8)}, {}, "Every reward is 0: returns say nothing"),
        ({"reward": np.ones(8)}, {}, "Every reward is 1: returns only count steps"),
        ({}, {}, "No action bounds are given"),
        ({"action": np.linspace(-1, 0.95, 8)[:, None]}, {}, "if they are shares of the bounds"),
        ({}, {"next_observation": "shifted"}, "1 cut episodes have no next observation"),
        ({"next_observation": np.zeros((8, 2))}, {}, "100 % of next observations differ"),
    ],
)
def test_remarks(change: dict, columns: dict, told: str, tmp_path: Path) -> None:
    made = summary(tmp_path, foreign.columns() | change, columns)
    assert any(told in remark for remark in made.remarks), made.remarks


def test_actions_beyond_1_are_not_taken_for_shares_of_bounds(tmp_path: Path) -> None:
    values = foreign.columns() | {"action": np.linspace(-1.2, 0.9, 8)[:, None]}
    made = summary(tmp_path, values)
    assert [text for text in made.remarks if "No action bounds" in text]
    assert not [text for text in made.remarks if "shares" in text]


def test_no_remarks_on_a_log_without_oddities(tmp_path: Path) -> None:
    bounds = {"action_low": -1.0, "action_high": 1.0}
    assert summary(tmp_path, foreign.columns(), bounds).remarks == ()


def test_a_time_limit_taken_for_terminal_is_remarked_on(tmp_path: Path) -> None:
    values = foreign.columns()
    for name in ("episode", "step", "truncated", "terminated"):
        del values[name]
    values["done"] = np.arange(8) % 2 == 1
    made = summary(tmp_path, values, {"done_means": "terminated"})
    assert any("4 of 4 terminated episodes stop after exactly 2 steps" in r for r in made.remarks)


def test_copied_episodes_are_counted(tmp_path: Path) -> None:
    values = {name: np.concatenate([value, value]) for name, value in foreign.columns().items()}
    values["episode"][8:] += 3
    made = summary(tmp_path, values)
    assert "3 episodes are exact copies of earlier ones." in made.remarks


def test_json_has_no_nan(tmp_path: Path) -> None:
    values = foreign.columns()
    values["observation"][:, 0] = np.nan
    text = json.dumps(summary(tmp_path, values).as_dict(), allow_nan=False)
    assert json.loads(text)["columns"][0]["spread"]["mean"] is None


def test_images_are_named_and_compared_episode_by_episode(tmp_path: Path) -> None:
    """Films of 5, 2, 2 and 3 frames; only the second and the third show the same."""
    film = np.arange(12, dtype=np.uint8)
    film[7:9] = film[5:7]
    episode = np.repeat([0, 1, 2, 3], [4, 1, 1, 2])
    values = {
        "observation": np.broadcast_to(film[:, None, None], (12, 4, 6)),
        "action": np.ones((8, 1)),
        "reward": np.ones(8),
        "episode": episode,
        "terminated": np.diff(episode, append=4) > 0,
        "top": np.zeros((8, 2, 2, 3), np.uint8),
    }
    made = summary(tmp_path, values, {"image": "top"})
    assert made.images == {"observation": [4, 6], "top": [2, 2, 3]}
    assert "1 episodes are exact copies of earlier ones." in made.remarks
    assert [column.key for column in made.columns] == ["action", "next.reward"]


@pytest.mark.parametrize(
    "kind", ["two", "many", "discrete", "images", "films", "constant", "broken"]
)
def test_plot_of_every_kind_of_log(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    values = foreign.columns()
    if kind == "many":
        values["action"] = np.random.default_rng(0).normal(size=(8, 30))
        values["observation"] = values["next_observation"] = 1e4 ** np.linspace(-1, 1, 320).reshape(
            8, 40
        )
    elif kind == "discrete":
        values["action"] = np.arange(8) % 3
    elif kind == "images":
        values["observation"] = values["next_observation"] = np.zeros((8, 4, 4, 3), np.uint8)
    elif kind == "films":
        values["observation"] = np.zeros((11, 4, 4, 3), np.uint8)
        del values["next_observation"]
    elif kind == "constant":
        values |= {"reward": np.zeros(8), "action": np.ones((8, 5))}
    elif kind == "broken":
        values["observation"][:, 0] = values["action"][:, 1] = values["reward"][0] = np.nan
    made = survey(foreign.npz(tmp_path / "log.npz", values))
    plot(made[0], summarize(*made), tmp_path / "plots" / "log.png")
    pixels = imread(tmp_path / "plots" / "log.png")
    assert pixels.shape[1] > 1000 and (pixels[..., :3].min(-1) < 0.9).mean() > 0.01
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["log.png"]
