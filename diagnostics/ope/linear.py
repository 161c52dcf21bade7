"""Values that are linear in quadratic features of state and action: one solve, no fitting."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.keys import ACTION, TASK, TERMINATED
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.least_squares import (
    LinearEstimate,
    linear_estimate,
    quadratic_features,
    residuals,
)
from hindsight_rl.training.given import Answers

MOST = 600  # features: their matrix is solved
LARGEST = 40_000_000  # numbers in one table of features
RIDGE = 1e-6  # of standardised features


class Linear(NamedTuple):
    """Features of a log under a policy."""

    here: Tensor
    """``[M, F]`` float64, of every logged state and action."""
    after: Tensor
    """``[M, F]``, of the next state and the policy's actions there, their mean."""
    start: Tensor
    """``[n, F]``, of first states and the policy's actions in them."""


def features_of(log: Log, episodes: Episodes, answers: Answers) -> Linear:
    """Return quadratic features.

    Args:
        log: The log.
        episodes: Its episodes.
        answers: Of the policy.

    Returns:
        The features.

    Raises:
        ValueError: The observation is no vector, or there are too many features.
    """
    if log.observed != ["observation"] or len(log.shape("observation")) != 1:
        raise ValueError("the observation is not one vector")
    discrete = not log.column(ACTION, slice(1)).is_floating_point()
    width = log.shape("observation")[0] + (log.shape(TASK)[0] if TASK in log else 0)
    acts = answers.here.shape[-1]
    size = width + (0 if discrete else acts)
    count = (1 + size + size * (size + 1) // 2) * (acts if discrete else 1)
    if count > MOST:
        raise ValueError(f"there would be {count:,} features, and {MOST} are the most")
    if count * len(episodes.rows) > LARGEST:
        raise ValueError(
            f"{len(episodes.rows):,} rows of {count} features need too much memory: judge by at "
            f"most {LARGEST // count:,} rows"
        )
    rows, first = episodes.rows, episodes.first
    state = _Standard(_states(log, rows, after=False))
    now, following = state(_states(log, rows, after=False)), state(_states(log, rows, after=True))
    begun = state(_states(log, first, after=False))
    if discrete:
        start = int(log.info.get("action_start") or 0)
        taken = torch.nn.functional.one_hot(log.column(ACTION)[rows] - start, acts).double()
        return Linear(
            _each_choice(now, taken),
            _each_choice(following, answers.after[rows].double()),
            _each_choice(begun, answers.here[first].double()),
        )
    action = _Standard(log.column(ACTION)[rows].double())
    taken = action(log.column(ACTION)[rows].double()).unsqueeze(1)
    return Linear(
        _with_action(now, taken),
        _with_action(following, action(answers.after[rows].double())),
        _with_action(begun, action(answers.here[first].double())),
    )


def start_value(
    method: Literal["lstd", "dualdice"],
    features: Linear,
    log: Log,
    episodes: Episodes,
    discount: float,
) -> LinearEstimate:
    """Return the value of the first states.

    Of DualDICE with linear nu: each row has one next state, so that the variance of nu there passes
    for a residual of nu, and the value is biased where transitions depend on chance.

    Args:
        method: ``"lstd"`` (LSTD-Q), or ``"dualdice"``: ratios of how often pairs are met.
        features: Of the log under the policy.
        log: The log.
        episodes: Its episodes.
        discount: In [0, 1).

    Returns:
        The estimate.

    Raises:
        ValueError: The matrix is singular.
    """
    rows = episodes.rows
    terminated = log.column(TERMINATED)[rows]
    residual = residuals(features.here, features.after, terminated, discount)
    return linear_estimate(
        features.here if method == "lstd" else residual,
        residual,
        episodes.reward[episodes.valid],
        features.start,
        episodes.owner,
        ridge=RIDGE,
    )


class _Standard:
    """Standardises by the numbers of the log; what is constant there is only shifted."""

    def __init__(self, seen: Tensor) -> None:
        self.mean, spread = seen.mean(0), seen.std(0, correction=0)
        self.spread = torch.where(spread > 0.0, spread, 1.0)

    def __call__(self, value: Tensor) -> Tensor:
        return (value - self.mean) / self.spread


def _states(log: Log, rows: Tensor, *, after: bool) -> Tensor:
    """Return observations and tasks ``[M, D]`` float64."""
    seen = log.take(("next", "observation") if after else "observation", rows).double()
    return torch.cat([seen, log.take(TASK, rows).double()], dim=-1) if TASK in log else seen


def _with_action(state: Tensor, action: Tensor) -> Tensor:
    """Return the mean features ``[M, F]`` of m actions ``[M, m, A]`` in states ``[M, D]``."""
    both = torch.cat([state.unsqueeze(1).expand(-1, action.shape[1], -1), action], dim=-1)
    return quadratic_features(both).mean(1)


def _each_choice(state: Tensor, share: Tensor) -> Tensor:
    """Return features ``[M, n F]`` that are a choice's own, weighted by its probability."""
    own = quadratic_features(state)
    return (share.unsqueeze(-1) * own.unsqueeze(1)).flatten(1)
