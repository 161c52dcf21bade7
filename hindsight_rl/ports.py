"""Ports: what one room may ask of another, as Protocols. Nothing here imports torch at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from hindsight_rl.keys import Key

if TYPE_CHECKING:
    from torch import Tensor

Policy_contra = TypeVar("Policy_contra", contravariant=True)
Log_contra = TypeVar("Log_contra", contravariant=True)


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


class Episodes(Protocol):
    """Whole episodes, in the order of their numbers; read only."""

    @property
    def columns(self) -> Mapping[Key, Tensor]:
        """Return the columns ``[M, ...]``, all but where episodes begin and end."""

    @property
    def lengths(self) -> Tensor:
        """Return the steps of each episode, ``[E]`` int64."""


@runtime_checkable
class Source(Protocol[Policy_contra, Log_contra]):
    """What gives episodes: an environment, a log, a model, an expert.

    An episode is a function of its number, the policy and what was there before, and of nothing
    else: asked again, a source gives the same one. All sources of a datamodule give the same
    columns, and every episode is whole: ``terminated`` or ``truncated`` in its last row.

    Attributes:
        name: For messages.
    """

    name: str

    def collect(
        self, policy: Policy_contra | None, first: int, count: int, log: Log_contra | None = None
    ) -> Episodes:
        """Return whole episodes.

        Args:
            policy: What acts; ``None`` for uniformly random actions. A log has no use for it.
            first: Number of the first episode.
            count: How many, at least 1.
            log: What was there before, ``None`` for nothing: where a source begins from it.

        Returns:
            The episodes.
        """
