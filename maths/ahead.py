"""Draws of the steps to come, made many at a time: the same numbers, in fewer calls."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

STEPS, COUNTERS = 128, 1024
"""Most steps of an episode, and counters in all, that are drawn at a time."""
MANY = 128
"""Rows that are drawn step by step: they pay for their calls."""

Row = tuple[int, int, int]


class Ahead:
    """Draws of episodes that are played in the order of their numbers.

    A draw is a function of its counter alone, so it does not matter when it is made. One step of
    few rows costs as much as a hundred: calls cost more than numbers. So a step that was not drawn
    is drawn with those after it, and with the first ones of the episodes that begin next.

    Args:
        draw: Counters ``[..., 3]`` int64 to draws ``[..., *shape]`` float32, each of its own.
    """

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        self._draw = draw
        # By key and episode: the first step that was drawn, and the draws of it and those after.
        self._drawn: dict[tuple[int, int], tuple[int, list[Any]]] = {}

    def of(self, counter: Tensor) -> Tensor:
        """Return the draws of a step.

        Args:
            counter: ``[n, 3]`` int64, of different episodes: key, episode, step.

        Returns:
            ``[n, *shape]``, on the CPU unless rows are many.
        """
        if not 0 < len(counter) < MANY:
            return self._draw(counter)
        asked = [(key, episode, step) for key, episode, step in counter.tolist()]
        missing = [row for row in asked if not self._has(row)]
        if missing:
            self._fill(asked, missing)
        found = []
        for key, episode, step in asked:
            first, drawn = self._drawn[key, episode]
            found.append(drawn[step - first])
        return torch.tensor(found, dtype=torch.float32)

    def _has(self, row: Row) -> bool:
        first, drawn = self._drawn.get(row[:2], (0, ()))
        return 0 <= row[2] - first < len(drawn)

    def _fill(self, asked: Sequence[Row], missing: Sequence[Row]) -> None:
        """Draw missing rows and what is likely to follow; forget all other episodes."""
        key, last = max(asked)[:2]
        coming = [(key, last + 1 + number, 0) for number in range(len(asked))]
        kept = {row[:2]: self._drawn[row[:2]] for row in (*asked, *coming) if self._has(row)}
        new = [*missing, *(row for row in coming if not self._has(row))]
        steps = max(1, min(STEPS, COUNTERS // len(new)))
        counter = torch.tensor(new).repeat(steps, 1, 1)
        counter[..., 2] += torch.arange(steps)[:, None]
        drawn = self._draw(counter).transpose(0, 1).tolist()
        made = {row[:2]: (row[2], each) for row, each in zip(new, drawn, strict=True)}
        self._drawn = kept | made
