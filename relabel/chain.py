"""Relabelers one after another, stage by stage."""

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import COMPANION, DRAWS, REWARD, TASK, Key, key_name
from hindsight_rl.maths.draws import fork
from hindsight_rl.ports import LearnerView, LogView
from hindsight_rl.relabel.relabeler import Relabeler, Values
from hindsight_rl.windows import ActionWindow

_NEW_GOALS = {"task", ("next", "reward")}


class Compose(Relabeler):
    """Relabelers in order; an empty one is the identity.

    Order holds stage by stage. First every part is prepared, each on the log with the columns and
    rows that its predecessors left; then, in every batch, ``Compose([a, b])(batch) ==
    b(a(batch))``. A part whose ``prepare`` works on what an earlier part rewrites only in the batch
    would come too early: such a chain raises an error. So do n-step transitions beside new goals,
    in either order: the sum of rewards would belong to one task and the rest of the row to another.

    Each part draws from its own stream, so two equal relabelers in a row draw differently.

    Args:
        relabelers: The parts, first to last.
    """

    def __init__(self, relabelers: list[Relabeler] | None = None) -> None:
        super().__init__()
        self.relabelers = list(relabelers or [])

    @property
    def call_writes(self) -> tuple[Key, ...]:
        """Keys that any part rewrites in the batch."""
        return tuple(dict.fromkeys(key for part in self.relabelers for key in part.call_writes))

    @property
    def companion_reads(self) -> tuple[Key, ...] | None:
        """Keys that any part reads of companions."""
        found: list[Key] = []
        for part in self.relabelers:
            if part.companion_reads is None:
                return None
            found += part.companion_reads
        return tuple(found)

    def prepare(self, log: LogView) -> "Compose":
        """Return a copy whose parts are bound, each to the log its predecessors left.

        Args:
            log: The log.

        Returns:
            The bound chain; its ``columns`` and ``rows`` are those of all parts.

        Raises:
            ValueError: Two parts do not go together, or not in this order.
        """
        parts: list[Relabeler] = []
        columns: dict[Key, Tensor] = {}
        for relabeler in self.relabelers:
            for later in parts_of(relabeler):
                for earlier in (one for part in parts for one in parts_of(part)):
                    _check_pair(earlier, later)
            part = relabeler.prepare(log)
            log = log.with_columns(part.columns).with_rows(part.rows)
            columns |= part.columns
            parts.append(part)
        flags = [part.labelled for part in parts if part.labelled is not None]
        labelled = torch.stack(flags).all(0) if flags else None
        other = self.bound(columns=columns, rows=log.rows, labelled=labelled)
        other.relabelers = parts
        return other

    def check_learner(self, learner: LearnerView) -> None:
        """Have every part look at the learner that reads the batches."""
        for part in self.relabelers:
            part.check_learner(learner)

    def starts(self, log: LogView, learner: LearnerView) -> Tensor | None:
        """Return the rows that may be drawn for a learner, each part looking at those before."""
        for part in self.relabelers:
            log = log.with_rows(part.starts(log, learner))
        return log.rows

    def windowed(
        self, part: str, rows: Tensor, values: dict[Key, Tensor], use: ActionWindow | None
    ) -> dict[Key, Tensor]:
        """Return gathered windows after all parts."""
        for relabeler in self.relabelers:
            values = relabeler.windowed(part, rows, values, use)
        return values

    def use(self, values: Values | None) -> None:
        """Give the learner's soft values to all parts."""
        for part in self.relabelers:
            part.use(values)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the parts that have one, by their position."""
        states = {str(number): part.state_dict() for number, part in enumerate(self.relabelers)}
        return {number: state for number, state in states.items() if state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the parts their state; those without one start anew.

        Args:
            state: What :meth:`state_dict` returned.
        """
        for number, part in enumerate(self.relabelers):
            part.load_state_dict(state.get(str(number), {}))

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return the rows all parts ask for, each name prefixed by the part's position.

        Args:
            index: ``[K, B]`` int64 row numbers.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            Row numbers ``[K, B]`` int64 by name.
        """
        return {
            f"{position}/{name}": rows
            for position, part in enumerate(self.relabelers)
            for name, rows in part.companions(index, fork(draws, position)).items()
        }

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch after all parts, without companions; where there is none, itself."""
        if not self.relabelers:
            return batch
        draws, companions = batch[DRAWS], batch.get(COMPANION, None)
        work = batch.copy()
        for position, part in enumerate(self.relabelers):
            work.set(DRAWS, fork(draws, position))
            if companions is not None:
                work.set(COMPANION, _scope(companions, f"{position}/"))
            work = part(work)
        self.metrics = {k: v for part in self.relabelers for k, v in part.metrics.items()}
        work.set(DRAWS, draws)
        return work.del_(COMPANION) if COMPANION in work.keys() else work


def parts_of(relabeler: Relabeler) -> list[Relabeler]:
    """Return the parts of nested chains, first to last.

    Args:
        relabeler: A chain, or one alone.

    Returns:
        Relabelers, none of them a chain.
    """
    if not isinstance(relabeler, Compose):
        return [relabeler]
    return [part for inner in relabeler.relabelers for part in parts_of(inner)]


def _check_pair(earlier: Relabeler, later: Relabeler) -> None:
    """Check that the stages of two parts act in the order in which the parts are written."""
    one, two = type(earlier).__name__, type(later).__name__
    new_goals = [_NEW_GOALS <= {*part.out_keys} for part in (earlier, later)]
    many_steps = ["discount" in part.out_keys for part in (earlier, later)]
    if (new_goals[0] and many_steps[1]) or (many_steps[0] and new_goals[1]):
        raise ValueError(
            f"{one} and {two} together have no meaning: rewards summed over several steps belong "
            f"to the logged task, a new goal judges single steps; leave one of the two out"
        )
    for own, other in ((earlier, later), (later, earlier)):
        if own.of_own_task and TASK in other.out_keys:
            raise ValueError(
                f"{type(own).__name__} and {type(other).__name__} together have no meaning: what "
                "the one writes belongs to the row's own task, and the other gives the row another "
                "task; leave one of the two out"
            )
    needed = {*later.prepare_reads}
    if type(later).__call__ is Relabeler.__call__:
        needed |= {*later.out_keys}  # its columns would be overwritten
    late = [key for key in earlier.call_writes if key in needed]
    if not late:
        _check_reward(earlier, later)
        return
    names = ", ".join(f"'{key_name(key)}'" for key in late)
    if one == two:
        raise ValueError(f"{one} stands twice, and the second works on {names}: leave one out")
    why = " (rewards of new goals are those of its task family)" if new_goals[0] else ""
    raise ValueError(
        f"{two} is prepared on {names} of the log, but {one}, which stands before it, rewrites "
        f"that afterwards: put {two} before {one}{why}"
    )


def _check_reward(earlier: Relabeler, later: Relabeler) -> None:
    """Check that the later of two parts does not throw away what the earlier one added."""
    anew = REWARD in later.call_writes and not later.adds_to_reward
    if anew and earlier.adds_to_reward:
        one, two = type(earlier).__name__, type(later).__name__
        raise ValueError(
            f"{one} adds to the reward of a row, and {two}, which stands behind it, gives the row "
            f"another: put {two} before {one}, or leave {one} out"
        )


def _scope(companions: TensorDict, prefix: str) -> TensorDict:
    names = [name for name in companions.keys() if name.startswith(prefix)]
    return TensorDict(
        {name.removeprefix(prefix): companions[name] for name in names}, companions.batch_size
    )
