"""Quality of logged episodes: how they move, where they end, how late they answer.

Rows of one episode are adjacent and in order; ``episode [N]`` counts them from 0. N rows, E
episodes, D numbers of a state, A numbers of an action. All sums are float64, and nothing is NaN:
what cannot be measured (of an episode that is too short) is 0, and the docstring says so.

Columns with one spread are no columns with one meaning. An idle joint has a tiny spread, which is
noise, and in units of it the noise is large; a switch jumps by several of its spreads at once.
:func:`steadiness` says how far a column moves rather than trembles or jumps, and weighs it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def differences(
    values: Tensor, episode: Tensor, order: int = 1, span: int = 1
) -> tuple[Tensor, Tensor]:
    """Return differences between rows of one episode.

    Args:
        values: ``[N, D]``.
        episode: ``[N]`` int64.
        order: 1 for x[t + span] - x[t], 2 for differences of these, and so on.
        span: Rows between the two, at least 1.

    Returns:
        ``[M, D]`` float64, and the episode ``[M]`` of each. An episode of T rows has
        max(0, T - order * span) of them.
    """
    found, reach = values.double(), order * span
    for _ in range(order):
        found = found[span:] - found[:-span]
    inside = episode[reach:] == episode[: max(0, len(episode) - reach)]
    return found[inside], episode[reach:][inside]


def episode_means(values: Tensor, episode: Tensor, count: int) -> Tensor:
    """Return the mean of each episode's rows, 0 where it has none.

    Args:
        values: ``[M, ...]`` real.
        episode: ``[M]`` int64, below ``count``.
        count: E.

    Returns:
        ``[E, ...]`` float64.
    """
    values = values.double()
    total = values.new_zeros((count, *values.shape[1:])).index_add(0, episode, values)
    rows = torch.bincount(episode, minlength=count).clamp_min(1)
    return total / rows.reshape(-1, *[1] * (values.ndim - 1))


class Motion(NamedTuple):
    """Sums over a log that say how its columns move, ``[D]`` each; sums of parts add up."""

    square: Tensor
    """Squares of x[t + span] - x[t]."""
    rows: Tensor
    """Number of those differences."""
    early: Tensor
    """Squares of differences that another one follows, ``span`` rows later."""
    late: Tensor
    """Squares of those that follow."""
    product: Tensor
    """Products of the two."""

    def usual(self) -> Tensor:
        """Return the root mean square of the differences, 0 where there are none."""
        return (self.square / self.rows.clamp_min(1)).sqrt()

    def steadiness(self, least: float = 0.1) -> Tensor:
        """Return how far each column moves rather than trembles: the weight of a column, in [0, 1].

        The correlation of one difference with the next: cos(span * omega) for a sine, 0 for a
        random walk and for single jumps, -1/2 for noise. Below ``least`` it counts as 0; where it
        does in every column, all weigh 1.

        Args:
            least: In [0, 1).

        Returns:
            ``[D]``.
        """
        norm = (self.early * self.late).sqrt()
        found = self.product / torch.where(norm > 0, norm, 1.0)
        found = torch.where(found > least, found, 0.0)
        return found if bool(found.any()) else torch.ones_like(found)


def motion(values: Tensor, episode: Tensor, span: int) -> Motion:
    """Return the sums of a log, or of a part of whole episodes.

    Args:
        values: ``[N, D]``.
        episode: ``[N]`` int64.
        span: Rows between which is measured, at least 1.

    Returns:
        The sums.
    """
    step, of = differences(values, episode, 1, span)
    inside = (of[span:] == of[: max(0, len(of) - span)])[:, None]
    early, late = step[:-span] * inside, step[span:] * inside
    rows = torch.full((values.shape[1],), float(len(step)), dtype=torch.float64)
    return Motion(
        step.square().sum(0),
        rows,
        early.square().sum(0),
        late.square().sum(0),
        (early * late).sum(0),
    )


def jerk(values: Tensor, episode: Tensor, count: int, spread: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared third difference of each episode, in squared spreads of the columns.

    Of x[t + 3] - 3 x[t + 2] + 3 x[t + 1] - x[t], a step of the log being the unit of time: a sine
    of omega radians a step has (2 sin(omega / 2))**6, whatever its amplitude, and noise 20.

    Args:
        values: ``[N, D]``.
        episode: ``[N]`` int64, below ``count``.
        count: E.
        spread: ``[D]``, standard deviation of each column over the log, above 0.
        weight: ``[D]``, at least 0, of which one is above.

    Returns:
        ``[E]``; 0 for episodes of fewer than 4 rows.
    """
    third, of = differences(values, episode, 3)
    return episode_means((third / spread).square() @ (weight / weight.sum()), of, count)


def speeds(
    values: Tensor, episode: Tensor, span: int, usual: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how fast rows move, in units of the log: its root mean square is 1.

    Args:
        values: ``[N, D]``.
        episode: ``[N]`` int64.
        span: Rows between which is measured.
        usual: ``[D]``, root mean square of each column's differences, above 0.
        weight: ``[D]``, at least 0, of which one is above.

    Returns:
        ``[M]``, at least 0, of each row that has another ``span`` rows later in its episode; and
        the episode ``[M]`` of each.
    """
    step, of = differences(values, episode, 1, span)
    return ((step / usual).square() @ (weight / weight.sum())).sqrt(), of


def saturation(action: Tensor, episode: Tensor, count: int, low: Tensor, high: Tensor) -> Tensor:
    """Return the share of action entries at a bound, in [0, 1].

    Args:
        action: ``[N, A]``.
        episode: ``[N]`` int64, below ``count``.
        count: E.
        low: ``[A]``, -inf where there is none. Dimensions without any bound do not count.
        high: ``[A]``, inf where there is none.

    Returns:
        ``[E]``; 0 where no dimension is bounded.
    """
    bounded = low.isfinite() | high.isfinite()
    action, low, high = (part.double()[..., bounded] for part in (action, low, high))
    width = high - low
    margin = 1e-6 * torch.where(width.isfinite(), width, 1.0).clamp_min(1e-12)
    at = (action <= low + margin) | (action >= high - margin)
    share = at.double().sum(-1) / max(1, int(bounded.sum()))
    return episode_means(share, episode, count)


def medians(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the median of each column and its median absolute deviation times 1.4826.

    Args:
        values: ``[E, ...]`` with one row at least.

    Returns:
        ``[...]`` float64 each: the deviation estimates the standard deviation of normal numbers.
    """
    values = values.double()
    middle = _median(values)
    return middle, NORMAL * _median((values - middle).abs())


def _median(values: Tensor) -> Tensor:
    # By sorting: torch.quantile takes no more than 2**24 numbers.
    ordered = values.sort(dim=0).values
    return 0.5 * (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])


def robust_scores(values: Tensor, least: float | Tensor, counted: Tensor | None = None) -> Tensor:
    """Return how far numbers lie from their median, in robust standard deviations.

    Args:
        values: ``[E, ...]``.
        least: Smallest deviation that counts: where most numbers are equal, it is the unit.
        counted: ``[E]`` bool, rows that shape median and deviation; all unless given.

    Returns:
        ``[E, ...]`` float64, of either sign.
    """
    middle, deviation = medians(values if counted is None else values[counted])
    unit = torch.maximum(deviation, torch.as_tensor(least, dtype=torch.float64))
    return (values.double() - middle) / unit


def end_distances(last: Tensor, spread: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return how far each episode's last state lies from those of the others.

    The root mean square over columns of their robust scores: about 1 where ends are scattered like
    normal numbers, however wide. The deviation of a column is at least a quarter of its spread.

    Args:
        last: ``[E, D]``.
        spread: ``[D]``, standard deviation of each column over the log, above 0.
        counted: ``[E]`` bool, episodes that shape medians and deviations; all unless given.

    Returns:
        ``[E]``, at least 0.
    """
    return robust_scores(last, 0.25 * spread, counted).square().mean(-1).sqrt()
