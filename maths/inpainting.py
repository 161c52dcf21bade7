"""Inpainting: the first actions of a chunk are known, and the rest is made to agree with them.

Known are the actions that are committed: they are executed while the next chunk is computed. They
are put in, without noise, at every point of the way from noise to data, when a network is fitted
and when it acts; errors count behind them only. No gradient is needed when acting.

Reference: Black et al. 2025, "Training-time action conditioning for efficient real-time chunking",
arXiv 2512.05964.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape

When = TypeVar("When", float, int)


def first_entries(count: Tensor, length: int) -> Tensor:
    """Return which of some entries are among the first ones.

    Args:
        count: ``[...]`` int64, how many are.
        length: How many entries there are.

    Returns:
        ``[..., length]`` bool.
    """
    return torch.arange(length, device=count.device) < count.unsqueeze(-1)


def delays(uniform: Tensor, valid: Tensor, *, largest: int) -> Tensor:
    """Return how many first actions of each chunk are given, uniform on 0, ..., largest.

    A chunk that an episode's end cuts keeps one action that is not given, or it would fit nothing.

    Args:
        uniform: ``[...]``, in [0, 1].
        valid: ``[..., C]`` bool, which actions lie in the episode; the first one does.
        largest: D, at least 0.

    Returns:
        ``[...]`` int64, in [0, D].

    Reference:
        Black et al. 2025, arXiv 2512.05964: delays are drawn while training.
    """
    same_shape(uniform=uniform, valid=valid[..., 0])
    drawn = (uniform * (largest + 1)).long().clamp(max=largest)
    return torch.minimum(drawn, valid.sum(-1) - 1)


def put_in(point: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """Return a point with what is known in its first numbers.

    Args:
        point: ``[..., N]``.
        known: ``[..., M]``, M at most N.
        mask: ``[..., M]`` bool, where it is known; elsewhere ``known`` may hold anything.

    Returns:
        ``[..., N]``.
    """
    width = known.shape[-1]
    return torch.cat([torch.where(mask, known, point[..., :width]), point[..., width:]], dim=-1)


def inpainted(
    answer: Callable[[Tensor, When], Tensor], known: Tensor, mask: Tensor
) -> Callable[[Tensor, When], Tensor]:
    """Return a field that sees what is known at every point: what a sampler walks along.

    What it answers for the known numbers means nothing: put them into the end of the walk too.

    Args:
        answer: The field of a network that was fitted to such points.
        known: ``[..., M]``, see :func:`put_in`.
        mask: ``[..., M]`` bool.

    Returns:
        ``(x [..., N], time) -> [..., N]``.
    """
    return lambda point, when: answer(put_in(point, known, mask), when)
