"""Products of normal densities: what independent pieces of evidence say together.

    prod_n N(z; mean_n, var_n)  ~  N(z; shift / precision, 1 / precision)
    precision = sum_n 1 / var_n,   shift = sum_n mean_n / var_n

Both are sums over the pieces: their order does not matter, and a new piece is added to what the
earlier ones gave, however many they were. With the prior N(0, 1) as one more factor, which adds 1
to the precision and nothing to the shift, no evidence gives the prior; without it, nothing at all.

Reference: Rakelly et al. 2019, arXiv 1903.08254, section 4.2 (PEARL), which leaves the prior out.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """What pieces of evidence say of a latent vector: two sums over them.

    Attributes:
        precision: ``[..., L]``, of 1 / variance, at least 0.
        shift: ``[..., L]``, of mean / variance.
    """

    precision: Tensor
    shift: Tensor

    @classmethod
    def of(cls, mean: Tensor, log_std: Tensor) -> "Evidence":
        """Return that of single pieces.

        Args:
            mean: ``[..., L]``.
            log_std: ``[..., L]``, natural logarithm of the spread.

        Returns:
            ``[..., L]``.
        """
        precision = torch.exp(-2.0 * log_std)
        return cls(precision, precision * mean)

    def sum(self, dim: int) -> "Evidence":
        """Return what all pieces along a dimension say together."""
        return Evidence(self.precision.sum(dim), self.shift.sum(dim))

    def joined(self, other: "Evidence") -> "Evidence":
        """Return what both say together."""
        return Evidence(self.precision + other.precision, self.shift + other.shift)

    def product(self, *, prior: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the normalised product.

        Args:
            prior: Precision of a factor N(0, 1 / prior), at least 0; 0 for none, and then each
                precision must be above 0.

        Returns:
            Mean and logarithm of the spread, ``[..., L]`` each.
        """
        precision = self.precision + prior
        return self.shift / precision, -0.5 * precision.log()
