"""Marginalised importance ratios: how much more often a policy meets what the log met.

    w(s, a) = d_pi(s, a) / d_log(s, a),   J = sum_log w r / (1 - discount)

d_pi is the discounted occupancy, (1 - discount) sum_t discount^t P(s_t, a_t). Ratios of states do
not multiply over steps, so that the horizon costs no variance. DualDICE finds w as the residual
nu - discount P_pi nu of the nu that minimises

    J(nu) = 1/2 E_log[ (nu(s, a) - discount (1 - terminated) nu(s', a'))^2 ]
            - (1 - discount) E_start[ nu(s_0, a_0) ]

With features nu = theta' phi it is one solve, exact where there is a feature per pair and the next
features are expected ones. Of one drawn next state the square counts the variance of nu there too
(double sampling), which biases the ratios. Where steps terminate they sum to less than 1 over the
log: they must not be normalised.

Reference: Nachum et al. 2019, arXiv 1906.04733, eq. 8 to 11, with f(x) = x^2 / 2.
"""

from typing import NamedTuple

from torch import Tensor

from hindsight_rl.maths.least_squares import residuals, row_shares, solved


class Occupancy(NamedTuple):
    """Ratios of a policy's occupancy to the log's."""

    ratio: Tensor
    """``[B]`` float64, of every row of the log; may be below 0 where features are too few."""
    theta: Tensor
    """``[F]`` float64, of nu."""
    objective: float
    """J(nu), minus half the log's mean of the squared ratio."""
    condition: float
    """Condition number of the solve."""


def dual_dice(
    features: Tensor,
    following: Tensor,
    start: Tensor,
    terminated: Tensor,
    *,
    discount: float,
    weight: Tensor | None = None,
    ridge: float = 0.0,
) -> Occupancy:
    """Return the ratios of a policy's occupancy.

    Args:
        features: ``[B, F]`` of the logged state and action.
        following: ``[B, F]`` of the next state and the policy's action there, or their mean.
        start: ``[M, F]`` of first states and the policy's actions in them.
        terminated: ``[B]`` bool; a time limit does not terminate.
        discount: In [0, 1).
        weight: ``[B]``, how much each row counts; ``None`` for 1.
        ridge: What is added to the diagonal, at least 0.

    Returns:
        Ratios and the solution that they come from.

    Raises:
        ValueError: ``discount`` is out of range, or the matrix is singular.
    """
    if not 0.0 <= discount < 1.0:
        raise ValueError(f"discount is {discount}, it must be in [0, 1): occupancy is discounted")
    residual = residuals(features, following, terminated, discount)
    share = row_shares(len(features), weight, features.device)
    matrix = (share.unsqueeze(-1) * residual).T @ residual
    first = (1.0 - discount) * start.double().mean(0)
    theta, condition = solved(matrix, first, ridge, "the ratios")
    ratio = residual @ theta
    objective = 0.5 * float(share @ ratio.square()) - float(first @ theta)
    return Occupancy(ratio, theta, objective, condition)


def value_of(
    ratio: Tensor, reward: Tensor, *, discount: float, weight: Tensor | None = None
) -> Tensor:
    """Return what a policy gets, by the ratios of its occupancy.

    Args:
        ratio: ``[B]``.
        reward: ``[B]``.
        discount: In [0, 1).
        weight: ``[B]``, how much each row counts; ``None`` for 1.

    Returns:
        ``[]`` float64, the discounted return.
    """
    share = row_shares(len(ratio), weight, ratio.device)
    return (share * ratio * reward.double()).sum() / (1.0 - discount)
