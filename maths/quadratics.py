"""Functions that are quadratic in some numbers: their parts, and where they are largest."""

from typing import NamedTuple

import torch
from torch import Tensor


class Quadratic(NamedTuple):
    """The parts of a function of D numbers whose third derivatives are 0."""

    slope: Tensor
    """``[D]``, its gradient at 0."""
    curvature: Tensor
    """``[D, D]``, its second derivatives, symmetric."""


def quadratic_parts(theta: Tensor, width: int) -> Quadratic:
    """Return gradient and second derivatives of theta' phi(z).

    Args:
        theta: ``[1 + D + D (D + 1) / 2]``: of 1, the numbers and their products in that order.
        width: D.

    Returns:
        Its parts.
    """
    rows, columns = torch.meshgrid(*[torch.arange(width, device=theta.device)] * 2, indexing="ij")
    low, high = torch.minimum(rows, columns), torch.maximum(rows, columns)
    # Where the product of two numbers stands among those of every two, row by row.
    place = low * width - low * (low - 1) // 2 + high - low
    twice = 1.0 + torch.eye(width, dtype=theta.dtype, device=theta.device)
    return Quadratic(theta[1 : 1 + width], theta[1 + width :][place] * twice)


def linear_maximiser(quadratic: Quadratic, actions: int) -> tuple[Tensor, Tensor]:
    """Return for which last numbers of z a quadratic function is largest, given the first ones.

    Where all is flat it is 0. Only plain operations are used: the result
    is part of an exported graph.

    Args:
        quadratic: Of z = (x, a), concave in a.
        actions: A, how many numbers a has.

    Returns:
        Gain ``[A, D - A]`` and constant ``[A]`` of a = gain x + constant.
    """
    slope, curvature = quadratic
    free = len(slope) - actions
    left, right = curvature[free:, free:], curvature[free:, :free]
    system = torch.cat([left, right, slope[free:].unsqueeze(-1)], dim=-1)
    one = torch.eye(actions, dtype=slope.dtype, device=slope.device).bool()
    for number in range(actions):  # Gauss-Jordan: definite matrices need no exchange of rows
        pivot = system[number, number]
        row = system[number] / torch.where(pivot == 0, torch.full_like(pivot, -1.0), pivot)
        others = system - system[:, number : number + 1] * row
        system = torch.where(one[number].unsqueeze(-1), row, others)
    return -system[:, actions:-1], -system[:, -1]
