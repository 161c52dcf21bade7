"""FeaturePass: how large the features of a log are, found once, before the first update."""

from collections.abc import Callable, Iterable, Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key, key_name
from hindsight_rl.ports import DataView
from hindsight_rl.training.sweep import Sweep

_NO_SPREAD = 1e-6  # share of a feature's size; float32 columns are no more exact


class FeaturePass(Sweep):
    """Looks at a column of features once.

    Args:
        features: Column ``[K]``.
        width: K, as many as a task has weights.
        take: Is given mean and standard deviation ``[K]`` over the rows that may be drawn; 1 is the
            deviation of a feature that never varies.
    """

    def __init__(self, features: Key, width: int, take: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__(())
        self.features, self.width, self.take = features, width, take

    def found(
        self, datamodule: DataView, device: torch.device, seeds: Iterable[int]
    ) -> Mapping[Key, Tensor]:
        """Hand on the size of features; there are no columns.

        Args:
            datamodule: Gives the log.
            device: Where to hand them on.
            seeds: Not used: all get the same.

        Returns:
            Nothing.

        Raises:
            ValueError: Tasks have another number of weights, or rows span several steps.
        """
        if "discount" in datamodule.relabel.call_writes or "discount" in datamodule.log:
            raise ValueError(
                "rows that span several steps hold the features of their last step alone: leave "
                "the relabeler NStep out"
            )
        column = datamodule.log.column(self.features)
        if tuple(column.shape[1:]) != (self.width,):
            raise ValueError(
                f"tasks have {self.width} weights, and '{key_name(self.features)}' has features of "
                f"shape {list(column.shape[1:])}: give LinearTasks one weight for each feature, "
                "and both the same column"
            )
        drawn = column[datamodule.log.drawable()].double()
        mean = drawn.mean(0)
        spread = (drawn - mean).square().mean(0).sqrt()
        spread = torch.where(spread > _NO_SPREAD * drawn.abs().amax(0), spread, 1.0)
        self.take(mean.float().to(device), spread.float().to(device))
        return {}

    def attach(self, chunk: TensorDict, seed: int | None = None) -> TensorDict:
        """Return the chunk as it is."""
        return chunk
