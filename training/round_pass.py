"""RoundPass: a sweep that also hands the whole round to what moves a network by all of its rows."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key
from hindsight_rl.ports import DataView
from hindsight_rl.training.sweep import LogPass


class RoundPass(LogPass):
    """A sweep of each round behind which a network is moved once, by all rows of the round.

    A look at held-out rows before the first update sweeps too, and moves nothing.

    Args:
        take: Is given the rows that may be drawn, ``[N]``, relabeled and with the columns of the
            sweep, for the seed that is selected.
        read: Leaves of a batch what ``take`` needs.
        fitting: Whether updates are being made.
        **sweep: Arguments of :class:`LogPass`; ``every`` is 0.

    Attributes:
        taken: Whether the rows were handed on since they changed.
    """

    def __init__(
        self,
        take: Callable[[TensorDict], None],
        read: Callable[[TensorDict], TensorDict],
        fitting: Callable[[], bool],
        **sweep: Any,
    ) -> None:
        super().__init__(every=0, **sweep)
        self.take, self.read, self.fitting = take, read, fitting
        self.taken = False

    def due(self, updates: int) -> bool:
        """Return whether a sweep is due before update number ``updates``."""
        return super().due(updates) or not self.taken

    def expire(self) -> None:
        """Have the next update sweep, and move the network again."""
        super().expire()
        self.taken = False

    def _sweep(self, datamodule: DataView, device: torch.device) -> dict[Key, Tensor]:
        columns = super()._sweep(datamodule, device)
        if self.fitting():
            with torch.autocast(device.type, enabled=False):
                self.take(self._rows(datamodule, device, columns))
            self.taken = True
        return columns

    def _rows(
        self, datamodule: DataView, device: torch.device, columns: dict[Key, Tensor]
    ) -> TensorDict:
        parts = []
        for chunk in datamodule.in_order(datamodule.log.drawable()):
            batch = datamodule.on_after_batch_transfer(chunk.to(device), 0)[0].copy()
            for key, column in columns.items():
                batch.set(key, column[batch["index"]])
            parts.append(self.read(batch))
        found: TensorDict = torch.cat(parts)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {**super().state_dict(), "taken": self.taken}

    def load_state_dict(self, state: Any) -> None:
        """Take over what a checkpoint held.

        Args:
            state: What :meth:`state_dict` returned.
        """
        super().load_state_dict(state)
        self.taken = bool(state["taken"])
