"""Parts of a judgement by hand: padded episodes, rows of the table, ranking, sentences."""

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from small_logs import small

from hindsight_rl import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.ope import estimates, linear
from hindsight_rl.diagnostics.ope.episodes import Episodes, episodes_of
from hindsight_rl.diagnostics.ope.estimates import (
    Estimate,
    by_least_squares,
    by_values,
    by_weights,
    doubly,
    guaranteed,
    resamples,
)
from hindsight_rl.diagnostics.ope.ranking import ranked
from hindsight_rl.diagnostics.ope.remarks import doubted, possible, remarks_on, verdict
from hindsight_rl.diagnostics.ope.values import Model, Values
from hindsight_rl.intervals import Interval, student_quantile
from hindsight_rl.maths import doubly_robust as robust
from hindsight_rl.maths.least_squares import LinearEstimate
from hindsight_rl.maths.magic import magic
from hindsight_rl.nets.network import Network
from hindsight_rl.training.given import Answers, GivenPolicy


def test_episodes_are_padded_at_their_ends() -> None:
    """Three steps with rewards 1, 2, 4, terminated; two with 8, 16, cut."""
    found = episodes_of(small())
    assert found.row.tolist() == [[0, 1, 2], [3, 4, 4]]
    assert found.reward.tolist() == [[1, 2, 4], [8, 16, 0]]
    assert found.terminated.tolist() == [True, False]
    assert found.owner.tolist() == [0, 0, 0, 1, 1] and found.rows.tolist() == [0, 1, 2, 3, 4]
    assert found.returns(0.5).tolist() == [1 + 1 + 1, 8 + 8]
    assert found.padded(torch.arange(5)).tolist() == [[0, 1, 2], [3, 4, 0]]


def test_a_horizon_cuts_episodes() -> None:
    found = episodes_of(small(), horizon=2)
    assert found.row.tolist() == [[0, 1], [3, 4]]
    assert found.terminated.tolist() == [False, False]  # the end lies behind the horizon
    assert episodes_of(small(), horizon=3).terminated.tolist() == [True, False]
    assert episodes_of(small(), horizon=9).row.shape == (2, 3)


def test_what_follows_a_cut_episode_stands_behind_its_own_last_step() -> None:
    """Three steps and an end; two steps, cut before a state worth 7."""
    found = episodes_of(small())
    value = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]], dtype=torch.float64)
    following = torch.tensor([9.0, 7.0], dtype=torch.float64)
    v = found.with_what_follows(value, following)
    assert v.tolist() == [[1, 2, 3, 0], [4, 5, 7, 0]]
    # By hand at discount 0.5 with ratios of 1: an episode's return, and 0.25 * 7 behind the cut.
    q, ones = torch.zeros_like(value), torch.zeros_like(value)
    v[:, :2] = v[0, 2] = 0.0
    dr = robust.doubly_robust(ones, found.reward, q, v, discount=0.5)
    assert float(dr.value()) == pytest.approx((3.0 + 16.0 + 1.75) / 2)
    # A partial return of two steps ends where the second episode does, one of three behind it.
    partial = magic(ones, found.reward, q, v, discount=0.5).returns()
    assert partial.tolist() == pytest.approx([0.0, 4.5, (2 + 16 + 1.75) / 2, (3 + 16 + 1.75) / 2])


@pytest.mark.parametrize("discount", [0.0, 0.1])
def test_short_episodes_beside_very_long_ones_are_finite(discount: float) -> None:
    value = torch.zeros(2, 400, dtype=torch.float64)
    row = torch.zeros(2, 400, dtype=torch.int64)
    valid = torch.ones(2, 400, dtype=torch.bool)
    valid[1, 1:] = False
    ended = torch.tensor([True, False])
    none = torch.zeros(0, dtype=torch.int64)
    long = Episodes(row, valid, value, ended, none, none)
    v = long.with_what_follows(value, torch.ones(2, dtype=torch.float64))
    dr = robust.doubly_robust(value, value, value, v, discount=discount)
    assert float(dr.value()) == pytest.approx(discount / 2)


def test_discounted_steps_in_the_log_and_behind_its_time_limits() -> None:
    """Three steps and an end, two steps and a cut."""
    found = episodes_of(small())
    assert found.steps(0.5, None).tolist() == [[1.75, 0.0], [1.5, 0.5]]
    assert found.steps(0.5, 3).tolist() == [[1.75, 0.0], [1.5, 0.25]]
    assert found.steps(1.0, 4).tolist() == [[3.0, 0.0], [2.0, 2.0]]
    assert found.steps(0.0, None).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    cut = episodes_of(small(), horizon=2)  # by the question itself: nothing is missing
    assert cut.steps(1.0, 2).tolist() == [[2.0, 0.0], [2.0, 0.0]]


def remarks(
    rows: list[Estimate],
    discount: float,
    horizon: int | None,
    policy: GivenPolicy | None = None,
) -> list[str]:
    log = small()
    if policy is None:
        policy = GivenPolicy(lambda observation: observation[:, :1], OfflineDataModule(log).spec)
    episodes = episodes_of(log, horizon)
    return remarks_on(
        policy,
        rows,
        episodes,
        discount,
        horizon,
        outside=0.0,
        fitted=None,
        effective=None,
        odd=None,
        guaranteed=None,
    )


def test_the_return_of_a_cut_log_is_not_that_of_the_estimators() -> None:
    for horizon, share in ((None, "13 %"), (3, "7 %")):
        (text,) = remarks([], 0.5, horizon)
        assert text.startswith("the return of the log stops where a time limit cut an episode")
        assert f"where {share} of the discounted steps lie" in text
    assert remarks([], 0.5, 2) == [] and remarks([], 0.0, None) == []


def test_the_first_of_several_seeds_is_judged() -> None:
    log = small()
    spec = OfflineDataModule(log).spec
    policy = GivenPolicy(BC(spec, network=Network(hidden=(8,)), seeds=3), spec)
    (text,) = remarks([], 0.0, None, policy)
    assert text.startswith("it holds 3 seeds, and the first is judged: export others")


def test_rows_that_are_not_to_be_believed_disagree_with_nothing() -> None:
    rows = [row(5.0, 4.0, [5.0]), replace(row(0.0, 0.0, [0.0]), warnings=("do not believe",))]
    assert remarks(rows, 0.0, None) == []
    (text,) = remarks([*rows, row(9.0, 8.0, [9.0])], 0.0, None)
    assert text.startswith("the estimators disagree")


def two_steps() -> tuple[torch.Tensor, Episodes]:
    """Return log-ratios and episodes (a0, a1), (a1, a0): those of test_importance."""
    log_ratio = torch.tensor([[1.6, 0.64], [0.4, 0.64]], dtype=torch.float64).log()
    reward = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    row = torch.tensor([[0, 1], [2, 3]])
    valid, ended = torch.ones(2, 2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    return log_ratio, Episodes(row, valid, reward, ended, torch.tensor([0, 0, 1, 1]), row.flatten())


# Both episodes once, the first twice, the second twice.
COUNTS = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)


def test_resamples_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resamples(7, seed=1)
    assert whole.shape == (2000, 7) and bool((whole.sum(-1) == 7.0).all())
    # Counts of one episode are binomial: mean 1, variance 6 / 7, over 14,000 of them.
    assert float(whole.var()) == pytest.approx(6 / 7, abs=0.05)
    monkeypatch.setattr(estimates, "BLOCK", 22)  # three resamples at a time
    assert torch.equal(resamples(7, seed=1), whole)
    monkeypatch.setattr(estimates, "NUMBERS", 700)
    assert torch.equal(resamples(7, seed=1), whole[:100])


def test_why_there_are_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    log = small()
    episodes, nothing = episodes_of(log), torch.zeros(5, 1, 1)
    answers = Answers(nothing, nothing)
    # Two numbers and an action: 1 + 3 + 6 features.
    assert linear.features_of(log, episodes, answers).here.shape == (5, 10)
    monkeypatch.setattr(linear, "LARGEST", 49)
    with pytest.raises(ValueError, match="5 rows of 10 features need too much memory: .* 4 rows"):
        linear.features_of(log, episodes, answers)
    monkeypatch.setattr(linear, "MOST", 9)
    with pytest.raises(ValueError, match="there would be 10 features, and 9 are the most"):
        linear.features_of(log, episodes, answers)


def test_rows_of_importance_sampling() -> None:
    log_ratio, episodes = two_steps()
    rows = {one.method: one for one in by_weights(log_ratio, episodes, 0.9, COUNTS)}
    assert rows["is"].value == pytest.approx(0.608)
    assert rows["pdis"].value == pytest.approx(1.088)
    assert rows["wis"].value == pytest.approx(0.95)
    assert rows["cwpdis"].value == pytest.approx(1.25)
    # Of the first episode alone: 1.6 * 1 per decision, and what it got where weights are relative.
    assert rows["pdis"].resampled.tolist() == pytest.approx([1.088, 1.6, 0.576])
    assert rows["cwpdis"].resampled.tolist() == pytest.approx([1.25, 1.0, 0.9])
    assert rows["is"].effective == pytest.approx(2.0) and rows["is"].heaviest == 2
    assert "2 episodes carry 90 % of the weight of 2" in rows["is"].warnings[0]


def test_rows_of_doubly_robust_estimates() -> None:
    log_ratio, episodes = two_steps()
    q = torch.full((2, 2), 0.25, dtype=torch.float64)
    v = torch.tensor([[0.25, 0.25, 0.0]] * 2, dtype=torch.float64)
    rows = {one.method: one for one in doubly(log_ratio, episodes, Model(q, v), 0.9, COUNTS)}
    # One constant for values: the weighted one is step-weighted importance sampling.
    assert rows["wdr"].value == pytest.approx(1.25)
    assert 0.25 <= rows["magic"].value <= 1.25  # between its partial returns
    # What a model that is wrong may have done to it is in its interval.
    assert rows["magic"].interval.high - rows["magic"].resampled.max() == pytest.approx(
        rows["wdr"].value - rows["magic"].value
    )
    assert set(rows) == {"dr", "wdr", "magic"}


def test_no_episode_of_the_policy() -> None:
    _, episodes = two_steps()
    never = torch.full((2, 2), -math.inf, dtype=torch.float64)
    rows = by_weights(never, episodes, 0.9, COUNTS)
    assert all(one.effective == 0.0 for one in rows)
    assert all("could have come from this policy" in one.warnings[0] for one in rows)


def test_the_spread_of_an_ensemble_is_its_interval() -> None:
    start = torch.tensor([[1.0, 3.0], [2.0, 6.0], [0.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 1.0], [3.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    found = by_values(Values(start, weight, 6.0))
    assert found.value == pytest.approx(2.0)
    assert found.resampled.tolist() == pytest.approx([2.0, 3.0, 0.0])
    half = student_quantile(0.975, 2) * float(torch.tensor([2.0, 3.0, 0.0]).std())
    assert found.interval == pytest.approx((2.0 - half, 2.0 + half))


def test_linear_rows_are_resampled_by_their_influence() -> None:
    influence = torch.tensor([1.0, -1.0], dtype=torch.float64)
    found = by_least_squares("lstd", LinearEstimate(5.0, influence, 1e9), COUNTS)
    assert found.resampled.tolist() == pytest.approx([5.0, 6.0, 4.0])
    half = student_quantile(0.975, 1) * math.sqrt(2.0) / math.sqrt(2.0)
    assert found.interval == pytest.approx((5.0 - half, 5.0 + half))
    assert "nearly singular (condition number 1e+09)" in found.warnings[0]


def row(value: float, low: float, resampled: list[float], *, ensemble: bool = False) -> Estimate:
    high = 2 * value - low
    table = torch.tensor(resampled, dtype=torch.float64)
    return Estimate("fqe", value, Interval(low, high), table, ensemble=ensemble)


class Named(NamedTuple):
    name: str


def test_the_highest_lower_end_is_chosen() -> None:
    rows = [row(5.0, 1.0, [5.0, 9.0, 1.0]), row(4.0, 3.0, [4.0, 4.0, 4.0])]
    found = ranked(rows)
    assert found is not None and found.order == (1, 0) and found.chosen == 1
    # Against the best in each resample: 1, 5 and 0 are lost.
    assert found.regret == pytest.approx(2.0)
    assert found.gaps[0] == pytest.approx((-5.0, 3.0)) and found.gaps[1] == (0.0, 0.0)
    assert ranked([rows[0], None]) is None


def test_a_policy_of_which_nothing_is_known_is_not_chosen() -> None:
    """Where rewards are costs, a sum of weights of 0 is more than any policy gets."""
    never = replace(row(0.0, 0.0, [0.0, 0.0, 0.0]), effective=0.0)
    nothing = row(math.nan, math.nan, [math.nan] * 3)
    good, bad = row(-4.0, -5.0, [-4.0, math.nan, -3.0]), row(-9.0, -9.5, [-9.0, -8.0, -2.0])
    found = ranked([never, nothing, bad, good])
    assert found is not None and found.chosen == 3 and found.order == (3, 2, 0, 1)
    # The best of the two that are known, less the chosen one, where it is known: 0 and 1.
    assert found.regret == pytest.approx(0.5)
    assert math.isnan(found.gaps[0].low) and found.gaps[2].high == pytest.approx(5.0)
    facts = found.as_dict([Named(name) for name in "abcd"])
    assert facts["chosen_better_by"]["b"] == {"low": None, "high": None}
    assert ranked([never, nothing]) is None


def test_members_of_ensembles_are_compared_in_pairs() -> None:
    """Both move together: the difference is known better than either."""
    rows = [
        row(5.0, 2.0, [4.0, 5.0, 6.0], ensemble=True),
        row(4.0, 1.0, [3.0, 4.1, 4.9], ensemble=True),
    ]
    found = ranked(rows)
    assert found is not None
    half = student_quantile(0.975, 2) * float(torch.tensor([1.0, 0.9, 1.1]).std())
    assert found.gaps[1] == pytest.approx((1.0 - half, 1.0 + half))


@pytest.mark.parametrize(
    ("covered", "words"),
    [(0.12, "does not cover this policy: only in 12 %"), (0.6, "in part"), (0.95, "in 95 %")],
)
def test_the_verdict(covered: float, words: str) -> None:
    assert words in verdict(covered)


def test_the_bound_that_assumes_nothing() -> None:
    """400 episodes that all got 1 of at least 0, with weights of 1: the cap is 1."""
    steps = 400
    ones, row = torch.ones(steps, 1, dtype=torch.float64), torch.arange(steps).unsqueeze(-1)
    episodes = Episodes(row, ones.bool(), ones, ones[:, 0].bool(), row[:, 0], row[:, 0])
    found = guaranteed(torch.zeros(steps, 1, dtype=torch.float64), episodes, 0.9, 0.0)
    # No variance: what is left is 7 c ln(2 / 0.05) / (3 (n - 1)) of 380 episodes.
    assert found == pytest.approx(1.0 - 7.0 * math.log(40.0) / (3.0 * 379.0))
    # 4 episodes say nothing; nor do weights of 0.
    few = Episodes(*(part[:4] for part in episodes))
    assert guaranteed(torch.zeros(4, 1, dtype=torch.float64), few, 0.9, 0.0) is None
    never = torch.full((steps, 1), -math.inf, dtype=torch.float64)
    assert guaranteed(never, episodes, 0.9, 0.0) is None
    # In units from the least return: of -2 to 1, moved by 3.
    shifted = guaranteed(torch.zeros(steps, 1, dtype=torch.float64), episodes, 0.9, -2.0)
    assert shifted == pytest.approx(-2.0 + 3.0 * (1.0 - 7.0 * math.log(40.0) / (3.0 * 379.0)))


def test_a_value_that_no_return_can_have() -> None:
    """Rewards of 0 and 1, discount 0.9: between 0 and 10."""
    _, episodes = two_steps()
    within = possible(episodes, 0.9, None)
    assert within == pytest.approx((0.0, 10.0))
    assert possible(episodes, 1.0, 3) == pytest.approx((0.0, 3.0))
    assert doubted(row(10.4, 9.0, [10.0]), within).warnings == ()
    found = doubted(row(11.0, 9.0, [11.0]), within).warnings
    assert found == ("no return of these rewards is outside of [0, 10]: do not believe this row",)
    assert doubted(row(-1.0, -2.0, [-1.0]), within).warnings
    assert doubted(row(math.nan, math.nan, [math.nan]), within).warnings == ()
