"""Inverse RL of finite and linear problems: rewards that explain demonstrations.

    maximum causal entropy   L(r) = start . V_0(r) - <mu_demo, r>,    dL / dr = mu_model - mu_demo
    its likelihood           L(r) = -mean_demo sum_t discount^t log pi_t(a_t | s_t)
    guided cost learning     L(r) = -mean_demo R + log( mean_samples exp(R) / q )

mu are expected visits of states and actions, V and the model's policy those of
:mod:`hindsight_rl.maths.soft_value`, R is the reward of a whole trajectory. Where a step leads to
one state only, all are minus the mean log-likelihood of the demonstrations under p = exp(R) / Z.
Rewards are found up to what no demonstration tells: with an endless problem r and
r + discount * E h(s') - h(s) explain the same actions, for any h of states.

Reference: Ziebart 2010, "Modeling purposeful adaptive behavior with the principle of maximum causal
entropy"; Finn, Levine and Abbeel 2016, arXiv 1603.00448.
"""

import math

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape
from hindsight_rl.maths.soft_value import (
    discounted_visits,
    rewards_of_actions,
    soft_fixed_point,
    soft_values,
)


def demonstrated_visits(
    state: Tensor,
    action: Tensor,
    step: Tensor,
    *,
    states: int,
    actions: int,
    discount: float,
    horizon: int | None = None,
) -> Tensor:
    """Return the visits of demonstrations, sum_t discount^t 1(s_t = s, a_t = a), mean of episodes.

    Args:
        state: ``[N]`` int64, in [0, states).
        action: ``[N]`` int64, in [0, actions).
        step: ``[N]`` int64, time in the episode; each episode has one row with step 0.
        states: Number of states.
        actions: Number of actions.
        discount: In [0, 1].
        horizon: H, above every step, for the visits of each step; ``None`` for their sum.

    Returns:
        ``[S, A]`` float64, with a horizon ``[H, S, A]``.

    Raises:
        ValueError: Shapes differ, or no episode begins.
    """
    same_shape(state=state, action=action, step=step)
    episodes = int((step == 0).sum())
    if episodes == 0:
        raise ValueError("no demonstration begins: there is no row with step 0")
    place, shape = state * actions + action, [states, actions]
    if horizon is not None:
        place, shape = place + step * states * actions, [horizon, *shape]
    visits = torch.zeros(math.prod(shape), dtype=torch.float64)
    visits.index_add_(0, place, discount ** step.double())
    return visits.reshape(shape) / episodes


def causal_entropy_loss(
    reward: Tensor,
    demonstrated: Tensor,
    transition: Tensor,
    start: Tensor,
    *,
    discount: float,
    horizon: int | None = None,
) -> Tensor:
    """Return start . V_0 - <mu_demo, r>, convex in the reward, with gradient mu_model - mu_demo.

    Args:
        reward: ``[..., S]`` or ``[..., S, A]``, nats; -inf for an action that is not there.
        demonstrated: ``[S, A]``, visits of the demonstrations, discounted likewise.
        transition: ``[S, A, S]``, probabilities of the next state.
        start: ``[S]``, probabilities of the first state.
        discount: In [0, 1], below 1 without a horizon.
        horizon: Steps of every episode; ``None`` for no end.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes do not fit, or an argument is out of range.
    """
    reward = rewards_of_actions(reward, transition, discount)
    if horizon is not None:
        value = soft_values(reward, transition, horizon, discount=discount).value[..., 0, :]
        model = (start * value).sum(-1)
    else:
        solution = soft_fixed_point(reward.detach(), transition, discount=discount)
        visits = discounted_visits(solution.policy, transition, start, discount=discount)
        taken = visits.unsqueeze(-1) * solution.policy
        # The fixed point has no graph: its slope in the rewards is known, and is that of this sum.
        slope = _inner(taken, reward)
        model = (start * solution.value).sum(-1) + slope - slope.detach()
    return model - _inner(demonstrated, reward)


def causal_likelihood_loss(
    reward: Tensor, demonstrated: Tensor, transition: Tensor, *, discount: float
) -> Tensor:
    """Return what the demonstrated actions cost, sum_t discount^t -log pi_t(a_t | s_t), at least 0.

    Where steps are certain that is :func:`causal_entropy_loss`. Where they are not, the latter also
    counts how lucky the few demonstrations were: what no policy reaches is then best explained by
    rewards without bounds. This one asks for the actions only, in the states that luck led to.

    Args:
        reward: ``[S]`` or ``[S, A]``, nats; -inf for an action that is not there.
        demonstrated: ``[H, S, A]``, visits of the demonstrations at each step, discounted.
        transition: ``[S, A, S]``, probabilities of the next state.
        discount: In [0, 1].

    Returns:
        ``[]``, nats an episode.

    Raises:
        ValueError: Shapes do not fit, or an argument is out of range.
    """
    reward = rewards_of_actions(reward, transition, discount)
    value = soft_values(reward, transition, len(demonstrated), discount=discount).value
    following = torch.cat([value[1:], torch.zeros_like(value[:1])])
    action_value = reward + discount * torch.einsum("sax,tx->tsa", transition, following)
    log_policy = action_value - value.unsqueeze(-1)
    return -torch.where(demonstrated == 0, 0.0, demonstrated * log_policy).sum()


def _inner(visits: Tensor, reward: Tensor) -> Tensor:
    """Return <visits, r> ``[...]``; what is never visited counts 0, whatever its reward."""
    return torch.where(visits == 0, 0.0, visits * reward).sum((-2, -1))


def log_partition_estimate(score: Tensor, log_density: Tensor) -> Tensor:
    """Return log( mean_j exp(R_j) / q_j ), the estimate of log Z from samples of q.

    Args:
        score: ``[..., M]``, R of each sampled trajectory, nats.
        log_density: ``[..., M]``, log q of each, nats.

    Returns:
        ``[...]``, nats.

    Raises:
        ValueError: Shapes differ.
    """
    same_shape(score=score, log_density=log_density)
    return torch.logsumexp(score - log_density, dim=-1) - math.log(score.shape[-1])


def mixture_log_density(log_density: Tensor, share: Tensor) -> Tensor:
    """Return the log-density of samples under a mixture of samplers, as if drawn from all at once.

    Args:
        log_density: ``[J, ..., M]``, of each sample under each sampler, nats.
        share: ``[J]``, of the samples each gave, sums to 1; above 0.

    Returns:
        ``[..., M]``, nats.
    """
    places = (1,) * (log_density.ndim - 1)
    return torch.logsumexp(log_density + share.log().reshape(-1, *places), dim=0)


def guided_cost_loss(demonstrated: Tensor, score: Tensor, log_density: Tensor) -> Tensor:
    """Return -mean R of the demonstrations + log Z, log Z by importance sampling.

    Put the demonstrations among the samples too, and their density into the mixture q: without
    them log Z may fall without end where no sample lies.

    Args:
        demonstrated: ``[N]``, R of each demonstration, nats.
        score: ``[M]``, R of each sample, nats.
        log_density: ``[M]``, log q of each sample, nats; no gradient passes.

    Returns:
        ``[]``, nats.

    Reference:
        Finn et al. 2016, arXiv 1603.00448, eq. 2.
    """
    return log_partition_estimate(score, log_density.detach()) - demonstrated.mean()


def effective_share(score: Tensor, log_density: Tensor) -> Tensor:
    """Return the effective share of the samples, (sum w)^2 / (M sum w^2) with w = exp(R) / q.

    Args:
        score: ``[..., M]``, nats.
        log_density: ``[..., M]``, nats.

    Returns:
        ``[...]``, in (0, 1].
    """
    weight = torch.softmax(score - log_density, dim=-1)
    return 1.0 / (score.shape[-1] * weight.square().sum(-1))


def jump_penalty(reward: Tensor) -> Tensor:
    """Return the squared second differences of rewards in time, summed: 0 where they are lines.

    Args:
        reward: ``[..., T]``, nats.

    Returns:
        ``[...]``.

    Reference:
        Finn et al. 2016, arXiv 1603.00448, eq. 3 (g_lcr).
    """
    return reward.diff(n=2, dim=-1).square().sum(-1)


def fall_penalty(reward: Tensor, *, allowed: float = 1.0) -> Tensor:
    """Return the squares of how much more than allowed rewards of demonstrations fall, summed.

    Args:
        reward: ``[..., T]``, nats.
        allowed: Fall per step that costs nothing, nats.

    Returns:
        ``[...]``.

    Reference:
        Finn et al. 2016, arXiv 1603.00448, eq. 4 (g_mono), for rewards in the place of costs.
    """
    return (-reward.diff(dim=-1) - allowed).clamp(min=0.0).square().sum(-1)
