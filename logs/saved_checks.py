"""Values of a saved log: what no reader lets into a log is an error when one is read back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.keys import ACTION, EPISODE, EPISODE_END, EXPERT_ACTION, STEP, key_name
from hindsight_rl.logs.action_bounds import open_ends
from hindsight_rl.logs.checks import ROUNDING
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import HEADER, ROWS
from hindsight_rl.logs.packed import PackedColumns

_SWEEP = 1 << 20  # words looked at together: they stay in the cache


def check_values(
    block: PackedColumns, rows: Tensor | None, info: Mapping[str, Any], folder: Path
) -> None:
    """Check for values that no reader lets into a log; one sweep, megabytes at a time.

    Args:
        block: All columns.
        rows: Drawable rows, ``None`` for all.
        info: Facts of the log, ``action`` bounds among them.
        folder: Where it lies, for messages.

    Raises:
        LogError: NaN or infinity, an action beyond its bounds, episodes that do not fit together,
            or drawable rows the log does not have.
    """
    count = len(block.matrix)
    if rows is not None and len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        problem = f"drawable rows from {int(rows.min())} to {int(rows.max())} of a log of {count}"
        raise LogError(f"{ROWS} names {problem}", "Write the log again.", path=folder)
    bounds = _bounds(block, info, folder)
    step = max(1, _SWEEP // max(1, block.matrix.shape[1]))
    for start in range(0, count, step):
        part = PackedColumns(block.matrix[start : start + step], block.columns)
        _check_finite(part, start, folder)
        _check_bounds(part, start, bounds, folder)
        # One row more on the left: whether an episode goes on is a matter of two rows.
        left = max(0, start - 1)
        _check_episodes(
            PackedColumns(block.matrix[left : start + step], block.columns), left, count, folder
        )


def _check_finite(part: PackedColumns, start: int, folder: Path) -> None:
    for key, column in part.columns.items():
        if column.dtype != "float32" or not column.width:
            continue
        value = part.column(key).reshape(len(part.matrix), -1)
        # A sum is finite if all are, unless it overflows; it costs a tenth of looking at each.
        if bool(torch.isfinite(value.sum())):
            continue
        bad = ~torch.isfinite(value).all(1)
        if key == EXPERT_ACTION:  # NaN where nobody said
            bad &= ~value.isnan().all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            problem = (
                f"{value[row][~torch.isfinite(value[row])][0].item()} is no number to learn from"
            )
            fix = "Fix the source and write the log again."
            raise LogError(problem, fix, path=folder, column=key_name(key), row=start + row)


def _bounds(
    block: PackedColumns, info: Mapping[str, Any], folder: Path
) -> list[tuple[str, Tensor]]:
    """Return the stated bounds of actions, widened by what rounding to float32 may add."""
    column, given = block.columns[ACTION], info.get("action") or {}
    if column.dtype != "float32":
        return []
    found: list[tuple[str, Tensor]] = []
    for side, sign in (("low", -1.0), ("high", 1.0)):
        try:
            stated = given.get(side)
            if stated is None:
                continue
            bound = open_ends(stated, side).expand(column.shape)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            problem = f"{HEADER} is damaged (action bounds {given!r})"
            raise LogError(problem, "Write the log again.", path=folder) from error
        found.append((side, bound + sign * ROUNDING * (1 + bound.abs())))
    return found


def _check_bounds(
    part: PackedColumns, start: int, bounds: Sequence[tuple[str, Tensor]], folder: Path
) -> None:
    for side, bound in bounds:
        action = part.column(ACTION)
        outside = action < bound if side == "low" else action > bound
        if bool(outside.any()):
            where = outside.nonzero()[0].tolist()
            problem = f"{action[tuple(where)].item():g} lies beyond the '{side}' bound of the log"
            fix = "Correct the bounds or the actions at the source and write the log again."
            raise LogError(problem, fix, path=folder, column=key_name(ACTION), row=start + where[0])


def _check_episodes(part: PackedColumns, start: int, count: int, folder: Path) -> None:
    """Check that episode, step and episode_end agree; ``start`` is the number of row 0."""
    episode, step, end = (part.column(key) for key in (EPISODE, STEP, EPISODE_END))
    row = torch.arange(start, start + len(step))
    good = (step >= 0) & (end >= row) & (end < count) & ((row < count - 1) | (end == row))
    if start == 0:
        good[0] &= (episode[0] == 0) & (step[0] == 0)
    on = episode[1:] == episode[:-1]
    going = (step[1:] == step[:-1] + 1) & (end[1:] == end[:-1])
    fresh = (episode[1:] == episode[:-1] + 1) & (step[1:] == 0) & (end[:-1] == row[:-1])
    good[1:] &= torch.where(on, going, fresh)
    if not bool(good.all()):
        bad = int((~good).nonzero()[0])
        problem = (
            f"episode {int(episode[bad])}, step {int(step[bad])} and episode_end {int(end[bad])} "
            f"do not fit a log of {count} rows or the row before"
        )
        raise LogError(problem, "Write the log again.", path=folder, row=start + bad)
