"""Soft values of finite problems: what a policy that also likes entropy gets, and where it goes.

    Q_t(s, a) = r(s, a) + discount * sum_s' P(s' | s, a) V_{t+1}(s'),   V_t = log sum_a exp Q_t

V after the last step is 0, and the policy is pi_t = exp(Q_t - V_t). Where a step leads to one state
only, V_0 is the log-partition function of trajectories: log sum over action sequences of exp(sum of
rewards). Its gradient in the rewards is where the policy goes. Rewards may be batched: one problem,
many tasks. Transitions whose probabilities sum to less than 1 end the episode with the rest, and a
reward of -inf is an action that is not there.

Reference: Ziebart 2010, "Modeling purposeful adaptive behavior with the principle of maximum causal
entropy", algorithms 9.1 and 9.3.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SoftSolution(NamedTuple):
    """Values and the policy that they belong to."""

    value: Tensor
    """``[..., H, S]`` with a horizon, ``[..., S]`` without, nats."""
    policy: Tensor
    """``[..., H, S, A]`` or ``[..., S, A]``, probabilities."""


def soft_values(
    reward: Tensor, transition: Tensor, horizon: int, *, discount: float = 1.0
) -> SoftSolution:
    """Return the values and the policy of every step of a finite horizon.

    Args:
        reward: ``[..., S]`` of being in a state, or ``[..., S, A]``, nats; with ``S, A`` equal to
            those of the transitions the latter is meant.
        transition: ``[S, A, S]``, probabilities of the next state.
        horizon: H, steps and rewards, at least 1.
        discount: In [0, 1].

    Returns:
        ``value[..., t, s]`` sums the rewards of steps t to H - 1.

    Raises:
        ValueError: Shapes do not fit, or an argument is out of range.
    """
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}, it must be at least 1")
    reward = rewards_of_actions(reward, transition, discount)
    value = reward.new_zeros(reward.shape[:-1])
    values, policies = [], []
    for _ in range(horizon):
        action_value = reward + discount * _expected(transition, value)
        value = torch.logsumexp(action_value, dim=-1)
        values.append(value)
        policies.append((action_value - value.unsqueeze(-1)).exp())
    return SoftSolution(torch.stack(values[::-1], dim=-2), torch.stack(policies[::-1], dim=-3))


@torch.no_grad()
def soft_fixed_point(
    reward: Tensor, transition: Tensor, *, discount: float, tolerance: float = 1e-10
) -> SoftSolution:
    """Return the values and the policy of a problem without an end.

    Args:
        reward: As :func:`soft_values` takes it.
        transition: ``[S, A, S]``, probabilities of the next state.
        discount: In [0, 1).
        tolerance: Largest error of a value, nats.

    Returns:
        Values and policy, without gradients.

    Raises:
        ValueError: Shapes do not fit, or an argument is out of range.
    """
    if not 0.0 <= discount < 1.0 or tolerance <= 0.0:
        raise ValueError(f"discount {discount} must be in [0, 1) and tolerance {tolerance} above 0")
    reward = rewards_of_actions(reward, transition, discount)
    value = reward.new_zeros(reward.shape[:-1])
    # A step of the backup moves values by this much at most where they are that close to the end.
    near = tolerance * (1.0 - discount)
    while True:
        action_value = reward + discount * _expected(transition, value)
        moved = torch.logsumexp(action_value, dim=-1)
        change = (moved - value).abs().max()
        value = moved
        # Rounding bounds how close values come, however long one waits.
        if change <= max(near, 4.0 * torch.finfo(value.dtype).eps * float(value.abs().max())):
            return SoftSolution(value, torch.softmax(action_value, dim=-1))


def state_visits(policy: Tensor, transition: Tensor, start: Tensor) -> Tensor:
    """Return the probability of every state at every step.

    Args:
        policy: ``[..., H, S, A]``, probabilities.
        transition: ``[S, A, S]``, probabilities of the next state.
        start: ``[S]``, probabilities of the first state.

    Returns:
        ``[..., H, S]``; over the steps they sum to expected visits, the gradient of ``start . V_0``
        in the rewards of states.
    """
    place = start.expand(*policy.shape[:-3], start.shape[-1])
    visits = []
    for step in range(policy.shape[-3]):
        visits.append(place)
        place = torch.einsum("...s,...sa,sax->...x", place, policy[..., step, :, :], transition)
    return torch.stack(visits, dim=-2)


def discounted_visits(
    policy: Tensor, transition: Tensor, start: Tensor, *, discount: float
) -> Tensor:
    """Return how often a policy without an end is in every state, sum_t discount^t P(s_t = s).

    Args:
        policy: ``[..., S, A]``, probabilities.
        transition: ``[S, A, S]``, probabilities of the next state.
        start: ``[S]``, probabilities of the first state.
        discount: In [0, 1).

    Returns:
        ``[..., S]``; they sum to 1 / (1 - discount) where no step ends the episode.

    Raises:
        ValueError: ``discount`` is out of range.
    """
    if not 0.0 <= discount < 1.0:
        raise ValueError(f"discount is {discount}, it must be in [0, 1)")
    moves = torch.einsum("...sa,sax->...xs", policy, transition)
    system = torch.eye(len(start), dtype=moves.dtype, device=moves.device) - discount * moves
    visits: Tensor = torch.linalg.solve(system, start.expand(*policy.shape[:-2], -1))
    return visits


def _expected(transition: Tensor, value: Tensor) -> Tensor:
    """Return the expected value ``[..., S, A]`` of the next state."""
    return torch.einsum("sax,...x->...sa", transition, value)


def rewards_of_actions(reward: Tensor, transition: Tensor, discount: float) -> Tensor:
    """Return rewards ``[..., S, A]``, all shapes and the discount checked.

    Args:
        reward: As :func:`soft_values` takes it.
        transition: ``[S, A, S]``.
        discount: In [0, 1].

    Returns:
        A view where it can be one.

    Raises:
        ValueError: Shapes do not fit, or the discount is out of range.
    """
    if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
        raise ValueError(f"transition is {tuple(transition.shape)}, it must be [S, A, S]")
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount is {discount}, it must be in [0, 1]")
    states, actions = transition.shape[:2]
    if reward.ndim >= 2 and tuple(reward.shape[-2:]) == (states, actions):
        return reward
    if reward.shape[-1:] == (states,):
        return reward.unsqueeze(-1).expand(*reward.shape, actions)
    raise ValueError(
        f"reward is {tuple(reward.shape)}, it must end with [{states}] or [{states}, {actions}]"
    )
