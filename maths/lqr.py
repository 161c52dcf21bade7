"""Linear dynamics and quadratic costs: the best controller, step by step from the end.

    x' = F [x; u] + f,   cost = 1/2 [x; u]' C [x; u] + [x; u]' c,   1/2 x' V x + x' v at the end

H steps, O numbers of a state x and A of a control u. Costs are in reward units, and minimised.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Quadratic(NamedTuple):
    """Dynamics and costs of H steps.

    Attributes:
        transition: F, ``[..., H, O, O + A]``.
        offset: f, ``[..., H, O]``.
        curvature: C, ``[..., H, O + A, O + A]``, symmetric.
        slope: c, ``[..., H, O + A]``.
        final_curvature: V at the end, ``[..., O, O]``, symmetric.
        final_slope: v at the end, ``[..., O]``.
    """

    transition: Tensor
    offset: Tensor
    curvature: Tensor
    slope: Tensor
    final_curvature: Tensor
    final_slope: Tensor


class Gains(NamedTuple):
    """The best controller u = K x + k, and the cost that it leaves.

    Attributes:
        feedback: K, ``[..., H, A, O]``.
        forward: k, ``[..., H, A]``.
        precision: Quu, ``[..., H, A, A]``: of the Gaussian controller of maximum entropy.
        control_slope: Qu, ``[..., H, A]``.
        value: V of the first step, ``[..., O, O]``.
        value_slope: v of the first step, ``[..., O]``.
        convex: ``[...]`` bool, whether every Quu is positive definite; else there is no best
            controller, and the numbers mean nothing.
    """

    feedback: Tensor
    forward: Tensor
    precision: Tensor
    control_slope: Tensor
    value: Tensor
    value_slope: Tensor
    convex: Tensor


def backward_pass(problem: Quadratic, damping: Tensor | float = 0.0) -> Gains:
    """Return the best controller.

        Q = C + F' V F,   q = c + F' (V f + v),   K = -Quu^-1 Qux,   k = -Quu^-1 qu

    Args:
        problem: Dynamics and costs.
        damping: mu, at least 0, ``[...]`` or a number: controls are chosen as if V were V + mu I,
            so that states stay near to those of the last plan.

    Returns:
        The gains.

    Reference:
        Tassa, Erez and Todorov 2012, "Synthesis and stabilization of complex behaviors through
        online trajectory optimization", equations 10 to 11.
    """
    size = problem.transition.shape[-2]
    mu = torch.as_tensor(damping, dtype=problem.slope.dtype)[..., None, None]
    near = mu * torch.eye(size, dtype=problem.slope.dtype)
    value, slope = problem.final_curvature, problem.final_slope
    convex = torch.ones(problem.slope.shape[:-2], dtype=torch.bool)
    steps = []
    for step in reversed(range(problem.slope.shape[-2])):
        move, cost = problem.transition[..., step, :, :], problem.curvature[..., step, :, :]
        ahead = slope + _times(value, problem.offset[..., step, :])
        linear = problem.slope[..., step, :] + _times(move.mT, ahead)
        full, damped = (cost + move.mT @ v @ move for v in (value, value + near))
        precision, failed = torch.linalg.cholesky_ex(damped[..., size:, size:])
        convex = convex & (failed == 0)
        both = torch.cat([damped[..., size:, :size], linear[..., size:, None]], dim=-1)
        solved = -torch.cholesky_solve(both, precision)
        gain, push = solved[..., :size], solved[..., size]
        curved, crossed = full[..., size:, size:], full[..., size:, :size]
        slope = (
            linear[..., :size]
            + _times(crossed.mT, push)
            + _times(gain.mT, linear[..., size:] + _times(curved, push))
        )
        value = full[..., :size, :size] + gain.mT @ (crossed + curved @ gain) + crossed.mT @ gain
        value = (value + value.mT) / 2
        steps.append((gain, push, curved, linear[..., size:]))
    gains, pushes, curves, slopes = zip(*reversed(steps), strict=True)
    return Gains(
        torch.stack(gains, -3),
        torch.stack(pushes, -2),
        torch.stack(curves, -3),
        torch.stack(slopes, -2),
        value,
        slope,
        convex,
    )


def followed(problem: Quadratic, gains: Gains, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return states ``[..., H + 1, O]`` and controls ``[..., H, A]`` of a controller.

    Args:
        problem: Dynamics.
        gains: The controller.
        start: ``[..., O]``.

    Returns:
        States, the first one included, and controls.
    """
    states, controls = [start], []
    for step in range(problem.slope.shape[-2]):
        control = gains.forward[..., step, :] + _times(gains.feedback[..., step, :, :], states[-1])
        joined = torch.cat([states[-1], control], dim=-1)
        move, offset = problem.transition[..., step, :, :], problem.offset[..., step, :]
        states.append(_times(move, joined) + offset)
        controls.append(control)
    return torch.stack(states, -2), torch.stack(controls, -2)


def total_cost(problem: Quadratic, states: Tensor, controls: Tensor) -> Tensor:
    """Return the cost ``[...]`` of states ``[..., H + 1, O]`` and controls ``[..., H, A]``."""
    joined = torch.cat([states[..., :-1, :], controls], dim=-1)
    way = 0.5 * _times(problem.curvature, joined) + problem.slope
    last = states[..., -1, :]
    end = 0.5 * _times(problem.final_curvature, last) + problem.final_slope
    return (way * joined).sum((-2, -1)) + (end * last).sum(-1)


def expected_decrease(gains: Gains, share: Tensor) -> Tensor:
    """Return by how much the cost is expected to fall: -(a k'Qu + a^2 / 2 k'Quu k).

    Args:
        gains: Around the last plan, ``[..., H, ...]``.
        share: a, ``[a]``, of the way to the new controls, in (0, 1].

    Returns:
        ``[..., a]``, above 0 where the controller is the best.

    Reference:
        Tassa, Erez and Todorov 2012, equation 12.
    """
    linear = (gains.forward * gains.control_slope).sum((-2, -1)).unsqueeze(-1)
    square = (gains.forward * _times(gains.precision, gains.forward)).sum((-2, -1)).unsqueeze(-1)
    return -(share * linear + 0.5 * share.square() * square)


def positive_part(matrix: Tensor, floor: float) -> Tensor:
    """Return the nearest symmetric matrix ``[..., D, D]`` without an eigenvalue below ``floor``."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    lifted: Tensor = vectors @ (values.clamp(min=floor).unsqueeze(-1) * vectors.mT)
    return lifted


def gaussian_log_prob(residual: Tensor, precision: Tensor) -> Tensor:
    """Return log N(residual; 0, precision^-1), nats.

    Args:
        residual: ``[..., A]``, action less its mean.
        precision: ``[..., A, A]``, positive definite.

    Returns:
        ``[...]``.
    """
    factor: Tensor = torch.linalg.cholesky(precision)
    scaled = _times(factor.mT, residual)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = 0.5 * residual.shape[-1] * torch.log(torch.tensor(2.0 * torch.pi))
    return log_det - 0.5 * scaled.square().sum(-1) - constant


def gaussian_sample(noise: Tensor, precision: Tensor) -> Tensor:
    """Return numbers of N(0, precision^-1) ``[..., A]`` from standard normal ones ``[..., A]``."""
    factor = torch.linalg.cholesky(precision)
    solved: Tensor = torch.linalg.solve_triangular(factor.mT, noise.unsqueeze(-1), upper=True)
    return solved.squeeze(-1)


def adapted_temperature(temperature: float, divergence: float, target: float) -> float:
    """Return nu after a round: 1.5 times as large or small, as KL is below or above its target.

    A larger nu weighs rewards less against staying near the policy: it brings KL down.

    Args:
        temperature: nu, above 0.
        divergence: KL(q || policy) per step, nats.
        target: What it may be, above 0.

    Returns:
        The next nu.
    """
    return temperature * 1.5 if divergence > target else temperature / 1.5


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
