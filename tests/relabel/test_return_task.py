"""Returns as tasks: the command that a row fulfilled."""

from typing import Any

import pytest
import torch
from episode_logs import drawn, episode_log, relabeled
from small_logs import same

from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import ReturnToGo

REWARD = ("next", "reward")


def tasks_of(relabeler: ReturnTask, **options: Any) -> list[Any]:
    """Return the task of every row of two episodes, rewards 1, 2, 4 and 8."""
    log = episode_log([3, 1], reward=[1.0, 2.0, 4.0, 8.0], **options)
    batch = relabeled(log, relabeler, updates=8).reshape(-1)
    found = dict(zip(batch["index"].tolist(), batch["task"].tolist(), strict=True))
    return [found[number] for number in range(4)]


def test_task_is_the_return_from_here_on() -> None:
    assert tasks_of(ReturnTask()) == [[7], [6], [4], [8]]
    assert tasks_of(ReturnTask(discount=0.5)) == [[3], [4], [4], [8]]


def test_horizon_is_the_steps_left_the_present_one_among_them() -> None:
    """Upside-down RL: T - t, which its exploration never lets fall below 1."""
    assert tasks_of(ReturnTask(horizon=True)) == [[7, 3], [6, 2], [4, 1], [8, 1]]


def test_advantage_of_the_log_as_task() -> None:
    log = episode_log(goals=True)
    advantage = torch.linspace(-1, 1, len(log))
    log = log.with_columns({"advantage": advantage})
    batch = relabeled(log, ReturnTask(of="advantage"))
    assert batch["task"].equal(advantage[batch["index"]].unsqueeze(-1))
    assert "return_to_go" not in batch.keys()
    left = batch["episode_end"] - batch["index"] + 1
    assert relabeled(log, ReturnTask("advantage", horizon=True))["task"][..., 1].equal(left.float())


def test_reward_and_termination_stay_and_the_return_is_a_column() -> None:
    chunk, bound = drawn(episode_log(), ReturnTask(discount=0.9))
    batch = bound(chunk)
    assert same(batch["next"], chunk["next"])
    returns = relabeled(episode_log(), ReturnToGo(0.9))["return_to_go"]
    assert batch["return_to_go"].equal(returns) and batch["task"][..., 0].equal(returns)


def test_fraction_keeps_the_other_rows() -> None:
    log = episode_log(task=True)
    chunk, bound = drawn(log, ReturnTask(horizon=True, fraction=0.25), updates=200)
    batch = bound(chunk)
    kept = (batch["task"] == chunk["task"]).all(-1)
    assert 0.7 < float(kept.float().mean()) < 0.8
    taken = batch["task"][~kept]
    assert taken[:, 0].equal(batch["return_to_go"][~kept])


def test_goals_before_returns_are_refused_and_after_them_win() -> None:
    log = episode_log(goals=True)
    with pytest.raises(ValueError, match="put ReturnTask before FutureGoal"):
        Compose([FutureGoal(), ReturnTask()]).prepare(log)
    assert relabeled(log, ReturnTask(), FutureGoal())["task"].shape[-1] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": -0.5}, "fraction is -0.5, it must lie"),
        ({"discount": 2.0}, r"discount is 2.0, it must lie in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReturnTask(**arguments)


def test_logs_that_lack_something_are_refused() -> None:
    log = episode_log()
    with pytest.raises(ValueError, match="there is no 'advantage' to become the task: put Linear"):
        ReturnTask("advantage").prepare(log)
    with pytest.raises(ValueError, match="rows have no 'task' that the others could keep"):
        relabeled(log, ReturnTask(fraction=0.5))
    with pytest.raises(ValueError, match=r"tasks of shape \[2\] .* here have shape \[1\]"):
        relabeled(episode_log(task=True), ReturnTask(fraction=0.5))
