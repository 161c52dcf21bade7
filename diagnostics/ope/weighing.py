"""The rows of a judgement that weigh logged episodes by how probable a policy makes them."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from hindsight_rl.diagnostics.ope import estimates as rows_of
from hindsight_rl.diagnostics.ope import values
from hindsight_rl.diagnostics.ope.behavior import Behavior
from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.diagnostics.ope.estimates import Estimate
from hindsight_rl.diagnostics.ope.question import METHODS, Question
from hindsight_rl.diagnostics.ope.remarks import least_return
from hindsight_rl.keys import ACTION
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.importance import (
    Odd,
    cumulative_log_ratio,
    effective_sample_size,
    first_odd_mean,
    step_weighted,
)
from hindsight_rl.maths.kernel import bandwidths, kernel
from hindsight_rl.training.given import Answers, GivenPolicy

WEIGHTED = {"is", "pdis", "wis", "cwpdis"}
ROBUST = {"dr", "wdr", "magic"}
WIDE = 0.1  # of the range of logged actions: noise of that spread is another policy


class Weighed(NamedTuple):
    """What the probabilities of a log say of a policy.

    Attributes:
        estimates: The rows that were asked for.
        left_out: Why others are missing: sentences.
        effective: Effective number of episodes by step, ``[H]``; ``None`` without probabilities.
        odd: Where weights do not average 1, ``None`` where they do.
        guaranteed: Lower bound that assumes nothing of returns, ``None`` where it says nothing.
    """

    estimates: tuple[Estimate, ...] = ()
    left_out: tuple[str, ...] = ()
    effective: Tensor | None = None
    odd: Odd | None = None
    guaranteed: float | None = None


def weighed_rows(
    policy: GivenPolicy,
    log: Log,
    held: Log,
    answers: Answers,
    episodes: Episodes,
    behavior: Behavior,
    counts: Tensor,
    asked: Question,
    say: Callable[[str], None],
) -> Weighed:
    """Return the rows of importance sampling, of kernels and of doubly robust estimates.

    Args:
        policy: The policy.
        log: The log.
        held: The log with its answers.
        answers: What it does in every row.
        episodes: Of the log.
        behavior: What recorded it.
        counts: ``[R, n]``, how often each episode counts in resamples.
        asked: The question.
        say: Receives a line before each fit.

    Returns:
        The rows, and what they say beside their values.
    """
    if not (WEIGHTED | ROBUST | {"kernel"}) & set(asked.methods):
        return Weighed()
    log_prob = policy.log_prob(log)
    if log_prob is None:
        left_out: list[str] = []
        if (WEIGHTED | ROBUST) & set(asked.methods):
            what = "importance sampling and doubly robust estimates are left out"
            left_out.append(f"{what}: {policy.no_density}")
        found, why = kernel_row(policy, log, answers, episodes, behavior, counts, asked)
        left_out += [f"kernel is left out: {why}"] if why else []
        return Weighed(() if found is None else (found,), tuple(left_out))
    ratio = cumulative_log_ratio(
        episodes.padded(log_prob), episodes.padded(behavior.log_prob), episodes.valid
    )
    effective = effective_sample_size(ratio)
    missing: tuple[str, ...] = ()
    if "kernel" in asked.methods and asked.methods != METHODS:
        missing = ("kernel is left out: the probabilities of this policy are known",)
    least = least_return(episodes, asked.discount, asked.horizon)
    rows = rows_of.by_weights(ratio, episodes, asked.discount, counts)
    if ROBUST & set(asked.methods):
        if why := _no_halves(len(counts[0]), float(effective[-1])):
            missing = (*missing, f"doubly robust estimates are left out: {why}")
        else:
            say(f"{policy.name}: fitting its values on halves of the episodes")
            model = values.crossed(
                held,
                episodes,
                answers,
                asked.fitting,
                discount=asked.discount,
                horizon=asked.horizon,
            )
            rows += rows_of.doubly(ratio, episodes, model, asked.discount, counts, asked.methods)
    return Weighed(
        tuple(one for one in rows if one.method in asked.methods),
        missing,
        effective,
        first_odd_mean(ratio),
        rows_of.guaranteed(ratio, episodes, asked.discount, least),
    )


def kernel_row(
    policy: GivenPolicy,
    log: Log,
    answers: Answers,
    episodes: Episodes,
    behavior: Behavior,
    counts: Tensor,
    asked: Question,
) -> tuple[Estimate | None, str]:
    """Return the row of a policy that does one thing only in each state.

    Args:
        policy: The policy.
        log: The log.
        answers: What it does in every row.
        episodes: Of the log.
        behavior: What recorded it.
        counts: ``[R, n]``, how often each episode counts in resamples.
        asked: The question.

    Returns:
        Step-weighted importance sampling with a kernel, or ``None``; and why there is no row that
        was asked for, "" where there is one or none was.
    """
    if "kernel" not in asked.methods:
        return None, ""
    if policy.chance or policy.discrete:
        named = asked.methods != METHODS
        return None, "it is for policies without chance" if named else ""
    if asked.horizon is None:
        return None, (
            "it takes a horizon, best of one step (--horizon 1): hardly an episode is near this "
            "policy in all of many steps"
        )
    steps = episodes.valid.shape[1]
    spread = behavior.spread(log)
    if not bool((spread > 0.0).all()):
        return None, "what recorded the log had no spread"
    width = bandwidths(spread, len(episodes.valid), steps)
    units = behavior.units
    ratio = kernel(
        log.column(ACTION)[episodes.row],
        answers.here[:, 0][episodes.row],
        episodes.padded(behavior.log_prob),
        episodes.valid,
        bandwidth=width,
        low=units.low,
        high=units.high,
    )
    found = step_weighted(ratio, episodes.reward, discount=asked.discount)
    row = rows_of.weighed("kernel", found, ratio, counts)
    notes = (*row.warnings, *_wide(width, log.column(ACTION)[episodes.rows].double()))
    return replace(row, bandwidth=tuple(width.tolist()), warnings=notes), ""


def _wide(width: Tensor, logged: Tensor) -> tuple[str, ...]:
    """Return a sentence where noise of a bandwidth ``[A]`` is large beside actions ``[M, A]``."""
    share = width / (logged.amax(0) - logged.amin(0)).clamp_min(1e-12)
    worst = int(share.argmax())
    if float(share[worst]) <= WIDE:
        return ()
    return (
        f"its bandwidth is {float(width[worst]):.3g} in dimension {worst} of the actions, "
        f"{100 * float(share[worst]):.0f} % of their range in the log: it judges a policy with "
        "that much noise",
    )


def _no_halves(episodes: int, effective: float) -> str:
    """Return why values cannot be fitted on halves of the episodes, "" where they can."""
    if episodes < 4:
        return f"of {episodes} episodes there are no halves, it takes at least 4"
    return "" if effective > 0.0 else "no logged episode could have come from this policy"
