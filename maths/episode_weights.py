"""Weights of an ensemble's members that are a bootstrap of whole episodes.

Rows of one episode are not independent: a member that resamples rows would say less than there is
of how much a value depends on the log. Here each member counts every episode a number of times that
is Poisson(1), the limit of drawing as many episodes as there are with replacement.

Reference: Hao, Ji, Duan, Lu, Szepesvari and Wang 2021, "Bootstrapping fitted Q-evaluation for
off-policy inference", arXiv 2102.03607 (episodes as the unit); Oza and Russell 2001, "Online
bagging and boosting" (Poisson weights).
"""

import math

import torch
from torch import Tensor

from hindsight_rl.maths.draws import fork_key, uniforms

STREAM = "episode weights"
# P(X <= k) for k = 0, 1, ...; beyond lies about one step of a draw of 24 bits.
_REACHED = [sum(math.exp(-1.0) / math.factorial(k) for k in range(most + 1)) for most in range(9)]


def poisson(uniform: Tensor) -> Tensor:
    """Return numbers of the Poisson distribution with mean 1, by its inverse.

    Args:
        uniform: ``[...]`` on [0, 1).

    Returns:
        ``[...]`` of the same dtype, whole numbers from 0 to 9.
    """
    found = torch.zeros_like(uniform)
    for reached in _REACHED:
        found = found + (uniform >= reached).to(uniform.dtype)
    return found


def episode_weights(episode: Tensor, members: int, stream: str = STREAM) -> Tensor:
    """Return how often each member of an ensemble counts a row: Poisson(1) by episode and member.

    A function of stream, episode and member alone: the same in every batch, run and process.

    Args:
        episode: ``[B]`` int64, number of the episode.
        members: E, at least 1.
        stream: Name of the draws.

    Returns:
        ``[E, B]`` float32, with mean 1 and variance 1 over episodes.
    """
    key = torch.full_like(episode, fork_key(0, stream))
    counter = torch.stack([key, torch.zeros_like(key), episode], dim=-1)
    return poisson(uniforms(counter, members)).movedim(-1, 0)
