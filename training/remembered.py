"""RememberedPass: a sweep of whole episodes by networks that remember."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.encoders.recurrent import RecurrentInputs
from hindsight_rl.ports import DataView
from hindsight_rl.training.recurrent import memory_of
from hindsight_rl.training.sweep import LogPass, Scaling, check_steps

SEGMENT, PAST = "segment", "past"
"""Names of two parts of a batch: columns of a sweep by step, and what was remembered before."""

_READ: tuple[Key, ...] = (
    *("observation", "task", "discount", "index", "episode_end"),
    *(("next", name) for name in ("observation", "reward", "terminated")),
)


class RememberedPass(LogPass):
    """Plays the log in order to networks that remember, and keeps what they remembered.

    A batch gets ``("segment", "lambda_return")`` and ``("segment", "advantage")`` ``[..., L]`` of
    the steps from its rows on, of the last where an episode does not reach; and ``("past", name)``
    ``[..., S]``, what each network remembered before its rows.

    Args:
        value: Its inputs remember.
        actor: What the policy remembers by.
        segment: L, steps, at least 1.
        every: As of :class:`LogPass`.
        discount: In [0, 1].
        lambda_: In [0, 1].
        scaling: As of :class:`LogPass`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        value: ValueNet,
        actor: RecurrentInputs,
        segment: int,
        every: int,
        discount: float,
        lambda_: float,
        scaling: Scaling,
    ) -> None:
        super().__init__(
            every=every, value=value, discount=discount, lambda_=lambda_, scaling=scaling
        )
        self.segment, self.head = segment, value.of
        self.memories = {"actor": actor, "value": memory_of(value)}
        swept: list[Key] = [(SEGMENT, str(key)) for key in self.keys]
        self.keys = (*swept, *((PAST, name) for name in self.memories))

    def _sweep(self, datamodule: DataView, device: torch.device) -> dict[Key, Tensor]:
        with torch.autocast(device.type, enabled=False):
            parts: list[Any] = [
                datamodule.on_after_batch_transfer(chunk.to(device), 0)[0].select(
                    *_READ, strict=False
                )
                for chunk in datamodule.in_order()
            ]
            batch: TensorDict = torch.cat(parts)
            check_steps(batch)
            last = batch["episode_end"] == batch["index"]
            rows, valid = _by_episode(last)
            past: dict[Key, Tensor] = {}
            after = torch.zeros(0)
            for name, memory in self.memories.items():
                states = _states(memory, batch, rows)
                begun = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
                past[PAST, name], after = begun[valid], states[valid]
            memory = self.memories["value"]
            task, following = batch.get("task", None), batch["next", "observation"]
            ahead, _ = memory.step(following, task, {"hidden": after})
            value, next_value = self.head(memory.cells.features(after)), self.head(ahead)
        given = [batch["next", "reward"], value, next_value, batch["next", "terminated"], last]
        columns = torch.stack([column.double() for column in given])
        targets = self.targets(columns, datamodule)
        swept: dict[Key, Tensor] = {(SEGMENT, str(key)): found for key, found in targets.items()}
        return swept | past

    def _at(self, key: Key, column: Tensor, place: TensorDict) -> Tensor:
        index, end = place["index"], place["episode_end"]
        if key[0] == PAST:
            return column[index]
        steps = torch.arange(self.segment, device=index.device)
        return column[torch.minimum(index.unsqueeze(-1) + steps, end.unsqueeze(-1))]


def _by_episode(last: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows ``[E, T]`` of each episode, its last one behind its end, and which count."""
    ends = last.nonzero().squeeze(-1)
    starts = torch.cat([ends.new_zeros(1), ends[:-1] + 1])
    steps = torch.arange(int((ends - starts).max()) + 1, device=ends.device)
    wanted = starts.unsqueeze(-1) + steps
    return torch.minimum(wanted, ends.unsqueeze(-1)), wanted <= ends.unsqueeze(-1)


def _states(memory: RecurrentInputs, batch: TensorDict, rows: Tensor) -> Tensor:
    """Return what is remembered after each row, ``[E, T, S]``."""
    task = batch.get("task", None)
    return memory.remembered(batch["observation"][rows], None if task is None else task[rows])
