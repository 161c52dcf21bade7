"""Bounds of actions as the facts of a log hold them: ``None`` where a dimension has none."""

import math
from typing import Any

import torch
from torch import Tensor


def open_ends(bound: Any, side: str) -> Tensor:
    """Return one side of stated bounds with infinity where it is open.

    Args:
        bound: A number, or a list of numbers and ``None`` (of infinities, in older logs).
        side: ``low`` or ``high``.

    Returns:
        Float32 of the shape of ``bound``.

    Raises:
        TypeError: It holds something other than numbers and ``None``.
        ValueError: It is a list of unequal lists.
    """
    is_open = -math.inf if side == "low" else math.inf
    return torch.tensor(_filled(bound, is_open), dtype=torch.float32)


def _filled(bound: Any, is_open: float) -> Any:
    if isinstance(bound, list):
        return [_filled(end, is_open) for end in bound]
    return is_open if bound is None else bound


def stated(ends: Any) -> Any:
    """Return bounds for the facts of a log.

    Args:
        ends: Nested lists of numbers, infinite where there is no bound.

    Returns:
        The same with ``None`` in the place of infinity; ``None`` where no dimension has a bound.
    """
    listed = _listed(ends)
    return listed if _any(listed) else None


def _listed(ends: Any) -> Any:
    if isinstance(ends, list):
        return [_listed(end) for end in ends]
    return ends if math.isfinite(ends) else None


def _any(listed: Any) -> bool:
    return any(map(_any, listed)) if isinstance(listed, list) else listed is not None
