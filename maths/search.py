"""Search for sequences: a beam keeps the best few beginnings; plans are worth what they promise.

Reference: Janner, Li and Levine 2021, "Offline reinforcement learning as one big sequence modeling
problem", arXiv 2106.02039, algorithm 1.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

State = TypeVar("State")
Step = Callable[[State, Tensor | None], tuple[Tensor, State]]
"""``(state, token [R] or None) -> (log_prob [R, G] of the next token, state)``: the state after the
token, and what may follow; ``None`` at the beginning."""
Take = Callable[[State, Tensor], State]
"""``(state, rows [R']) -> state`` of those rows, of which some may be the same."""


class Found(NamedTuple, Generic[State]):
    """The best sequences.

    Attributes:
        tokens: ``[n, W, L]`` int64, the best first.
        score: ``[n, W]``, sum of log-probabilities, nats; falls along W.
        state: Of ``n W`` rows, before their last tokens.
    """

    tokens: Tensor
    score: Tensor
    state: State


def beam_search(
    start: State, step: Step[State], take: Take[State], *, length: int, width: int
) -> Found[State]:
    """Return the likeliest sequences that a beam finds.

    Of all continuations of the beginnings that are kept the best W are kept. A beam of 1 is greedy;
    one that holds all sequences is exact.

    Args:
        start: State of n rows that sequences begin in.
        step: What may follow.
        take: Chooses rows of a state.
        length: L, tokens of a sequence, at least 1.
        width: W, at least 1; there are fewer where fewer sequences exist.

    Returns:
        The best W.
    """
    log_prob, state = step(start, None)
    count, bins = log_prob.shape
    tokens = torch.zeros(count, 1, 0, dtype=torch.int64, device=log_prob.device)
    score = log_prob.new_zeros(count, 1)
    for place in range(length):
        if place:
            log_prob, state = step(state, tokens[..., -1].flatten())
        total = score.unsqueeze(-1) + log_prob.unflatten(0, (count, -1))
        score, chosen = total.flatten(1).topk(min(width, total[0].numel()), dim=-1)
        parent, token = chosen.div(bins, rounding_mode="floor"), chosen % bins
        state = take(state, flat_rows(parent, tokens.shape[1]))
        tokens = torch.cat([of_parents(tokens, parent), token.unsqueeze(-1)], dim=-1)
    return Found(tokens, score, state)


def flat_rows(parent: Tensor, width: int) -> Tensor:
    """Return the rows ``[n W']`` of beams ``[n, W']`` int64 among ``n width`` rows in order."""
    first = torch.arange(len(parent), device=parent.device).unsqueeze(-1) * width
    return (first + parent).flatten()


def of_parents(value: Tensor, parent: Tensor) -> Tensor:
    """Return ``[n, W', ...]``: what beams ``[n, W', ]`` int64 inherit of ``[n, W, ...]``."""
    row = torch.arange(len(value), device=value.device).unsqueeze(-1)
    return value[row, parent]


def planned_return(reward: Tensor, ended: Tensor, value: Tensor, *, discount: float) -> Tensor:
    """Return what plans promise: rewards on the way, and the return to go of their last step.

        sum_{k<h} gamma^k c_k r_k + gamma^h c_h G_h,   c_k = prod_{i<k} (1 - d_i)

    Args:
        reward: ``[..., h]``, of the steps before the last.
        ended: ``[..., h]``, probability d that the episode terminates with each of them.
        value: ``[...]``, return to go G of the last step, its own reward included.
        discount: gamma, in [0, 1].

    Returns:
        ``[...]``, reward units.

    Reference:
        arXiv 2106.02039, section 3.2; the paper's r_h + gamma V_h is G_h here.
    """
    kept = discount * (1.0 - ended)
    factor = torch.cat([torch.ones_like(value).unsqueeze(-1), kept.cumprod(-1)], dim=-1)
    earned = torch.cat([reward, value.unsqueeze(-1)], dim=-1)
    return (factor * earned).sum(-1)
