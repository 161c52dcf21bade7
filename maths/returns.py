"""Sums over the rest of an episode, for all episodes of a log at once.

Rows of one episode are adjacent and in order; ``last`` marks the final row of each. Every function
is one reverse linear recurrence, evaluated by doubling in about log2(longest episode) vector
operations instead of one Python step per row. The sums are targets: no gradient flows through them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


def reverse_scan(term: Tensor, carry: Tensor) -> Tensor:
    """Return y with y[t] = term[t] + carry[t] * y[t + 1], and y = 0 past the end.

    Args:
        term: ``[N]`` real.
        carry: ``[N]`` real; 0 on the last row of an episode keeps episodes apart.

    Returns:
        ``[N]`` float64.

    Raises:
        ValueError: The shapes differ or are not one-dimensional.
    """
    if term.shape != carry.shape or term.ndim != 1:
        shapes = f"term {tuple(term.shape)} and carry {tuple(carry.shape)}"
        raise ValueError(f"{shapes} must have one shape [N]; scalars per row are [N], never [N, 1]")
    total, factor = term.detach().double().clone(), carry.detach().double().clone()
    stride = 1
    while stride < len(total) and bool(factor.any()):
        # Row t now sums terms t .. t + stride - 1; append the same sum that starts stride later.
        total[:-stride] += factor[:-stride] * total[stride:]
        factor[:-stride] *= factor[stride:].clone()
        factor[-stride:] = 0.0
        stride *= 2
    return total


def returns_to_go(reward: Tensor, last: Tensor, discount: float) -> Tensor:
    """Return the discounted sum of rewards from each row to the end of its episode.

    The reward of the row itself is included. Nothing is added beyond the last row, whether the
    episode terminated or was truncated.

    Args:
        reward: ``[N]``, reward units.
        last: ``[N]`` bool, True on the last row of each episode.
        discount: In [0, 1].

    Returns:
        ``[N]`` float64, reward units.
    """
    return reverse_scan(reward, discount * (~last).double())


def lambda_returns(
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    last: Tensor,
    *,
    discount: float,
    lambda_: float,
) -> Tensor:
    """Return TD(lambda) targets; ``lambda_`` 1 is Monte Carlo with bootstrap at truncation.

    G[t] = r[t] + discount * (1 - terminated[t]) * ((1 - lambda) V[t + 1] + lambda G[t + 1]), where
    G[t + 1] is V[t + 1] on the last row of an episode.

    Args:
        reward: ``[N]``, reward units.
        next_value: ``[N]``, value of each row's next observation, reward units.
        terminated: ``[N]`` bool; True stops bootstrapping.
        last: ``[N]`` bool, True on the last row of each episode.
        discount: In [0, 1].
        lambda_: In [0, 1].

    Returns:
        ``[N]`` float64, reward units.

    Reference:
        Sutton and Barto, Reinforcement Learning, 2nd ed., eq. 12.2 (recursive form).
    """
    mix = lambda_ * (~last).double()
    live = discount * (~terminated).double()
    return reverse_scan(reward + live * (1.0 - mix) * next_value, live * mix)


class NStepReturn(NamedTuple):
    """What an n-step target needs of each row, all ``[N]``."""

    reward: Tensor
    """float64, discounted sum of up to n rewards, reward units."""
    last_row: Tensor
    """int64, row whose next observation is bootstrapped from."""
    discount: Tensor
    """float64, discount to the power of the number of rewards summed."""


def n_step_returns(reward: Tensor, episode_end: Tensor, n: int, discount: float) -> NStepReturn:
    """Return n-step sums, shortened where the episode ends earlier.

    Args:
        reward: ``[N]``, reward units.
        episode_end: ``[N]`` int64, row number of the last step of each row's episode.
        n: Number of steps, at least 1.
        discount: In [0, 1].

    Returns:
        Sums, bootstrap rows and bootstrap discounts.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}, it must be at least 1")
    row = torch.arange(len(reward), device=reward.device)
    last_row = torch.minimum(row + n - 1, episode_end)
    total = torch.zeros(len(reward), dtype=torch.float64, device=reward.device)
    for step in range(n):
        target = torch.minimum(row + step, episode_end)
        total += torch.where(row + step <= episode_end, discount**step * reward[target].double(), 0)
    return NStepReturn(total, last_row, discount ** (last_row - row + 1).double())


def last_rows(episode_end: Tensor) -> Tensor:
    """Return ``[N]`` bool, True on the last row of each episode.

    Args:
        episode_end: ``[N]`` int64, row number of the last step of each row's episode.

    Returns:
        bool.
    """
    return episode_end == torch.arange(len(episode_end), device=episode_end.device)


class ReturnRange(NamedTuple):
    """Where values lie, reward units."""

    low: float
    """No discounted sum of the rewards is less."""
    high: float
    """None is larger."""
    mean: float
    """Of the log's own returns."""
    spread: float
    """Their standard deviation, or a substitute where they do not differ; above 0."""


def return_range(
    reward: Tensor, discount: Tensor, last: Tensor | None = None, *, horizon: int | None = None
) -> ReturnRange:
    """Return between which bounds all sums of some rewards lie, and their usual size.

    A sum may end at any row, or go on for ever with its reward: the least is the smaller of r and
    r / (1 - d), over all rows, and the largest likewise.

    Args:
        reward: ``[N]``, reward units; of rows that span n steps, their sums.
        discount: ``[N]``, in [0, 1], below 1 without a horizon: by what each row discounts its next
            value.
        last: ``[N]`` bool, True on the last row of each episode; ``None`` where rows are not parts
            of one sum. Mean and spread are then those of the bounds.
        horizon: Steps after which a sum ends; ``None`` for never.

    Returns:
        The bounds, and mean and spread of the log's returns to go.

    Raises:
        ValueError: Nothing bounds a sum: a row's discount is 1, and there is no horizon.
    """
    reward, discount = reward.double(), discount.double()
    if horizon is None and bool((discount >= 1.0).any()):
        raise ValueError("a row's discount is 1: sums have no bound without a horizon")
    left = 0.0 if horizon is None else discount**horizon
    # The sum of 1, d, d^2, ...: of equal ones it is their number.
    steps = torch.where(discount < 1.0, (1.0 - left) / (1.0 - discount), float(horizon or math.inf))
    whole = reward * steps
    low = float(torch.minimum(reward, whole).min())
    high = float(torch.maximum(reward, whole).max())
    mean, spread = (low + high) / 2.0, (high - low) / 2.0
    if last is not None:
        found = reverse_scan(reward, discount * (~last).double())
        mean, spread = float(found.mean()), float(found.std(correction=0))
    if not spread > 1e-6 * max(abs(low), abs(high)):
        spread = max(abs(low), abs(high)) or 1.0
    return ReturnRange(low, high, mean, spread)


def largest_return(reward: Tensor, discount: Tensor, longest: int) -> float:
    """Return the largest magnitude of any discounted sum of these rewards.

    A value is at most |r| + d * (a value), hence at most the largest |r| / (1 - d); where nothing
    is discounted, the largest |r| times the length of the longest episode.

    Args:
        reward: ``[N]``, reward units; of rows that span n steps, their sums.
        discount: ``[N]``, in [0, 1]: what each row discounts its next value by.
        longest: Steps of the longest episode, at least 1.

    Returns:
        At least 0, reward units.
    """
    horizon = 1.0 / (1.0 - discount.double()).clamp_min(1e-12)
    horizon = torch.where(discount < 1.0, horizon, float(longest))
    return float((reward.double().abs() * horizon).max())
