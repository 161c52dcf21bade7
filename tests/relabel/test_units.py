"""Inverse RL by rewards of what follows a row, and of tasks that this fulfils."""

from typing import Any

import pytest
import torch
from episode_logs import drawn, episode_log, relabeled
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.posterior import mean_perplexity, task_posterior
from hindsight_rl.relabel import inverse_trajectory, units
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.family import GoalReaching

NEXT_ACHIEVED = ("next", "achieved_goal")
LENGTHS = [3, 10, 4]
END = [2] * 3 + [12] * 10 + [16] * 4
LOG = episode_log(LENGTHS, goals=True)
GOALS = LOG.column(NEXT_ACHIEVED)[::2]
DENSE = GoalReaching(radius=0.8, kind="dense")
SPARSE = GoalReaching(radius=0.3)


class Free(GoalReaching):
    """A step costs nothing: a goal that is reached scores 0, one that is not is impossible."""

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        return torch.zeros_like(super().reward(batch, task, pairwise=pairwise))


class Final(GoalReaching):
    """Eq. 9: the last step of an episode is impossible unless it is at the goal."""

    in_keys = (NEXT_ACHIEVED, ("next", "truncated"), ("next", "terminated"))

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        missed = super().reward(batch, task, pairwise=pairwise) < 0
        last = batch["next", "truncated"] | batch["next", "terminated"]
        return torch.zeros(missed.shape).masked_fill(missed & last.unsqueeze(-1), -torch.inf)


def rewards(family: GoalReaching) -> Tensor:
    batch = TensorDict({"next": {"achieved_goal": LOG.column(NEXT_ACHIEVED)}}, [len(LOG)])
    return family.reward(batch, GOALS, pairwise=True)


def bound(family: GoalReaching, tasks: Tensor = GOALS, **options: Any) -> InverseRL:
    return InverseRL(family, tasks=tasks.tolist(), **options).prepare(LOG)


@pytest.mark.parametrize("together", [1, 20, 1 << 20])
@pytest.mark.parametrize(("unit", "steps"), [("rest", 99), (1, 1), (4, 4)])
def test_a_row_is_judged_by_the_rewards_that_follow(
    unit: units.Unit, steps: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "_TOGETHER", together)
    monkeypatch.setattr(inverse_trajectory, "_BLOCK", together)
    table = rewards(DENSE)
    spans = [slice(row, min(row + steps, END[row] + 1)) for row in range(len(LOG))]
    scores = torch.stack([table[span].sum(0) for span in spans])
    found = bound(DENSE, unit=unit, temperature=2.0)
    torch.testing.assert_close(found.scores(LOG), scores)
    torch.testing.assert_close(found.posterior, task_posterior(scores, temperature=2.0))
    mean = torch.stack([table[span].mean(0) for span in spans])
    averaged = bound(DENSE, unit=unit, score="mean")
    torch.testing.assert_close(averaged.posterior, task_posterior(mean))


@pytest.mark.parametrize("unit", ["episode", "rest", 3])
def test_score_fulfilled_ends_with_the_step_that_reaches_the_goal(unit: units.Unit) -> None:
    """Sparse: minus the steps before it; none where the unit does not get there."""
    table = rewards(SPARSE)
    starts = [0, 3, 13] if unit == "episode" else range(len(LOG))
    expected = torch.full((len(starts), len(GOALS)), -torch.inf)
    for number, start in enumerate(starts):
        stop = min(END[start] + 1, start + 3) if unit == 3 else END[start] + 1
        for task in range(len(GOALS)):
            hits = (table[start:stop, task] == 0).nonzero()
            if len(hits):
                expected[number, task] = -float(hits[0])
    found = bound(SPARSE, unit=unit, score="fulfilled")
    assert torch.equal(found.scores(LOG), expected)
    assert bool((expected == -torch.inf).any()) and bool((expected < -1).any())


def test_uniform_over_the_future_is_a_special_case() -> None:
    """Every state reached is a candidate, and steps cost nothing: the goals of ``FutureGoal``."""
    every = LOG.column(NEXT_ACHIEVED)
    found = bound(Free(1e-6), every, unit="rest", score="fulfilled", partition=False).posterior
    for row, end in enumerate(END):
        expected = torch.zeros(len(LOG))
        expected[row : end + 1] = 1 / (end + 1 - row)
        torch.testing.assert_close(found[row], expected)


def test_log_z_favours_goals_that_few_rows_reach() -> None:
    """exp(log Z) is then the share of rows that reach a goal: row k of an episode, k + 1 of 17."""
    every = LOG.column(NEXT_ACHIEVED)
    found = bound(Free(1e-6), every, unit="rest", score="fulfilled").posterior
    inverse = torch.tensor([1 / (step + 1) for step in range(6, 10)])
    expected = torch.zeros(len(LOG))
    expected[9:13] = inverse / inverse.sum()
    torch.testing.assert_close(found[9], expected)


@pytest.mark.parametrize("unit", ["episode", "rest"])
def test_equation_9_leaves_the_final_goal(unit: units.Unit) -> None:
    every = LOG.column(NEXT_ACHIEVED)
    found = bound(Final(1e-6), every, unit=unit).posterior
    ends = torch.tensor(sorted(set(END)) if unit == "episode" else END)
    assert torch.equal(found, torch.nn.functional.one_hot(ends, len(LOG)).float())


def test_a_mean_is_a_temperature_of_the_number_of_steps() -> None:
    log = episode_log([5, 5, 5], goals=True)
    tasks = GOALS.tolist()
    mean = InverseRL(DENSE, tasks=tasks, score="mean").prepare(log).posterior
    hot = InverseRL(DENSE, tasks=tasks, temperature=5.0).prepare(log).posterior
    torch.testing.assert_close(mean, hot)


@pytest.mark.parametrize("unit", ["episode", "rest", 3])
def test_perplexity_finds_the_temperature(unit: units.Unit) -> None:
    found = bound(DENSE, unit=unit, perplexity=5.0)
    assert float(mean_perplexity(found.posterior)) == pytest.approx(5.0, rel=1e-3)
    scores = found.scores(LOG)
    expected = task_posterior(scores, temperature=found.temperature)
    torch.testing.assert_close(found.posterior, expected)


def test_rows_have_the_tasks_of_their_own_posterior() -> None:
    chunk, chain = drawn(LOG, InverseRL(DENSE, unit=2, tasks=GOALS[:3].tolist()), updates=300)
    task = chain(chunk)["task"]
    posterior = chain.relabelers[0].posterior
    for row in (3, 8, 16):
        mine = task[chunk["index"] == row]
        share = torch.stack([(mine == goal).all(-1).float().mean() for goal in GOALS[:3]])
        torch.testing.assert_close(share, posterior[row], rtol=0, atol=0.06)


def test_rows_that_fulfil_no_candidate_are_not_drawn() -> None:
    """The goal is what the fourth step of the second episode reached: rows 3 to 6 get there."""
    goal = LOG.column(NEXT_ACHIEVED)[6:7].tolist()
    relabeler = InverseRL(GoalReaching(1e-6), tasks=goal, unit="rest", score="fulfilled")
    inside = LOG.with_rows(torch.arange(4, len(LOG)))
    assert relabeler.prepare(inside).rows.tolist() == [4, 5, 6]
    assert set(relabeled(LOG, relabeler, updates=20)["index"].unique().tolist()) == {3, 4, 5, 6}
    short = InverseRL(GoalReaching(1e-6), tasks=goal, unit=2, score="fulfilled").prepare(LOG)
    assert short.rows.tolist() == [5, 6]
    assert InverseRL(GoalReaching(1e-6), tasks=goal, unit="rest").prepare(LOG).rows is None


def test_metrics_say_how_many_rows_fulfil_their_task_and_any() -> None:
    """Three rows draw one goal that only the first episode reaches, from its second row on."""
    tasks = torch.stack([LOG.column(NEXT_ACHIEVED)[1], torch.full((2,), 1e3)])
    chunk, chain = drawn(LOG, InverseRL(GoalReaching(1e-6), tasks=tasks.tolist(), unit="rest"))
    chain(chunk)
    reaches = chunk["index"] <= 1
    assert float(chain.metrics["supported"]) == pytest.approx(float(reaches.float().mean()))
    share = chain.relabelers[0].posterior[chunk["index"], 0] * reaches
    assert float(chain.metrics["fulfilled"]) == pytest.approx(float(share.mean()))


def test_metrics_leave_out_rows_that_keep_their_task() -> None:
    """Half of the rows are relabeled; the shares are of those, and 0 where there are none."""
    tasks = torch.stack([LOG.column(NEXT_ACHIEVED)[1], torch.full((2,), 1e3)]).tolist()

    log = LOG.with_columns({"task": torch.zeros(len(LOG), 2)})

    def shares(fraction: float) -> tuple[float, float, Tensor]:
        options: dict[str, Any] = {"tasks": tasks, "unit": "rest", "fraction": fraction}
        chunk, chain = drawn(log, InverseRL(GoalReaching(1e-6), **options))
        relabeled = (chain(chunk)["task"] != 0.0).any(-1)
        reaches = (chunk["index"] <= 1)[relabeled].float()
        return float(chain.metrics["supported"]), float(chain.metrics["fulfilled"]), reaches

    supported, fulfilled, reaches = shares(0.5)
    assert supported == pytest.approx(float(reaches.mean()))
    assert 0.0 < fulfilled <= supported
    assert shares(0.0)[:2] == (0.0, 0.0)


def test_nothing_that_is_fulfilled_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"fulfils any of the 1 candidates \(unit 'rest'\)"):
        bound(SPARSE, torch.full((1, 2), 1e3), unit="rest", score="fulfilled")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": 0}, "unit is 0: a number of steps must be at least 1"),
        ({"unit": "step"}, "unit is 'step', it must be 'episode' or 'rest' or a whole number"),
        ({"score": "max"}, "score is 'max', it must be 'sum' or 'mean' or 'fulfilled'"),
        ({"perplexity": 0.5}, r"perplexity is 0.5, it must lie in \[1, 32\]"),
        ({"perplexity": 3, "tasks": [[1], [2]]}, r"perplexity is 3, it must lie in \[1, 2\]"),
        ({"perplexity": 4, "temperature": 2.0}, "it is given as 2.0 too: leave one out"),
    ],
)
def test_options_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InverseRL(**arguments)


def test_rewards_that_are_no_numbers_are_refused() -> None:
    broken = LOG.column(NEXT_ACHIEVED).clone()
    broken[5] = torch.nan
    with pytest.raises(ValueError, match="rewards of GoalReaching in this log are not numbers"):
        InverseRL(DENSE, tasks=GOALS.tolist()).prepare(LOG.with_columns({NEXT_ACHIEVED: broken}))
