"""Batch-constrained Q-learning: the actions that the log supports, and their values.

A discrete action is allowed if the log's policy takes it nearly as often as its likeliest one.
Continuous actions are drawn from a model of the log.
"""

import math

from torch import Tensor


def allowed_actions(log_prob: Tensor, *, threshold: float) -> Tensor:
    """Return which actions have more than a share of the likeliest one's probability.

    Args:
        log_prob: ``[..., n]``, log-probability of every action under the log's policy, nats; up to
            a constant per row, so logits serve as well.
        threshold: In [0, 1); 0 allows all, and near 1 only the likeliest is left.

    Returns:
        ``[..., n]`` bool; the likeliest action is always allowed.

    Raises:
        ValueError: ``threshold`` is outside [0, 1).

    Reference:
        Fujimoto et al. 2019, "Benchmarking batch deep reinforcement learning algorithms", arXiv
        1910.01708.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is {threshold}, it must lie in [0, 1)")
    # Compared as logarithms: an action of probability exp(-200) is allowed at threshold 0.
    least = math.log(threshold) if threshold else -math.inf
    return log_prob - log_prob.amax(-1, keepdim=True) > least


def soft_clipped_minimum(value: Tensor, *, min_weight: float) -> Tensor:
    """Return w * min + (1 - w) * max over several estimates of one value.

    Args:
        value: ``[E, ...]``, one estimate per critic, reward units.
        min_weight: w in [0, 1]; 1 is the minimum of double Q-learning.

    Returns:
        ``[...]``, reward units.

    Raises:
        ValueError: ``min_weight`` is outside [0, 1].

    Reference:
        Fujimoto, Meger and Precup 2019, arXiv 1812.02900, algorithm 1.
    """
    if not 0 <= min_weight <= 1:
        raise ValueError(f"min_weight is {min_weight}, it must lie in [0, 1]")
    return min_weight * value.amin(0) + (1.0 - min_weight) * value.amax(0)
