"""Ensembles of critics: whose word a target takes, and which the policy climbs (REDQ, EDAC)."""

from torch import Tensor

from hindsight_rl.maths.ensembles import gradient_alignment, subset_minimum
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.ensembles import action_gradients


def check_ensemble(critics: int, *, subset: int | None, diversity: float) -> None:
    """Check the options of an ensemble of critics.

    Args:
        critics: Number of critics, at least 1.
        subset: Number of critics that make a target, in [1, critics]; ``None`` for all.
        diversity: Weight of the likeness of their slopes, at least 0, and 0 for one critic.

    Raises:
        ValueError: An option is out of range.
    """
    if subset is not None and not 1 <= subset <= critics:
        raise ValueError(f"subset is {subset}, it must lie in [1, {critics}], the critics, or null")
    if not diversity >= 0 or (diversity and critics < 2):
        raise ValueError(
            f"diversity is {diversity}: it must be at least 0, and above 0 needs 2 critics or more"
        )


def target_value(value: Tensor, lots: Tensor | None, *, subset: int | None) -> Tensor:
    """Return what a target takes of critics: the least, of all or of those that each row drew.

    Args:
        value: ``[E, m, B]``, reward units.
        lots: ``[B, E]`` random numbers; for a subset.
        subset: Number of critics whose least value counts; ``None`` for all.

    Returns:
        ``[m, B]``, reward units.

    Raises:
        ValueError: There are no lots for a subset.

    Reference:
        Chen et al. 2021, arXiv 2101.05982, algorithm 1.
    """
    if subset is None:
        return value.amin(0)
    if lots is None:
        raise ValueError("a subset of critics is drawn: pass lots [B, E]")
    return subset_minimum(value, lots, subset=subset)


def climbed_value(value: Tensor, subset: int | None) -> Tensor:
    """Return what a policy climbs, ``[m, B]``: the least of critics ``[E, m, B]``.

    With a subset it is the mean of all (REDQ, algorithm 1).
    """
    return value.amin(0) if subset is None else value.mean(0)


def slope_likeness(
    critic: Critic, observation: Tensor, action: Tensor, task: Tensor | None
) -> Tensor:
    """Return how alike the slopes of critics by the action are, ``[B]``.

    Args:
        critic: At least 2 members.
        observation: ``[B, O]``.
        action: ``[B, A]`` in environment units.
        task: ``[B, Z]`` where the spec has a task.

    Returns:
        The sum of the cosines of all pairs over the number of critics less 1.

    Reference:
        An et al. 2021, arXiv 2110.01548, algorithm 1.
    """
    return gradient_alignment(action_gradients(critic, observation, action, task))
