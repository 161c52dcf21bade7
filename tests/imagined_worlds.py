"""Models of tiny worlds, and small datamodules that imagine with them.

Imported as ``imagined_worlds`` (``tests`` is on pytest's path).
"""

from dataclasses import fields
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from small_replays import log_of
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import normal, normals
from hindsight_rl.ports import Imagined

HALVES = {"log": 0.5, "imagined": 0.5}


def counting(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return the model s' = s + 1, which ends where s' >= 3, with u = s."""
    following = observation + 1
    place = following[..., 0]
    return Imagined(following, place * 10, place >= 3, observation[..., 0])


def drift(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return a walk with luck, for :class:`tiny_envs.Walk`, far from where the log is."""
    luck = torch.zeros(len(observation)) if draws is None else normal(draws)
    push = 0.5 * action[..., 0] + 0.1 * luck
    following = observation + torch.stack([push, torch.ones_like(push)], dim=-1)
    place = following[..., 0]
    return Imagined(following, place + 100, place.abs() > 1.5, place.abs())


def wander(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return a walk with luck in any number of dimensions, that ends now and then."""
    width = observation.shape[-1]
    luck = torch.zeros_like(observation) if draws is None else normals(draws, width)
    push = action.reshape(*observation.shape[:-1], -1).float().sum(-1, keepdim=True)
    following = observation + 0.1 * torch.tanh(push) + 0.1 * luck
    return Imagined(following, following.sum(-1), luck[..., 0] > 1.5, luck.abs().mean(-1))


def reach(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return what :class:`tiny_envs.Reach` does, without its goal."""
    following = observation + 0.4 * action
    nothing = torch.zeros(observation.shape[:-1])
    return Imagined(following, nothing, nothing.bool(), nothing)


def data_of(log: Log | None = None, **options: Any) -> OfflineDataModule:
    """Return a small datamodule with imagined rows."""
    given = {"every": 20, "rows": 30, "horizon": 3, "keep": 2}
    names = {field.name for field in fields(ImaginedRows)} & set(options)
    given |= {name: options.pop(name) for name in names}
    plain = {"batch_size": 16, "updates_per_step": 8, "seed": 3, "mix": HALVES, "validation": 0.25}
    imagined = ImaginedRows(**{"model": drift} | given)
    return OfflineDataModule(log or log_of(), **plain | {"imagined": imagined} | options)


def data_given() -> ImaginedRows:
    return ImaginedRows(drift, every=20, rows=30, horizon=3, keep=2)


class Batches(Callback):
    """Keeps every batch that is trained on."""

    def __init__(self) -> None:
        self.chunks: list[TensorDict] = []

    def on_train_batch_start(self, trainer: Any, learner: Any, batch: TensorDict, *_: Any) -> None:
        """Keep a chunk."""
        self.chunks.append(batch.clone())

    @property
    def rows(self) -> TensorDict:
        """All rows, ``[updates, B]``."""
        return torch.cat(self.chunks)
