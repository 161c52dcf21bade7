"""Schedule: what differs from update to update beside state and batch.

Rates, Adam's bias corrections, which networks are due and how far targets move: numbers of a table
that is made per chunk, so that one compiled update serves all.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.training.update.adam import Rule
from hindsight_rl.training.update.state import SeedStates
from hindsight_rl.training.update.steps import due, moves_before, target_rate

if TYPE_CHECKING:
    from hindsight_rl.training.module import LearnerModule

# Rate, 1 - beta1^t, sqrt(1 - beta2^t), and 1 where the group is due.
_COLUMNS = 4


class Schedule:
    """The tables of a run's updates.

    Args:
        learner: The learner; of it only ``targets``, ``tau``, ``every`` and ``until`` are used.
        optimizer: Its groups give the rates; the steps of its state are counted here.
        states: The state.
        rules: The groups, in the order of the state.
    """

    def __init__(
        self,
        learner: "LearnerModule",
        optimizer: torch.optim.Optimizer,
        states: SeedStates,
        rules: Sequence[Rule],
    ) -> None:
        self._groups, self._rules = optimizer.param_groups, rules
        self._steps = [_joined(optimizer, group["params"]) for group in optimizer.param_groups]
        self._device = states.state.parameters.device
        self._tau = learner.tau
        # When targets move: at every how manyth update, and until which.
        every, until = learner.every, learner.until
        moves = {name: (every.get(name, 1), until.get(name)) for name in learner.targets}
        self._moves = list(dict.fromkeys(moves.values()))
        # The number of each target parameter's moves [Q], where any waits or ends.
        self._moves_of: Tensor | None = None
        if any(move != (1, None) for move in self._moves):
            layout = states.layouts[1]
            of = [self._moves.index(moves[name.split(".", 1)[0]]) for name in layout.shapes]
            spread = torch.tensor(of).repeat_interleave(torch.tensor(layout.sizes))
            self._moves_of = spread.to(self._device)

    def table(self, updates: int, rates: Callable[[int], None] | None, first: int) -> Tensor:
        """Return one row per update of a chunk, ``[K, 4 G + R]`` float32.

        Made in double precision: in float32, 1 - beta^t loses half its digits at the start.

        Args:
            updates: K.
            rates: Sets the optimiser's rates for an update number; ``None`` if they never change.
            first: Number of the first update, counted from 0.

        Returns:
            Four numbers per group, then how far targets go that move alike.
        """
        table = np.empty((updates, len(self._rules), _COLUMNS))
        number = first + np.arange(updates)
        for column, (rule, steps) in enumerate(zip(self._rules, self._steps, strict=True)):
            moves = moves_before(number + 1, rule.every, rule.begin)
            step = int(steps[0]) + moves - moves_before(first, rule.every, rule.begin)
            for place, beta in zip((1, 2), rule.betas, strict=True):
                # Before its first step what comes of it is thrown away; only not to divide by 0.
                table[:, column, place] = 1 - beta ** np.maximum(step, 1)
            table[:, column, 3] = due(number, rule.every, rule.begin)
        table[:, :, 2] = np.sqrt(table[:, :, 2])
        for update in range(updates if rates else 1):
            if rates:
                rates(first + update)
            now = [float(group["lr"]) for group in self._groups]
            table[update if rates else slice(None), :, 0] = now
        ways = self._moves if self._moves_of is not None else ()
        moves = [target_rate(number, interval, self._tau, until) for interval, until in ways]
        whole = np.column_stack([table.reshape(updates, -1), *moves])
        return torch.from_numpy(whole).float().to(self._device, non_blocking=True)

    def split(self, row: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the numbers of every group ``[G, 4]``, and how far targets move, ``[Q]`` or one.

        Args:
            row: ``[4 G + R]``, of one update.

        Returns:
            Both parts.
        """
        end = _COLUMNS * len(self._rules)
        moves = self._tau if self._moves_of is None else row[end:][self._moves_of]
        return row[:end].view(-1, _COLUMNS), moves

    def count(self, updates: int, first: int) -> None:
        """Count the steps of a chunk in the optimiser's state."""
        for rule, steps in zip(self._rules, self._steps, strict=True):
            before, after = (
                moves_before(number, rule.every, rule.begin) for number in (first, first + updates)
            )
            steps += int(after - before)


def _joined(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Tensor:
    """Make the steps of a group's parameters views of one tensor, which is counted at once."""
    entries = [optimizer.state[parameter] for parameter in parameters]
    steps = torch.stack([entry["step"] for entry in entries])
    for entry, step in zip(entries, steps.unbind(), strict=True):
        entry["step"] = step
    return steps
