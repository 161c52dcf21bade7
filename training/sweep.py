"""Sweeps of the whole log: columns that a learner keeps beside it, by row number.

:class:`LogPass` finds those that need the current value function, now and then. What a given policy
answers is found once: :mod:`hindsight_rl.training.judged`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key, key_name, key_of
from hindsight_rl.maths.policy_gradient import generalized_advantages, v_trace
from hindsight_rl.ports import DataView, RelabelView
from hindsight_rl.training.beside import seen, with_beside

ValueFunction = Callable[[Tensor, Tensor | None], Tensor]
Scaling = Literal["standardised", "raw"]


class Sweep(ABC):
    """Columns of the whole log that a learner finds.

    The columns live beside the learner and join a batch by row number when it is used, not when it
    is drawn, so a loader that runs ahead cannot hand out stale ones. They are part of the
    checkpoint.

    Args:
        keys: Columns that a batch gets.
        every: Updates between sweeps; 0 for one alone. The first happens before the first update.

    Attributes:
        columns: What was found, by key.
        swept_at: Number of updates done at the last sweep, -1 where none holds.
    """

    def __init__(self, keys: tuple[Key, ...], every: int = 0) -> None:
        self.keys, self.every = keys, every
        self.columns: Mapping[Key, Tensor] = {}
        self.swept_at = -1

    @property
    def pending(self) -> bool:
        """Return whether there was no sweep yet, or none since the rows changed."""
        return self.swept_at < 0

    def due(self, updates: int) -> bool:
        """Return whether a sweep is due before update number ``updates``."""
        again = self.every > 0 and updates % self.every == 0 and self.swept_at != updates
        return self.pending or again

    def expire(self) -> None:
        """Have the next update sweep: the rows have other numbers now."""
        self.swept_at = -1

    @torch.no_grad()
    def sweep(
        self, datamodule: DataView, updates: int, device: torch.device, seeds: Iterable[int] = (0,)
    ) -> None:
        """Find the columns anew.

        Args:
            datamodule: Gives the log in order (``in_order``) and its relabeling.
            updates: Number of updates done.
            device: Where to compute and keep the columns.
            seeds: Selects the seeds of the learner one after another.
        """
        self.columns = self.found(datamodule, device, seeds)
        self.swept_at = updates

    @abstractmethod
    def found(
        self, datamodule: DataView, device: torch.device, seeds: Iterable[int]
    ) -> Mapping[Key, Tensor]:
        """Return the columns, see :meth:`sweep`."""

    @abstractmethod
    def attach(self, chunk: TensorDict, seed: int | None = None) -> TensorDict:
        """Return the chunk with the columns of its rows.

        Args:
            chunk: TensorDict ``[K, B]`` with ``index``, or ``[K, S, B]``.
            seed: Seed whose columns a chunk ``[K, B]`` gets, where each has its own.

        Returns:
            A shallow copy with the columns, in the shape of ``index``.
        """

    def on(self, device: torch.device) -> Mapping[Key, Tensor]:
        """Return the columns on a device, and keep them there.

        Args:
            device: Where to; a checkpoint is read onto the CPU, and the first chunk moves them.

        Returns:
            Columns by key.
        """
        self.columns = {key: column.to(device) for key, column in self.columns.items()}
        return self.columns

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        columns = {key_name(key): column for key, column in self.columns.items()}
        return {"columns": columns, "swept_at": self.swept_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint held.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.columns = {key_of(name): column for name, column in state["columns"].items()}
        self.swept_at = int(state["swept_at"])


class LogPass(Sweep):
    """Sweeps the log in order and keeps ``lambda_return`` and ``advantage``.

    Args:
        every: Updates between sweeps; 0 for none but the first, which happens before the first
            update, and those after rows have changed.
        value: ``(observation [B, O], task [B, Z] or None) -> [B]``.
        discount: In [0, 1].
        lambda_: In [0, 1]; 1 is Monte Carlo with bootstrap at truncation.
        scaling: ``"standardised"`` gives the advantages of the rows that may be drawn mean 0 and
            standard deviation 1, ``"raw"`` leaves them in reward units.
        log_ratio: Gives log pi / pi_b of a relabeled batch ``[B]``, nats, where rows of another
            policy are corrected by V-trace; advantages are then without the row's own ratio.
            ``None`` for no correction.
        max_ratio: Cap of these ratios, at least 1.
        beside: Columns that the value reads beside the observation.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        every: int,
        value: ValueFunction,
        discount: float,
        lambda_: float,
        scaling: Scaling = "standardised",
        log_ratio: Callable[[TensorDict], Tensor] | None = None,
        max_ratio: float = 1.0,
        beside: Sequence[str] = (),
    ) -> None:
        if every < 0:
            raise ValueError(f"sweep_every is {every}, it must be at least 0")
        if not 0 <= discount <= 1 or not 0 <= lambda_ <= 1:
            raise ValueError(f"discount {discount} and lambda_ {lambda_} must lie in [0, 1]")
        super().__init__(("lambda_return", "advantage"), every)
        self.value, self.scaling = value, scaling
        self.discount, self.lambda_ = discount, lambda_
        self.log_ratio, self.max_ratio, self.beside = log_ratio, max_ratio, beside

    def found(
        self, datamodule: DataView, device: torch.device, seeds: Iterable[int]
    ) -> Mapping[Key, Tensor]:
        """Return the columns with the current value function, ``[N]``, or ``[S, N]`` of seeds.

        Args:
            datamodule: Gives the log in order (``in_order``) and its relabeling.
            device: Where to compute and keep the columns.
            seeds: Selects the seeds of the learner one after another; each has columns.

        Returns:
            Columns by key.

        Raises:
            ValueError: Rows span several steps, or have tasks and rewards of their own.
        """
        _check_tasks(datamodule.relabel)
        return _stacked([self._sweep(datamodule, device) for _ in seeds])

    def _sweep(self, datamodule: DataView, device: torch.device) -> dict[Key, Tensor]:
        parts: list[Tensor] = []
        # Whatever the precision of training: advantages are small differences of large values.
        with torch.autocast(device.type, enabled=False):
            for chunk in datamodule.in_order():
                batch = datamodule.on_after_batch_transfer(chunk.to(device), 0)[0]
                parts.append(self._columns_of(batch))
        return self.targets(torch.cat(parts, dim=1), datamodule)

    def targets(self, columns: Tensor, datamodule: DataView) -> dict[Key, Tensor]:
        """Return ``lambda_return`` and ``advantage`` of a whole log, ``[N]`` each.

        Args:
            columns: ``[5, N]`` float64, or ``[6, N]``: reward, value, value of what follows,
                whether a row terminates, whether it is its episode's last, and log ratios.
            datamodule: Says which rows may be drawn.

        Returns:
            Columns by key.
        """
        reward, value, following, terminated, last, *ratio = columns
        ends = terminated.bool(), last.bool()
        discount, lambda_ = self.discount, self.lambda_
        if ratio:
            traced = v_trace(
                *(reward, value, following, ratio[0], *ends),
                discount=discount,
                lambda_=lambda_,
                max_ratio=self.max_ratio,
            )
            target, advantage = traced.value, traced.error
        else:
            advantage = generalized_advantages(
                reward, value, following, *ends, discount=discount, lambda_=lambda_
            )
            target = advantage + value
        if self.scaling == "standardised":
            # Held-out and filtered rows get their columns too, but do not shape those of others.
            drawn = advantage[datamodule.log.drawable().to(advantage.device)]
            advantage = (advantage - drawn.mean()) / (drawn.std(correction=0) + 1e-5)
        return {"lambda_return": target.float(), "advantage": advantage.float()}

    def _columns_of(self, batch: TensorDict) -> Tensor:
        check_steps(batch)
        batch = with_beside(batch, self.beside)
        task = batch.get("task", None)
        last = batch["episode_end"] == batch["index"]
        columns = [
            batch["next", "reward"],
            self.value(seen(batch), task),
            self.value(seen(batch["next"]), task),
            batch["next", "terminated"],
            last,
        ]
        columns += [] if self.log_ratio is None else [self.log_ratio(batch)]
        return torch.stack([column.double() for column in columns])

    def attach(self, chunk: TensorDict, seed: int | None = None) -> TensorDict:
        """Return the chunk with the columns of its rows.

        Args:
            chunk: TensorDict ``[K, B]`` with ``index``, or ``[K, S, B]``.
            seed: Seed whose columns a chunk ``[K, B]`` gets, where there are several.

        Returns:
            A shallow copy with ``lambda_return`` (reward units) and ``advantage`` (reward units, or
            standard deviations), in the shape of ``index``.
        """
        place, result = chunk.select("index", "episode_end"), chunk.copy()
        columns = self.on(place["index"].device)
        alone = next(iter(columns.values())).ndim == 1
        for key, column in columns.items():
            if alone:
                result.set(key, self._at(key, column, place))
            elif seed is not None:
                result.set(key, self._at(key, column[seed], place))
            else:
                parts = [self._at(key, each, place[:, n]) for n, each in enumerate(column)]
                result.set(key, torch.stack(parts, dim=1))
        return result

    def _at(self, key: Key, column: Tensor, place: TensorDict) -> Tensor:
        """Return what rows have of a column ``[N, ...]``, given ``index`` and ``episode_end``."""
        return column[place["index"]]


def check_steps(batch: TensorDict) -> None:
    """Raise on rows that span several steps.

    Args:
        batch: Relabeled rows.

    Raises:
        ValueError: They do.
    """
    if "discount" in batch.keys():
        raise ValueError(
            "the sweep of the log sums single steps, but its rows span several: leave the "
            "relabeler NStep out, lambda does its work"
        )


def _check_tasks(relabel: RelabelView) -> None:
    if {"task", ("next", "reward")} <= set(relabel.call_writes):
        raise ValueError(
            "the sweep of the log sums rewards along an episode, but the relabelers give each of "
            "its rows a task and a reward of its own: leave FutureGoal and FinalGoal out, or train "
            "a learner that needs no sweep, such as IQL"
        )


def _stacked(found: list[dict[Key, Tensor]]) -> dict[Key, Tensor]:
    """Return the columns ``[N]`` of one seed as they are, of several as ``[S, N]``."""
    if len(found) == 1:
        return found[0]
    return {name: torch.stack([each[name] for each in found]) for name in found[0]}
