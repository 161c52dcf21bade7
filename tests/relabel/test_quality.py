"""Quality: what it writes, what it leaves out, and what filters, labels and weights make of it."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import quality_logs
import torch
from episode_logs import bind, episode_log
from torch import Tensor

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.quality import jerk, motion
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.column_weight import ColumnWeight
from hindsight_rl.relabel.episode_quality import RULES, Episodes, measure_episodes
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.labels import ColumnLabel
from hindsight_rl.relabel.quality import Quality

BOUNDS = {"low": [-2.0, -2.0], "high": [2.0, None]}


def robot_log(columns: quality_logs.Columns | None = None, **info: Any) -> Log:
    """Return the log of two joints."""
    given = quality_logs.robot() if columns is None else columns
    seen, number = given["observation"], given["episode"]
    ends = np.diff(number, append=-1) != 0
    after = np.where(ends[:, None], seen, np.roll(seen, -1, axis=0))
    columns_of: dict[Any, Any] = {
        "observation": seen,
        "action": given["action"],
        "episode": number,
        ("next", "observation"): after,
        ("next", "reward"): given["reward"],
        ("next", "terminated"): np.zeros(len(number), bool),
        ("next", "truncated"): ends,
    }
    return Log.from_columns(columns_of, {"action": BOUNDS} | info)


def measured(log: Log, name: str, **options: Any) -> Tensor:
    """Return a measure of each episode; it is the same in all of its rows."""
    column = bind(log, Quality(**options))[0].column(("quality", name))
    number = log.column("episode")
    first = column[log.column("step") == 0]
    assert column.equal(first[number])
    return first


def test_every_measure_of_an_ordinary_log() -> None:
    """Two joints that follow three steps late, in bounds that nothing reaches."""
    log = robot_log()
    ready, bound = bind(log, Quality())
    assert bound.out_keys == Quality.out_keys
    assert all(ready.column(key).isfinite().all() for key in bound.out_keys)
    assert measured(log, "lag").tolist() == [quality_logs.LAG] * 12
    assert measured(log, "saturation").tolist() == [0] * 12
    assert measured(log, "length").tolist() == [0] * 12
    assert (measured(log, "stillness") < 0.1).all() and (measured(log, "score") > -5).all()


def test_jerk_is_that_of_the_equations() -> None:
    log = robot_log(quality_logs.trembling(quality_logs.robot(), 4))
    seen, number = log.column("observation"), log.column("episode")
    weight = motion(seen, number, 1).steadiness()
    spread = seen.double().std(0, correction=0)
    expected = jerk(seen, number, 12, spread, weight)
    torch.testing.assert_close(measured(log, "jerk").double(), expected, rtol=1e-5, atol=0)
    assert measured(log, "jerk").argmax() == 4


@pytest.mark.parametrize("rate", [None, 20.0])
def test_a_pause_of_known_length(rate: float | None) -> None:
    """Ninety rows stand still: 89 differences of 149, or 88 of 148 over two rows (0.1 s)."""
    log = robot_log(quality_logs.frozen(quality_logs.robot(), 5, 30, 90), control_rate_hz=rate)
    found = measured(log, "stillness")
    span = 1 if rate is None else 2
    expected = (90 - span) / (150 - span)
    assert expected <= found[5] < expected + 0.05
    assert measured(log, "score").argmin() == 5 and measured(log, "score")[5] < -5


def test_share_at_a_bound_and_one_open_side() -> None:
    """The first action of an episode lies at its bound in 30 of 150 rows: 30 of 300 entries."""
    given = quality_logs.robot()
    given["action"][150:180, 0] = -2.0
    expected = torch.zeros(12).index_fill(0, torch.tensor([1]), 0.1)
    torch.testing.assert_close(measured(robot_log(given), "saturation"), expected)


def test_length_is_a_robust_score_of_its_logarithm() -> None:
    """All others are equal: log(1.5) / 5 is the unit, and 50 of 150 steps are -13.5 units."""
    log = robot_log(quality_logs.cut(quality_logs.robot(), 2, 50))
    found = measured(log, "length")
    assert found[2].item() == pytest.approx(-5 * math.log(3) / math.log(1.5), rel=1e-5)
    assert found[torch.arange(12) != 2].tolist() == [0] * 11
    assert measured(log, "score")[2] <= found[2]


def test_an_end_elsewhere() -> None:
    log = robot_log(quality_logs.cut(quality_logs.robot(), 7, 75))
    found = measured(log, "end_pose")
    assert found.argmax() == 7 and found[7] > 3 * found.median()


def test_lag_of_an_episode_and_the_largest() -> None:
    log = robot_log(quality_logs.robot(lags={6: 8}))
    assert measured(log, "lag").tolist() == [3] * 6 + [8] + [3] * 5
    assert measured(log, "lag", most_lag=5)[0] == 3


def test_one_long_episode_has_a_lag() -> None:
    """Of 30,000 rows a part would do, but there is no other episode."""
    generator = torch.Generator().manual_seed(0)
    action = torch.randn(30_000, 1, generator=generator)
    state = torch.cat([torch.zeros(3, 1), action.cumsum(0)])[:30_000]
    found = measure_episodes(Episodes(state, action, torch.tensor([30_000])))
    assert found.lag == 2 and found.values["lag"].tolist() == [2]


# --- what a log does not allow --------------------------------------------------------------------


def without(name: str) -> Log:
    """Return a log that lacks what some measures need."""
    if name == "choices":
        return episode_log([30] * 6, discrete=True)
    if name == "one-step":
        return episode_log([1] * 6)
    if name == "one episode":
        return episode_log([9])
    given = quality_logs.robot()
    if name == "constant":
        given |= {part: np.ones_like(given[part]) for part in ("observation", "action")}
    if name == "constant in an episode":
        rows = given["episode"][:, None] * np.ones((1, 2), np.float32)
        given |= {"observation": rows.astype(np.float32), "action": rows.astype(np.float32)}
    log = robot_log(given)
    if name == "no bounds":
        log.info["action"] = None
    return log


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("choices", {"action_jerk": "choices", "saturation": "choices"}),
        ("one-step", {"jerk": "nothing changes", "stillness": "nothing", "lag": "do not follow"}),
        ("one episode", {"lag": "do not follow"}),
        ("constant", {"jerk": "nothing", "action_jerk": "nothing", "end_pose": "no real number"}),
        ("constant in an episode", {"jerk": "nothing changes within", "stillness": "nothing"}),
        ("no bounds", {"saturation": "no action bounds are given"}),
    ],
)
def test_what_is_left_out_is_named_and_nothing_is_nan(name: str, left_out: dict[str, str]) -> None:
    log = without(name)
    with pytest.warns(UserWarning, match="Quality leaves out measures") as caught:
        ready, bound = bind(log, Quality())
    said = str(caught[0].message)
    for measure, why in left_out.items():
        assert f"{measure}: " in said and why in said
        assert ("quality", measure) not in ready and ("quality", measure) not in bound.out_keys
    assert {("quality", "length"), ("quality", "score")} <= set(bound.out_keys)
    assert all(ready.column(key).isfinite().all() for key in bound.out_keys)


def test_a_filter_on_what_is_left_out_is_an_error() -> None:
    with (
        pytest.warns(UserWarning, match="no action bounds"),
        pytest.raises(LogError, match=r"the log has no 'quality\.saturation'"),
    ):
        bind(
            without("no bounds"), Compose([Quality(), TopFraction(0.5, score="quality.saturation")])
        )


def test_episodes_too_short_for_a_jerk_have_the_median() -> None:
    log = episode_log([1, 3, 20, 30, 40])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measured(log, "jerk")
    assert found[0] == found[1] == found[2:].median() and found[2:].unique().numel() == 3


def test_images_alone_leave_the_actions_to_judge() -> None:
    given = quality_logs.robot()
    found = measure_episodes(
        Episodes(
            torch.empty(len(given["episode"]), 0),
            torch.from_numpy(given["action"]),
            torch.full((12,), 150),
        )
    )
    assert list(found.values) == ["action_jerk", "length"]
    assert list(found.values) == [name for name in RULES if name not in found.left_out]


def test_entries_are_joined_and_choices_left_out() -> None:
    plain = robot_log()
    seen = plain.column("observation")
    columns = {key: plain.column(key) for key in plain.keys() if "observation" not in key}
    for place, rows in ((("observation",), seen), (("next", "observation"), seen)):
        columns |= {(*place, "gear"): torch.arange(len(seen)) % 3}
        columns |= {(*place, "left"): rows[:, :1], (*place, "right"): rows[:, 1:]}
    log = Log.from_columns(columns, {"action": BOUNDS})
    for name in RULES:
        assert measured(log, name).equal(measured(plain, name)), name


def test_only_episodes_that_may_be_drawn_shape_the_measures() -> None:
    """An episode that is held out is measured, but moves no median and no spread."""
    given = quality_logs.robot()
    wild = quality_logs.trembling(given, 11, size=50.0)
    rows = torch.arange(11 * 150)
    for name in ("jerk", "end_pose", "stillness", "score"):
        kept = measured(robot_log(given).with_rows(rows), name)
        other = measured(robot_log(wild).with_rows(rows), name)
        assert other[:11].equal(kept[:11]), name
    assert measured(robot_log(wild).with_rows(rows), "jerk")[11] > 100 * kept.abs().max()


@pytest.mark.parametrize("most_lag", [0, -3])
def test_wrong_lags_are_named(most_lag: int) -> None:
    with pytest.raises(ValueError, match=f"most_lag is {most_lag} steps, it must be at least 1"):
        Quality(most_lag=most_lag)


# --- filters, labels, weights ---------------------------------------------------------------------


def kept(log: Log, relabel: Compose) -> list[int]:
    """Return the episodes of which rows may be drawn."""
    return log.column("episode")[bind(log, relabel)[0].drawable()].unique().tolist()


def test_the_smoothest_half_is_kept_or_dropped() -> None:
    log = robot_log()
    order = measured(log, "jerk").argsort(stable=True).tolist()
    for prefer, expected in (("low", order[:6]), ("high", order[6:])):
        chosen = TopFraction(0.5, score="quality.jerk", prefer=prefer)
        assert kept(log, Compose([Quality(), chosen])) == sorted(expected)


def test_the_most_ordinary_episodes_are_kept() -> None:
    given = quality_logs.frozen(quality_logs.robot(), 5, 30, 90)
    given = quality_logs.cut(quality_logs.trembling(given, 8), 2, 40)
    best = Compose([Quality(), TopFraction(0.75, score="quality.score")])
    assert set(kept(robot_log(given), best)).isdisjoint({2, 5, 8})


def test_labels_and_weights_of_costs() -> None:
    log = robot_log(quality_logs.trembling(quality_logs.robot(), 3))
    label = ColumnLabel("quality.score", threshold=-5.0)
    found = bind(log, Compose([Quality(), label]))[0].column("label")[log.column("step") == 0]
    assert found.tolist() == [1.0 if number != 3 else -1.0 for number in range(12)]
    worst = float(measured(log, "jerk").sort().values[-2])
    label = ColumnLabel("quality.jerk", threshold=worst, prefer="low")
    other = bind(log, Compose([Quality(), label]))[0].column("label")[log.column("step") == 0]
    assert other.equal(found)
    weight = ColumnWeight("quality.jerk", prefer="low")
    heavy = bind(log, Compose([Quality(), weight]))[0].column("weight")[log.column("step") == 0]
    assert heavy.argmin() == 3
