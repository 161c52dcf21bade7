"""Hindsight goals: who is proposed, who is chosen, and what becomes of reward and termination."""

import math

import pytest
import torch
from episode_logs import drawn, episode_log, relabeled
from torch import Tensor

from hindsight_rl.datamodules.errors import LogError
from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.goals import EpisodeGoal, FinalGoal, FutureGoal
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.tasks import GoalReaching

NEXT_ACHIEVED = ("next", "achieved_goal")
REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
KINDS = pytest.mark.parametrize("kind", [FutureGoal, FinalGoal, EpisodeGoal])
# Quantiles of chi-square at 1 - 1e-4, by degrees of freedom.
CHI_SQUARE = {5: 25.745, 9: 33.720}


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


@pytest.mark.parametrize("offset", ["uniform", "geometric"])
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
    with pytest.raises(ValueError, match="no 'task' that the other rows could keep: set fraction"):
        kind(fraction=0.5).prepare(episode_log(goals=True))
    kind(fraction=1.0).prepare(episode_log(goals=True))


@KINDS
def test_fraction_below_1_needs_a_task_that_is_a_goal(kind: type) -> None:
    log = episode_log(goals=True)
    log = log.with_columns({"task": torch.zeros(len(log), 3)})
    with pytest.raises(ValueError, match=r"'task' has shape \[3\] and 'next.achieved_goal' \[2\]"):
        kind(fraction=0.5).prepare(log)


@KINDS
def test_log_without_achieved_goals_is_refused(kind: type) -> None:
    with pytest.raises(LogError, match="the log has no 'next.achieved_goal'. It holds: action,"):
        kind().prepare(episode_log())
