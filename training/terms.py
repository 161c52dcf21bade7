"""What the losses of one batch say: the value that learners return and update loops pass on."""

from typing import NamedTuple

from torch import Tensor


class LossTerms(NamedTuple):
    """What one batch says: named scalars to minimise, and detached scalars to look at.

    Of several updates each value is ``[K]``, of several seeds ``[K, S]``.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor]
