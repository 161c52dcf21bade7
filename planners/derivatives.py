"""Derivatives of a model around a plan: dynamics to first, costs to second order.

They are taken by backward passes over all rows at once, since a row's answer depends on its own
inputs alone; whatever torch can differentiate is a model.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
"""``[R, D] -> [R, M]`` or ``[R]``: rows do not depend on each other."""


def jacobian(function: Function, inputs: Tensor) -> Tensor:
    """Return the Jacobians ``[R, M, D]`` of ``[R, D] -> [R, M]``.

    Args:
        function: Of rows.
        inputs: ``[R, D]``.

    Returns:
        Derivatives, 0 where an output does not depend on the inputs.

    Raises:
        ValueError: The function answers with what cannot be differentiated.
    """
    with torch.enable_grad():
        given = inputs.detach().requires_grad_()
        return _rows(_differentiable(function(given)), given)


def gradient_and_hessian(function: Function, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients ``[R, D]`` and Hessians ``[R, D, D]`` of ``[R, D] -> [R]``.

    Args:
        function: Of rows.
        inputs: ``[R, D]``.

    Returns:
        Both.

    Raises:
        ValueError: The function answers with what cannot be differentiated.
    """
    with torch.enable_grad():
        given = inputs.detach().requires_grad_()
        value = _differentiable(function(given))
        (slope,) = torch.autograd.grad(value.sum(), given, create_graph=True)
        if not slope.requires_grad:  # linear
            return slope.detach(), slope.new_zeros(*slope.shape, slope.shape[-1])
        return slope.detach(), _rows(slope, given)


def _rows(outputs: Tensor, given: Tensor) -> Tensor:
    """Return the derivative of each column of ``[R, M]``."""
    found = [
        torch.autograd.grad(column.sum(), given, retain_graph=True, materialize_grads=True)[0]
        for column in outputs.unbind(-1)
    ]
    return torch.stack(found, dim=-2)


def _differentiable(outputs: Tensor) -> Tensor:
    if not outputs.requires_grad:
        raise ValueError(
            "the model's answer does not depend on its inputs in a way that torch can "
            "differentiate: a simulator's does not. Plan with CEM or MPPI, or by a learned model"
        )
    return outputs
