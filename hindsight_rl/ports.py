"""Ports: what one room may ask of another, as Protocols. Nothing here imports torch at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from hindsight_rl.keys import Key

if TYPE_CHECKING:
    from torch import Tensor


class LogView(Protocol):
    """What a relabeler may ask of a log."""

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the log that are no columns."""

    @property
    def rows(self) -> Tensor | None:
        """Row numbers ``[M]`` int64 that may be drawn, ``None`` for all."""

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


class Decision(NamedTuple):
    """What a policy answers at one step: what its exported graph answers.

    Attributes:
        action: ``[n, A]`` in environment units, ``[n, C, A]`` where it answers with chunks, or
            ``[n]`` int64 counted from 0.
        state: What it keeps, ``[n, ...]`` by name.
        scores: ``[n, M]`` where the action is their argmax, or that of candidates they belong to.
    """

    action: Tensor
    state: dict[str, Tensor]
    scores: Tensor | None = None
