"""The quality of episodes as columns, for filters, labels and weights."""

import warnings

import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges
from hindsight_rl.keys import ACTION, EPISODE, EPISODE_END, OBSERVATION, Key
from hindsight_rl.maths.returns import last_rows
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.episode_quality import RULES, Episodes, measure_episodes
from hindsight_rl.relabel.relabeler import Relabeler


class Quality(Relabeler):
    """Adds ``quality.jerk`` and others: how an episode moves, ends and answers; equal in its rows.

    - ``quality.jerk``: mean squared third difference of the state, in squared standard deviations
      of its columns, a step being the unit of time; ``quality.action_jerk``: of the action. Noise
      has 20, a sine of omega radians a step (2 sin(omega / 2))**6.
    - ``quality.stillness``: share of steps, in [0, 1], at which state and action move at less than
      a tenth of the log's usual speed.
    - ``quality.saturation``: share of action entries at a bound, in [0, 1].
    - ``quality.length``: robust score (median and MAD over episodes) of the logarithm of the
      length; below 0 is short.
    - ``quality.end_pose``: distance of the last observation from those of the other episodes: root
      mean square of the robust scores of its numbers; about 1 is usual.
    - ``quality.lag``: steps after which the state answers the action.
    - ``quality.score``: minus the largest robust score of any of them, at most 0. Below -5 the
      episode stands out, and ``hindsight inspect`` lists it.

    A measure that the log does not allow is left out with a warning: actions that are choices, no
    bounds, images alone. Medians and spreads are those of episodes that may be drawn. High values
    are bad but for the score, so take ``TopFraction(0.5, score="quality.jerk", prefer="low")`` for
    the smoothest half.

    Args:
        most_lag: Largest lag, in steps, at least 1; ``None`` for half a second, between 5 and 25
            steps, or 10 steps where the log has no control rate.

    Raises:
        ValueError: ``most_lag`` is below 1.
    """

    in_keys = (ACTION,)
    out_keys = tuple(("quality", name) for name in (*RULES, "score"))

    def __init__(self, most_lag: int | None = None) -> None:
        super().__init__()
        check_ranges(at_least(1, most_lag=most_lag), unit="steps", note=", or null")
        self.most_lag = most_lag

    def prepare(self, log: LogView) -> "Quality":
        """Return a copy that carries the columns; warns of measures that are left out."""
        number = log.column(EPISODE)
        ends = last_rows(log.column(EPISODE_END)).nonzero()[:, 0]
        lengths = torch.diff(ends, prepend=torch.tensor([-1]))
        counted = torch.zeros(len(lengths), dtype=torch.bool)
        counted[number[log.drawable()]] = True
        rate, bounds = log.info.get("control_rate_hz"), log.info.get("action")
        given = Episodes(_state(log), log.column(ACTION), lengths, bounds, rate, counted)
        found = measure_episodes(given, self.most_lag)
        if found.left_out:
            said = "; ".join(f"{name}: {why}" for name, why in found.left_out.items())
            warnings.warn(f"Quality leaves out measures ({said})", stacklevel=2)
        columns: dict[Key, Tensor] = {
            ("quality", name): value.float()[number]
            for name, value in (found.values | {"score": found.score()}).items()
        }
        other = self.bound(columns=columns)
        other.out_keys = tuple(columns)
        return other


def _state(log: LogView) -> Tensor:
    """Return the real numbers that are observed, ``[N, D]``."""
    names = log.info.get("entries")
    keys: list[Key] = [("observation", name) for name in names] if names else [OBSERVATION]
    values = [log.column(key) for key in keys]
    real = [value.flatten(1) for value in values if value.dtype == torch.float32 and value.ndim > 1]
    if len(real) == 1:
        return real[0]
    return torch.cat(real, dim=1) if real else torch.empty(len(log), 0)
