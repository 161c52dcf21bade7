"""The arithmetic of one update that both update paths share.

The eager loop (:mod:`hindsight_rl.training.update.loop`) writes in place, the compiled engine
(:mod:`hindsight_rl.training.update.engine`) returns new tensors and makes its numbers for a whole
chunk at once. When something is due, how far a target moves, by what a gradient is scaled and how a
rate falls is said here, once. Updates are numbered from 0.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Number = TypeVar("Number", int, Any)
"""An update number, or a NumPy array of them."""

# Added to a norm before division, as torch.nn.utils does.
_TINY = 1e-6


def due(number: Number, interval: int, begin: int = 0) -> Any:
    """Return whether what moves every so many updates moves at this one, counted from 1.

    Args:
        number: Update, counted from 0; an array gives an array.
        interval: At least 1; 1 is always due.
        begin: Updates before the first at which it may move.

    Returns:
        bool, or an array of bool.
    """
    return ((number + 1) % interval == 0) & (number >= begin)


def moves_before(number: Number, interval: int, begin: int = 0) -> Any:
    """Return at how many updates before this one :func:`due` holds.

    Args:
        number: Update, counted from 0; an array gives an array.
        interval: At least 1.
        begin: Updates before the first at which it may move.

    Returns:
        int, or an array of them.
    """
    return np.maximum(number, begin) // interval - begin // interval


def target_rate(number: Number, interval: int, tau: float, until: int | None = None) -> Any:
    """Return the share of the way that a target network moves at an update, 0 where not due.

    Args:
        number: Update, counted from 0; an array gives an array.
        interval: Updates between two moves, at least 1.
        tau: Share of the way of one move, in (0, 1].
        until: Updates after which it moves no more, at least 0; ``None`` for no end.

    Returns:
        In [0, 1].
    """
    rate = tau * due(number, interval)
    return rate if until is None else rate * (number < until)


def in_phase(name: str, phase: tuple[str, ...] | None) -> bool:
    """Return whether a network moves in a phase; ``None`` is the phase of all."""
    return phase is None or name in phase


def clip_factor(norm: Tensor, limit: float) -> Tensor:
    """Return what a gradient is multiplied by, ``[]``, so that its norm is at most the limit.

    Args:
        norm: ``[]``, the gradient's norm.
        limit: Largest norm, above 0.

    Returns:
        At most 1.
    """
    return (limit / (norm + _TINY)).clamp(max=1.0)


def cosine(number: int, horizon: int) -> float:
    """Return the share of its first value that a rate has at an update: from 1 to 0 on a cosine.

    Args:
        number: Update, counted from 0.
        horizon: Updates after which it is 0, at least 1.

    Returns:
        In [0, 1].
    """
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, number / horizon)))


def set_rates(optimizer: torch.optim.Optimizer, decay: Mapping[str, int], number: int) -> None:
    """Give the optimiser's groups the rates of an update.

    Args:
        optimizer: Its groups have a ``name`` and an ``initial_lr``.
        decay: Updates after which a group's rate is 0, by name; other groups are left alone.
        number: Update, counted from 0.
    """
    for group in optimizer.param_groups if decay else ():
        horizon = decay.get(group["name"])
        if horizon:
            group["lr"] = group["initial_lr"] * cosine(number, horizon)
