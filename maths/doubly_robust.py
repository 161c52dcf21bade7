"""Doubly robust estimates: a model of values where it is right, importance weights where it is not.

    DR   mean_i sum_t discount^t [ rho_{i,t} (r_it - Q_it) + rho_{i,t-1} V_it ],   rho_{i,-1} = 1
    WDR  the same with w_it = rho_it / sum_j rho_jt instead of rho_it / n

Q_it is the model's value of the logged action, V_it the mean of Q over the actions of the policy
that is judged. Right values make every weight right, right ratios make every model right. The model
must come from other episodes than those that it is applied to (:func:`folds`), or it explains their
noise and the interval is too short.

Behind the end of an episode Q, V and r are 0 and rho is carried on, but for ``V[:, L]``, the value
after the L steps of an episode: 0 at an end, the model's where a time limit cut it. V has a column
more than there are steps for the longest ones.

Their mixture with the model's own value is in :mod:`hindsight_rl.maths.magic`.

Reference: Jiang and Li 2016, arXiv 1511.03722, eq. 10; weighted: Thomas and Brunskill 2016, arXiv
1604.00923, section 5.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.importance import Ratios, discounted, mean_of, relative_weights


def folds(episodes: int, count: int, uniform: Tensor) -> Tensor:
    """Return which fold ``[n]`` each episode is in, as equal in size as can be.

    Args:
        episodes: n, at least ``count``.
        count: Folds, at least 2.
        uniform: ``[n]`` on [0, 1), which decide the order.

    Returns:
        int64 in [0, count).

    Raises:
        ValueError: There are fewer episodes than folds, or fewer than two folds.
    """
    if not 2 <= count <= episodes:
        raise ValueError(f"{count} folds of {episodes} episodes: take 2 to {episodes} folds")
    found = torch.empty(episodes, dtype=torch.int64)
    found[uniform.argsort()] = torch.arange(episodes) % count
    return found


def doubly_robust(
    log_ratio: Tensor, reward: Tensor, q: Tensor, v: Tensor, *, discount: float
) -> Ratios:
    """Return the doubly robust estimate.

    Args:
        log_ratio: ``[n, H]`` of :func:`hindsight_rl.maths.importance.cumulative_log_ratio`.
        reward: ``[n, H]``, 0 behind the end of an episode.
        q: ``[n, H]``, the model's value of each logged action, 0 behind the end.
        v: ``[n, H + 1]``, the model's value of each state and of what follows each last step.
        discount: In [0, 1].

    Returns:
        The estimate, a mean over episodes.
    """
    rho = log_ratio.double().exp()
    before = torch.cat([torch.ones_like(rho[:, :1]), rho[:, :-1]], dim=-1)
    steps = rho * (reward - q) + before * v[:, :-1]
    tail = discount ** reward.shape[-1] * rho[:, -1] * v[:, -1].double()
    return mean_of(discounted(steps, discount).sum(-1) + tail)


def weighted_doubly_robust(
    log_ratio: Tensor, reward: Tensor, q: Tensor, v: Tensor, *, discount: float
) -> Ratios:
    """Return the weighted doubly robust estimate.

    Args:
        log_ratio: ``[n, H]`` of :func:`hindsight_rl.maths.importance.cumulative_log_ratio`.
        reward: ``[n, H]``, 0 behind the end of an episode.
        q: ``[n, H]``, the model's value of each logged action, 0 behind the end.
        v: ``[n, H + 1]``, the model's value of each state and of what follows each last step.
        discount: In [0, 1].

    Returns:
        The estimate. With one constant for Q and V it is the step-weighted one.
    """
    weight = relative_weights(log_ratio)
    first = torch.ones_like(weight[:, :1])
    factors = torch.cat([first, weight], dim=-1)
    corrections = Ratios(weight * discounted(reward - q, discount), weight)
    values = Ratios(factors * discounted(v, discount), factors)
    return Ratios(*(torch.cat(pair, dim=-1) for pair in zip(corrections, values, strict=True)))
