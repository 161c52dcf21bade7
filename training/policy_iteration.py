"""PolicyIteration: rounds over a whole log that solve for linear values of the greedy policy."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TASK,
    TERMINATED,
    Key,
)
from hindsight_rl.maths.least_squares import residuals, solved
from hindsight_rl.ports import DataView
from hindsight_rl.training.sweep import Sweep

GREEDY: Key = "greedy_action"
"""What the values of the last round would do in each next state."""
# Of real actions: beyond what float32 makes of the same action twice.
_SAME = 1e-4


class Linear(Protocol):
    """What is asked of linear values."""

    def features(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return phi(s, a), ``[B, F]``."""

    discrete: bool

    def best(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the greedy actions."""

    def show(self, action: Tensor) -> None:
        """Take which choices a log shows."""


class Round(NamedTuple):
    """What a round found."""

    theta: Tensor | None
    """``[F]`` float64; ``None`` where the greedy actions are those of the round before."""
    condition: float
    """Condition number of the matrix that was solved."""
    changed: float
    """Share of rows whose greedy action changed."""


class PolicyIteration(Sweep):
    """Judges the greedy policy before every update, until it stays as it is.

    Args:
        values: The values, as they are when a round begins.
        discount: In [0, 1].
        ridge: What is added to the diagonal of the matrix, at least 0.
        take: Is given what a round found, for the seed that is selected.
    """

    def __init__(
        self, values: Linear, *, discount: float, ridge: float, take: Callable[[Round], None]
    ) -> None:
        super().__init__((), every=1)
        self.values, self.take = values, take
        self.discount, self.ridge = discount, ridge
        self.settled = False

    def due(self, updates: int) -> bool:
        """Return whether a round is due: none is once greedy actions stay."""
        return self.pending or (not self.settled and self.swept_at != updates)

    def expire(self) -> None:
        """Begin anew: the rows have other numbers now."""
        super().expire()
        self.columns, self.settled = {}, False

    def found(
        self, datamodule: DataView, device: torch.device, seeds: Iterable[int]
    ) -> Mapping[Key, Tensor]:
        """Return the greedy actions ``[S, M, ...]`` of each seed, and hand on what they are worth.

        Args:
            datamodule: Gives the log in order (``in_order``) and its relabeling.
            device: Where to compute.
            seeds: Selects the seeds of the learner one after another.

        Returns:
            Columns by key.

        Raises:
            ValueError: Rows span several steps, or a matrix is singular.
        """
        before = self.columns.get(GREEDY)
        if before is None and self.values.discrete:
            log = datamodule.log
            shown = log.column(ACTION)[log.drawable()] - int(log.info.get("action_start") or 0)
            self.values.show(shown)
        greedy = []
        changed = 0.0
        for number, _ in enumerate(seeds):
            last = None if before is None else before[number].to(device)
            actions, round_ = self._round(datamodule, device, last)
            self.take(round_)
            greedy.append(actions)
            changed += round_.changed
        self.settled = changed == 0.0
        return {GREEDY: torch.stack(greedy)}

    def _round(
        self, datamodule: DataView, device: torch.device, before: Tensor | None
    ) -> tuple[Tensor, Round]:
        matrix = right = torch.zeros((), dtype=torch.float64, device=device)
        greedy: list[Tensor] = []
        with torch.autocast(device.type, enabled=False):
            for chunk in datamodule.in_order(datamodule.log.drawable()):
                batch = datamodule.on_after_batch_transfer(chunk.to(device), 0)[0]
                features, left, best = self._rows(batch)
                matrix = matrix + features.T @ left
                right = right + features.T @ batch[REWARD].double()
                greedy.append(best)
        actions = torch.cat(greedy)
        changed = 1.0 if before is None else _changed(before, actions)
        if changed == 0.0:
            return actions, Round(None, 0.0, 0.0)
        theta, condition = solved(matrix / len(actions), right / len(actions), self.ridge, "LSPI")
        return actions, Round(theta, condition, changed)

    def _rows(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, what one step leaves of them, and the greedy next actions."""
        if "discount" in batch.keys():
            raise ValueError(
                "rows that span several steps hold the rewards of the log's own actions, not of "
                "the greedy policy: leave the relabeler NStep out"
            )
        task, following = batch.get(TASK, None), batch[NEXT_OBSERVATION]
        best = self.values.best(following, task)
        features = self.values.features(batch[OBSERVATION], batch[ACTION], task).double()
        after = self.values.features(following, best, task)
        return features, residuals(features, after, batch[TERMINATED], self.discount), best

    def attach(self, chunk: TensorDict, seed: int | None = None) -> TensorDict:
        """Return the chunk: losses need no column.

        Args:
            chunk: TensorDict.
            seed: Not used.

        Returns:
            The chunk.
        """
        return chunk

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {**super().state_dict(), "settled": self.settled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint held.

        Args:
            state: What :meth:`state_dict` returned.
        """
        super().load_state_dict(state)
        self.settled = bool(state["settled"])


def _changed(before: Tensor, now: Tensor) -> float:
    """Return the share of rows whose actions differ."""
    if now.is_floating_point():
        differ = ((before - now).abs() > _SAME * (1.0 + now.abs())).any(-1)
    else:
        differ = before != now
    return float(differ.double().mean())
