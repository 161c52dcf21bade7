"""What the losses of one batch read and say: the values that learners and update loops share."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import FIRST, PREFERENCE, SECOND, Key
from hindsight_rl.maths.losses import td_target

# What a learner reads that learns from single transitions.
TRANSITION: tuple[Key, ...] = (
    "observation",
    "action",
    ("next", "observation"),
    ("next", "reward"),
    ("next", "terminated"),
)


# What a learner reads that learns from two segments and which of them is better.
COMPARISON: tuple[Key, ...] = (
    (FIRST, "observation"),
    (FIRST, "action"),
    (SECOND, "observation"),
    (SECOND, "action"),
    PREFERENCE,
)
COMPARISON_TASKS: tuple[Key, ...] = ((FIRST, "task"), (SECOND, "task"))
# What it reads beside them where it values what follows the steps of the segments.
COMPARED_STEPS: tuple[Key, ...] = (
    (FIRST, "next", "observation"),
    (FIRST, "next", "terminated"),
    (SECOND, "next", "observation"),
    (SECOND, "next", "terminated"),
)


class LossTerms(NamedTuple):
    """What one batch says: named scalars to minimise, and detached scalars to look at.

    Of several updates each value is ``[K]``, of several seeds ``[K, S]``.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor]


def row_discount(batch: TensorDict, constant: float) -> Tensor:
    """Return the bootstrap discount ``[B]`` of each row: its own where it has one."""
    own = batch.get("discount", None)
    return torch.full_like(batch["next", "reward"], constant) if own is None else own


def bootstrap(batch: TensorDict, next_value: Tensor, constant: float) -> Tensor:
    """Return what a critic regresses on, r + discount * (1 - terminated) * V(s').

    Args:
        batch: TensorDict ``[B]`` of transitions.
        next_value: ``[B]``, value of each next observation, reward units; ``[E, ..., B]`` where
            several estimates have a target each.
        constant: Discount of rows that bring none of their own, in [0, 1].

    Returns:
        As many as there are next values, reward units, without gradient.
    """
    reward, over = batch["next", "reward"], batch["next", "terminated"]
    discount = row_discount(batch, constant)
    if next_value.ndim > reward.ndim and next_value.shape[-1:] == reward.shape:
        shape = next_value.shape
        reward, over, discount = reward.expand(shape), over.expand(shape), discount.expand(shape)
    return td_target(reward, over, next_value, discount)


def named(part: str, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return metrics of one part of a learner under that part's name: ``actor/weight``."""
    return {f"{part}/{name}": value for name, value in metrics.items()}


def chunk_means(found: LossTerms, datamodule: object) -> dict[str, float]:
    """Return the means of a chunk, with what its relabelers measured.

    Args:
        found: Terms and metrics of each update ``[K]``.
        datamodule: Of the trainer; ``None``, or one without relabelers, adds nothing.

    Returns:
        Numbers under ``train/`` and ``data/``.
    """
    values = {**found.terms, **found.metrics}
    means = {f"train/{name}": float(value.mean()) for name, value in values.items()}
    seen = getattr(getattr(datamodule, "relabel", None), "metrics", {})
    return means | {f"data/{name}": float(value) for name, value in seen.items()}
