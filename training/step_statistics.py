"""StepStatistics: what steps of a log look like, found once before a model of them is fitted."""

from collections.abc import Callable, Iterable, Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import NEXT_OBSERVATION, OBSERVATION, REWARD, TERMINATED, Key
from hindsight_rl.nets.dynamics import StepRange
from hindsight_rl.ports import DataView
from hindsight_rl.training.sweep import Sweep

# Of numbers of size 1, differences below this are the rounding of float32.
_ROUNDING = 1e-7


class StepStatistics(Sweep):
    """Goes over the rows that may be drawn, before the first update and when they have changed.

    Args:
        *take: Are given what was found, one after the other.
    """

    def __init__(self, *take: Callable[[StepRange], None]) -> None:
        super().__init__(())
        self.take = take

    def found(
        self, datamodule: DataView, device: torch.device, seeds: Iterable[int]
    ) -> Mapping[Key, Tensor]:
        """Hand on what steps look like.

        Args:
            datamodule: Gives the log in order and its relabeling, which may change rewards.
            device: Where relabelers compute.
            seeds: Not used: all get the same.

        Returns:
            No columns.

        Raises:
            ValueError: Rows span several steps.
        """
        writes = datamodule.relabel.call_writes
        if "discount" in writes or "discount" in datamodule.log:
            raise ValueError(
                "a model predicts single steps, and these rows span several: leave the relabeler "
                "NStep out"
            )
        seen = _Sums()
        for chunk in datamodule.in_order(datamodule.log.drawable(), stream="steps"):
            seen.add(datamodule.on_after_batch_transfer(chunk.to(device), 0)[0])
        for take in self.take:
            take(seen.range())
        return {}

    def attach(self, chunk: TensorDict, seed: int | None = None) -> TensorDict:
        """Return the chunk as it is."""
        return chunk


class _Sums:
    """Sums over rows; they are added up in float64, on the CPU."""

    def __init__(self) -> None:
        self.rows, self.endings = 0, 0
        self.total: Tensor | float = 0.0
        self.square: Tensor | float = 0.0
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def add(self, batch: TensorDict) -> None:
        """Add rows ``[B]``."""
        here, following = batch[OBSERVATION], batch[NEXT_OBSERVATION]
        reward = batch[REWARD].unsqueeze(-1)
        step = torch.cat([following - here, reward], dim=-1).cpu().double()
        self.total = self.total + step.sum(0)
        self.square = self.square + step.square().sum(0)
        self.rows += len(step)
        self.endings += int(batch[TERMINATED].sum())
        both = torch.cat([here, following])
        ends = [torch.cat([f(both, 0), f(reward, 0)]).cpu() for f in (torch.amin, torch.amax)]
        self.low = ends[0] if self.low is None else torch.minimum(self.low, ends[0])
        self.high = ends[1] if self.high is None else torch.maximum(self.high, ends[1])

    def range(self) -> StepRange:
        """Return what was seen; what does not change but for rounding has the unit 1."""
        if self.low is None or self.high is None:
            raise ValueError("there are no rows to draw: no step can be looked at")
        mean = torch.as_tensor(self.total) / self.rows
        std = (torch.as_tensor(self.square) / self.rows - mean.square()).clamp_min(0.0).sqrt()
        least = _ROUNDING * torch.maximum(self.low.abs(), self.high.abs())
        std = torch.where(std > least, std, 1.0)
        return StepRange(mean.float(), std.float(), self.low, self.high, self.rows, self.endings)
