"""Signed labels: what is to be imitated (above 0) and what is to be avoided (below)."""

import math
import warnings
from typing import Literal

import torch
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import REWARD, key_name, key_of
from hindsight_rl.maths.returns import last_rows, returns_to_go
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler, number_column


def _returns(log: LogView, discount: float) -> Tensor:
    """Return the return to go of every row, ``[N]`` float64."""
    return returns_to_go(log.column(REWARD), last_rows(log.column("episode_end")), discount)


def _check_discount(discount: float) -> None:
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}, it must lie in [0, 1]")


class EpisodeLabel(Relabeler):
    """Adds ``label``: 1 in the best episodes, -1 in the worst; rows of the others are never drawn.

    Of E episodes the best max(1, floor(best * E)) by return are imitated and the worst
    floor(worst * E) avoided, none of them twice. Ties are broken by order in the log. A warning
    says so where ``worst`` is above 0 and no episode is avoided.

    Args:
        best: Share of the episodes to imitate, in (0, 1].
        worst: Share of the episodes to avoid, in [0, 1]; no more than 1 with ``best``.
        discount: In [0, 1].

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = (REWARD,)
    out_keys = ("label",)

    def __init__(self, best: float = 0.5, worst: float = 0.1, discount: float = 1.0) -> None:
        super().__init__()
        _check_discount(discount)
        if not 0 < best <= 1 or not 0 <= worst <= 1 or best + worst > 1 + 1e-9:
            raise ValueError(
                f"best {best} must lie in (0, 1], worst {worst} in [0, 1], and their sum be no "
                "more than 1"
            )
        self.best, self.worst, self.discount = best, worst, discount

    def prepare(self, log: LogView) -> "EpisodeLabel":
        """Return a copy that carries the labels, whose ``rows`` are those of labelled episodes."""
        rows, episode = log.drawable(), log.column("episode")
        candidates = episode[rows].unique()
        total = _returns(log, self.discount)[log.column("step") == 0][candidates]
        order = candidates[torch.sort(total, descending=True, stable=True).indices]
        count = len(order)
        best = max(1, math.floor(self.best * count + 1e-9))
        worst = min(count - best, math.floor(self.worst * count + 1e-9))
        if self.worst and not worst:
            warnings.warn(
                f"EpisodeLabel: worst {self.worst:g} of {count} episode(s) is less than one: none "
                "is avoided. Raise worst, give a log of more episodes, or set worst to 0",
                stacklevel=2,
            )
        of_episode = torch.zeros(int(episode.max()) + 1)
        of_episode[order[:best]] = 1.0
        of_episode[order[count - worst :]] = -1.0
        label = of_episode[episode]
        return self.bound(columns={"label": label}, rows=rows[label[rows] != 0])


class ReturnLabel(Relabeler):
    """Adds ``label``: how far the return lies above a baseline; any real number.

    With a log of the policy's own actions this is REINFORCE with a baseline.

    Args:
        baseline: ``"mean"`` of the log's scores, ``"step"`` for the mean over the rows that have
            the same step number in their episode, or a number in reward units.
        score: ``"return_to_go"`` from this step on, or ``"episode"`` for the return of the whole
            episode.
        discount: In [0, 1].
        scale: ``"std"`` divides by the standard deviation of the differences over the log,
            ``"reward"`` leaves reward units.

    Raises:
        ValueError: ``discount`` is outside [0, 1], or a word is none of its choices, or
            (``prepare``) all labels are equal and none is above 0.

    Reference:
        Williams 1992, "Simple statistical gradient-following algorithms for connectionist
        reinforcement learning" (REINFORCE).
    """

    in_keys = (REWARD,)
    out_keys = ("label",)

    def __init__(
        self,
        baseline: float | Literal["mean", "step"] = "mean",
        score: Literal["return_to_go", "episode"] = "return_to_go",
        discount: float = 0.99,
        scale: Literal["std", "reward"] = "std",
    ) -> None:
        super().__init__()
        check_choices(ReturnLabel.__init__, locals())
        _check_discount(discount)
        self.baseline, self.score, self.discount, self.scale = baseline, score, discount, scale

    def prepare(self, log: LogView) -> "ReturnLabel":
        """Return a copy that carries the labels; only rows that may be drawn shape them.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: All labels are equal and none is above 0.
        """
        value, step, rows = _returns(log, self.discount), log.column("step"), log.drawable()
        if self.score == "episode":
            value = value[torch.arange(len(log)) - step]
        label = value - self._baseline(value, step, rows)
        if self.scale == "std":
            label = label / label[rows].std(correction=0).clamp_min(1e-12)
        plain = "" if self.baseline == "mean" else "take baseline 'mean', or "
        _check_signs(label[rows], "ReturnLabel", f"{plain}give a log of other returns")
        return self.bound(columns={"label": label.float()})

    def _baseline(self, value: Tensor, step: Tensor, rows: Tensor) -> Tensor | float:
        if self.baseline == "mean":
            return value[rows].mean()
        if self.baseline != "step":
            return float(self.baseline)
        empty = value.new_zeros(int(step.max()) + 1)
        total = empty.index_add(0, step[rows], value[rows])
        count = empty.index_add(0, step[rows], torch.ones_like(value[rows]))
        return (total / count.clamp_min(1.0))[step]


class ColumnLabel(Relabeler):
    """Adds ``label`` from a column of the log, such as ``success``.

    Args:
        column: One number or flag per row, as it is printed: ``success``, ``next.reward``.
        threshold: 1 where the value is above it, else -1; ``None`` makes the value itself the
            label.
        over: ``"episode"`` takes the largest value of the row's episode (a flag that is set at the
            end, or once, holds for all steps), ``"row"`` the row's own.
        prefer: ``"low"`` turns the labels round, for costs such as ``quality.jerk``: -1 where the
            value is above the threshold, else 1; without a threshold, minus the value.

    Raises:
        ValueError: ``over`` is neither, or (``prepare``) the column is not there, is no number per
            row, or makes equal labels of which none is above 0.
    """

    out_keys = ("label",)

    def __init__(
        self,
        column: str = "next.reward",
        threshold: float | None = 0.5,
        over: Literal["episode", "row"] = "episode",
        prefer: Literal["high", "low"] = "high",
    ) -> None:
        super().__init__()
        check_choices(ColumnLabel.__init__, locals())
        self.column = key_of(column)
        self.in_keys = (self.column,)
        self.threshold, self.over, self.prefer = threshold, over, prefer

    def prepare(self, log: LogView) -> "ColumnLabel":
        """Return a copy that carries the labels.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: The column is not there, has several numbers per row, or makes equal labels
                of which none is above 0.
        """
        absent = (
            "to label by: name it in the column map (success or extra), or use EpisodeLabel or "
            "ReturnLabel, which go by the rewards"
        )
        value = number_column(log, self.column, absent)
        if self.over == "episode":
            value = _largest(value, log.column("episode"))
        rows = log.drawable()
        least, most = float(value[rows].amin()), float(value[rows].amax())
        if self.threshold is not None:
            value = torch.where(value > self.threshold, 1.0, -1.0)
        value = value if self.prefer == "high" else -value
        fix = "use EpisodeLabel or ReturnLabel"
        if least < most:
            within = f"within the column's values, {least:g} to {most:g}"
            fix = f"set a threshold (now {self.threshold}) {within}, or {fix}"
        _check_signs(value[rows], f"ColumnLabel of '{key_name(self.column)}'", fix)
        return self.bound(columns={"label": value.float()})


def _largest(value: Tensor, episode: Tensor) -> Tensor:
    """Return the largest value of each row's episode, ``[N]``."""
    start = value.new_full((int(episode.max()) + 1,), -math.inf)
    return start.scatter_reduce(0, episode, value, "amax")[episode]


def _check_signs(label: Tensor, who: str, fix: str) -> None:
    """Check that labels ``[M]`` are not all equal; warn where all have one sign."""
    least, most = float(label.min()), float(label.max())
    if least < 0 < most:
        return
    if most > 0:
        found, lost = "below 0", "nothing is avoided"
    else:
        found, lost = "above 0", "nothing is imitated"
    text = f"{who}: no label is {found} ({least:g} to {most:g}): {lost}. To fix it, {fix}"
    if most <= 0 and least == most:
        raise ValueError(text)
    warnings.warn(text, stacklevel=2)
