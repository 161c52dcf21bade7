"""The conservative gap: how much larger the values of all actions are than that of the logged one.

Minimising it lowers the values of actions that the log does not hold. Bootstrapping would otherwise
increase them without bound.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Sides(NamedTuple):
    """How much a row counts on each side of the gap."""

    down: Tensor
    """``[...]``, at the values of all actions, which are pushed down."""
    up: Tensor
    """``[...]``, at the value of its own action, which is held up."""


def origin_sides(imagined: Tensor, share: Tensor) -> Sides:
    """Return sides by origin: imagined rows are pushed down, and those that happened held up.

    The mean of a gap with them is the difference of the means over both kinds of rows. Of tabular
    values it leaves Q = T Q - weight (rho - d) / d_f, where rho are the imagined rows, d those that
    happened, and d_f both as they are mixed: down where the model goes more than the log, up where
    less.

    Args:
        imagined: ``[...]`` bool.
        share: ``[]``, of imagined rows in the whole batch; 0 and 1 leave nothing to compare, and
            every side counts 0.

    Returns:
        The sides, each of mean 1.

    Reference:
        Yu et al. 2021, "COMBO: Conservative offline model-based policy optimization", arXiv
        2102.08363, eq. 2 and proposition 4.
    """
    both = (share > 0) & (share < 1)
    shares = torch.where(both, share, 0.5)
    down = (both & imagined).to(share.dtype) / shares
    return Sides(down, (both & ~imagined).to(share.dtype) / (1.0 - shares))


def conservative_gap(value: Tensor, chosen: Tensor, sides: Sides | None = None) -> Tensor:
    """Return log sum exp Q(s, .) - Q(s, a): above 0 where ``value`` holds the logged action's.

    Its gradient is the soft-max of the values minus 1 at the logged action.

    Args:
        value: ``[..., n]``, of all n actions, reward units.
        chosen: ``[...]``, of the logged action, reward units.
        sides: How much each of the two counts, broadcast against ``chosen``; ``None`` for 1.

    Returns:
        ``[...]``, reward units.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Kumar et al. 2020, "Conservative Q-learning for offline reinforcement learning", arXiv
        2006.04779, eq. 4, CQL(H).
    """
    if value.shape[:-1] != chosen.shape:
        raise ValueError(
            f"shapes differ: value {tuple(value.shape)} must be chosen {tuple(chosen.shape)} and "
            "one more dimension, that of the actions"
        )
    total = torch.logsumexp(value, dim=-1)
    return total - chosen if sides is None else sides.down * total - sides.up * chosen


def sampled_gap(
    value: Tensor, log_density: Tensor, chosen: Tensor, sides: Sides | None = None
) -> Tensor:
    """Return the gap where the sum over actions is an integral, estimated by importance sampling.

    The mean over samples is left a sum, as in the authors' code: the estimate is log m too large.

    Args:
        value: ``[..., m]``, of m sampled actions, reward units.
        log_density: ``[..., m]``, of each under what it was drawn from, nats, broadcast against
            ``value``; no gradient passes.
        chosen: ``[...]``, of the logged action, reward units.
        sides: As in :func:`conservative_gap`.

    Returns:
        ``[...]``, reward units.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Kumar et al. 2020, arXiv 2006.04779, appendix F.
    """
    return conservative_gap(value - log_density.detach(), chosen, sides)


def uniform_actions(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the actions, uniform on [-1, 1]^A, that normal numbers make, and their log-density.

    Args:
        noise: ``[..., A]`` standard normal numbers.

    Returns:
        ``[..., A]``, and ``[...]`` nats: -A log 2 throughout.
    """
    # Twice the normal distribution function, less 1.
    action = torch.erf(noise * math.sqrt(0.5))
    return action, torch.full_like(noise[..., 0], -noise.shape[-1] * math.log(2.0))
