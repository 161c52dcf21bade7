"""Inner steps: weights from which few steps of descent on a task lead far (MAML and its kin).

    theta_i = theta - rate grad L_i(theta; support),   L(theta) = mean_i L_i(theta_i; query)

The gradient of L in theta passes through the inner steps. For one step it is
(I - rate H_i) grad L_i(theta_i), H_i being the Hessian of the support's loss. The first-order
gradient leaves the factor out: it costs no second derivative, and has another fixed point where
the Hessians of tasks differ. Reptile's is (theta - theta_i) / rate, of the support alone.

Reference: Finn, Abbeel and Levine 2017, arXiv 1703.03400, eq. 1 and algorithm 1; first order and
Reptile: Nichol, Achiam and Schulman 2018, arXiv 1803.02999, algorithm 1.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def inner_steps(
    loss: Callable[[Weights], Tensor],
    weights: Mapping[str, Tensor],
    *,
    rate: float,
    steps: int = 1,
    first_order: bool = False,
) -> Weights:
    """Return weights after steps of descent, differentiable in those before them.

    Args:
        loss: Of weights by name, ``[]``; pure, as ``torch.func`` needs it.
        weights: ``[...]`` by name.
        rate: Length of a step as a multiple of the gradient, above 0.
        steps: At least 0.
        first_order: Take the steps as constants: the derivative in the weights before them is 1.

    Returns:
        ``[...]`` by name.
    """
    moved = dict(weights)
    for _ in range(steps):
        gradient = torch.func.grad(loss)(moved)
        if first_order:
            gradient = {name: part.detach() for name, part in gradient.items()}
        moved = {name: value - rate * gradient[name] for name, value in moved.items()}
    return moved


def displacement_loss(
    weights: Mapping[str, Tensor], moved: Mapping[str, Tensor], *, rate: float
) -> Tensor:
    """Return |theta - theta_i|^2 / (2 rate), whose gradient in theta is Reptile's.

    Args:
        weights: ``[...]`` by name, theta.
        moved: ``[...]`` by name, after inner steps; no gradient passes.
        rate: Of the inner steps, above 0.

    Returns:
        ``[]``; of one inner step half the squared norm of its gradient, times the rate.
    """
    parts = [(value - moved[name].detach()).square().sum() for name, value in weights.items()]
    return torch.stack(parts).sum() / (2.0 * rate)
