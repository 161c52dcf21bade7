"""Decisions that are made once per row, not each time a row is drawn."""

from typing import cast

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.draws import counters
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.chain import Compose, parts_of
from hindsight_rl.relabel.relabeler import Relabeler


class Once(Compose):
    """Relabelers in order that decide about a row once and for all.

    Their draws depend on this seed and the row of the log, and on nothing else: a row gets the same
    task in every update, run and batch, for every seed, and in a relabeled log that is
    written to disk. (What is estimated from the rows of an update, as the log Z of transitions,
    still depends on those.) StackedRows outside get the batch's own draws.

    A chain that draws otherwise is still a chain (its parts, order and keys are those of
    ``Compose``), hence the inheritance.

    Args:
        relabelers: The parts, first to last.
        seed: Seed of the decisions.
    """

    def __init__(self, relabelers: list[Relabeler] | None = None, seed: int = 0) -> None:
        super().__init__(relabelers)
        self.seed = seed

    def prepare(self, log: LogView) -> "Once":
        """Return a copy whose parts are bound.

        Args:
            log: The log.

        Returns:
            The bound chain.

        Raises:
            ValueError: A part learns from the batches of a fit.
        """
        for part in (one for outer in self.relabelers for one in parts_of(outer)):
            if part.learns:
                raise ValueError(
                    f"{type(part).__name__} learns while a policy is fitted, so it cannot decide "
                    "about a row once and for all: let 'hindsight fit' apply it (data.relabel), "
                    "outside Once"
                )
        return cast(Once, super().prepare(log))

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return the rows all parts ask for, the same ones whenever a row is drawn.

        Args:
            index: ``[K, B]`` int64 row numbers.
            draws: ``[K, B, 3]`` int64 counters, which decide nothing here.

        Returns:
            Row numbers ``[K, B]`` int64 by name.
        """
        return super().companions(index, self._draws(index))

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch after all parts, with its own draws."""
        fixed = batch.copy().set(DRAWS, self._draws(batch["index"]))
        return super().__call__(fixed).set(DRAWS, batch[DRAWS])

    def _draws(self, index: Tensor) -> Tensor:
        """Return the counters ``[K, B, 3]`` of rows ``[K, B]``."""
        update = torch.zeros(1, dtype=torch.int64, device=index.device)
        return counters(self.seed, update, index.flatten())[0].reshape(*index.shape, 3)
