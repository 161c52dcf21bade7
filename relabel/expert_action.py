"""The expert's action in the place of the executed one: the policy step of DAgger."""

import torch
from torch import Tensor

from hindsight_rl.keys import ACTION, FIRST, SECOND, Key, key_name, key_of
from hindsight_rl.ports import LearnerView, LogView
from hindsight_rl.relabel.relabeler import Relabeler, number_column
from hindsight_rl.windows import CHUNK, HISTORY

# What belongs to the executed action: what it led to, and what was computed from that.
_OF_EXECUTED = ("next", "reward", "return_to_go", "advantage", "label", "action_log_prob")


class ExpertAction(Relabeler):
    """Sets the action to what an expert would have done; rows without that are never drawn.

    Neither held-out rows nor the statistics of actions show an executed action. Reward and
    successor of a row still belong to the executed one: a learner that reads them, or what is
    computed from them, is an error.

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
        return self.bound(columns=columns, rows=rows, labelled=labelled)

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
            if path == (HISTORY, ACTION) or (path == (CHUNK, ACTION) and learner.window.chunk > 1):
                raise ValueError(
                    f"{name} reads a {path[0]} of actions, those that were executed, and "
                    "ExpertAction has the expert's of each row: let it read the present action "
                    "alone (a chunk of 1, a history of observations), or leave ExpertAction out"
                )
        if learner.log_pass is not None:
            raise ValueError(
                f"{name} computes columns from the log's rewards, which belong to the executed "
                "actions, and ExpertAction puts the expert's in their place: clone with BC, or "
                "leave ExpertAction out"
            )


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
