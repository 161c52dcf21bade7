"""The rows of a judgement: every estimator's value, interval, and how far to believe it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.diagnostics.ope.values import Model, Values
from hindsight_rl.intervals import Interval, student_interval, student_quantile
from hindsight_rl.maths import doubly_robust as robust
from hindsight_rl.maths import importance
from hindsight_rl.maths.draws import fork_key, seed_key, uniform
from hindsight_rl.maths.importance import Ratios
from hindsight_rl.maths.intervals import (
    bootstrap,
    capped_lower_bound,
    chosen_cap,
    percentile,
    resample,
    with_bias,
)
from hindsight_rl.maths.least_squares import LinearEstimate
from hindsight_rl.maths.magic import magic

LEVEL = 0.95
LEAST, MOST = 100, 2000  # resamples
NUMBERS = 40_000_000  # of counts that are held, where that leaves the least number of resamples
BLOCK = 1_000_000  # draws at a time
PRODUCTS = 50_000_000_000  # of numbers, that all resamples of MAGIC may take: seconds

BELIEVE: Mapping[str, str] = MappingProxyType(
    {
        "fqe": "where the log shows what the policy does; it says nothing of what nobody did",
        "lstd": "where values are quadratic in the state; else as a check that costs nothing",
        "dualdice": "as lstd, where the next state hardly depends on chance: it takes chance for "
        "an error of the values",
        "is": "in short episodes, and of a policy close to the one that recorded",
        "pdis": "as is, with less noise",
        "wis": "where the effective number of episodes is above 30; it leans to the log's returns",
        "cwpdis": "as wis, with less noise",
        "kernel": "as cwpdis, in one step or very few, of a policy without chance: it judges that "
        "policy with noise of the bandwidth",
        "dr": "where either the values or the probabilities are right, with ten effective episodes",
        "wdr": "as dr, with less noise where weights are large",
        "magic": "where wdr and fqe disagree: it mixes them by what it can measure of their errors",
        "model": "over few steps, where the model's members agree: its errors add up from step to "
        "step, and where all members extrapolate alike nothing warns of it",
    }
)
"""When to believe each estimator, the rest of a sentence."""


@dataclass(frozen=True)
class Estimate:
    """What one estimator says of a policy.

    Attributes:
        method: Its short name, see :data:`BELIEVE`.
        value: Reward units, discounted from the first step.
        interval: 95 % interval, over episodes.
        resampled: ``[R]``, values in resamples of episodes, the same resamples for every policy;
            of an ensemble one value per member.
        ensemble: Whether those are the members of an ensemble.
        effective: Effective number of episodes of its weights; ``None`` where it has none.
        heaviest: Episodes that carry 90 % of its weights; ``None`` where it has none.
        condition: Condition number of its matrix; ``None`` where it has none.
        bandwidth: Of its kernel, one per dimension of the actions; ``None`` where it has none.
        warnings: Sentences.
    """

    method: str
    value: float
    interval: Interval
    resampled: Tensor
    ensemble: bool = False
    effective: float | None = None
    heaviest: int | None = None
    condition: float | None = None
    bandwidth: tuple[float, ...] | None = None
    warnings: tuple[str, ...] = field(default=())


def resamples(episodes: int, seed: int) -> Tensor:
    """Return how often each episode counts in resamples, fewer of them for many episodes.

    Args:
        episodes: n.
        seed: Of the draws.

    Returns:
        ``[R, n]`` float64.
    """
    count = max(LEAST, min(MOST, NUMBERS // episodes))
    key, each = fork_key(seed_key(seed), "resamples"), torch.arange(episodes)
    found = torch.empty(count, episodes, dtype=torch.float64)
    for rows in torch.arange(count).split(max(1, BLOCK // episodes)):
        number = rows.unsqueeze(-1) * episodes + each
        counter = torch.stack([torch.full_like(number, key), number, torch.zeros_like(number)], -1)
        found[rows] = resample(episodes, uniform(counter))
    return found


def by_values(values: Values) -> Estimate:
    """Return the row of fitted Q evaluation.

    Every member saw a bootstrap of its own, so that the spread of members is the standard error of
    one fit: of fitting, and of which episodes were recorded.

    Args:
        values: Of the ensemble.

    Returns:
        The estimate; its value is the mean of the members over all first states.
    """
    own = (values.weight * values.start).sum(-1) / values.weight.sum(-1).clamp_min(1.0)
    middle = float(values.start.mean())
    half = student_quantile(0.5 + LEVEL / 2.0, len(own) - 1) * float(own.std())
    return Estimate("fqe", middle, Interval(middle - half, middle + half), own, ensemble=True)


def by_least_squares(method: str, found: LinearEstimate, counts: Tensor) -> Estimate:
    """Return the row of linear values.

    Args:
        method: Its name.
        found: The solution.
        counts: ``[R, n]``, how often each episode counts in resamples.

    Returns:
        The estimate; its interval is Student's, by the delta method.
    """
    moved = counts @ found.influence / counts.shape[1]
    spread = [found.value + float(one) for one in found.influence]
    notes: tuple[str, ...] = ()
    if found.condition > 1e8:
        notes = (f"its matrix is nearly singular (condition number {found.condition:.0e})",)
    return Estimate(
        method,
        found.value,
        student_interval(spread, LEVEL),
        found.value + moved,
        condition=found.condition,
        warnings=notes,
    )


def by_weights(
    log_ratio: Tensor, episodes: Episodes, discount: float, counts: Tensor
) -> list[Estimate]:
    """Return the rows of importance sampling.

    Args:
        log_ratio: ``[n, H]`` of :func:`hindsight_rl.maths.importance.cumulative_log_ratio`.
        episodes: Of the log.
        discount: In [0, 1].
        counts: ``[R, n]``, how often each episode counts in resamples.

    Returns:
        ``is``, ``pdis``, ``wis`` and ``cwpdis``.
    """
    reward = episodes.reward
    found = {
        "is": importance.ordinary(log_ratio, reward, discount=discount),
        "pdis": importance.per_decision(log_ratio, reward, discount=discount),
        "wis": importance.weighted(log_ratio, reward, discount=discount),
        "cwpdis": importance.step_weighted(log_ratio, reward, discount=discount),
    }
    return [weighed(name, ratios, log_ratio, counts) for name, ratios in found.items()]


def doubly(
    log_ratio: Tensor,
    episodes: Episodes,
    model: Model,
    discount: float,
    counts: Tensor,
    methods: Collection[str] = ("dr", "wdr", "magic"),
) -> list[Estimate]:
    """Return the rows of doubly robust estimators.

    Args:
        log_ratio: ``[n, H]`` of :func:`hindsight_rl.maths.importance.cumulative_log_ratio`.
        episodes: Of the log.
        model: Values of the policy, from other episodes.
        discount: In [0, 1].
        counts: ``[R, n]``, how often each episode counts in resamples.
        methods: Those that are wanted.

    Returns:
        ``dr``, ``wdr`` and ``magic``.
    """
    given = (log_ratio, episodes.reward, model.q, model.v)
    found = [
        weighed(name, estimator(*given, discount=discount), log_ratio, counts)
        for name, estimator in (
            ("dr", robust.doubly_robust),
            ("wdr", robust.weighted_doubly_robust),
        )
        if name in methods
    ]
    if "magic" in methods:
        found.append(mixed(log_ratio, episodes, model, discount, counts))
    return found


def mixed(
    log_ratio: Tensor, episodes: Episodes, model: Model, discount: float, counts: Tensor
) -> Estimate:
    """Return the row of MAGIC: partial returns, mixed by their estimated errors.

    Args:
        log_ratio: ``[n, H]``.
        episodes: Of the log.
        model: Values of the policy, from other episodes.
        discount: In [0, 1].
        counts: ``[R, n]``, how often each episode counts in resamples; of long logs the first of
            them, at least 100.

    Returns:
        The estimate. Its interval is the percentile one of resamples that mix anew, and reaches
        further towards ``wdr``, which has no such bias, by as much as the two differ.
    """
    found = magic(log_ratio, episodes.reward, model.q, model.v, discount=discount)
    products = log_ratio.numel() * len(found.kept)
    resampled = found.value(counts[: max(LEAST, PRODUCTS // products)])
    value = float(found.value())
    interval = with_bias(percentile(resampled, LEVEL), value - float(found.returns()[-1]))
    row = Estimate("magic", value, interval, resampled)
    return _weighted(row, log_ratio)


def weighed(name: str, ratios: Ratios, log_ratio: Tensor, counts: Tensor) -> Estimate:
    """Return the row of an estimator that is a sum of ratios.

    Args:
        name: Of the estimator.
        ratios: What it found.
        log_ratio: ``[n, H]``, of its weights.
        counts: ``[R, n]``, how often each episode counts in resamples.

    Returns:
        The estimate; its interval is BCa's.
    """
    interval = bootstrap(ratios, counts, LEVEL)
    return _weighted(
        Estimate(name, float(ratios.value()), interval, ratios.value(counts)), log_ratio
    )


def guaranteed(
    log_ratio: Tensor, episodes: Episodes, discount: float, least: float
) -> float | None:
    """Return a lower bound that holds with 95 % probability, whatever the distribution.

    A twentieth of the episodes is given up to choose the cap of the weights.

    Args:
        log_ratio: ``[n, H]``.
        episodes: Of the log.
        discount: In [0, 1].
        least: The least return there can be.

    Returns:
        Reward units; ``None`` where it is no more than ``least``, or there are too few episodes.
    """
    gained = episodes.returns(discount) - least
    values = log_ratio[:, -1].exp() * gained.clamp_min(0.0)
    few = max(2, len(values) // 20)
    if len(values) < few + 2 or not bool(values.isfinite().all()):
        return None
    # Episodes at even distances: their order in a log may mean something.
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[torch.arange(few) * len(values) // few] = True
    cap = chosen_cap(values[chosen], len(values) - few, LEVEL)
    bound = capped_lower_bound(values[~chosen], cap, LEVEL)
    return None if bound <= 0.0 else least + bound


def _weighted(row: Estimate, log_ratio: Tensor) -> Estimate:
    """Return a row with how few episodes carry its weights, and a sentence where too few do."""
    last = log_ratio[:, -1]
    effective = float(importance.effective_sample_size(last))
    heaviest = importance.share_of_the_heaviest(last)
    notes: tuple[str, ...] = ()
    if effective == 0.0:
        notes = ("no logged episode could have come from this policy: do not believe this row",)
    elif effective < 10.0:
        carry = "1 episode carries" if heaviest == 1 else f"{heaviest:,} episodes carry"
        notes = (f"{carry} 90 % of the weight of {len(last):,}: do not believe this row",)
    return replace(row, effective=effective, heaviest=heaviest, warnings=notes)
