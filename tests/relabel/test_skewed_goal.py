"""Skew-Fit: which goals are drawn, how rows are judged, and collection under goals of its own."""

from pathlib import Path

import pytest
import torch
from episode_logs import drawn, episode_log
from small_fits import fit, learner_of
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.skewed_goal import SkewedGoal
from hindsight_rl.tasks.commands import OneOf, RareGoal
from hindsight_rl.tasks.family import GoalReaching
from hindsight_rl.tasks.skewed import Skew

ACHIEVED = ("next", "achieved_goal")
NARROW = Skew(alpha=-1.0, bandwidth=0.01)
FAMILY = GoalReaching(0.5)


def two_places() -> Log:
    """Return a log that was at (0, 0) nine times of ten, and else at (5, 5)."""
    log = episode_log([10, 10, 10, 10], goals=True, task=True)
    reached = torch.zeros(40, 2)
    reached[9::10] = 5.0
    return log.with_columns({ACHIEVED: reached})


def shares(goals: Tensor) -> float:
    """Return how often the rare place was drawn."""
    return float((goals[..., 0] == 5).double().mean())


@pytest.mark.parametrize(("alpha", "rare"), [(0.0, 0.1), (-0.5, 0.25), (-1.0, 0.5)])
def test_rare_places_are_drawn_by_p_skew(alpha: float, rare: float) -> None:
    """P = (.9, .1): at alpha -.5 goals have p^.5, (3, 1) / 4; at -1 all places are alike."""
    goals = Skew(alpha=alpha, bandwidth=0.01).goals(two_places())
    draws = counters(0, torch.arange(4), torch.arange(4096))
    error = 4 * (rare * (1 - rare) / draws[..., 0].numel()) ** 0.5
    assert shares(goals.sample(draws)) == pytest.approx(rare, abs=error)


def test_relabeling_and_collecting_draw_the_same() -> None:
    log = two_places()
    chunk, bound = drawn(log, SkewedGoal(FAMILY, 1.0, NARROW), updates=1, batch_size=4096)
    task = bound(chunk)["task"]
    command = RareGoal(NARROW).start(log, counters(1, torch.arange(1), torch.arange(4096))[0])
    assert shares(task) == pytest.approx(0.5, abs=0.04)
    assert shares(command) == pytest.approx(0.5, abs=0.04)
    assert (task[..., 0] == task[..., 1]).all()


def test_every_row_is_judged_by_the_family_and_the_rest_keep_their_task() -> None:
    chunk, bound = drawn(two_places(), SkewedGoal(FAMILY, 0.5, NARROW), updates=2)
    found = bound(chunk)
    kept = (found["task"] == chunk["task"]).all(-1)
    assert 0.3 < kept.double().mean() < 0.7
    assert_close(found["next", "reward"], FAMILY.reward(chunk, found["task"]))
    assert found["next", "terminated"].equal(FAMILY.terminated(chunk, found["task"]))


def test_a_fraction_of_0_draws_no_goal_and_judges_anew() -> None:
    chunk, bound = drawn(two_places(), SkewedGoal(FAMILY, 0.0))
    found = bound(chunk)
    assert found["task"].equal(chunk["task"])
    assert_close(found["next", "reward"], FAMILY.reward(chunk, chunk["task"]))


def test_rows_that_may_not_be_drawn_are_no_goals() -> None:
    log = two_places()
    bound = SkewedGoal(FAMILY, 1.0).prepare(log.with_rows(torch.arange(9)))
    assert len(bound.goals.reached) == 9 and not bound.goals.reached.any()


def test_faulty_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Skew(alpha=0.5)
    with pytest.raises(ValueError, match="bandwidth"):
        Skew(bandwidth=0.0)
    with pytest.raises(ValueError, match="fraction"):
        SkewedGoal(fraction=2.0)
    chunk, _ = drawn(two_places())
    with pytest.raises(ValueError, match="call prepare"):
        SkewedGoal()(chunk)


# --- collection -----------------------------------------------------------------------------------


def collecting(command: object, env: str = "Hindsight/FourRooms-v0") -> IteratedDataModule:
    return IteratedDataModule(
        env,
        [SkewedGoal(GoalReaching(1.0), 0.5)],
        env_kwargs={"ends": False},
        collection=Collection(2, 2, max_episode_steps=10, num_envs=2, command=command),  # type: ignore[arg-type]
        batch_size=16,
        updates_per_step=4,
        seed=3,
    )


def test_commanded_goals_take_the_place_of_the_environments(tmp_path: Path) -> None:
    data = collecting(RareGoal())
    first = data.log.column("task")[data.log.column("step") == 0]
    assert data.spec.task is not None and data.spec.task.shape == (2,)
    assert len(first.unique(dim=0)) == 2  # those that the environment showed
    reached = data.log.column(ACHIEVED)
    fit(learner_of(SAC, data.spec), data, tmp_path, 24)
    log = data.log
    second = log.column("episode") == 2
    task = log.column("task")[second]
    assert len(task.unique(dim=0)) == 1  # held
    assert (reached == task[0]).all(-1).any()


def test_a_command_beside_goals_must_say_that_it_takes_their_place() -> None:
    with pytest.raises(RolloutError, match=r"leave out command, or give one that.*in_place"):
        collecting(OneOf(3))
    with pytest.raises(RolloutError, match="shows no goals, and RareGoal commands places"):
        IteratedDataModule("Pendulum-v1", collection=Collection(1, command=RareGoal()))


def test_one_of_k_may_take_the_place_of_goals() -> None:
    data = IteratedDataModule(
        "Hindsight/FourRooms-v0",
        collection=Collection(1, 1, max_episode_steps=5, command=OneOf(3, in_place_of_goals=True)),
    )
    assert data.log.column("task").tolist() == [[0.0, 0.0, 0.0]] * 5
    assert data.spec.task is not None and data.spec.task.shape == (3,)


def test_one_of_k_is_drawn_evenly() -> None:
    draws = counters(0, torch.arange(1), torch.arange(30_000))[0]
    found = OneOf(3).start(episode_log(), draws)
    assert (found.sum(-1) == 1).all()
    assert found.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.011)
    assert OneOf(3).step(found, torch.ones(len(found))) is found
    with pytest.raises(ValueError, match="count is 0"):
        OneOf(0)


def test_it_serves_a_log_too() -> None:
    data = OfflineDataModule(two_places(), [SkewedGoal(FAMILY, 0.5)])
    assert data.spec.task is not None
