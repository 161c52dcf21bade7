"""The expert's action in the place of the executed one: the policy step of DAgger."""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.keys import ACTION, EPISODE_END, FIRST, SECOND, Key, key_name, key_of
from hindsight_rl.ports import LearnerView, LogView
from hindsight_rl.relabel.relabeler import Relabeler, number_column
from hindsight_rl.windows import CHUNK, HISTORY, VALID, ActionWindow

# What belongs to the executed action: what it led to, and what was computed from that.
_OF_EXECUTED = ("next", "reward", "return_to_go", "advantage", "label", "action_log_prob")


class ExpertAction(Relabeler):
    """Sets the action to what an expert would have done; rows without that are never drawn.

    Neither held-out rows nor the statistics of actions show an executed action. Reward and
    successor of a row still belong to the executed one: a learner that reads them, or what is
    computed from them, is an error.

    Windows of actions are what the learner says they are to it. A past that the policy is shown
    holds what was executed. Where each step of a segment is an answer of its own, steps without a
    label are not imitated, and segments begin in front of labels too. A plan holds the expert's
    actions as long as they were executed: what it said in a state that only another action led to
    is no part of a plan. Behind that, the plan is invalid and repeats its last action.

    Args:
        labels: Column with the expert's action, NaN where there is none. ``action``: what was
            executed was the expert's, where ``only`` says so.
        only: Column of flags (``intervened``): rows where it is not above 0.5 are never drawn.
            ``None`` for all rows that have a label.

    Raises:
        ValueError: (``prepare``) A column is not there or has another shape than actions, or no row
            is left; (``check_learner``) the learner reads what belongs to the executed action.

    Reference:
        Ross, Gordon and Bagnell 2011, arXiv 1011.0686, algorithm 3.1 (DAgger); Kelly et al. 2019,
        arXiv 1810.02890 (HG-DAgger: ``labels: action, only: intervened``).
    """

    out_keys = (ACTION,)
    of_own_task = True

    def __init__(self, labels: str = "expert_action", only: str | None = None) -> None:
        super().__init__()
        self.labels = key_of(labels)
        self.only = None if only is None else key_of(only)
        self.in_keys: tuple[Key, ...] = (self.labels,) + (() if self.only is None else (self.only,))
        self._found: _Found | None = None

    def prepare(self, log: LogView) -> "ExpertAction":
        """Return a copy whose column ``action`` is the expert's and whose ``rows`` have one.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: A column is not there or has another shape than actions, or no row is left.
        """
        name = key_name(self.labels)
        if self.labels not in log:
            raise ValueError(
                f"there is no column '{name}' with an expert's actions: write it with 'hindsight "
                "relabel LOG --expert EXPERT --output LABELLED', collect with an expert "
                "(data.collection.expert), or name it in the column map (expert_action)"
            )
        action, label = log.column(ACTION), log.column(self.labels)
        if label.shape != action.shape:
            raise ValueError(
                f"'{name}' has shape {list(label.shape[1:])}, and actions {list(action.shape[1:])}"
            )
        labelled = _labelled(label, name)
        if self.only is not None:
            absent = "that says which rows to imitate: name it in the column map (extra)"
            labelled &= number_column(log, self.only, absent) > 0.5
        rows = log.drawable()
        rows = rows[labelled[rows]]
        if not len(rows):
            flag = "" if self.only is None else f" with '{key_name(self.only)}'"
            raise ValueError(
                f"no row{flag} has an action in '{name}': let an expert label some, as 'hindsight "
                "relabel LOG --expert EXPERT --output LABELLED' does"
            )
        shown = labelled.reshape(-1, *[1] * (action.ndim - 1))
        target = torch.where(shown, label, action.to(label.dtype)).to(action.dtype)
        columns: dict[Key, Tensor] = {} if self.labels == ACTION else {ACTION: target}
        other = self.bound(columns=columns, rows=rows, labelled=labelled)
        other._found = _Found(action, labelled, labelled & _same(action, target), log.rows)
        return other

    def starts(self, log: LogView, learner: LearnerView) -> Tensor | None:
        """Return the rows that may be drawn: where segments are answers, those in front of labels.

        Args:
            log: The log with the columns and rows that all relabelers left.
            learner: Reads the batches.

        Returns:
            Row numbers ``[M]`` int64, ``None`` for all.
        """
        found = self._found
        answers = learner.action_windows.get(CHUNK) == "answers"
        if found is None or not answers or (CHUNK, ACTION) not in learner.read_keys:
            return log.rows
        # How many of the rows in front of each may be drawn: of two rows, how many lie between.
        before = torch.zeros(len(log) + 1, dtype=torch.int64)
        before[log.drawable() + 1] = 1
        before = before.cumsum(0)
        start = torch.arange(len(log)) if found.rows is None else found.rows
        end = torch.minimum(start + learner.window.chunk - 1, log.take(EPISODE_END, start))
        return start[before[end + 1] > before[start]]

    def windowed(
        self, part: str, rows: Tensor, values: dict[Key, Tensor], use: ActionWindow | None
    ) -> dict[Key, Tensor]:
        """Return windows whose actions and valid steps are those that may be read.

        Args:
            part: ``"history"`` or ``"chunk"``.
            rows: ``[..., L]`` int64, the rows of the windows.
            values: Of them ``[..., L, ...]`` by key.
            use: What the actions among them are to the learner.

        Returns:
            The values.
        """
        found = self._found
        if found is None or ACTION not in values:
            return values
        if use == "executed":
            return values | {ACTION: found.executed[rows]}
        valid = values[VALID] & found.said[rows]
        action = values[ACTION]
        if use == "plan":
            going = torch.cat([torch.ones_like(valid[..., :1]), found.done[rows][..., :-1]], dim=-1)
            valid = valid & going.cumprod(-1).bool()
            last = (valid.sum(-1, keepdim=True) - 1).clamp_min(0)
            place = torch.minimum(torch.arange(rows.shape[-1]), last)
            wide = place.reshape(*place.shape, *[1] * (action.ndim - place.ndim))
            action = action.gather(place.ndim - 1, wide.expand_as(action))
        return values | {ACTION: action, VALID: valid}

    def check_learner(self, learner: LearnerView) -> None:
        """Raise where a learner reads what belongs to the executed action.

        Args:
            learner: Reads the batches.

        Raises:
            ValueError: It does; the message names the key.
        """
        name = type(learner).__name__
        if not learner.acts:
            raise ValueError(
                f"{name} fits no policy, and ExpertAction is for policies that imitate an expert: "
                "leave it out"
            )
        for key in learner.read_keys:
            path = (key,) if isinstance(key, str) else key
            if any(part in _OF_EXECUTED for part in path):
                raise ValueError(
                    f"{name} reads '{key_name(key)}', which belongs to the executed action, and "
                    "ExpertAction puts the expert's in its place: clone with BC or LatentBC, or "
                    "leave ExpertAction out"
                )
            if path[0] in (FIRST, SECOND):
                raise ValueError(
                    f"{name} reads pairs of segments that were compared, and ExpertAction is about "
                    "single rows: leave it out"
                )
            long = path == (HISTORY, ACTION) or (
                path == (CHUNK, ACTION) and learner.window.chunk > 1
            )
            if long and path[0] not in learner.action_windows:
                raise ValueError(
                    f"{name} reads a {path[0]} of actions, those that were executed, and "
                    "ExpertAction has the expert's of each row: clone with BC (also with a "
                    "history), RecurrentBC or in chunks (ACT, FlowBC), or leave ExpertAction out"
                )
        if learner.log_pass is not None:
            raise ValueError(
                f"{name} computes columns from the log's rewards, which belong to the executed "
                "actions, and ExpertAction puts the expert's in their place: clone with BC, or "
                "leave ExpertAction out"
            )


class _Found(NamedTuple):
    """What windows need of a log.

    Attributes:
        executed: ``[N, ...]``, the actions that were.
        said: ``[N]`` bool, rows with a label.
        done: ``[N]`` bool, those whose label was executed.
        rows: ``[M]`` int64, rows that might be drawn before, ``None`` for all.
    """

    executed: Tensor
    said: Tensor
    done: Tensor
    rows: Tensor | None


def _same(action: Tensor, label: Tensor) -> Tensor:
    """Return in which rows two actions are equal but for rounding, ``[N]`` bool."""
    if not action.is_floating_point():
        return (action == label).reshape(len(action), -1).all(1)
    return torch.isclose(action, label, rtol=1e-5, atol=1e-6).reshape(len(action), -1).all(1)


def _labelled(label: Tensor, name: str) -> Tensor:
    """Return which rows have a label, ``[N]`` bool; raise on half of one."""
    if not label.is_floating_point():
        return torch.ones(len(label), dtype=torch.bool)
    numbers = label.reshape(len(label), -1)
    there, missing = numbers.isfinite().all(1), numbers.isnan().all(1)
    wrong = ~(there | missing)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"row {row} of '{name}' is {numbers[row].tolist()}: give an action, or NaN for all of "
            "its numbers where there is none"
        )
    return there
