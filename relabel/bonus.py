"""What bonuses of exploration have in common: how they enter the reward, and their unit."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_choices, check_ranges, within
from hindsight_rl.keys import REWARD, Key, key_name
from hindsight_rl.maths.coverage import discounted_sums
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.chain import parts_of
from hindsight_rl.relabel.relabeler import Relabeler

Sign = Literal["bonus", "penalty"]
SCALED = 1 << 16
"""Rows, the newest, that the unit of a bonus is found from."""
FLOOR = 1e-2
"""Least spread that numbers are divided by: a constant one would be blown up."""


@dataclass(frozen=True)
class Pay:
    """How a bonus enters the reward: ``keep * reward + coefficient * bonus / scale``.

    Args:
        coefficient: At least 0; at 1 the bonus is as large as returns of 1.
        keep: Factor of the reward that rows have, at least 0; 0 leaves the bonus alone.
        sign: ``"penalty"`` takes it off.
        discount: Of the sums of bonuses whose spread is the scale, in [0, 1).
        scale: Divide by that spread; else the bonus is as it comes.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    coefficient: float
    keep: float = 1.0
    sign: Sign = "bonus"
    discount: float = 0.99
    scale: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choices(Pay, vars(self))
        check_ranges(at_least(0, coefficient=self.coefficient, keep=self.keep))
        check_ranges(within("[0, 1)", discount=self.discount))

    @property
    def nothing(self) -> bool:
        """Whether rewards stay as they are."""
        return self.coefficient == 0 and self.keep == 1

    @property
    def explores(self) -> bool:
        """Whether what is rare is rewarded, which is for a policy that collects."""
        return self.sign == "bonus" and self.coefficient > 0

    def into(self, batch: TensorDict, bonus: Tensor) -> TensorDict:
        """Return a batch with the bonus in its reward.

        Args:
            batch: Transitions ``[K, B]``.
            bonus: ``[K, B]``, scaled.

        Returns:
            A shallow copy.
        """
        side = self.coefficient if self.sign == "bonus" else -self.coefficient
        reward = self.keep * batch[REWARD] + side * bonus
        return batch.copy().set("next", batch["next"].copy().set("reward", reward))

    def spread(self, bonus: Tensor, first: Tensor) -> float:
        """Return the standard deviation of the discounted sums of bonuses along episodes.

        Args:
            bonus: ``[N]``, rows in order.
            first: ``[N]`` bool, True on the first row of each episode.

        Returns:
            Above 0: 1 where sums do not differ, or bonuses are not scaled.
        """
        if not self.scale:
            return 1.0
        found = float(discounted_sums(bonus, first, discount=self.discount).std(correction=0))
        return found if found > 0 else 1.0


class RowBonus(Relabeler):
    """Base class: a bonus that a log says of each of its rows, looked up in every batch.

    Args:
        pay: How it enters the reward.
    """

    out_keys = (REWARD,)
    adds_to_reward = True

    def __init__(self, pay: Pay) -> None:
        super().__init__()
        self.pay, self.explores = pay, pay.explores
        self._bonus = torch.empty(0)

    def _known(self, log: LogView, bonus: Tensor) -> None:
        """Take the bonuses ``[N]`` of the rows of a log, and scale them."""
        rows = log.drawable()
        self._bonus = bonus / self.pay.spread(bonus[rows], log.column("step")[rows] == 0)

    @abstractmethod
    def prepare(self, log: LogView) -> "RowBonus":
        """Return a copy that knows the bonus of every row; see :meth:`Relabeler.prepare`."""

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with the bonus in its reward.

        Args:
            batch: TensorDict ``[..., B]``.

        Returns:
            TensorDict of the same shape.
        """
        if self.pay.nothing:
            return batch
        bonus = self._bonus.to(batch["index"].device)[batch["index"]]
        self.metrics = {"bonus": bonus.mean()}
        return self.pay.into(batch, bonus)


class Unit:
    """The scale of a bonus that is learned: found once in every round, and kept over a resume.

    Args:
        pay: How the bonus enters the reward.
        rows: The newest rows of the log, in order.
        first: Which of them begin an episode.
    """

    def __init__(self, pay: Pay, rows: TensorDict, first: Tensor) -> None:
        self._pay, self._rows, self._first = pay, rows, first
        self._mark = _mark(rows)
        self._known: dict[str, Any] = {}

    def of(self, bonus: Callable[[TensorDict], Tensor]) -> float:
        """Return the scale.

        Args:
            bonus: What gives the bonuses of rows ``[N]``; asked where the rows are new.

        Returns:
            Above 0.
        """
        if self._known.get("mark") != self._mark:
            found = bonus(self._rows).cpu() if self._pay.scale else torch.zeros(len(self._first))
            self._known = {"mark": self._mark, "scale": self._pay.spread(found, self._first)}
        return float(self._known["scale"])

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, and which rows it is of."""
        return dict(self._known)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the scale of a checkpoint, if it is of these rows."""
        self._known = dict(state)


def _mark(rows: TensorDict) -> int:
    """Return a number that tells rows from others: exact, whatever the number of threads."""
    total = 0
    for value in rows.values(include_nested=True, leaves_only=True):
        words = value.contiguous().view(torch.int32).long().flatten()
        place = torch.arange(1, len(words) + 1) & 0xFFFF
        total = (total * 31 + int((words * place).sum())) % (1 << 62)
    return total


def newest_rows(log: LogView, keys: Sequence[Key]) -> tuple[TensorDict, Tensor]:
    """Return the newest rows of a log that may be drawn, and which of them begin an episode.

    Args:
        log: The log.
        keys: Columns that are wanted; actions that are choices are numbered from 0.

    Returns:
        Rows ``[N]``, N at most :data:`SCALED`, and flags ``[N]``.
    """
    rows = log.drawable()[-SCALED:]
    found = TensorDict(batch_size=[len(rows)])
    for key in keys:
        value = log.column(key)[rows]
        if not value.is_floating_point():
            value = value - int(log.info.get("action_start") or 0)
        found.set(key, value)
    return found, log.column("step")[rows] == 0


def chosen_columns(log: LogView, key: Key, columns: Sequence[int] | None) -> list[int]:
    """Return which numbers of an observation are looked at.

    Args:
        log: The log.
        key: Of the observation.
        columns: Their places, ``None`` for all.

    Returns:
        Places.

    Raises:
        ValueError: A place is outside of the observation, or observations are no rows of numbers.
    """
    value = log.column(key)
    if value.ndim != 2 or not value.is_floating_point():
        raise ValueError(
            f"'{key_name(key)}' has shape {list(value.shape[1:])}, and a bonus looks at one row of "
            "numbers: images and entries have none yet"
        )
    width = value.shape[1]
    places = list(range(width)) if columns is None else list(columns)
    if not places or not all(0 <= place < width for place in places):
        raise ValueError(
            f"columns is {places}: give places of '{key_name(key)}', from 0 to {width - 1}"
        )
    return places


def standard(value: Tensor, log: LogView) -> tuple[Tensor, Tensor]:
    """Return mean and spread ``[F]`` of a log's numbers ``[N, F]`` over the rows that may be drawn.

    Args:
        value: Of all rows.
        log: The log.

    Returns:
        The spread is at least :data:`FLOOR`.
    """
    seen = value[log.drawable()]
    return seen.mean(0), seen.std(0, correction=0).clamp_min(FLOOR)


def check_learning(hidden: Sequence[int], learning_rate: float) -> None:
    """Raise where a network of a bonus has no layers to speak of, or does not move.

    Args:
        hidden: Widths of its layers.
        learning_rate: Of Adam.

    Raises:
        ValueError: A width is below 1, there is none, or the rate is not above 0.
    """
    if not hidden or any(width < 1 for width in hidden):
        raise ValueError(f"hidden is {list(hidden)}: give at least one layer of at least 1 unit")
    check_ranges(above(0, learning_rate=learning_rate))


def check_of_fixed_log(relabel: Relabeler) -> None:
    """Raise on a bonus for what is rare, where nobody collects more of it.

    Args:
        relabel: The relabelers.

    Raises:
        ValueError: Naming the one that gives it.
    """
    names = [type(part).__name__ for part in parts_of(relabel) if part.explores]
    if names:
        raise ValueError(
            f"{names[0]} rewards what the log rarely shows, and on a fixed log nobody goes there "
            "to look: the policy would be drawn to what is least known. Set its sign to 'penalty', "
            "which keeps a policy near the log, or use an IteratedDataModule (data: "
            "IteratedDataModule), which collects"
        )
