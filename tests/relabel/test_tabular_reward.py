"""Rewards that explain experts in small worlds: by hand, and up to what no expert tells."""

import math
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from torch import Tensor

from hindsight_rl.logs.log import Log
from hindsight_rl.maths.soft_value import soft_values, state_visits
from hindsight_rl.relabel.tabular_reward import tabular_reward

SIDE = 3


def world_log(
    state: Tensor, action: Tensor, following: Tensor, states: int, choices: int, *, ended: bool
) -> Log:
    """Return episodes ``[E, H]`` as a log; each is terminated or truncated."""
    episodes, horizon = state.shape
    last = torch.zeros(episodes, horizon, dtype=torch.bool)
    last[:, -1] = True
    hot = torch.eye(states)
    columns: dict[Any, Tensor] = {
        "observation": hot[state.flatten()],
        "action": action.flatten(),
        "episode": torch.arange(episodes).repeat_interleave(horizon),
        ("next", "observation"): hot[following.flatten()],
        ("next", "reward"): torch.zeros(episodes * horizon),
        ("next", "terminated"): last.flatten() & ended,
        ("next", "truncated"): last.flatten() & (not ended),
    }
    return Log.from_columns(columns, {"discrete_actions": choices})


def grid() -> Tensor:
    """Return a square of nine cells: left, right, up, down; walls hold, one step in ten slips."""
    moves = torch.zeros(9, 4, 9, dtype=torch.float64)
    for cell in range(9):
        i, j = divmod(cell, SIDE)
        ways = ((i, max(j - 1, 0)), (i, min(j + 1, 2)), (max(i - 1, 0), j), (min(i + 1, 2), j))
        for number, (row, column) in enumerate(ways):
            moves[cell, number, row * SIDE + column] += 0.9
            moves[cell, number, cell] += 0.1
    return moves


def played(policy: Tensor, moves: Tensor, episodes: int, seed: int = 0) -> Log:
    """Return episodes that begin anywhere and follow a policy ``[H, S, A]``."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randint(9, (episodes,), generator=generator)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for chances in policy:
        action = torch.multinomial(chances[state], 1, generator=generator).squeeze(1)
        following = torch.multinomial(moves[state, action], 1, generator=generator).squeeze(1)
        rows.append((state, action, following))
        state = following
    parts = [torch.stack(side, dim=1) for side in zip(*rows, strict=True)]
    return world_log(*parts, 9, 4, ended=False)


def test_one_choice_is_explained_by_the_log_of_its_share() -> None:
    """Of ten episodes 4, 3 and 3: exp(r) is proportional to the shares, the loss their entropy."""
    zeros = torch.zeros(10, 1, dtype=torch.int64)
    action = torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor([4, 3, 3])).unsqueeze(1)
    log = world_log(zeros, action, zeros, 1, 3, ended=True)
    found = tabular_reward(log, reads="action", l2=1e-9)
    torch.testing.assert_close(
        found.policy[0, 0], torch.tensor([0.4, 0.3, 0.3]).double(), rtol=0, atol=1e-5
    )
    shares = torch.tensor([0.4, 0.3, 0.3]).double().log()
    centred = found.reward[0] - found.reward[0].mean()
    torch.testing.assert_close(centred, shares - shares.mean(), rtol=0, atol=1e-4)
    assert found.loss == pytest.approx(-(0.4 * math.log(0.4) + 0.6 * math.log(0.3)), abs=1e-6)
    assert torch.equal(found.column, found.reward[0, action[:, 0]].float())


def test_the_reward_of_a_grid_is_recovered_from_what_experts_do() -> None:
    """400 episodes of 8 steps: the policy, and the reward without its mean."""
    moves, true = grid(), torch.zeros(9, dtype=torch.float64)
    true[8], true[4] = 1.5, -1.0
    expert = soft_values(true, moves, 8).policy
    log = played(expert, moves, 400)
    found = tabular_reward(log, l2=1e-4)
    gap = (found.policy - expert).abs().sum(-1) / 2
    assert float(gap[:-1].mean()) < 0.05  # the last action leads nowhere that counts
    centred = found.reward - found.reward.mean() - (true - true.mean())
    assert float(centred.abs().max()) < 0.45
    assert int(found.reward.argmax()) == 8 and int(found.reward.argmin()) == 4


def test_luck_of_few_episodes_does_not_blow_rewards_up() -> None:
    """Eight episodes where steps slip: their states are luckier than any policy's could be."""
    moves, true = grid(), torch.zeros(9, dtype=torch.float64)
    true[8] = 4.0
    expert = soft_values(true, moves, 8).policy
    wandering = torch.full((8, 9, 4), 0.25, dtype=torch.float64)
    for seed in range(3):
        logs = [played(expert, moves, 8, seed), played(wandering, moves, 400, seed=9)]
        found = tabular_reward(Log.concatenate(logs, [1.0, 1.0]), expert=None)
        assert found.loss > 0.0
        assert float(found.reward.abs().max()) < 15.0
        weight = state_visits(expert, moves, torch.full((9,), 1 / 9).double()) / 8
        gap = (weight * (found.policy - expert).abs().sum(-1) / 2).sum()
        assert float(gap) < 0.15


def test_others_only_say_where_steps_lead() -> None:
    """A second source that goes everywhere changes the dynamics, not who is explained."""
    moves, true = grid(), torch.zeros(9, dtype=torch.float64)
    true[8] = 2.0
    expert = soft_values(true, moves, 6).policy
    wandering = torch.full((6, 9, 4), 0.25, dtype=torch.float64)
    logs = [played(expert, moves, 100), played(wandering, moves, 400, seed=1)]
    both = Log.concatenate(logs, [1.0, 1.0])
    found = tabular_reward(both, expert=None)
    assert int(found.reward.argmax()) == 8
    assert len(found.column) == len(both)
    everyone = tabular_reward(both)
    assert float(found.reward[8]) > float(everyone.reward[8]) + 0.5


def test_logs_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="'observation' is not one-hot: tabular_reward counts"):
        tabular_reward(episode_log(discrete=True))
    with pytest.raises(ValueError, match="actions are no choices"):
        tabular_reward(episode_log(one_hot=True))
    log = episode_log(discrete=True, one_hot=True)
    with pytest.warns(UserWarning, match="cut before step 12 for an end"):
        assert torch.isfinite(tabular_reward(log).column).all()
    with pytest.raises(ValueError, match="discount is 2.0"):
        tabular_reward(log, discount=2.0)
    with pytest.raises(ValueError, match="reads is 'all'"):
        tabular_reward(log, reads="all")  # type: ignore[arg-type]
