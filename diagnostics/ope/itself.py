"""The cheapest check of fitted values: what they say of the policy that recorded the log."""

from dataclasses import dataclass
from typing import Any

from hindsight_rl.diagnostics.ope import values
from hindsight_rl.diagnostics.ope.behavior import Behavior
from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.diagnostics.ope.estimates import by_values
from hindsight_rl.diagnostics.ope.question import Question
from hindsight_rl.diagnostics.ope.remarks import of_fit
from hindsight_rl.intervals import Interval, student_interval
from hindsight_rl.logs.log import Log


@dataclass(frozen=True)
class Itself:
    """Fitted Q evaluation of what recorded a log, and what its episodes returned.

    Attributes:
        value: By fitted Q evaluation of the cloned behaviour, reward units.
        interval: Its 95 % interval, over members.
        returned: Mean discounted return of the episodes; where a time limit cut one, with the
            fitted value of what would have followed.
        returned_interval: Its 95 % interval, over episodes.
        beyond: Whether fitted values behind time limits are in it.
        warnings: Sentences.
    """

    value: float
    interval: Interval
    returned: float
    returned_interval: Interval
    beyond: bool
    warnings: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Return the comparison, without its full stop."""
        cut = ", fitted values behind time limits included" if self.beyond else ""
        said = f"{self.value:,.4g} {_ends(self.interval)}"
        returned = f"{self.returned:,.4g} {_ends(self.returned_interval)}"
        return (
            f"fitted Q evaluation says {said} of what recorded the log, whose episodes returned "
            f"{returned}{cut}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "value": self.value,
            **self.interval._asdict(),
            "returned": {"value": self.returned, **self.returned_interval._asdict()},
            "beyond_time_limits": self.beyond,
            "sentence": self.sentence,
            "warnings": list(self.warnings),
        }


def itself(log: Log, episodes: Episodes, behavior: Behavior, asked: Question) -> Itself:
    """Return what fitted Q evaluation says of the policy that recorded a log.

    Args:
        log: The log.
        episodes: Its episodes.
        behavior: What recorded it; its clone is evaluated.
        asked: How.

    Returns:
        The comparison. Its warnings say where the two cannot both be right.
    """
    answers = behavior.clone.answers(log, samples=asked.samples)
    held = values.with_answers(log, answers, behavior.clone.discrete)
    learner = values.fitted_values(
        held, asked.fitting, discount=asked.discount, horizon=asked.horizon
    )
    fitted = values.start_values(learner, log, episodes, answers)
    row = by_values(fitted)
    beyond = values.behind(learner, log, episodes.last, answers).where(~episodes.terminated, 0.0)
    beyond = asked.discount**episodes.lengths * beyond
    got = episodes.returns(asked.discount) + beyond
    returned, around = float(got.mean()), student_interval(got.tolist())
    notes = of_fit(fitted, row, episodes, asked.discount, asked.horizon)
    if row.interval.low > around.high or around.low > row.interval.high:
        notes.append(
            "they disagree: fitted values are wrong on this log, or the cloned behaviour is. Do "
            "not believe fqe of other policies before they agree"
        )
    return Itself(row.value, row.interval, returned, around, bool(beyond.any()), tuple(notes))


def _ends(interval: Interval) -> str:
    return f"[{interval.low:,.4g}, {interval.high:,.4g}]"
