"""MAGIC: doubly robust returns that trust the weights for j steps, then a model, mixed by errors.

    g_j = mean_i v_i0 + sum_{t < j} sum_i w_it d_it / sum_i w_it
    d_it = discount^t (r_it - q_it) + discount^(t + 1) v_i,t+1

g_0 is the model's value, g_H the weighted doubly robust estimate. What is mixed is x' g, with the
x >= 0 of sum 1 that has the least estimated squared error x' (Omega + b b') x.

Omega, b and x are estimates too. An interval that holds x while episodes are resampled leaves out
how much x moves, so that :meth:`Magic.value` does all of it again for each resample. The model is
held: a resample of episodes does not fit it again.

Reference: Thomas and Brunskill 2016, arXiv 1604.00923, section 6.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.intervals import student_quantile
from hindsight_rl.maths.importance import discounted, relative_weights

LEVEL = 0.9  # of the interval that a bias is measured from
_STEPS = 25
_NUMBERS = 4_000_000  # held at a time
_RIDGE = 1e-8  # of a matrix with a diagonal of 1: columns that are alike share their weight
_ROUNDS = 200


class Magic(NamedTuple):
    """The estimate, for any counts of its episodes."""

    weight: Tensor
    """``[n, H]`` float64, relative to the largest of each step."""
    trusted: Tensor
    """``[n, H]``, d: what trusting the weights for one more step adds."""
    start: Tensor
    """``[n]``, the model's value of each first state."""
    kept: Tensor
    """``[J]`` int64, the numbers of trusted steps whose returns are mixed."""

    def value(self, count: Tensor | None = None) -> Tensor:
        """Return the estimate.

        Args:
            count: ``[..., n]``, how often each episode counts, n in all; ``None`` for once.

        Returns:
            ``[...]``, reward units; NaN where no episode with any weight counts at some step.
        """
        return (self.shares(count) * self.returns(count)).sum(-1)

    def returns(self, count: Tensor | None = None) -> Tensor:
        """Return g of the kept numbers of steps ``[..., J]``."""
        count = self._counted(count)
        step = (count @ (self.weight * self.trusted)) / (count @ self.weight)
        start = (count @ self.start).unsqueeze(-1) / len(self.start)
        return start + torch.nn.functional.pad(step.cumsum(-1), (1, 0))[..., self.kept]

    def parts(self, count: Tensor | None = None) -> Tensor:
        """Return what each copy of an episode adds to the returns ``[..., n, J]``."""
        n, steps = self.weight.shape
        weight = self._counted(count) @ self.weight
        summed = (torch.arange(steps) < self.kept.unsqueeze(-1)) / weight.unsqueeze(-2)
        parts = (self.weight * self.trusted) @ summed.flatten(0, -2).T
        parts = parts.reshape(n, *weight.shape[:-1], len(self.kept)).movedim(0, -2)
        return parts + (self.start / n).unsqueeze(-1)

    def shares(self, count: Tensor | None = None) -> Tensor:
        """Return x ``[..., J]``: how much each of the returns counts, NaN where it is not known."""
        count = self._counted(count)
        rows = count.reshape(-1, count.shape[-1])
        most = max(1, _NUMBERS // (len(self.kept) * max(self.weight.shape)))
        found = torch.cat([self._shares(part) for part in rows.split(most)])
        return found.reshape(*count.shape[:-1], len(self.kept))

    def _counted(self, count: Tensor | None) -> Tensor:
        return torch.ones_like(self.start) if count is None else count.to(self.start.dtype)

    def _shares(self, count: Tensor) -> Tensor:
        """Return x ``[R, J]`` of counts ``[R, n]``."""
        found = torch.full((len(count), len(self.kept)), torch.nan, dtype=torch.float64)
        known = (count @ self.weight > 0.0).all(-1)
        if bool(known.any()):
            count = count[known]
            last, half = self.returns(count)[:, -1], self._half(count)
            found[known] = magic_weights(self.parts(count), last - half, last + half, count)
        return found

    def _half(self, count: Tensor) -> Tensor:
        """Return half of the interval ``[R]`` of the return that trusts all weights.

        Student's by the delta method, which knows that the normalisers move.
        """
        n, weight = len(self.start), count @ self.weight
        mean = (count @ (self.weight * self.trusted)) / weight
        moved = (1.0 / weight) @ (self.weight * self.trusted).T - (mean / weight) @ self.weight.T
        moved = moved + (self.start - (count @ self.start).unsqueeze(-1) / n) / n
        error = (n / (n - 1) * (count * moved.square()).sum(-1)).sqrt()
        return student_quantile(0.5 + LEVEL / 2.0, n - 1) * error


def magic(
    log_ratio: Tensor,
    reward: Tensor,
    q: Tensor,
    v: Tensor,
    *,
    discount: float,
    most: int = _STEPS,
) -> Magic:
    """Return MAGIC, see the top of this file.

    Its bias b is how far each return lies from the 90 % interval of the one that trusts all
    weights: Student's by the delta method, where the reference resamples once more.

    Args:
        log_ratio: ``[n, H]`` of :func:`hindsight_rl.maths.importance.cumulative_log_ratio`, n at
            least 2.
        reward: ``[n, H]``, 0 behind the end of an episode.
        q: ``[n, H]``, the model's value of each logged action, 0 behind the end.
        v: ``[n, H + 1]``, the model's value of each state and of what follows each last step.
        discount: In [0, 1].
        most: Returns that are mixed, at even distances where there are more, at least 2.

    Returns:
        The estimate.
    """
    steps = reward.shape[-1]
    trusted = discounted(reward - q, discount) + discounted(v, discount)[:, 1:]
    kept = torch.linspace(0, steps, min(steps + 1, most)).round().long().unique()
    return Magic(relative_weights(log_ratio), trusted, v[:, 0].double(), kept)


def magic_weights(
    parts: Tensor, low: Tensor | float, high: Tensor | float, count: Tensor | None = None
) -> Tensor:
    """Return how much each return counts: the shares with the least estimated squared error.

    Omega is the covariance of the returns, with normalisers taken as given; b_j is how far each of
    them lies from an interval of the one that trusts the weights for all steps.

    Args:
        parts: ``[..., n, J]`` of :meth:`Magic.parts`.
        low: ``[...]``, lower end of that interval.
        high: ``[...]``, upper end.
        count: ``[..., n]``, how often each episode counts; ``None`` for once.

    Returns:
        ``[..., J]`` float64.
    """
    parts = parts.double()
    n = parts.shape[-2]
    count = parts.new_ones(n) if count is None else count.to(parts.dtype)
    total = (count.unsqueeze(-2) @ parts).squeeze(-2)
    apart = parts - total.unsqueeze(-2) / n
    omega = n / (n - 1) * ((count.unsqueeze(-1) * apart).mT @ apart)
    low, high = (torch.as_tensor(end, dtype=parts.dtype).unsqueeze(-1) for end in (low, high))
    bias = (total - high).clamp_min(0.0) - (low - total).clamp_min(0.0)
    return least_on_simplex(omega + bias.unsqueeze(-1) * bias.unsqueeze(-2))


def least_on_simplex(matrix: Tensor) -> Tensor:
    """Return the x >= 0 of sum 1 with the least x' M x.

    It is y / sum y of the y >= 0 with the least y' M y / 2 - sum y: the same conditions, and no
    sum to keep.

    Args:
        matrix: ``[..., J, J]`` float64, symmetric, no eigenvalue below 0.

    Returns:
        ``[..., J]``; equal shares of columns that are alike.
    """
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    size = flat.diagonal(dim1=-2, dim2=-1)
    largest = size.amax(-1, keepdim=True)
    size = torch.where(largest > 0.0, torch.maximum(size, 1e-12 * largest), 1.0)
    slope = size.rsqrt()
    even = flat * slope.unsqueeze(-1) * slope.unsqueeze(-2)
    point = slope * _at_least_zero(even + _RIDGE * torch.eye(flat.shape[-1]), slope)
    return (point / point.sum(-1, keepdim=True)).reshape(matrix.shape[:-1])


def _at_least_zero(matrix: Tensor, slope: Tensor) -> Tensor:
    """Return the z >= 0 ``[R, J]`` with the least z' M z / 2 - slope' z, eigenvalues of M above 0.

    Block principal pivoting: guess which z are above 0, solve for them, exchange all that
    contradict the guess; where that stops making progress, one at a time. What has not settled
    after all rounds, in matrices that are singular but for rounding, is cut off at 0.

    Reference: Kim and Park 2011, "Fast nonnegative matrix factorization: an active-set-like method
    and comparisons", algorithm 2.
    """
    rows, width = slope.shape
    found = torch.zeros_like(slope)
    free = torch.zeros(rows, width, dtype=torch.bool)
    fewest = torch.full((rows,), width + 1)
    patience = torch.full((rows,), 3)
    open_rows = torch.arange(rows)
    place = torch.arange(width)
    for _ in range(_ROUNDS):
        some, held = matrix[open_rows], free[open_rows]
        both = held.unsqueeze(-1) & held.unsqueeze(-2)
        square = torch.where(both, some, 0.0) + torch.diag_embed((~held).to(some.dtype))
        target = slope[open_rows]
        point = torch.linalg.solve(square, torch.where(held, target, 0.0))
        rise = (some @ point.unsqueeze(-1)).squeeze(-1) - target
        least = 1e-12 * point.abs().amax(-1, keepdim=True)
        wrong = (held & (point < -least)) | (~held & (rise < -least))
        found[open_rows] = point.clamp_min(0.0)
        count = wrong.sum(-1)
        better = count < fewest[open_rows]
        fewest[open_rows] = torch.where(better, count, fewest[open_rows])
        left = torch.where(better, 3, patience[open_rows] - 1)
        patience[open_rows] = left
        last = place == torch.where(wrong, place, -1).amax(-1, keepdim=True)
        free[open_rows] = held ^ (wrong & (last | (left >= 0).unsqueeze(-1)))
        open_rows = open_rows[count > 0]
        if not len(open_rows):
            break
    return found
