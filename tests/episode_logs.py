"""Small logs of whole episodes, and the batches that relabelers make of them.

Imported as ``episode_logs`` (``tests`` is on pytest's path).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.keys import (
    ACTION_LOG_PROB,
    NEXT_POLICY_ACTION,
    NEXT_POLICY_PROBABILITY,
    POLICY_ACTION,
    POLICY_PROBABILITY,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.returns import returns_to_go
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.relabeler import Relabeler

LENGTHS = (9, 12, 7, 1, 10, 8)
LOW, HIGH = [-2.0, -1.0], [2.0, 3.0]


def episode_log(
    lengths: Sequence[int] = LENGTHS,
    *,
    reward: Sequence[float] | None = None,
    discrete: bool = False,
    task: bool = False,
    goals: bool = False,
    one_hot: bool = False,
    returns: bool = False,
    judged: bool = False,
    costly: bool = False,
    tasks: bool = False,
    stated: bool = False,
    seed: int = 0,
) -> Log:
    """Return episodes of a random walk whose actions depend on the observation.

    Every second episode is terminated, the others are truncated.

    Args:
        lengths: Steps of each episode.
        reward: One number per row; random ones if left out.
        discrete: Three actions, instead of two numbers in [LOW, HIGH].
        task: Add ``task``, a commanded goal of two numbers.
        goals: Add the achieved goals, the first two of the three observed numbers.
        one_hot: Three numbers without a memory, of which only the number of the smallest is seen.
        returns: The first number of the task is the return to go, and a column.
        judged: Add what a policy answers, in each state and in the next: two actions, or how
            probable each choice is.
        costly: Real actions cost their square, from the middle of their range on.
        tasks: Add ``task_id``: episodes are of two tasks, one after the other.
        stated: Add how likely the actions were, about as a uniform draw is.
        seed: Seed of the walk.

    Returns:
        The log.
    """
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(lengths)
    rows, last = int(size.sum()), size.cumsum(0) - 1
    ends = torch.zeros(rows, dtype=torch.bool)
    ends[last] = True
    walk = 0.5 * torch.randn(rows + 1, 3, generator=generator)
    walk = walk if one_hot else walk.cumsum(0) + 1.0
    episode = torch.arange(len(lengths)).repeat_interleave(size)
    columns: dict[Any, Tensor] = {
        "observation": walk[:-1],
        "action": _actions(walk[:-1], discrete, generator),
        "episode": episode,
        ("next", "observation"): walk[1:],
        ("next", "reward"): torch.randn(rows, generator=generator)
        if reward is None
        else torch.tensor(reward, dtype=torch.float32),
        ("next", "terminated"): ends & (episode % 2 == 0),
        ("next", "truncated"): ends & (episode % 2 == 1),
    }
    if task:
        columns["task"] = torch.randn(len(lengths), 2, generator=generator)[episode]
    if task and returns:
        to_go = returns_to_go(columns["next", "reward"], ends, 1.0)
        columns["return_to_go"] = columns["task"][:, 0] = to_go.float()
    if goals:
        columns |= {"achieved_goal": walk[:-1, :2], ("next", "achieved_goal"): walk[1:, :2]}
    if one_hot:
        state = torch.nn.functional.one_hot(walk.argmin(-1), 3).float()
        columns |= {"observation": state[:-1], ("next", "observation"): state[1:]}
    if costly and not discrete:
        low, high = torch.tensor(LOW), torch.tensor(HIGH)
        share = (2.0 * columns["action"] - low - high) / (high - low)
        columns["next", "reward"] = columns["next", "reward"] - 8.0 * share.square().sum(-1)
    if tasks:
        columns["task_id"] = (episode % 2).float()
    if judged:
        columns |= _answers(walk, discrete)
    if stated:
        columns[ACTION_LOG_PROB] = 0.1 * walk[:-1, 0] - math.log(3.0 if discrete else 16.0)
    info: dict[str, Any] = {"source": "walk", "control_rate_hz": 20.0}
    info |= {"discrete_actions": 3} if discrete else {"action": {"low": LOW, "high": HIGH}}
    return Log.from_columns(columns, info)


def _actions(observation: Tensor, discrete: bool, generator: torch.Generator) -> Tensor:
    score = observation + 0.3 * torch.randn(observation.shape, generator=generator)
    if discrete:
        return score.argmax(-1)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return low + (high - low) * torch.sigmoid(score[:, :2])


def _answers(walk: Tensor, discrete: bool) -> dict[Any, Tensor]:
    """Return the columns of a policy that looks at the observation alone."""
    if discrete:
        chance = walk.softmax(-1)
        return {POLICY_PROBABILITY: chance[:-1], NEXT_POLICY_PROBABILITY: chance[1:]}
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    mean = torch.stack([walk[:, :2] - 0.5, walk[:, 1:] + 0.5], dim=1)
    action = low + (high - low) * torch.sigmoid(mean)
    return {POLICY_ACTION: action[:-1], NEXT_POLICY_ACTION: action[1:]}


def bind(log: Log, relabel: Relabeler) -> tuple[Log, Relabeler]:
    """Return the log with the columns and rows a relabeler leaves, and the bound relabeler."""
    bound = relabel.prepare(log)
    return log.with_columns(bound.columns).with_rows(bound.rows), bound


def drawn(
    log: Log, *relabelers: Relabeler, updates: int = 4, batch_size: int = 64, seed: int = 0
) -> tuple[TensorDict, Relabeler]:
    """Return a chunk ``[updates, batch_size]``, not yet relabeled, and the bound chain."""
    ready, bound = bind(log, Compose(list(relabelers)))
    sampler = ChunkSampler(ready, bound, batch_size=batch_size, seed=seed)
    return sampler.chunk(0, updates), bound


def relabeled(log: Log, *relabelers: Relabeler, **options: int) -> TensorDict:
    """Return a chunk after all stages of the relabelers; see :func:`drawn`."""
    chunk, bound = drawn(log, *relabelers, **options)
    return bound(chunk)


def leaves(batch: TensorDict) -> dict[Any, Tensor]:
    """Return the tensors of a batch by key."""
    return {key: batch[key] for key in batch.keys(include_nested=True, leaves_only=True)}


def rows_of(log: Log, key: Any, rows: Sequence[int] | Tensor) -> Tensor:
    """Return some rows of a column."""
    return log.column(key)[torch.as_tensor(rows)]
