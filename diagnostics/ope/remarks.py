"""What to doubt of a judgement, in sentences."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.diagnostics.ope.estimates import Estimate
from hindsight_rl.diagnostics.ope.values import Values
from hindsight_rl.intervals import Interval
from hindsight_rl.maths.importance import Odd
from hindsight_rl.maths.returns import return_range
from hindsight_rl.training.given import GivenPolicy

COVERED, BARELY = 0.8, 0.5  # of the states; the policy that recorded reaches 0.95


def verdict(covered: float) -> str:
    """Return the first sentence: whether the log says anything of the policy.

    Args:
        covered: Share of logged states in which it does something that is usual there.

    Returns:
        A sentence without its full stop.
    """
    share = f"{100 * covered:.0f} %"
    if covered < BARELY:
        return (
            f"The log does not cover this policy: only in {share} of the logged states does it do "
            "something that the log shows. Do not believe these numbers"
        )
    if covered < COVERED:
        return (
            f"The log covers this policy in part: in {share} of the logged states it does "
            "something that the log shows. Where it leaves the log, values are guesses"
        )
    return (
        f"The log covers this policy: in {share} of the logged states it does what is usual there"
    )


def remarks_on(
    policy: GivenPolicy,
    estimates: Sequence[Estimate],
    episodes: Episodes,
    discount: float,
    horizon: int | None,
    *,
    outside: float,
    fitted: Values | None,
    effective: Tensor | None,
    odd: Odd | None,
    guaranteed: float | None,
) -> list[str]:
    """Return further sentences.

    Args:
        policy: It.
        estimates: Its rows.
        episodes: Of the log.
        discount: Of the returns.
        horizon: Steps that count, ``None`` for all.
        outside: Share of states in which its action leaves the range of the logged ones.
        fitted: What fitted Q evaluation found, ``None`` where it was not asked.
        effective: Effective number of episodes by step, ``None`` without probabilities.
        odd: Where the weights do not average 1, ``None`` where they do.
        guaranteed: Lower bound that assumes nothing of returns, ``None`` where it says nothing.

    Returns:
        Sentences without their full stops.
    """
    found = [] if effective is None else _of_bound(guaranteed)
    if odd is not None:
        found.append(
            f"the weights of step {odd.step} average {odd.mean:.3g}, and right probabilities would "
            "average 1: those of the log are wrong, or those of the clone"
        )
    found += _of_policy(policy, outside)
    found += [] if effective is None else _of_few(effective)
    found += _of_time_limits(estimates, episodes, discount, horizon, effective is not None)
    found += _of_kernel(estimates, episodes.reward.shape[1])
    if fitted is not None:
        found += of_fit(fitted, estimates[0], episodes, discount, horizon)
    believed = [one.interval for one in estimates if not one.warnings]
    if len(believed) > 1 and max(low for low, _ in believed) > min(high for _, high in believed):
        found.append("the estimators disagree: some of their intervals do not meet")
    return found


def _of_bound(guaranteed: float | None) -> list[str]:
    """Return what is certain whatever the distribution of returns."""
    if guaranteed is None:
        return ["no bound that assumes nothing of returns can be given: it takes more episodes"]
    return [
        f"it is worth at least {guaranteed:.4g} with 95 % probability, whatever the "
        "distribution of returns (if the probabilities are right)"
    ]


def _of_few(effective: Tensor) -> list[str]:
    """Return after how many steps too few episodes are left."""
    few = (effective < 10.0).nonzero()
    if len(effective) < 2 or not len(few):
        return []
    return [
        f"after {int(few[0])} steps fewer than 10 effective episodes are left: what "
        "follows is decided by a few"
    ]


def _of_time_limits(
    rows: Sequence[Estimate],
    episodes: Episodes,
    discount: float,
    horizon: int | None,
    probable: bool,
) -> list[str]:
    """Return what stops where a time limit cut an episode, if that matters."""
    here, beyond = episodes.steps(discount, horizon).sum(0).tolist()
    if beyond <= 0.01 * (here + beyond):
        return []
    stopping = "the return of the log stops"
    if probable:
        stopping = "the return of the log, the bound, is, pdis, wis and cwpdis stop"
    elif any(row.bandwidth is not None for row in rows):
        stopping = "the return of the log and kernel stop"
    return [
        f"{stopping} where a time limit cut an episode; the other rows go on beyond it, where "
        f"{100 * beyond / (here + beyond):.0f} % of the discounted steps lie: compare them "
        "with each other, not with it"
    ]


def _of_kernel(rows: Sequence[Estimate], steps: int) -> list[str]:
    """Return what a row with a bandwidth is an estimate of."""
    width = next((row.bandwidth for row in rows if row.bandwidth is not None), None)
    if width is None:
        return []
    noise = ", ".join(f"{one:.3g}" for one in width)
    every = "its action" if steps == 1 else f"each of its {steps:,} actions"
    few = "" if steps == 1 else "; it is made for one step"
    return [f"kernel judges this policy with normal noise of spread [{noise}] on {every}{few}"]


def _of_policy(policy: GivenPolicy, outside: float) -> list[str]:
    """Return what to know of a policy: where it acts as nothing logged did, and what it is."""
    found = []
    if outside > 0.01:
        found.append(
            f"in {100 * outside:.0f} % of the states its action lies outside of the range of all "
            "logged actions"
        )
    if policy.seeds > 1:
        found.append(
            f"it holds {policy.seeds} seeds, and the first is judged: export others to judge them "
            "(hindsight export --seed_index N)"
        )
    if policy.follows:
        found.append(
            "it keeps a state, which follows the logged episodes: its values are those of the "
            "observation alone"
        )
    return found


def of_fit(
    fitted: Values, row: Estimate, episodes: Episodes, discount: float, horizon: int | None
) -> list[str]:
    """Return what is wrong with fitted values: they have not arrived, or have left.

    Args:
        fitted: What fitted Q evaluation found.
        row: Its row.
        episodes: Of the log.
        discount: Of the returns.
        horizon: Steps that count, ``None`` for all.

    Returns:
        Sentences without their full stops.
    """
    bound = 1.05 * max(abs(end) for end in possible(episodes, discount, horizon))
    if fitted.largest > bound:
        return [
            f"fitted values reach {fitted.largest:.4g}, and no return can exceed {bound:.4g}: they "
            "have diverged"
        ]
    half = (row.interval.high - row.interval.low) / 2.0
    if abs(fitted.left) > max(half / 2.0, 0.02 * abs(row.value)):
        return [
            f"fqe has not arrived: its values would still move by about {fitted.left:+.3g}. Fit it "
            "longer (--updates)"
        ]
    return []


def least_return(episodes: Episodes, discount: float, horizon: int | None) -> float:
    """Return the least an episode of the log can get, by its least reward.

    Args:
        episodes: Of the log.
        discount: Of the returns.
        horizon: Steps that count, ``None`` for the longest episode's.

    Returns:
        At most 0, reward units.
    """
    least = min(float(episodes.reward[episodes.valid].min()), 0.0)
    steps = min(episodes.reward.shape[1], horizon or episodes.reward.shape[1])
    return least * float((discount ** torch.arange(steps, dtype=torch.float64)).sum())


def possible(episodes: Episodes, discount: float, horizon: int | None) -> Interval:
    """Return between which values a return lies, by the rewards of the log.

    Args:
        episodes: Of the log.
        discount: Of the returns.
        horizon: Steps that count, ``None`` for all.

    Returns:
        Its least and largest value, reward units.
    """
    reward = episodes.reward[episodes.valid]
    found = return_range(reward, torch.full_like(reward, discount), horizon=horizon)
    return Interval(found.low, found.high)


def doubted(row: Estimate, within: Interval) -> Estimate:
    """Return a row with a sentence more where its value is none that a return can have.

    Args:
        row: It.
        within: Of :func:`possible`.

    Returns:
        The row itself where its value is possible.
    """
    slack = 0.05 * (within.high - within.low)
    if math.isnan(row.value) or within.low - slack <= row.value <= within.high + slack:
        return row
    note = (
        f"no return of these rewards is outside of [{within.low:,.4g}, {within.high:,.4g}]: do not "
        "believe this row"
    )
    return replace(row, warnings=(*row.warnings, note))
