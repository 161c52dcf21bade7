"""Successor features: what a policy will meet, whatever it will be worth, and who acts on it.

    psi(s, a) = phi + discount (1 - terminated) psi(s', a'),   a' by the policy that is followed
    Q(s, a)   = w' psi(s, a)      where r = w' phi
    GPI       = max_k w' psi_k(s, a),   followed greedily

phi are K features of a step. The policy that is greedy in the largest of several policies' values
is at least as good as each of them (generalised policy improvement), so that a reward that is named
after the log was recorded needs its weights w alone. They come from a few rows with a reward, by
ridge regression.

Reference: Barreto et al. 2017, "Successor features for transfer in reinforcement learning", arXiv
1606.05312, equations 3 and 4, theorem 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.least_squares import solved


def successor_target(
    features: Tensor, terminated: Tensor, following: Tensor, discount: Tensor | float
) -> Tensor:
    """Return phi + discount * (1 - terminated) * psi(s', a'), without gradient.

    Args:
        features: ``[..., K]``, phi of the step, in units of each feature.
        terminated: ``[...]`` bool; a time limit is not a terminal state.
        following: ``[..., K]``, psi(s', a').
        discount: ``[...]``, in [0, 1].

    Returns:
        ``[..., K]``, in units of each feature.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Barreto et al. 2017, arXiv 1606.05312, eq. 4.
    """
    if features.shape != following.shape or features.shape[:-1] != terminated.shape:
        raise ValueError(
            f"shapes differ: features {tuple(features.shape)} and following "
            f"{tuple(following.shape)} must be one, that of terminated {tuple(terminated.shape)} "
            "and one more dimension, that of the features"
        )
    kept = discount * (~terminated).to(following.dtype)
    return (features + kept.unsqueeze(-1) * following).detach()


def improved_values(successors: Tensor, task: Tensor) -> Tensor:
    """Return what actions are worth where the best of several policies follows.

    Args:
        successors: ``[E, P, ..., n, K]``, psi of P policies for n actions by E estimates, of which
            the least value counts.
        task: ``[..., K]``, the weights w.

    Returns:
        ``[..., n]``, reward units; their argmax is generalised policy improvement.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Barreto et al. 2017, arXiv 1606.05312, theorem 1.
    """
    if successors.shape[2:-2] != task.shape[:-1] or successors.shape[-1] != task.shape[-1]:
        raise ValueError(
            f"shapes differ: successors {tuple(successors.shape)} must be [estimates, policies, "
            f"..., actions, features] for tasks {tuple(task.shape)} of [..., features]"
        )
    return policy_values(successors, task).amin(0).amax(0)


def policy_values(successors: Tensor, task: Tensor) -> Tensor:
    """Return w' psi of every policy and action.

    Args:
        successors: ``[..., n, K]``, psi for n actions; dimensions before those of the task mean
            several policies or estimates.
        task: ``[..., K]``, the weights w.

    Returns:
        ``[..., n]``, reward units.
    """
    return (successors @ task.unsqueeze(-1)).squeeze(-1)


class LinearReward(NamedTuple):
    """A reward that is linear in features, as far as it is."""

    weights: Tensor
    """``[K]`` float64, reward units per unit of each feature: the task w."""
    constant: Tensor
    """``[]`` float64, what every step earns besides; 0 where none was fitted."""
    explained: Tensor
    """``[]`` float64, R^2: share of the rewards' variance that is explained, at most 1."""


def linear_reward(
    features: Tensor, reward: Tensor, *, ridge: float = 1e-6, constant: bool = True
) -> LinearReward:
    """Return the ridge regression of rewards on features.

        w = (mean phi phi' + ridge)^-1 mean phi r

    With a constant, phi and r are less their means, and the constant is not damped.

    Args:
        features: ``[N, K]``, phi of each labelled step.
        reward: ``[N]``, reward units.
        ridge: What is added to the diagonal, at least 0, in squared units of the features.
        constant: Fit what every step earns, too.

    Returns:
        Weights, constant and how much they explain of these rows.

    Raises:
        ValueError: The shapes do not fit, all rewards are equal, or without a ridge the rows do not
            determine the weights.
    """
    if features.ndim != 2 or features.shape[:1] != reward.shape:
        raise ValueError(
            f"shapes differ: features {tuple(features.shape)} must be [rows, features] and reward "
            f"{tuple(reward.shape)} [rows]"
        )
    features, reward = features.double(), reward.double()
    spread = (reward - reward.mean()).square().mean()
    if not spread > 0:
        raise ValueError(
            f"all {len(reward)} labelled rewards are equal: they prefer nothing. Label rows that "
            "differ in what is wanted"
        )
    zero = torch.zeros_like(features[0])
    centre, level = (features.mean(0), reward.mean()) if constant else (zero, zero.sum())
    apart = features - centre
    moments = apart.T @ apart / len(reward)
    weights, _ = solved(moments, apart.T @ (reward - level) / len(reward), ridge, "the reward")
    error = reward - level - apart @ weights
    return LinearReward(weights, level - centre @ weights, 1 - error.square().mean() / spread)
