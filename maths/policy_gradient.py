"""Policy gradients: advantages, ratios of policies, and corrections for rows of another policy.

    grad J = E[ sum_t W_t grad log pi(a_t | s_t) ]

W_t is the whole return, the return from t on, or an advantage: what an action cannot change, such
as a baseline that depends on the state alone, moves the variance and not the mean.

Reference: Williams 1992, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning"; Schulman et al. 2016, "High-dimensional continuous control using
generalized advantage estimation", arXiv 1506.02438.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.importance import discounted, episode_weights
from hindsight_rl.maths.losses import same_shape
from hindsight_rl.maths.returns import lambda_returns, reverse_scan


def generalized_advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    last: Tensor,
    *,
    discount: float,
    lambda_: float,
) -> Tensor:
    """Return by how much the TD(lambda) return exceeds the value (GAE).

    A[t] = delta[t] + discount * lambda * A[t + 1], A = delta in the last row of an episode, with
    delta[t] = r[t] + discount * (1 - terminated[t]) * V(next observation of row t) - V[t]. A row's
    own next observation is there at a time limit too, so nothing is special about one.

    Args:
        reward: ``[N]``, reward units; rows of an episode are adjacent and in order.
        value: ``[N]``, of each row's observation, reward units.
        next_value: ``[N]``, of each row's next observation, reward units.
        terminated: ``[N]`` bool; True stops bootstrapping.
        last: ``[N]`` bool, True on the last row of each episode.
        discount: In [0, 1].
        lambda_: In [0, 1]; 0 is the error of one step, 1 the return less the value.

    Returns:
        ``[N]`` float64, reward units, without gradient.

    Reference:
        Schulman et al. 2016, arXiv 1506.02438, eq. 16.
    """
    target = lambda_returns(
        reward, next_value, terminated, last, discount=discount, lambda_=lambda_
    )
    return target - value.detach()


class Traced(NamedTuple):
    """What V-trace makes of each row, ``[N]`` float64, reward units, without gradient."""

    value: Tensor
    """Target of the value."""
    advantage: Tensor
    """Weight of grad log pi; the row's clipped ratio is in it."""
    error: Tensor
    """The same without that ratio, for a loss that has its own."""


def v_trace(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    log_ratio: Tensor,
    terminated: Tensor,
    last: Tensor,
    *,
    discount: float,
    lambda_: float = 1.0,
    max_ratio: float = 1.0,
) -> Traced:
    """Return targets and advantages from rows of another policy, their ratios clipped.

    v[t] = V[t] + rho[t] delta[t] + discount lambda c[t] (v[t + 1] - V[t + 1]), delta as of
    :func:`generalized_advantages`, rho[t] = min(ratio, max_ratio), c[t] = min(ratio, 1). The
    advantage is rho[t] (delta[t] + discount lambda (v[t + 1] - V[t + 1])): with the paper's lambda,
    1, rho[t] (r[t] + discount v[t + 1] - V[t]). Where all ratios are 1 the targets are TD(lambda)
    returns and the advantages those of GAE. The fixed point is the value of a policy between the
    two, proportional to min(max_ratio pi_b, pi).

    Args:
        reward: ``[N]``, reward units; rows of an episode are adjacent and in order.
        value: ``[N]``, of each row's observation, reward units.
        next_value: ``[N]``, of each row's next observation, reward units.
        log_ratio: ``[N]``, log pi / pi_b of the actions taken, nats.
        terminated: ``[N]`` bool; True stops bootstrapping.
        last: ``[N]`` bool, True on the last row of each episode.
        discount: In [0, 1].
        lambda_: In [0, 1].
        max_ratio: Cap of rho, at least 1; c is capped at 1.

    Returns:
        Targets and advantages.

    Raises:
        ValueError: ``max_ratio`` is below 1.

    Reference:
        Espeholt et al. 2018, "IMPALA", arXiv 1802.01561, eq. 1 and section 4.2.
    """
    if not max_ratio >= 1.0:
        raise ValueError(f"max_ratio is {max_ratio}, it must be at least 1")
    ratio = log_ratio.detach().double().exp()
    rho, value = ratio.clamp_max(max_ratio), value.detach().double()
    live = discount * (~terminated).double()
    delta = reward.double() + live * next_value.detach().double() - value
    carried = live * lambda_ * ratio.clamp_max(1.0) * (~last).double()
    beyond = reverse_scan(rho * delta, carried)  # v - V
    following = torch.where(last, 0.0, beyond.roll(-1))
    error = delta + live * lambda_ * following
    return Traced(value + beyond, rho * error, error)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, *, clip: float | None) -> Tensor:
    """Return -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A).

    The slope ends where a step has taken the ratio as far as it may go, and not where it went the
    wrong way. At a ratio of 1 it is that of -A log pi.

    Args:
        ratio: ``[B]``, pi / pi_old of the actions taken, at least 0.
        advantage: ``[B]``, any unit; no gradient flows through it.
        clip: In (0, 1); ``None`` for -ratio A.

    Returns:
        ``[B]``, in the unit of the advantage.

    Raises:
        ValueError: ``clip`` is out of range, or the shapes differ.

    Reference:
        Schulman et al. 2017, "Proximal policy optimization algorithms", arXiv 1707.06347, eq. 7.
    """
    same_shape(ratio=ratio, advantage=advantage)
    advantage = advantage.detach()
    if clip is None:
        return -ratio * advantage
    if not 0 < clip < 1:
        raise ValueError(f"clip is {clip}, it must lie in (0, 1)")
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def kl_k1(log_ratio: Tensor) -> Tensor:
    """Return -log(pi / pi_old): its mean over actions of pi_old is KL(pi_old || pi).

    Args:
        log_ratio: ``[B]``, log pi - log pi_old of actions of pi_old, nats.

    Returns:
        ``[B]``, nats; the mean of a few may be negative.
    """
    return -log_ratio


def kl_k3(log_ratio: Tensor) -> Tensor:
    """Return (pi / pi_old - 1) - log(pi / pi_old): never negative, and of the same mean as k1.

    Args:
        log_ratio: ``[B]``, log pi - log pi_old of actions of pi_old, nats.

    Returns:
        ``[B]``, nats, at least 0.

    Reference:
        Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html, k3.
    """
    # Near a ratio of 1 the difference of two small numbers is left: expm1 keeps their digits.
    return torch.expm1(log_ratio) - log_ratio


def optimal_baseline(square: Tensor, value: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the baseline b that leaves (W - b) grad log pi the least variance.

    b* = E[ |grad log pi|^2 W ] / E[ |grad log pi|^2 ]; any b leaves the mean as it is.

    Args:
        square: ``[B]``, squared norm of each row's grad log pi, at least 0, not all 0.
        value: ``[B]``, what the rows weigh, W.
        weight: ``[B]``, probability of each row; ``None`` for equal ones.

    Returns:
        ``[]``, in the unit of ``value``.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Greensmith, Bartlett and Baxter 2004, "Variance reduction techniques for gradient estimates
        in reinforcement learning", theorem 8.
    """
    same_shape(square=square, value=value)
    share = square if weight is None else square * weight
    return (share * value).sum() / share.sum()


def decision_weights(log_ratio: Tensor, reward: Tensor, *, discount: float = 1.0) -> Tensor:
    """Return W[i, t] of the off-policy gradient: each reward weighed by the ratios up to it.

    W[t] = rho[0..t] sum_{t' >= t} rho[t+1..t'] discount^t' r[t'], products of ratios along the
    episode, so that mean_i sum_t W[i, t] grad log pi(a_it | s_it) has the expectation of the
    gradient under pi. The products before t correct how often a state is visited: without them the
    gradient can vanish where the true one does not.

    Args:
        log_ratio: ``[n, H]``, cumulative, of
            :func:`hindsight_rl.maths.importance.cumulative_log_ratio`, nats.
        reward: ``[n, H]``, reward units, 0 behind the end of an episode.
        discount: In [0, 1].

    Returns:
        ``[n, H]`` float64, reward units.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Precup, Sutton and Singh 2000, "Eligibility traces for off-policy policy evaluation",
        section 4, in the policy gradient.
    """
    same_shape(log_ratio=log_ratio, reward=reward)
    weighed = episode_weights(log_ratio) * discounted(reward, discount)
    return weighed.flip(-1).cumsum(-1).flip(-1)
