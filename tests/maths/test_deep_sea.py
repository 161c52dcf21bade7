"""DeepSea (TB16): a bonus in the reward never tries the untried; optimism and heads do.

N steps down a grid; going right costs .01 / N, and +1 waits at the end of N steps right. Random
actions find it once in 2^N episodes. Tables start at 0 and are updated backwards after an episode.
"""

import math
import statistics
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.counts import count_bonus, optimistic
from hindsight_rl.maths.draws import counters, fork, normals, uniform, uniforms
from hindsight_rl.maths.ensembles import row_mask

LIMIT = 2_000
SEEDS = range(10)


def draws(seed: int, stream: str) -> Tensor:
    """Return counters of episodes ``[LIMIT, 3]``."""
    updates = torch.zeros(1, dtype=torch.int64)
    return fork(counters(seed, updates, torch.arange(LIMIT)), stream)[0]


def played(value: Tensor, size: int, lots: Tensor | None = None) -> list[tuple[int, int, int]]:
    """Return (row, column, action) of an episode that follows values ``[N, N, 2]``."""
    found, column = [], 0
    for row in range(size):
        left, right = value[row, column].tolist()
        action = int(right > left)
        if lots is not None and lots[row, 0] < 0.1:
            action = int(lots[row, 1] < 0.5)
        found.append((row, column, action))
        column = max(0, column + (1 if action else -1))
    return found


def succeeded(path: list[tuple[int, int, int]]) -> bool:
    return all(action for _, _, action in path)


def backwards(
    path: list[tuple[int, int, int]],
    size: int,
    q: Tensor,
    ahead: Callable[[int, int], float],
    bonus: Callable[[int, int, int], float] = lambda row, column, action: 0.0,
    sees: Sequence[bool] | None = None,
) -> None:
    """Move a table towards its targets along an episode, from its end."""
    for row, column, action in reversed(path):
        if sees is not None and not sees[row]:
            continue
        reward = -0.01 / size * action + bonus(row, column, action)
        following = 0.0
        if row + 1 < size:
            following = ahead(row + 1, max(0, column + (1 if action else -1)))
        elif succeeded(path):
            reward += 1.0
        q[row, column, action] += 0.5 * (reward + 0.99 * following - q[row, column, action])


def greedy_with_noise(size: int, seed: int) -> int:
    """Return the episode of the first success of epsilon-greedy, epsilon .1."""
    q = torch.zeros(size, size, 2, dtype=torch.float64)
    lots = uniforms(draws(seed, "noise"), 2 * size).reshape(LIMIT, size, 2)
    for episode in range(LIMIT):
        path = played(q, size, lots[episode])
        if succeeded(path):
            return episode + 1
        backwards(path, size, q, lambda row, column: float(q[row, column].max()))
    return LIMIT + 1


def bonus_in_reward(size: int, scale: float) -> int:
    """Return the episode of the first success where the count enters the reward alone."""
    q, count = torch.zeros(size, size, 2, dtype=torch.float64), torch.zeros(size, size, 2)
    for episode in range(LIMIT):
        path = played(q, size)
        if succeeded(path):
            return episode + 1
        for place in path:
            count[place] += 1
        worth = scale * count_bonus(count)
        backwards(
            path,
            size,
            q,
            lambda row, column: float(q[row, column].max()),
            lambda *place, w=worth: float(w[place]),
        )
    return LIMIT + 1


def optimism(size: int, seed: int) -> int:
    """Return the episode of the first success where the count enters choice and target."""
    count = torch.zeros(size, size, 2, dtype=torch.float64)
    # Equal values at the start are told apart by numbers far below any reward.
    lots = normals(draws(seed, "ties")[:1], 2 * size * size)[0].reshape(size, size, 2)
    q = 1e-6 * lots.double()
    for episode in range(LIMIT):
        path = played(optimistic(q, count, scale=0.1), size)
        if succeeded(path):
            return episode + 1
        for place in path:
            count[place] += 1
        hopeful = optimistic(q, count, scale=0.1)
        backwards(path, size, q, lambda row, column, h=hopeful: float(h[row, column].max()))
    return LIMIT + 1


def heads(size: int, seed: int) -> int:
    """Return the episode of the first success of 10 heads with priors of spread .3."""
    members = 10
    prior = normals(draws(seed, "prior")[:members], 2 * size * size).reshape(-1, size, size, 2)
    prior = 0.3 * prior.double()
    q = prior.clone()  # what is fitted, and the prior
    chosen = (uniform(draws(seed, "head")) * members).long().tolist()
    for episode in range(LIMIT):
        path = played(q[chosen[episode]], size)
        if succeeded(path):
            return episode + 1
        rows = (seed * LIMIT + episode) * size + torch.arange(size)
        for head, sees in zip(q, row_mask(rows, members).tolist(), strict=True):
            backwards(path, size, head, lambda r, c, h=head: float(h[r, c].max()), sees=sees)
    return LIMIT + 1


def median(finds: Callable[[int, int], int], size: int) -> float:
    return statistics.median(finds(size, seed) for seed in SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_a_bonus_in_the_reward_alone_never_tries_the_untried(scale: float) -> None:
    """A step to the left earns a bonus, so that it looks better than one never made, for ever."""
    assert bonus_in_reward(8, scale) > LIMIT


@pytest.mark.slow
def test_optimism_finds_it_and_chance_beside_greed_does_not() -> None:
    """Medians at N = 8: above 2,000 for epsilon .1, a few hundred for optimism."""
    assert median(greedy_with_noise, 8) > LIMIT
    assert 100 < median(optimism, 8) < 600


@pytest.mark.slow
def test_heads_find_what_uniform_actions_need_four_times_as_long_for() -> None:
    """Median at N = 12: 489 here, 2^12 log 2 = 2,839 for uniform actions."""
    assert median(heads, 12) < 0.5 * 2**12 * math.log(2)
