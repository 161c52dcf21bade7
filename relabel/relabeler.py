"""The contract of the data step.

A relabeler acts in up to three stages, each optional:

1. ``prepare(log)`` runs once over whole episodes and returns a *bound* copy. What it found travels
   in two attributes: ``columns`` (gathered with the log's own) and ``rows`` (which may be drawn).
2. ``companions(index, draws)`` names further rows a batch needs, such as the step whose outcome
   becomes the goal. The sampler fetches them in the same gather, wherever the log lies; they appear
   in the batch under ``("companion", name)``.
3. ``__call__(batch)`` runs on the training device, vectorised over ``[K, B]``.

The batch is never written to: a stage returns a shallow copy with other entries. Every random
number comes from the batch's counters (key ``"draws"``, see :mod:`hindsight_rl.maths.draws`).
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key, key_name
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.plugins import import_rooms
from hindsight_rl.ports import LearnerView, LogView
from hindsight_rl.windows import ActionWindow

Values = Callable[[TensorDict, Tensor, Tensor], SoftValues]
"""``soft_values(batch [...], task [..., Z], draws [..., 3])`` of a learner; where actions are real
numbers, rows ``[R, 1]`` may meet tasks ``[R, N, Z]``, as in broadcasting."""


class Relabeler:
    """Base class: a relabeler that changes nothing.

    Attributes:
        in_keys: Keys that must be in the log or come from an earlier relabeler.
        out_keys: Keys this relabeler adds or rewrites in the batch; once bound, those that the log
            allowed.
        columns: Found by ``prepare``: further columns ``[N, ...]`` of the log.
        rows: Found by ``prepare``: row numbers ``[M]`` int64 that may be drawn, ``None`` for all.
        labelled: Found by ``prepare``: flags ``[N]`` bool of the rows that have a target at all,
            ``None`` for all. Without one a row is not validated on either; what a filter leaves out
            may be.
        of_own_task: Whether what it writes belongs to the row's own task.
        metrics: Scalars about the last call, to look at.
        learns: Whether it learns from the batches of a fit, and so decides about a row anew.
        explores: Whether it rewards what the log rarely shows: for a policy that collects.
        adds_to_reward: Whether it adds to the reward that a row has: none that gives the reward
            anew may stand behind it.
    """

    in_keys: tuple[Key, ...] = ()
    out_keys: tuple[Key, ...] = ()
    of_own_task: bool = False
    learns: bool = False
    explores: bool = False
    adds_to_reward: bool = False

    def __init__(self) -> None:
        self.columns: dict[Key, Tensor] = {}
        self.rows: Tensor | None = None
        self.labelled: Tensor | None = None
        self.metrics: dict[str, Tensor] = {}

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """Columns that ``prepare`` reads; unless a class says otherwise, ``in_keys`` if it acts."""
        return self.in_keys if type(self).prepare is not Relabeler.prepare else ()

    @property
    def call_writes(self) -> tuple[Key, ...]:
        """Keys that ``__call__`` rewrites; unless a class says otherwise, ``out_keys`` if it acts.

        What ``prepare`` found in ``columns`` is not among them: later parts see it in the log.
        """
        if type(self).__call__ is Relabeler.__call__:
            return ()
        return tuple(key for key in self.out_keys if key not in self.columns)

    @property
    def companion_reads(self) -> tuple[Key, ...] | None:
        """Keys that ``__call__`` reads of companions, ``None`` for any; images only if among them.

        Unless a class says otherwise, any if it asks for companions.
        """
        return () if type(self).companions is Relabeler.companions else None

    def prepare(self, log: LogView) -> "Relabeler":
        """Return a copy bound to a log. Called once, before the first draw.

        Args:
            log: The log with the columns and rows that earlier relabelers left.

        Returns:
            The bound relabeler.
        """
        return self

    @property
    def provenance(self) -> dict[str, Any]:
        """What a written log says of it beside its arguments, such as the hash of a file."""
        return {}

    def check_learner(self, learner: LearnerView) -> None:
        """Raise where a learner reads what does not go with what this relabeler writes.

        Args:
            learner: Reads the batches.
        """

    def starts(self, log: LogView, learner: LearnerView) -> Tensor | None:
        """Return the rows that may be drawn for a learner that reads windows.

        Args:
            log: The log with the columns and rows that all relabelers left.
            learner: Reads the batches.

        Returns:
            Row numbers ``[M]`` int64, ``None`` for all; unless a class says otherwise, the log's.
        """
        return log.rows

    def windowed(
        self, part: str, rows: Tensor, values: dict[Key, Tensor], use: ActionWindow | None
    ) -> dict[Key, Tensor]:
        """Return gathered windows as this relabeler leaves them.

        Args:
            part: ``"history"`` or ``"chunk"``.
            rows: ``[..., L]`` int64, the rows of the windows.
            values: Of them ``[..., L, ...]`` by key, and ``"valid"`` ``[..., L]`` bool; not to
                be written to.
            use: What the actions among them are to the learner; ``None`` where it does not say.

        Returns:
            The values.
        """
        return values

    def use(self, values: Values | None) -> None:
        """Take the learner's soft values; called before its first batch.

        Args:
            values: ``soft_values`` of the learner, ``None`` where it has none. It sees the
                learner's weights as they are when it is called.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold of a bound relabeler: what it learned from batches.

        Returns:
            Tensors and numbers by name, nested; empty for one that learns nothing.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the state of a checkpoint.

        Args:
            state: What :meth:`state_dict` returned.
        """

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return further rows to fetch.

        Args:
            index: ``[K, B]`` int64 row numbers of the batch.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            Row numbers ``[K, B]`` int64 by name.
        """
        return {}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the relabeled batch; the input stays as it is.

        Args:
            batch: TensorDict of shape ``[K, B]``.

        Returns:
            TensorDict of the same shape.
        """
        return batch

    def bound(
        self,
        *,
        columns: Mapping[Key, Tensor] | None = None,
        rows: Tensor | None = None,
        labelled: Tensor | None = None,
    ) -> Self:
        """Return a copy that carries what ``prepare`` found.

        Args:
            columns: Further columns ``[N, ...]`` of the log.
            rows: Row numbers ``[M]`` int64 that may be drawn.
            labelled: Flags ``[N]`` of the rows that have a target.

        Returns:
            The bound copy.
        """
        other = copy.copy(self)
        other.columns = dict(columns or {})
        other.rows, other.labelled = rows, labelled
        return other


def number_column(log: LogView, key: Key, absent: str) -> Tensor:
    """Return a column of one number per row, ``[N]`` float64.

    Args:
        log: The log.
        key: Of the column.
        absent: Ends the error where there is none: what the column is for, and the fix.

    Returns:
        The column.

    Raises:
        ValueError: The column is not there, or has several numbers per row.
    """
    name = key_name(key)
    if key not in log:
        raise ValueError(f"there is no column '{name}' {absent}")
    value = log.column(key).double()
    if value.ndim != 1:
        raise ValueError(f"'{name}' has shape {list(value.shape[1:])}, not one number per row")
    return value


def producers(key: Key) -> list[str]:
    """Return the names of the relabelers that write a key, in alphabetical order.

    Args:
        key: Of a column.

    Returns:
        Names of classes; those of plug-ins too, once they are imported.
    """
    import_rooms("relabel", "tasks")
    found, todo = set(), Relabeler.__subclasses__()
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if key in kind.out_keys:
            found.add(kind.__name__)
    return sorted(found)
