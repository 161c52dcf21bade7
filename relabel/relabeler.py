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
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import fork

Key = str | tuple[str, ...]

DRAWS = "draws"
COMPANION = "companion"


class LogView(Protocol):
    """What a relabeler may ask of a log."""

    info: dict[str, Any]
    rows: Tensor | None

    def __len__(self) -> int:
        """Return the number of transitions."""

    def __contains__(self, key: Key) -> bool:
        """Return whether a column exists."""

    def column(self, key: Key) -> Tensor:
        """Return a whole column ``[N, ...]``."""

    def drawable(self) -> Tensor:
        """Return the row numbers ``[M]`` int64 that may be drawn."""

    def with_columns(self, columns: Mapping[Key, Tensor]) -> Self:
        """Return the log with further columns."""

    def with_rows(self, rows: Tensor | None) -> Self:
        """Return the log with other drawable rows."""


class Relabeler:
    """Base class: a relabeler that changes nothing.

    Attributes:
        in_keys: Keys that must be in the log or come from an earlier relabeler.
        out_keys: Keys this relabeler adds or rewrites in the batch.
        columns: Found by ``prepare``: further columns ``[N, ...]`` of the log.
        rows: Found by ``prepare``: row numbers ``[M]`` int64 that may be drawn, ``None`` for all.
    """

    in_keys: ClassVar[tuple[Key, ...]] = ()
    out_keys: ClassVar[tuple[Key, ...]] = ()

    def __init__(self) -> None:
        self.columns: dict[Key, Tensor] = {}
        self.rows: Tensor | None = None

    def prepare(self, log: LogView) -> "Relabeler":
        """Return a copy bound to a log. Called once, before the first draw.

        Args:
            log: The log with the columns and rows that earlier relabelers left.

        Returns:
            The bound relabeler.
        """
        return self

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
        self, *, columns: Mapping[Key, Tensor] | None = None, rows: Tensor | None = None
    ) -> Self:
        """Return a copy that carries what ``prepare`` found.

        Args:
            columns: Further columns ``[N, ...]`` of the log.
            rows: Row numbers ``[M]`` int64 that may be drawn.

        Returns:
            The bound copy.
        """
        other = copy.copy(self)
        other.columns = dict(columns or {})
        other.rows = rows
        return other


class Compose(Relabeler):
    """Relabelers in order: ``Compose([a, b])(batch) == b(a(batch))``; an empty one is the identity.

    Each part draws from its own stream, so two equal relabelers in a row draw differently.

    Args:
        relabelers: The parts, first to last.
    """

    def __init__(self, relabelers: list[Relabeler] | None = None) -> None:
        super().__init__()
        self.relabelers = list(relabelers or [])

    def prepare(self, log: LogView) -> "Compose":
        """Return a copy whose parts are bound, each to the log its predecessors left.

        Args:
            log: The log.

        Returns:
            The bound chain; its ``columns`` and ``rows`` are those of all parts.
        """
        parts: list[Relabeler] = []
        columns: dict[Key, Tensor] = {}
        for relabeler in self.relabelers:
            part = relabeler.prepare(log)
            log = log.with_columns(part.columns).with_rows(part.rows)
            columns |= part.columns
            parts.append(part)
        other = self.bound(columns=columns, rows=log.rows)
        other.relabelers = parts
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return the rows all parts ask for, each name prefixed by the part's position.

        Args:
            index: ``[K, B]`` int64 row numbers.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            Row numbers ``[K, B]`` int64 by name.
        """
        return {
            f"{position}/{name}": rows
            for position, part in enumerate(self.relabelers)
            for name, rows in part.companions(index, fork(draws, position)).items()
        }

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch after all parts, without companions."""
        draws, companions = batch[DRAWS], batch.get(COMPANION, None)
        for position, part in enumerate(self.relabelers):
            scoped = batch.copy()
            scoped.set(DRAWS, fork(draws, position))
            if companions is not None:
                scoped.set(COMPANION, _scope(companions, f"{position}/"))
            batch = part(scoped)
        result = batch.copy()
        result.set(DRAWS, draws)
        return result.exclude(COMPANION) if companions is not None else result


def _scope(companions: TensorDict, prefix: str) -> TensorDict:
    names = [name for name in companions.keys() if name.startswith(prefix)]
    return TensorDict(
        {name.removeprefix(prefix): companions[name] for name in names}, companions.batch_size
    )


def last_rows(log: LogView) -> Tensor:
    """Return ``[N]`` bool, True on the last row of each episode."""
    return log.column("episode_end") == torch.arange(len(log))
