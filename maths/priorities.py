"""Prioritised draws: rows with large errors are drawn more often, and count less each time.

    p_i = (|delta_i| + floor)^exponent          P(i) = p_i / sum_j p_j                       (eq. 1)
    w_i = (N P(i))^-beta / max_j (N P(j))^-beta = (min_j p_j / p_i)^beta                 (sec. 3.4)

With beta 1 the weights undo what the draws changed: the mean of w f over draws is proportional to
that of f over rows. The maximum is over all rows, not over a batch, so that what a row counts does
not depend on which others were drawn with it.

Reference: Schaul, Quan, Antonoglou and Silver 2015, "Prioritized experience replay", arXiv
1511.05952.
"""

import torch
from torch import Tensor


def priority(error: Tensor, *, exponent: float, floor: float = 1e-6) -> Tensor:
    """Return (|error| + floor)^exponent, without gradient.

    Args:
        error: ``[...]``, target minus value, reward units; not weighted.
        exponent: At least 0; 0 draws uniformly.
        floor: Added to errors, above 0, reward units: no row is never drawn again.

    Returns:
        ``[...]``, above 0.
    """
    return (error.detach().abs() + floor).pow(exponent)


def cumulative(priorities: Tensor) -> Tensor:
    """Return the running sum that :func:`drawn_by_priority` looks up, ``[N]`` float64.

    Args:
        priorities: ``[N]``, at least 0, not all 0.

    Returns:
        Rising; its last entry is the sum.
    """
    # In float32 the sum of a million rows no longer sees one of them.
    return priorities.double().cumsum(0)


def drawn_by_priority(share: Tensor, reached: Tensor) -> Tensor:
    """Return rows drawn with probability proportional to their priority, by the inverse cdf.

    Args:
        share: ``[...]`` float64, uniform on [0, 1).
        reached: ``[N]`` float64 of :func:`cumulative`.

    Returns:
        ``[...]`` int64, in [0, N); a row of priority 0 is never drawn.
    """
    found = torch.searchsorted(reached, share * reached[-1], right=True)
    # A share just below 1 may round to the sum itself, which lies beyond the last row above 0.
    last = torch.searchsorted(reached, reached[-1:])
    return torch.minimum(found, last)


def importance_weight(drawn: Tensor, least: Tensor, *, beta: Tensor | float) -> Tensor:
    """Return (least / drawn)^beta: what a draw counts, 1 for the rarest row.

    Args:
        drawn: ``[...]``, priorities of the rows drawn, above 0.
        least: ``[]``, smallest priority of all rows that may be drawn.
        beta: In [0, 1], broadcast against them; 0 leaves the draws as they are.

    Returns:
        ``[...]``, in (0, 1].
    """
    return (least / drawn).pow(beta)
