"""What policies are worth, by a log of another one: every estimator, ranked, with what to doubt.

found = judge([load("a.ckpt"), "b.onnx"], read_log("log.npz"))
print(found.chosen, found.policies[0].estimates)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from hindsight_rl.diagnostics.ope import estimates as rows_of
from hindsight_rl.diagnostics.ope import linear, values
from hindsight_rl.diagnostics.ope.behavior import Behavior, behavior_of, beyond_logged
from hindsight_rl.diagnostics.ope.checks import check_log, name_policies
from hindsight_rl.diagnostics.ope.episodes import Episodes, episodes_of
from hindsight_rl.diagnostics.ope.estimates import Estimate
from hindsight_rl.diagnostics.ope.fitting import data_of
from hindsight_rl.diagnostics.ope.itself import Itself, itself
from hindsight_rl.diagnostics.ope.modelled import modelled
from hindsight_rl.diagnostics.ope.question import METHODS, MODEL, Question
from hindsight_rl.diagnostics.ope.ranking import Ranking, finite, ranked
from hindsight_rl.diagnostics.ope.remarks import doubted, possible, remarks_on, verdict
from hindsight_rl.diagnostics.ope.weighing import weighed_rows
from hindsight_rl.intervals import Interval, student_interval
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import Actor
from hindsight_rl.training.given import Answers, Function, GivenPolicy
from hindsight_rl.training.learner import Learner

LINEAR: tuple[Literal["lstd", "dualdice"], ...] = ("lstd", "dualdice")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Judged:
    """What the log says of one policy.

    Attributes:
        name: The policy.
        estimates: One per estimator that could be used.
        covered: Share of logged states in which it does something that is usual there.
        effective: Effective number of episodes by step, ``[H]``; ``None`` without probabilities.
        outside: Share of states in which its action leaves the range of the logged ones.
        guaranteed: Lower bound that holds with 95 % probability whatever the distribution of
            returns; ``None`` where it says nothing, or without probabilities.
        left_out: Why estimators are missing: sentences.
        remarks: What to doubt: sentences; the first is the verdict.
    """

    name: str
    estimates: tuple[Estimate, ...]
    covered: float
    effective: Tensor | None
    outside: float
    guaranteed: float | None
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]

    def estimate(self, method: str) -> Estimate | None:
        """Return a row by its name, ``None`` where there is none."""
        return next((one for one in self.estimates if one.method == method), None)


@dataclass(frozen=True)
class Judgement:
    """What the log says of all policies.

    Attributes:
        question: What was asked.
        source: The log.
        episodes: Number of its episodes.
        transitions: Number of its rows.
        logged: Discounted return of the policy that recorded it.
        logged_interval: Its 95 % interval.
        behavior: Whether its probabilities were logged or fitted.
        held_out: Mean log-probability of held-out actions under the cloned policy, nats.
        itself: What fitted Q evaluation says of what recorded the log; ``None`` where that was not
            asked for.
        policies: In the order given.
        ranking: By :attr:`Question.by`; ``None`` where it could not be used on all of them.
    """

    question: Question
    source: str
    episodes: int
    transitions: int
    logged: float
    logged_interval: Interval
    behavior: str
    held_out: float
    itself: Itself | None
    policies: tuple[Judged, ...]
    ranking: Ranking | None

    @property
    def chosen(self) -> str | None:
        """Return the policy whose lower end is highest, ``None`` without a ranking."""
        return None if self.ranking is None else self.policies[self.ranking.chosen].name


def judge(
    policies: Sequence[str | Path | Learner | Actor | Function],
    log: Log,
    question: Question | None = None,
    *,
    names: Sequence[str] | None = None,
    say: Say = lambda text: None,
) -> Judgement:
    """Return what policies are worth by a log.

    Args:
        policies: Checkpoints, exported files, learners or functions.
        log: What was recorded; all of its episodes count.
        question: What is asked; ``None`` for the defaults.
        names: What the policies are called, no two alike; ``None`` for their paths or classes, with
            numbers where these are alike.
        say: Receives a line before each fit.

    Returns:
        The judgement.

    Raises:
        CheckpointError: A checkpoint is damaged.
        ContractError: A file is.
        LogError: The log lacks something that was asked for.
        ValueError: A policy does not go with the log, there is none, or names do not tell them
            apart.
    """
    if not policies:
        raise ValueError("there is no policy to judge: give a checkpoint or an exported file")
    asked = question or Question()
    episodes = episodes_of(log, asked.horizon)
    check_log(log, episodes)
    spec = data_of(log, asked.fitting).spec
    given = [
        GivenPolicy(policy, spec, drawn=asked.drawn, seed=asked.fitting.seed) for policy in policies
    ]
    name_policies(given, names)
    if hidden := len(log) - len(log.drawable()):
        say(f"{hidden:,} rows that a filter keeps from being drawn count too: episodes are whole")
    say("cloning the policy that recorded the log")
    behavior = behavior_of(log, asked.fitting, asked.behavior)
    counts = rows_of.resamples(len(episodes.first), asked.fitting.seed)
    checked = None
    if asked.check and "fqe" in asked.methods:
        say("fitting the values of what recorded the log, a check")
        checked = itself(log, episodes, behavior, asked)
    judged = tuple(_judged(policy, log, episodes, behavior, counts, asked, say) for policy in given)
    returns = episodes.returns(asked.discount)
    return Judgement(
        question=asked,
        source=log.sources[0].name,
        episodes=len(returns),
        transitions=len(log),
        logged=float(returns.mean()),
        logged_interval=student_interval(returns.tolist()),
        behavior=behavior.kind,
        held_out=behavior.held_out,
        itself=checked,
        policies=judged,
        ranking=ranked([one.estimate(asked.by) for one in judged]),
    )


def _judged(
    policy: GivenPolicy,
    log: Log,
    episodes: Episodes,
    behavior: Behavior,
    counts: Tensor,
    asked: Question,
    say: Say,
) -> Judged:
    """Return what the log says of one policy."""
    answers = policy.answers(log, samples=asked.samples)
    left_out: list[str] = []
    found: list[Estimate] = []
    held = values.with_answers(log, answers, policy.discrete)
    fitted = None
    if "fqe" in asked.methods:
        say(f"{policy.name}: fitting its values")
        learner = values.fitted_values(
            held, asked.fitting, discount=asked.discount, horizon=asked.horizon
        )
        fitted = values.start_values(learner, log, episodes, answers)
        found.append(rows_of.by_values(fitted))
    found += _linear(log, episodes, answers, counts, asked, left_out)
    if asked.model is not None:
        say(f"{policy.name}: playing it in the model")
        found.append(modelled(policy, log, episodes, asked))
    weighed = weighed_rows(policy, log, held, answers, episodes, behavior, counts, asked, say)
    found += weighed.estimates
    left_out += weighed.left_out
    covered = behavior.covered(log, episodes.rows, answers)
    outside = beyond_logged(log, answers.here, policy.discrete)
    within = possible(episodes, asked.discount, asked.horizon)
    found = [doubted(one, within) for one in found]
    ordered = tuple(sorted(found, key=lambda one: (*METHODS, MODEL).index(one.method)))
    lines = remarks_on(
        policy,
        ordered,
        episodes,
        asked.discount,
        asked.horizon,
        outside=outside,
        fitted=fitted,
        effective=weighed.effective,
        odd=weighed.odd,
        guaranteed=weighed.guaranteed,
    )
    return Judged(
        policy.name,
        ordered,
        covered,
        weighed.effective,
        outside,
        weighed.guaranteed,
        tuple(left_out),
        (verdict(covered), *lines),
    )


def _linear(
    log: Log,
    episodes: Episodes,
    answers: Answers,
    counts: Tensor,
    asked: Question,
    left_out: list[str],
) -> list[Estimate]:
    """Return the rows of linear values, and say why they are missing."""
    wanted = [name for name in LINEAR if name in asked.methods]
    if not wanted:
        return []
    if asked.horizon is not None or asked.discount == 1.0:
        left_out.append("linear values are left out: they know no horizon")
        return []
    try:
        features = linear.features_of(log, episodes, answers)
    except ValueError as error:
        left_out.append(f"linear values are left out: {error}")
        return []
    found = []
    for name in wanted:
        try:
            solved = linear.start_value(name, features, log, episodes, asked.discount)
        except ValueError as error:
            left_out.append(f"{name} is left out: {error}")
            continue
        found.append(rows_of.by_least_squares(name, solved, counts))
    return found


def as_dict(found: Judgement) -> dict[str, Any]:
    """Return a judgement as plain values, as ``--json`` prints them; NaN becomes ``None``."""

    def row(one: Estimate) -> dict[str, Any]:
        return {
            "method": one.method,
            "value": finite(one.value),
            "low": finite(one.interval.low),
            "high": finite(one.interval.high),
            "effective_episodes": one.effective,
            "episodes_with_90_percent": one.heaviest,
            "condition": one.condition,
            "bandwidth": None if one.bandwidth is None else list(one.bandwidth),
            "warnings": list(one.warnings),
        }

    return {
        "source": found.source,
        "episodes": found.episodes,
        "transitions": found.transitions,
        "discount": found.question.discount,
        "horizon": found.question.horizon,
        "behavior": found.behavior,
        "behavior_held_out_log_prob": finite(found.held_out),
        "logged": {"value": found.logged, **found.logged_interval._asdict()},
        "check": None if found.itself is None else found.itself.as_dict(),
        "chosen": found.chosen,
        "ranking": None if found.ranking is None else found.ranking.as_dict(found.policies),
        "policies": [
            {
                "name": one.name,
                "covered": one.covered,
                "outside": one.outside,
                "guaranteed": one.guaranteed,
                "estimates": [row(each) for each in one.estimates],
                "left_out": list(one.left_out),
                "remarks": list(one.remarks),
            }
            for one in found.policies
        ],
    }
