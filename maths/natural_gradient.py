"""Natural gradients: the steepest way per change of the distribution, not of its parameters.

    KL(pi_old || pi_old+d) = d'F d / 2 + O(|d|^3),    F = Hessian of that KL at d = 0
    x = F^-1 g,   step sqrt(2 radius / x'F x) x: the best linear gain within KL <= radius

F is the Fisher information of the policy. It is never written down: conjugate gradients need its
products with vectors only. Where it has directions that change nothing (a shift of all logits) it
is singular, and damping, F + damping I, makes a step along them vanish with the gradient. The KL is
a square only near its start, and the gain a line: the step is shortened until both are as wanted.

Reference: Kakade 2001, "A natural policy gradient"; Schulman et al. 2015, "Trust region policy
optimization", arXiv 1502.05477, appendix C.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, jvp

Product = Callable[[Tensor], Tensor]
"""From a vector ``[D]`` to a symmetric, positive semi-definite matrix times it, ``[D]``."""


def hessian_product(scalar: Callable[[Tensor], Tensor], at: Tensor) -> Product:
    """Return the product of the Hessian of a function with vectors.

    Args:
        scalar: From ``[D]`` to ``[]``, twice differentiable.
        at: ``[D]``, where the Hessian is taken.

    Returns:
        From ``[D]`` to ``[D]``.
    """
    slope = grad(scalar)

    def product(vector: Tensor) -> Tensor:
        found: Tensor = jvp(slope, (at,), (vector,))[1]
        return found

    return product


def conjugate_gradients(
    product: Product, right: Tensor, *, iterations: int = 10, tolerance: float = 1e-10
) -> Tensor:
    """Return x with A x = right, or as near as so many iterations come.

    As many iterations as there are different eigenvalues end exactly. Begun from 0 it stays in the
    range of A and its images of ``right``: of a singular A and a ``right`` in its range it gives
    the pseudo-inverse's answer.

    Args:
        product: A times a vector.
        right: ``[D]``.
        iterations: At most so many products, at least 1.
        tolerance: Squared norm of the residual at which it ends, at least 0.

    Returns:
        ``[D]``.

    Raises:
        ValueError: ``iterations`` is below 1.

    Reference:
        Hestenes and Stiefel 1952, "Methods of conjugate gradients for solving linear systems".
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}, it must be at least 1")
    found = torch.zeros_like(right)
    residual = direction = right
    square = residual @ residual
    for _ in range(iterations):
        if not bool(square > tolerance):
            break
        image = product(direction)
        curvature = direction @ image
        if not bool(curvature > 0.0):
            break  # rounding, or a direction that changes nothing
        length = square / curvature
        found = found + length * direction
        residual = residual - length * image
        before, square = square, residual @ residual
        direction = residual + (square / before) * direction
    return found


def natural_step(
    product: Product,
    gradient: Tensor,
    *,
    radius: float,
    damping: float = 0.0,
    iterations: int = 10,
) -> Tensor:
    """Return the step along the natural gradient at whose end the KL is about the radius.

    sqrt(2 radius / x'F x) x with (F + damping I) x = gradient. With g'F g in the place of
    x'F x = g'F^-1 g the KL would be another.

    Args:
        product: F times a vector, F the Hessian of the KL.
        gradient: ``[D]``, of what is to grow.
        radius: KL of the step, nats, above 0.
        damping: Added to the diagonal of F, at least 0.
        iterations: Of conjugate gradients, at least 1.

    Returns:
        ``[D]``; zeros where the gradient is.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Schulman et al. 2015, arXiv 1502.05477, appendix C.
    """
    if not radius > 0.0 or not damping >= 0.0:
        raise ValueError(f"radius {radius} must be above 0 and damping {damping} at least 0")

    def damped(vector: Tensor) -> Tensor:
        return product(vector) + damping * vector

    direction = conjugate_gradients(damped, gradient, iterations=iterations)
    change = direction @ product(direction)
    if not bool(change > 0.0):
        return torch.zeros_like(gradient)
    return torch.sqrt(2.0 * radius / change) * direction


class Reached(NamedTuple):
    """Where a step was cut."""

    share: float
    """Share of the step that is taken, 0 for none."""
    gain: float
    """Of the objective there, in its unit."""
    divergence: float
    """There, nats."""


def shortened(
    judged: Callable[[Tensor], tuple[Tensor, Tensor]],
    step: Tensor,
    *,
    radius: float,
    shrink: float = 0.8,
    tries: int = 10,
) -> Reached:
    """Return the longest share of a step that stays within the radius and gains something.

    Args:
        judged: From a step ``[D]`` to what the objective gains by it, ``[]``, and to the divergence
            from the start, ``[]``, nats.
        step: ``[D]``, whole.
        radius: Largest divergence, nats, above 0.
        shrink: What each next share is of the one before, in (0, 1).
        tries: Shares that are tried, at least 1; the first is 1.

    Returns:
        The first share that will do, with its gain and divergence; zeros where none does.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Schulman et al. 2015, arXiv 1502.05477, appendix C.
    """
    if not radius > 0.0 or not 0.0 < shrink < 1.0 or tries < 1:
        raise ValueError(
            f"radius {radius} must be above 0, shrink {shrink} in (0, 1), tries {tries} at least 1"
        )
    for number in range(tries):
        share = shrink**number
        gain, divergence = (float(each) for each in judged(share * step))
        if gain > 0.0 and divergence <= radius:
            return Reached(share, gain, divergence)
    return Reached(0.0, 0.0, 0.0)
