"""What a number of returns says: mean, standard error, interquartile mean, bootstrap interval.

Reference: Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep reinforcement learning at the
edge of the statistical precipice", NeurIPS 2021 (interquartile mean, stratified bootstrap).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.rollout import Rollout
from hindsight_rl.intervals import Interval, student_interval, wilson

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From ``[..., N]`` to ``[...]``, along the last axis."""


def mean(values: ArrayLike) -> NDArray[np.float64]:
    """Return the mean ``[...]`` of ``[..., N]``."""
    result: NDArray[np.float64] = np.mean(np.asarray(values, dtype=np.float64), axis=-1)
    return result


def standard_error(values: ArrayLike) -> float:
    """Return the standard error of the mean: sd / sqrt(N), the variance divided by N - 1.

    Args:
        values: ``[N]``.

    Returns:
        The error; NaN for one value.

    Raises:
        ValueError: There are no values.
    """
    array = _checked(values)
    if array.size == 1:
        return float("nan")
    return float(array.std(ddof=1) / np.sqrt(array.size))


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Return the mean ``[...]`` of the middle half of ``[..., N]``.

    The lowest and the highest floor(N / 4) values are left out, as in the reference.
    """
    array = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = array.shape[-1] // 4
    return mean(array[..., cut : array.shape[-1] - cut])


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a statistic.

    Args:
        values: ``[N]`` values, or ``[N, M]``: N runs on each of M tasks. Runs are resampled within
            each task (stratified), and the statistic is taken over all N x M values.
        statistic: What the interval is of; must accept a leading axis of resamples.
        confidence: Share of the resamples inside, in (0, 1).
        resamples: How many.
        seed: Seed of the resampling.

    Returns:
        The interval.

    Raises:
        ValueError: There are no values, one is not finite, or a number is out of range.
    """
    array = _checked(values)
    if array.ndim > 2:
        raise ValueError(f"values have shape {list(array.shape)}, and must be [N] or [N, M]")
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise ValueError(
            f"confidence is {confidence} and resamples {resamples}: "
            "the first must lie between 0 and 1, the second be at least 1"
        )
    table = array.reshape(len(array), -1)
    draws = np.random.default_rng(seed).integers(len(table), size=(resamples, *table.shape))
    drawn = table[draws, np.arange(table.shape[1])].reshape(resamples, -1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(statistic(drawn), [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def summarize(rollout: Rollout, *, seed: int = 0) -> dict[str, Any]:
    """Return what a rollout says, as plain numbers.

    Args:
        rollout: The episodes.
        seed: Seed of the bootstrap.

    Returns:
        ``env``, ``seed``, ``episodes``; ``return`` (mean), ``return_standard_error`` (``None`` for
        one episode), ``return_iqm`` with its 95 % interval ``return_iqm_low`` and
        ``return_iqm_high``; ``length`` (mean, steps); ``success`` and ``final_success`` (shares, or
        ``None``), the former with Wilson's 95 % interval ``success_low`` and ``success_high``; and
        ``returns``, one per episode.
    """
    returns = rollout.returns
    low, high = bootstrap_interval(returns, seed=seed)
    return {
        "env": rollout.env_id,
        "seed": rollout.seed,
        "episodes": len(returns),
        "return": float(mean(returns)),
        "return_standard_error": standard_error(returns) if len(returns) > 1 else None,
        "return_iqm": float(interquartile_mean(returns)),
        "return_iqm_low": low,
        "return_iqm_high": high,
        "length": float(rollout.lengths.mean()),
        "success": _share(rollout.successes),
        "final_success": _share(rollout.final_successes),
        **_success_interval(rollout.successes),
        "returns": returns.tolist(),
    }


def summarize_seeds(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the reports of several seeds say together.

    Args:
        reports: What :func:`summarize` returned for each seed; at least two.

    Returns:
        The keys of :func:`summarize` over the seeds' mean returns (``returns``), and ``seeds``, the
        reports themselves. The interval is over seeds.
    """
    returns = np.array([report["return"] for report in reports])
    low, high = bootstrap_interval(returns)
    shares = {
        name: None if reports[0][name] is None else float(np.mean([r[name] for r in reports]))
        for name in ("length", "success", "final_success")
    }
    return {
        "env": reports[0]["env"],
        "seed": reports[0]["seed"],
        "episodes": sum(report["episodes"] for report in reports),
        "return": float(returns.mean()),
        "return_standard_error": standard_error(returns),
        "return_iqm": float(interquartile_mean(returns)),
        "return_iqm_low": low,
        "return_iqm_high": high,
        **shares,
        **_over_seeds(reports),
        "returns": returns.tolist(),
        "seeds": list(reports),
    }


class Paired(NamedTuple):
    """By how much one of two policies does better in the same episodes.

    Attributes:
        difference: Of the means, first minus second.
        low: Lower end of Student's 95 % interval of it.
        high: Upper end.
        better: Episodes in which the first did better.
        worse: Episodes in which it did worse.
    """

    difference: float
    low: float
    high: float
    better: int
    worse: int


def paired(first: ArrayLike, second: ArrayLike) -> Paired:
    """Return by how much the first of two policies does better.

    Both met the same episodes, so that what makes an episode hard cancels.

    Args:
        first: ``[E]``, returns or successes.
        second: ``[E]``, those of the other policy in the same episodes.

    Returns:
        The difference with its interval.

    Raises:
        ValueError: The episodes are not as many.
    """
    ours, theirs = _checked(first), _checked(second)
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ValueError(f"episodes {list(ours.shape)} and {list(theirs.shape)} are no pairs")
    gap = ours - theirs
    low, high = student_interval(gap.tolist())
    return Paired(float(gap.mean()), low, high, int((gap > 0).sum()), int((gap < 0).sum()))


def _over_seeds(reports: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the interval of the success over seeds, within what a share can be."""
    if reports[0]["success"] is None:
        return {"success_low": None, "success_high": None}
    low, high = student_interval([report["success"] for report in reports])
    return {"success_low": max(0.0, low), "success_high": min(1.0, high)}


def _success_interval(flags: NDArray[np.bool_] | None) -> dict[str, float | None]:
    if flags is None:
        return {"success_low": None, "success_high": None}
    low, high = wilson(int(flags.sum()), len(flags))
    return {"success_low": low, "success_high": high}


def _share(flags: NDArray[np.bool_] | None) -> float | None:
    return None if flags is None else float(flags.mean())


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    """Return values as float64.

    Args:
        values: Any shape.

    Returns:
        The array.

    Raises:
        ValueError: There are none, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or array.ndim == 0:
        raise ValueError("there are no values: give at least one")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite: an interval over it would mean nothing")
    return array
