"""Multiplier: learned prices of limits, for the dual of a constrained problem."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Multiplier(nn.Module):
    """Learned factors above 0, one per limit: soft-plus of free parameters.

    Args:
        initial: ``[...]``, their values at the start, above 0.
        limit: ``[...]``, what they hold, nats.
        floor: Smallest value, above 0.
    """

    start: Tensor
    limit: Tensor

    def __init__(self, initial: Tensor, limit: Tensor, *, floor: float = 1e-8) -> None:
        super().__init__()
        # What moves counts from the start: beside 1000, steps of 1e-2 would be rounded.
        self.register_buffer("start", initial + torch.log(-torch.expm1(-initial)))
        self.moved = nn.Parameter(torch.zeros_like(self.start))
        self.register_buffer("limit", limit, persistent=False)
        self.floor = floor

    def forward(self) -> Tensor:
        """Return the factors ``[...]``."""
        return functional.softplus(self.start + self.moved) + self.floor
