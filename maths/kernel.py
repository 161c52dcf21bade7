"""A kernel in place of a density: ratios of a policy that does one thing only in each state.

    rho_{i,t} = prod_{k <= t} K((a_ik - pi(s_ik)) / h) / (h^A pi_b(a_ik | s_ik))

Such a policy has no density, and no ratio. With a normal kernel these are the ratios of the policy
with normal noise of the bandwidth h added to every action, and clipped to the bounds: an estimate
with them is one of that policy. What the noise costs falls with h^2, the variance grows as
h^(-A (t + 1)): nearly nothing is near in all of many steps.

Reference: Kallus and Zhou 2018, arXiv 1802.06037, for one step, self-normalised too; over several
steps: Kallus and Uehara 2020, arXiv 2006.03900.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.executed import clipped_normal
from hindsight_rl.maths.importance import cumulative_log_ratio


def kernel(
    action: Tensor,
    chosen: Tensor,
    behavior: Tensor,
    valid: Tensor,
    *,
    bandwidth: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Tensor:
    """Return log rho of every step, as the estimators of importance sampling take it.

    Args:
        action: ``[n, H, A]``, logged.
        chosen: ``[n, H, A]``, what the policy does in the same states.
        behavior: ``[n, H]``, log-density of the logged action under what recorded it, nats; at a
            bound the log of the mass of what was clipped to it.
        valid: ``[n, H]`` bool, steps that are part of the episode.
        bandwidth: ``[A]``, h, in units of the action, above 0.
        low: ``[A]``, bounds that actions are clipped to; ``None`` for none.
        high: ``[A]``, likewise.

    Returns:
        ``[n, H]`` float64, nats.

    Raises:
        ValueError: ``bandwidth`` is not above 0, or an action has no chance under the policy that
            recorded it.
    """
    if not bool((bandwidth > 0.0).all()):
        raise ValueError(f"bandwidth is {bandwidth.tolist()}, it must be above 0")
    width = bandwidth.double()
    low = torch.full_like(width, -torch.inf) if low is None else low.double()
    high = torch.full_like(width, torch.inf) if high is None else high.double()
    near = clipped_normal(action.double(), chosen.double(), width, low, high)
    return cumulative_log_ratio(near, behavior, valid)


def bandwidths(spread: Tensor, episodes: int, steps: int) -> Tensor:
    """Return a bandwidth for each dimension of the actions by a rule of thumb.

        h = sigma (4 / ((d + 2) n))^(1 / (d + 4)),   d = A H

    The power of n is the one of the least squared error: n^(-1/5) for one action of one step. The
    factor is right for a normal density, and stands in for how curved the rewards are, which is not
    known.

    Args:
        spread: ``[A]``, sigma: the standard deviation of the recorded actions in one state.
        episodes: n, at least 1.
        steps: H, how many actions a ratio is a product of, at least 1.

    Returns:
        ``[A]``, in units of the action.

    Reference:
        The power: Kallus and Zhou 2018, arXiv 1802.06037; the factor: Silverman 1986, "Density
        estimation for statistics and data analysis", eq. 4.14.
    """
    d = len(spread) * steps
    factor: float = (4.0 / ((d + 2) * episodes)) ** (1.0 / (d + 4))
    return spread.double() * factor
