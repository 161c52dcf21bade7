"""Least-squares values of a policy with linear features: LSTD-Q, and LSPI on top of it.

    A = mean phi(s, a) (phi(s, a) - discount (1 - terminated) phi(s', a'))',   b = mean phi(s, a) r
    Q(s, a) = theta' phi(s, a),   A theta = b,   a' by the policy that is judged

One solve, without a step size. Away from the log's own policy A may be singular or have negative
eigenvalues; its condition number says so. LSPI takes the greedy action for a', until it stays.

Reference: Lagoudakis and Parr 2003, "Least-squares policy iteration", sections 5 and 6.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SINGULAR = 1e15
"""Condition number beyond which a solution is rounding alone."""


class LinearValues(NamedTuple):
    """Values that are linear in features."""

    theta: Tensor
    """``[F]`` float64."""
    condition: float
    """Condition number of A: above about 1e8 the values mean nothing."""


def lstd(
    features: Tensor,
    following: Tensor,
    reward: Tensor,
    terminated: Tensor,
    *,
    discount: float,
    weight: Tensor | None = None,
    ridge: float = 0.0,
) -> LinearValues:
    """Return the values of a policy.

    Args:
        features: ``[B, F]`` of the logged state and action.
        following: ``[B, F]`` of the next state and the policy's action there, or their mean.
        reward: ``[B]``.
        terminated: ``[B]`` bool.
        discount: In [0, 1].
        weight: ``[B]``, how much each row counts; ``None`` for 1.
        ridge: What is added to the diagonal of A, at least 0.

    Returns:
        Values, and how well they are determined.

    Raises:
        ValueError: A is singular.
    """
    share = row_shares(len(features), weight, features.device)
    left = (share.unsqueeze(-1) * features.double()).T
    matrix = left @ residuals(features, following, terminated, discount)
    theta, condition = solved(matrix, left @ reward.double(), ridge, "LSTD")
    return LinearValues(theta, condition)


def row_shares(rows: int, weight: Tensor | None, device: torch.device) -> Tensor:
    """Return how much each row of a log counts, ``[B]`` float64 with sum 1.

    Args:
        rows: B.
        weight: ``[B]``, in any unit; ``None`` for equal ones.
        device: Of the log.

    Returns:
        The shares.
    """
    if weight is None:
        return torch.full((rows,), 1.0 / rows, dtype=torch.float64, device=device)
    return weight.double() / weight.double().sum()


def residuals(features: Tensor, following: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """Return phi - discount (1 - terminated) phi', what one step leaves of linear values.

    Args:
        features: ``[B, F]`` of the logged state and action.
        following: ``[B, F]`` of the next state and the policy's action there, or their mean.
        terminated: ``[B]`` bool; a time limit does not terminate.
        discount: In [0, 1].

    Returns:
        ``[B, F]`` float64.
    """
    alive = (1.0 - terminated.double()).unsqueeze(-1)
    return features.double() - discount * alive * following.double()


def solved(matrix: Tensor, right: Tensor, ridge: float, owner: str) -> tuple[Tensor, float]:
    """Return the solution of a linear system, and the condition number of its matrix.

    Args:
        matrix: ``[F, F]`` float64.
        right: ``[F]`` float64.
        ridge: What is added to the diagonal, at least 0.
        owner: What is solved, for the message.

    Returns:
        ``[F]`` float64, and the number.

    Raises:
        ValueError: The matrix is singular.
    """
    matrix = matrix + ridge * torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
    condition = float(torch.linalg.cond(matrix))
    found, failed = torch.linalg.solve_ex(matrix, right)
    if bool(failed) or not bool(found.isfinite().all()) or condition > SINGULAR:
        raise ValueError(
            f"the matrix of {owner} is singular (condition number {condition:.1e}): the log does "
            "not determine these features. Take fewer features, or a ridge such as 1e-6"
        )
    return found, condition


class Improvement(NamedTuple):
    """What LSPI found."""

    values: LinearValues
    """Of the last policy but the greedy one that follows."""
    actions: Tensor
    """``[B]`` int64, the greedy choice in each next state."""
    rounds: int
    """How many policies were judged."""
    settled: bool
    """Whether the last improvement changed nothing."""


def lspi(
    features: Tensor,
    choices: Tensor,
    reward: Tensor,
    terminated: Tensor,
    *,
    discount: float,
    start: Tensor | None = None,
    ridge: float = 0.0,
    rounds: int = 20,
) -> Improvement:
    """Return the values of a policy that is greedy in them.

    Args:
        features: ``[B, F]`` of the logged state and action.
        choices: ``[B, N, F]`` of the next state and every choice there.
        reward: ``[B]``.
        terminated: ``[B]`` bool.
        discount: In [0, 1].
        start: ``[B]`` int64, the first policy's choice in each next state; ``None`` for choice 0.
        ridge: What is added to the diagonal, at least 0.
        rounds: Most policies to judge, at least 1.

    Returns:
        Values, greedy choices, and whether they settled: a log far from the policies may leave
        LSPI walking in a circle.

    Raises:
        ValueError: A matrix is singular.
    """
    rows = torch.arange(len(features), device=features.device)
    actions = torch.zeros_like(rows) if start is None else start
    for round_ in range(1, rounds + 1):
        values = lstd(
            features, choices[rows, actions], reward, terminated, discount=discount, ridge=ridge
        )
        greedy = (choices.double() @ values.theta).argmax(-1)
        if torch.equal(greedy, actions):
            return Improvement(values, greedy, round_, True)
        actions = greedy
    return Improvement(values, actions, rounds, False)


def quadratic_features(value: Tensor) -> Tensor:
    """Return 1, every number, and the product of every two.

    Args:
        value: ``[..., D]``, standardised, or the matrix becomes needlessly singular.

    Returns:
        ``[..., 1 + D + D (D + 1) / 2]``.
    """
    one = torch.ones_like(value[..., :1])
    # Slice by slice: old operator sets know no indices of triangles.
    products = [value[..., i : i + 1] * value[..., i:] for i in range(value.shape[-1])]
    return torch.cat([one, value, *products], dim=-1)


class LinearEstimate(NamedTuple):
    """The start value of a policy by linear values, and what each episode does to it."""

    value: float
    """Reward units, discounted."""
    influence: Tensor
    """``[n]`` float64 with mean 0: n times the slope of the value in an episode's count. Over
    sqrt(n) their standard deviation is the standard error (delta method)."""
    condition: float
    """Condition number of the matrix: above about 1e8 the value means nothing."""


def linear_estimate(
    instrument: Tensor,
    residual: Tensor,
    reward: Tensor,
    start: Tensor,
    owner: Tensor,
    *,
    ridge: float = 0.0,
) -> LinearEstimate:
    """Return the start value of a policy with linear values.

        J = mean_i phi_0i' eta,   sum_rows z (residual' eta - r) = 0

    With the features of a row as z this is LSTD-Q. With the residual as z it is least squares of
    the Bellman residual, which is what DualDICE gives where nu is linear: there
    J = mean w r / (1 - discount), w = residual' theta, and the two solves are each other's
    transpose.

    Args:
        instrument: ``[B, F]``, z.
        residual: ``[B, F]`` of :func:`residuals`.
        reward: ``[B]``.
        start: ``[n, F]`` of each episode's first state and the policy's action there.
        owner: ``[B]`` int64, episode of each row, in [0, n).
        ridge: What is added to the diagonal of the mean matrix, at least 0.

    Returns:
        The estimate.

    Raises:
        ValueError: The matrix is singular.
    """
    rows, episodes = len(reward), len(start)
    instrument, residual, start = instrument.double(), residual.double(), start.double()
    matrix = instrument.T @ residual / rows
    eta, condition = solved(matrix, instrument.T @ reward.double() / rows, ridge, "the values")
    first = start.mean(0)
    damped = matrix + ridge * torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
    sensitive = torch.linalg.solve(damped.T, first)
    error = reward.double() - residual @ eta
    moved = torch.zeros(episodes, dtype=torch.float64, device=reward.device)
    moved.index_add_(0, owner, (instrument @ sensitive) * error)
    influence = (start - first) @ eta + episodes / rows * moved
    # A ridge is no row of an episode: without it this mean is 0 already.
    return LinearEstimate(float(first @ eta), influence - influence.mean(), condition)
