"""Commands: what a policy is asked for, from the returns of a replay."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_replays import iterated
from torch import Tensor

from hindsight_rl.maths.draws import counters
from hindsight_rl.relabel.advantage import LinearAdvantage
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.tasks.commands import (
    BestAdvantage,
    BestReturn,
    RecentReturn,
    episode_returns,
)

# Episodes of 2, 1, 3 and 1 steps with the returns 3, 8, 6 and 1.
LOG = episode_log([2, 1, 3, 1], reward=[1.0, 2, 8, 1, 2, 3, 1])


def draws(count: int = 4000, seed: int = 0) -> Tensor:
    return counters(seed, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]


def test_returns_and_steps_of_episodes() -> None:
    total, steps = episode_returns(LOG)
    assert total.tolist() == [3.0, 8.0, 6.0, 1.0] and steps.tolist() == [2, 1, 3, 1]
    assert total.dtype == torch.float64


def test_recent_return_is_normal_around_the_largest() -> None:
    """The newest two returns are 6 and 1: mean 6, standard deviation 2.5."""
    asked = RecentReturn(episodes=2).start(LOG, draws())
    assert asked.shape == (4000, 1) and asked.dtype == torch.float32
    assert asked.mean().item() == pytest.approx(6.0, abs=0.15)
    assert asked.std().item() == pytest.approx(2.5, abs=0.1)
    everything = RecentReturn(episodes=99).start(LOG, draws())
    assert everything.mean().item() == pytest.approx(8.0, abs=0.15)


def test_best_return_is_uniform_above_the_mean_of_the_best() -> None:
    """The best two are 8 in 1 step and 6 in 3: in [7, 8], in 2 steps."""
    asked = BestReturn(episodes=2).start(LOG, draws())
    assert asked.shape == (4000, 2) and (asked[:, 1] == 2.0).all()
    assert 7.0 <= asked[:, 0].min() < 7.01 and 7.99 < asked[:, 0].max() <= 8.0
    assert asked[:, 0].mean().item() == pytest.approx(7.5, abs=0.02)
    assert BestReturn(2, horizon=False).start(LOG, draws()).equal(asked[:, :1])


def test_best_advantage_is_normal_around_the_largest() -> None:
    advantage = LinearAdvantage(discount=1.0)
    found = advantage.prepare(LOG).columns["advantage"]
    asked = BestAdvantage(advantage).start(LOG, draws())
    spread = found.std(correction=0).item()
    assert asked.mean().item() == pytest.approx(found.max().item(), abs=0.1 * spread)
    assert asked.std().item() == pytest.approx(spread, rel=0.05)
    other = episode_log([3, 2], seed=5)
    again = BestAdvantage(advantage)
    again.start(LOG, draws(3))  # of another replay, which is then gone
    assert again.start(other, draws(3)).equal(BestAdvantage(advantage).start(other, draws(3)))


def test_the_draws_alone_tell_commands_apart() -> None:
    for command in (RecentReturn(), BestReturn(), BestAdvantage()):
        one, same, other = (command.start(LOG, draws(5, seed)) for seed in (1, 1, 2))
        assert one.equal(same) and not one.equal(other)
        assert len(one[:, 0].unique()) == 5


def test_commands_are_lowered_by_what_was_earned() -> None:
    task, reward = torch.tensor([[10.0, 2.0], [5.0, 1.0]]), torch.tensor([1.5, -1.0])
    assert BestReturn().step(task, reward).tolist() == [[8.5, 1.0], [6.0, 1.0]]
    assert RecentReturn().step(task[:, :1], reward).tolist() == [[8.5], [6.0]]
    held = RecentReturn(lower=False).step(task[:, :1], reward)
    assert held.tolist() == [[10.0], [5.0]]
    assert BestAdvantage().step(task[:, :1], reward).tolist() == [[10.0], [5.0]]


def test_first_episodes_have_a_task_of_the_same_width() -> None:
    for command in (RecentReturn(), BestReturn(), BestReturn(horizon=False), BestAdvantage()):
        assert len(command.initial) == command.start(LOG, draws(1)).shape[1]


@pytest.mark.parametrize("kind", [RecentReturn, BestReturn])
def test_no_episodes_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="episodes is 0, it must be at least 1"):
        kind(episodes=0)


def test_a_command_goes_through_the_episodes_that_are_collected() -> None:
    """CartPole pays 1 a step: what is asked falls by 1 each, from a start that is drawn once."""
    data = iterated(
        "CartPole-v1",
        [ReturnTask(horizon=True, fraction=0.0)],  # tasks stay those that were commanded
        initial_episodes=3,
        command=BestReturn(initial=(50.0, 4.0)),
    )
    task, step = data.log.column("task"), data.log.column("step")
    assert task[:, 0].equal(50.0 - step) and task[:, 1].equal((4.0 - step).clamp(min=1.0))
