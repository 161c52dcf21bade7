"""JudgedPass: what is found of a log once, before a given policy is judged on it.

That is what the policy answers on every row, and between which bounds returns lie and how large
they usually are, which a network of values needs to know.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import (
    EPISODE_END,
    NEXT_POLICY_ACTION,
    NEXT_POLICY_PROBABILITY,
    REWARD,
    TASK,
    Key,
)
from hindsight_rl.maths.returns import ReturnRange, last_rows, return_range
from hindsight_rl.ports import DataView
from hindsight_rl.spec import Spec
from hindsight_rl.training.given import Function, GivenPolicy
from hindsight_rl.training.sweep import Sweep

_FOREIGN = (
    "the answers of the judged policy are those to each row's own task, and relabelers give rows "
    "other tasks in every batch: write the relabeled log first (hindsight relabel), and judge on it"
)


def answer_key(*, discrete: bool) -> Key:
    """Return the key of what a given policy does in the next state.

    Args:
        discrete: Whether actions are choices.

    Returns:
        Of probabilities of all choices, or of samples.
    """
    return NEXT_POLICY_PROBABILITY if discrete else NEXT_POLICY_ACTION


class JudgedPass(Sweep):
    """Goes over the log once, before the first update.

    Args:
        policy: Path of a checkpoint or an exported file, or a function, see :class:`GivenPolicy`,
            opened when the log is there; ``None`` where the log has its answers.
        spec: What the log looks like.
        discount: In [0, 1], below 1 without a horizon.
        horizon: Steps after which returns end, ``None`` for never.
        take: Is given what is known of returns; where the rewards of a row differ from batch to
            batch there are no bounds.
    """

    def __init__(
        self,
        policy: str | Function | None,
        spec: Spec,
        *,
        discount: float,
        horizon: int | None,
        take: Callable[[ReturnRange], None],
    ) -> None:
        super().__init__(() if policy is None else (answer_key(discrete=spec.action.discrete),))
        self.policy, self.spec, self.take = policy, spec, take
        self.discount, self.horizon = discount, horizon

    def found(
        self, datamodule: DataView, device: torch.device, seeds: Iterable[int]
    ) -> Mapping[Key, Tensor]:
        """Return the policy's columns, and hand on what is known of returns.

        Args:
            datamodule: Gives the log and its relabeling.
            device: Where to keep the columns.
            seeds: Not used: all get the same.

        Returns:
            Columns by key; none where the log has them.

        Raises:
            ValueError: Rows span several steps, or have tasks that the policy never saw.
        """
        writes = datamodule.relabel.call_writes
        if "discount" in writes or "discount" in datamodule.log:
            raise ValueError(
                "rows that span several steps hold the rewards of the log's own actions, not of "
                "the policy that is judged: leave the relabeler NStep out"
            )
        if TASK in writes and self.policy is not None:
            raise ValueError(_FOREIGN)
        if TASK in writes:
            warnings.warn(f"{_FOREIGN}, unless the policy does not look at tasks.", stacklevel=2)
        self.take(self._returns(datamodule, device))
        if self.policy is None:
            return {}
        found = GivenPolicy(self.policy, self.spec).answers(datamodule.log).after
        return {key: found.to(device) for key in self.keys}

    def _returns(self, datamodule: DataView, device: torch.device) -> ReturnRange:
        # Without the frames of a batch, where the rewards stand in the log.
        log, writes = datamodule.log, datamodule.relabel.call_writes
        alone = {TASK, REWARD} <= set(writes)
        reward = log.column(REWARD) if REWARD not in writes else _relabeled(datamodule, device)
        known = return_range(
            reward,
            torch.full_like(reward, self.discount),
            None if alone else last_rows(log.column(EPISODE_END)).to(reward.device),
            horizon=self.horizon,
        )
        return known._replace(low=-math.inf, high=math.inf) if alone else known

    def attach(self, chunk: TensorDict, seed: int | None = None) -> TensorDict:
        """Return the chunk with the policy's answers; all seeds get the same.

        Args:
            chunk: TensorDict with ``index``, of any shape.
            seed: Not used.

        Returns:
            A shallow copy with the columns, in the shape of ``index``.
        """
        if not self.columns:
            return chunk
        index, result = chunk["index"], chunk.copy()
        for key, column in self.on(index.device).items():
            result.set(key, column[index])
        return result


@torch.no_grad()  # relabelers that learn from batches learn nothing from these
def _relabeled(datamodule: DataView, device: torch.device) -> Tensor:
    """Return the rewards of all rows as one pass of the relabelers makes them, ``[N]``."""
    parts = []
    for chunk in datamodule.in_order(stream="judged"):
        batch = datamodule.on_after_batch_transfer(chunk.to(device), 0)
        parts.append(batch[REWARD].flatten())
    return torch.cat(parts)
