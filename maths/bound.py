"""The lower bound of the log return, over the rows of a log.

For any distribution q of rows, log J >= F = E_q[log R + log (pi / b) - log (N q)], J the mean of
R pi / b over N rows drawn by a policy b: the importance-sampling estimate of the expected reward of
pi in the states of the log. The data step maximises F over q, the policy step over pi.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.losses import return_bound, same_shape


class RowBound(NamedTuple):
    """F and what it is made of, all ``[]`` float64, nats."""

    value: Tensor
    """F, the sum of the two parts."""
    log_reward: Tensor
    """E_q[log R]: how good the data are."""
    log_policy: Tensor
    """E_q[log (pi / b) - log (N q)]: how well the policy agrees with them, and they with the log.
    It is -KL(q || pi / (b N)), whose sum over the rows is 1 on average only."""
    limit: Tensor
    """The largest F of any q, log J; reached by q proportional to R pi / b."""


def row_bound(log_ratio: Tensor, reward: Tensor, weight: Tensor) -> RowBound:
    """Return the bound for q proportional to weights.

    Args:
        log_ratio: ``[N]``, log (pi / b) of each row's action, nats; with log pi in its place all is
            but for E_q[log b], which no policy changes.
        reward: ``[N]``, at least 0, and above 0 where the weight is.
        weight: ``[N]``, at least 0, not all 0.

    Returns:
        F, its two parts, and its limit.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(log_ratio=log_ratio, reward=reward, weight=weight)
    log_policy, reward = log_ratio.double() - math.log(len(log_ratio)), reward.double()
    q = normalized(weight)
    value = return_bound(log_policy, reward, q)
    # A row that q leaves out may have any reward, 0 too.
    log_reward = (q * reward.log().masked_fill(q == 0, 0.0)).sum()
    limit = torch.logsumexp(reward.log() + log_policy, dim=0)
    return RowBound(value, log_reward, value - log_reward, limit)


def normalized(weight: Tensor) -> Tensor:
    """Return weights ``[N]``, at least 0 and not all 0, as probabilities ``[N]`` float64."""
    weight = weight.double()
    return weight / weight.sum()
