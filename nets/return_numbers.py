"""What the M numbers of an action say of its return: their mean, its quantiles, or shares of atoms.

Each kind reads numbers ``[..., M]`` as returns with shares, and says how far numbers are from a
distribution of returns that they should stand for.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges
from hindsight_rl.maths.losses import huber_loss
from hindsight_rl.maths.quantile_regression import quantile_loss
from hindsight_rl.maths.value_atoms import projected


class ReturnNumbers(Protocol):
    """What M numbers of an action mean."""

    @property
    def count(self) -> int:
        """Return how many there are, 0 for one value without a dimension of its own."""

    def mean(self, numbers: Tensor) -> Tensor:
        """Return the mean return ``[...]`` that numbers ``[..., M]`` stand for."""

    def returns(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the returns that numbers ``[..., M]`` stand for and their shares, both so."""

    def loss(self, numbers: Tensor, place: Tensor, share: Tensor) -> Tensor:
        """Return how far numbers ``[..., M]`` are from returns with shares, ``[...]``."""


@dataclass(frozen=True)
class MeanReturn:
    """One number, the mean.

    Args:
        limit: Error, reward units, beyond which the loss grows linearly; ``None`` for never.
    """

    limit: float | None
    count = 0

    def mean(self, numbers: Tensor) -> Tensor:
        """Return the number."""
        return numbers.squeeze(-1)

    def returns(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number, with all of the share."""
        return numbers, torch.ones_like(numbers)

    def loss(self, numbers: Tensor, place: Tensor, share: Tensor) -> Tensor:
        """Return half the squared error, or Huber's."""
        return huber_loss((place - numbers).squeeze(-1), limit=self.limit)


@dataclass(frozen=True)
class QuantileReturn:
    """Quantiles of the return (Dabney et al. 2018).

    Args:
        count: M.
        limit: As of :class:`MeanReturn`; ``None`` for lines.
    """

    count: int
    limit: float | None

    def mean(self, numbers: Tensor) -> Tensor:
        """Return the mean of the quantiles."""
        return numbers.mean(-1)

    def returns(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantiles, with equal shares."""
        return numbers, torch.full_like(numbers, 1.0 / self.count)

    def loss(self, numbers: Tensor, place: Tensor, share: Tensor) -> Tensor:
        """Return the sum over quantiles, as in the paper: rates belong to it."""
        wanted = place.expand_as(numbers), share.expand_as(numbers)
        return self.count * quantile_loss(numbers, *wanted, limit=self.limit)


@dataclass(frozen=True)
class AtomReturn:
    """Logarithms, up to a constant, of the shares of evenly spaced returns (Bellemare et al. 2017).

    Args:
        count: M, at least 2.
        low: Smallest return, reward units.
        high: Largest, above ``low``.
    """

    count: int
    low: float
    high: float

    def mean(self, numbers: Tensor) -> Tensor:
        """Return the mean by the shares."""
        place, share = self.returns(numbers)
        return (place * share).sum(-1)

    def returns(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the atoms, with their shares."""
        return self._atoms(numbers).expand_as(numbers), torch.softmax(numbers, -1)

    def loss(self, numbers: Tensor, place: Tensor, share: Tensor) -> Tensor:
        """Return the cross-entropy to the returns, projected onto the atoms."""
        wanted = projected(share, place, self._atoms(numbers))
        return -(wanted * torch.log_softmax(numbers, -1)).sum(-1)

    def _atoms(self, like: Tensor) -> Tensor:
        return torch.linspace(self.low, self.high, self.count, dtype=like.dtype, device=like.device)


def return_numbers(
    *,
    quantiles: int,
    atoms: int,
    value_range: tuple[float, float] | None,
    limit: float | None,
) -> ReturnNumbers:
    """Return what the numbers of an action mean, by the arguments of a learner.

    Args:
        quantiles: How many; 0 for none.
        atoms: How many; 0 for none.
        value_range: Smallest and largest return of the atoms, reward units.
        limit: See :class:`MeanReturn`; atoms have none.

    Returns:
        One of the three kinds.

    Raises:
        ValueError: A number is out of range, or arguments do not go together.
    """
    check_ranges(at_least(0, quantiles=quantiles, atoms=atoms))
    if quantiles and atoms:
        raise ValueError(
            f"quantiles is {quantiles} and atoms {atoms}: returns are one or the other, so leave "
            "one of them 0"
        )
    if (value_range is not None) != bool(atoms):
        raise ValueError(
            f"atoms is {atoms} and value_range {value_range}: give both, as atoms: 51 and "
            "value_range: [smallest, largest] return, or neither"
        )
    if value_range is None:
        return QuantileReturn(quantiles, limit) if quantiles else MeanReturn(limit)
    low, high = value_range
    if atoms < 2 or not low < high:
        raise ValueError(
            f"atoms is {atoms} and value_range {list(value_range)}: it takes two atoms at least, "
            "and the smallest return comes first"
        )
    return AtomReturn(atoms, low, high)
