"""Hindsight goals: who is proposed, who is chosen, and what becomes of reward and termination."""

import math

import pytest
import torch
from episode_logs import drawn, episode_log, relabeled
from torch import Tensor

from hindsight_rl.logs.errors import LogError
from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel import goals
from hindsight_rl.relabel.goals import EpisodeGoal, FinalGoal, FutureGoal
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching
from hindsight_rl.tasks.linear import LinearTasks

NEXT_ACHIEVED = ("next", "achieved_goal")
REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
KINDS = pytest.mark.parametrize("kind", [FutureGoal, FinalGoal, EpisodeGoal])
# Quantiles of chi-square at 1 - 1e-4, by degrees of freedom.
CHI_SQUARE = {4: 23.513, 5: 25.745, 8: 31.828, 9: 33.720}


def proposals(relabeler: Relabeler, row: int, count: int = 6000) -> Tensor:
    """Return the rows proposed for one row, ``[count]``, in an episode of ten steps."""
    bound = relabeler.prepare(episode_log([3, 10, 4], goals=True))
    draws = counters(11, torch.zeros(1, dtype=torch.int64), torch.arange(count))
    return bound.companions(torch.full((1, count), row), draws)["goal"][0]


def chi_square(rows: Tensor, expected: dict[int, float]) -> float:
    """Return the statistic of counts against probabilities by row; no other row may occur."""
    assert set(rows.tolist()) <= set(expected)
    counts = {row: int((rows == row).sum()) for row in expected}
    return sum((counts[r] - len(rows) * p) ** 2 / (len(rows) * p) for r, p in expected.items())


def test_future_goal_is_uniform_from_the_present_step_to_the_end() -> None:
    """Rows 3 to 12 are the middle episode. From row 7 on there are six, the present included."""
    expected = {row: 1 / 6 for row in range(7, 13)}
    assert chi_square(proposals(FutureGoal(), 7), expected) < CHI_SQUARE[5]


def test_episode_goal_is_uniform_over_the_whole_episode() -> None:
    """Rows 3 to 12 are the middle episode, wherever in it one stands."""
    expected = {row: 1 / 10 for row in range(3, 13)}
    for row in (3, 7, 12):
        assert chi_square(proposals(EpisodeGoal(), row), expected) < CHI_SQUARE[9]


def test_geometric_future_goal_piles_up_on_the_last_step() -> None:
    """P(offset k) = (1 - g) g^k for k < 9; the whole tail g^9 falls on the last step."""
    relabeler = FutureGoal(offset="geometric", discount=0.8)
    expected = {3 + k: 0.2 * 0.8**k for k in range(9)} | {12: 0.8**9}
    assert math.isclose(sum(expected.values()), 1.0)
    assert chi_square(proposals(relabeler, 3), expected) < CHI_SQUARE[9]


def test_future_goal_without_the_present_is_uniform_over_later_steps() -> None:
    expected = {row: 1 / 5 for row in range(8, 13)}
    assert chi_square(proposals(FutureGoal(present=False), 7), expected) < CHI_SQUARE[4]


def test_geometric_future_goal_without_the_present_starts_one_step_later() -> None:
    """P(offset 1 + k) = (1 - g) g^k for k < 8; the tail g^8 falls on the last step."""
    relabeler = FutureGoal(offset="geometric", discount=0.8, present=False)
    expected = {4 + k: 0.2 * 0.8**k for k in range(8)} | {12: 0.8**8}
    assert chi_square(proposals(relabeler, 3), expected) < CHI_SQUARE[8]


@pytest.mark.parametrize("offset", ["uniform", "geometric"])
def test_the_last_step_has_its_own_outcome_for_want_of_a_later_one(offset: str) -> None:
    assert set(proposals(FutureGoal(offset=offset, present=False), 12).tolist()) == {12}


# --- pairs of states, as in GCSL ------------------------------------------------------------------


def pair_table(states: int) -> dict[tuple[int, int], float]:
    """Return the probability of every pair of states by the published recipe, enumerated."""
    table: dict[tuple[int, int], float] = {}
    for one in range(states - 1):
        for other in range(states):
            later = other + (one == other)
            pair = (min(one, later), max(one, later))
            table[pair] = table.get(pair, 0.0) + 1 / (states * (states - 1))
    return table


def pairs_of(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], float]:
    """Return the probability of every (row, row of the goal): weight, times that of its draw."""
    relabeler = FutureGoal(offset="pairs").prepare(episode_log(lengths, goals=True))
    weight = relabeler.columns["weight"]
    assert weight.mean().item() == pytest.approx(1.0)
    index, table = torch.arange(sum(lengths)), {}
    highs: list[Tensor] = []
    # All that can be drawn below each row's bound, instead of one number of it.
    monkeypatch.setattr(goals, "integers", lambda draws, high: highs.append(high) or draws)
    for number in range(2 * max(lengths)):
        goal = relabeler.companions(index, torch.full_like(index, number))["goal"]
        for row in index[number < highs[-1]].tolist():
            share = weight[row].item() / len(index) / highs[-1][row].item()
            pair = (row, int(goal[row]))
            table[pair] = table.get(pair, 0.0) + share
    return table


def test_pairs_have_the_probabilities_of_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """T18, n = 4 states: three rows, the goal of row k being state k + 1."""
    found = pairs_of([3], monkeypatch)
    expected = {(0, 1): 0.25, (0, 2): 1 / 6, (0, 3): 1 / 12}
    expected |= {(1, 2): 0.25, (1, 3): 1 / 12, (2, 3): 1 / 6}
    assert pair_table(4) == pytest.approx(expected)
    assert {(row, goal + 1): p for (row, goal), p in found.items()} == pytest.approx(expected)


def test_pairs_of_episodes_of_any_length_are_those_of_the_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every episode counts alike: a fourth of the pairs each."""
    lengths, start, expected = [1, 2, 7, 4], 0, {}
    for length in lengths:
        for (row, state), probability in pair_table(length + 1).items():
            expected[start + row, start + state - 1] = probability / len(lengths)
        start += length
    assert pairs_of(lengths, monkeypatch) == pytest.approx(expected)


def test_pairs_are_drawn_from_counters() -> None:
    """Row 7 of rows 3 to 12 has six left: offsets weigh 3, 2, 2, 2, 2, 1 of 12."""
    expected = {7: 3 / 12, 12: 1 / 12} | {row: 2 / 12 for row in range(8, 12)}
    assert chi_square(proposals(FutureGoal(offset="pairs"), 7), expected) < CHI_SQUARE[5]


def test_weights_of_pairs_multiply_and_average_1_over_the_drawable() -> None:
    log = episode_log([3, 5], goals=True).with_rows(torch.arange(3, 8))
    weight = FutureGoal(offset="pairs").prepare(log).columns["weight"]
    torch.testing.assert_close(weight[3:], torch.tensor([5.0, 4, 3, 2, 1]) / 3)
    doubled = log.with_columns({"weight": torch.full((8,), 2.0)})
    product = FutureGoal(offset="pairs").prepare(doubled).columns["weight"]
    torch.testing.assert_close(product, 2 * weight)
    assert "weight" in relabeled(log, FutureGoal(offset="pairs")).keys()
    assert "weight" not in relabeled(log, FutureGoal()).keys()


def test_pairs_without_the_present_are_refused() -> None:
    with pytest.raises(ValueError, match="offset 'pairs' goes with present=True only"):
        FutureGoal(offset="pairs", present=False)


# --- common to all --------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", ["uniform", "geometric", "pairs"])
def test_future_goal_stays_in_its_episode(offset: str) -> None:
    log = episode_log(goals=True)
    chunk, bound = drawn(log, FutureGoal(offset=offset), updates=16)
    goal = bound.companions(chunk["index"], chunk["draws"])["0/goal"]
    assert (goal >= chunk["index"]).all() and (goal <= chunk["episode_end"]).all()
    assert log.column("episode")[goal].equal(chunk["episode"])
    assert (goal == chunk["index"]).any() and (goal > chunk["index"]).any()


def test_final_goal_is_what_the_last_step_reached() -> None:
    log = episode_log(goals=True)
    batch = relabeled(log, FinalGoal())
    assert batch["task"].equal(log.column(NEXT_ACHIEVED)[batch["episode_end"]])


def test_goal_is_what_the_proposed_step_reached_afterwards() -> None:
    """The goal is next.achieved_goal of the companion, so the present step succeeds at once."""
    log = episode_log([1, 1], goals=True)
    batch = relabeled(log, FutureGoal())
    assert batch["task"].equal(log.column(NEXT_ACHIEVED)[batch["index"]])
    assert (batch[REWARD] == 0).all() and batch[TERMINATED].all()


@KINDS
@pytest.mark.parametrize("reward", ["sparse", "dense"])
def test_reward_and_termination_are_judged_by_the_family(kind: type, reward: str) -> None:
    family = GoalReaching(radius=0.8, kind=reward)
    batch = relabeled(episode_log(goals=True), kind(family))
    distance = (batch[NEXT_ACHIEVED] - batch["task"]).norm(dim=-1)
    reached = distance <= 0.8
    expected = -distance if reward == "dense" else reached.float() - 1
    torch.testing.assert_close(batch[REWARD], expected)
    assert batch[TERMINATED].equal(reached)
    assert reached.any() and not reached.all()


@KINDS
def test_default_family_is_sparse_with_termination(kind: type) -> None:
    log = episode_log(goals=True)
    batch, expected = relabeled(log, kind()), relabeled(log, kind(GoalReaching(0.05, "sparse")))
    assert batch[REWARD].equal(expected[REWARD])
    assert batch[TERMINATED].equal(expected[TERMINATED])


@KINDS
def test_fraction_0_keeps_every_row(kind: type) -> None:
    log = episode_log(task=True, goals=True)
    chunk, bound = drawn(log, kind(fraction=0.0))
    batch = bound(chunk)
    for key in ("task", REWARD, TERMINATED):
        assert batch[key].equal(chunk[key])


@KINDS
def test_fraction_1_changes_every_row(kind: type) -> None:
    chunk, bound = drawn(episode_log(task=True, goals=True), kind(fraction=1.0))
    assert (bound(chunk)["task"] != chunk["task"]).all()


@KINDS
def test_share_of_relabeled_rows_is_the_fraction(kind: type) -> None:
    """Within four standard deviations of a binomial; the rest keep task, reward, termination."""
    rows, fraction = 16 * 256, 0.3
    log = episode_log(task=True, goals=True)
    chunk, bound = drawn(log, kind(fraction=fraction), updates=16, batch_size=256)
    batch = bound(chunk)
    changed = (batch["task"] != chunk["task"]).any(-1)
    spread = math.sqrt(fraction * (1 - fraction) / rows)
    assert abs(changed.float().mean().item() - fraction) < 4 * spread
    assert set(batch[REWARD][changed].tolist()) <= {0.0, -1.0}
    for key in (REWARD, TERMINATED):
        assert batch[key][~changed].equal(chunk[key][~changed])


def test_who_is_chosen_does_not_depend_on_who_is_proposed() -> None:
    """Selection and proposal are different draws: goals of chosen rows are as late as others."""
    log = episode_log([40], task=True, goals=True)
    chunk, bound = drawn(log, FutureGoal(fraction=0.5), updates=64, batch_size=128)
    chosen = (bound(chunk)["task"] != chunk["task"]).any(-1)
    goal = bound.companions(chunk["index"], chunk["draws"])["0/goal"]
    share = (goal - chunk["index"]) / (chunk["episode_end"] - chunk["index"] + 1)
    both = torch.stack([chosen.float().flatten(), share.flatten()])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 4 / math.sqrt(chosen.numel())


@KINDS
@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_fraction_out_of_range_is_refused(kind: type, fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"fraction is {fraction}, it must lie in \[0, 1\]"):
        kind(fraction=fraction)


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_discount_out_of_range_is_refused(discount: float) -> None:
    with pytest.raises(ValueError, match=rf"discount is {discount}, it must lie in \(0, 1\)"):
        FutureGoal(discount=discount)


@KINDS
def test_fraction_below_1_needs_a_task_to_keep(kind: type) -> None:
    with pytest.raises(ValueError, match="no 'task' that the others could keep.*set fraction to 1"):
        relabeled(episode_log(goals=True), kind(fraction=0.5))
    relabeled(episode_log(goals=True), kind(fraction=1.0))


@KINDS
def test_task_to_keep_may_come_from_an_earlier_relabeler(kind: type) -> None:
    chunk = relabeled(episode_log(goals=True), RandomTask(), kind(fraction=0.5))
    only = relabeled(episode_log(goals=True), RandomTask())
    kept = (chunk["task"] == only["task"]).all(-1)
    assert 0.3 < float(kept.float().mean()) < 0.7


@KINDS
def test_fraction_below_1_needs_a_task_that_is_a_goal(kind: type) -> None:
    log = episode_log(goals=True)
    log = log.with_columns({"task": torch.zeros(len(log), 3)})
    with pytest.raises(ValueError, match=r"tasks of shape \[3\] .* tasks here have shape \[2\]"):
        relabeled(log, kind(fraction=0.5))


@KINDS
def test_log_without_achieved_goals_is_refused(kind: type) -> None:
    with pytest.raises(LogError, match="the log has no 'next.achieved_goal'. It holds: action,"):
        kind().prepare(episode_log())


@KINDS
def test_a_goal_with_margin_is_the_place_and_a_draw_of_the_margin(kind: type) -> None:
    log = episode_log(goals=True)
    family = GoalReaching(radius=(0.2, 0.6))
    plain, batch = relabeled(log, kind()), relabeled(log, kind(family))
    assert batch["task"][..., :2].equal(plain["task"])
    margin = batch["task"][..., 2]
    assert 0.2 <= margin.min() < 0.25 and 0.55 < margin.max() <= 0.6
    torch.testing.assert_close(batch[REWARD], family.reward(batch, batch["task"]))
    assert batch[TERMINATED].equal(family.terminated(batch, batch["task"]))


@KINDS
def test_fraction_below_1_needs_tasks_with_a_margin_too(kind: type) -> None:
    log = episode_log(task=True, goals=True)
    with pytest.raises(ValueError, match=r"tasks of shape \[2\] .* tasks here have shape \[3\]"):
        relabeled(log, kind(GoalReaching(radius=(0.2, 0.6)), fraction=0.5))


@KINDS
def test_tasks_that_are_no_places_are_refused(kind: type) -> None:
    with pytest.raises(
        ValueError, match="no task of LinearTasks is fulfilled by getting somewhere"
    ):
        kind(LinearTasks([0, 0], [1, 1])).prepare(episode_log(goals=True))
