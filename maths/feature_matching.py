"""Feature matching: policies that together do what an expert does, as far as features tell.

    mu = E sum_t discount^t phi_t,        |J_w(policy) - J_w(expert)| <= |w| |mu - mu_expert|

where J_w is the return of the reward w . phi: who has the expert's mu has its return under every
reward that is linear in the features.

Reference: Abbeel and Ng 2004, "Apprenticeship learning via inverse reinforcement learning".
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.losses import same_shape


def feature_expectation(features: Tensor, step: Tensor, *, discount: float) -> Tensor:
    """Return the mean over episodes of sum_t discount^t phi_t.

    Args:
        features: ``[N, F]``.
        step: ``[N]`` int64, time in the episode; each episode has one row with step 0.
        discount: In [0, 1].

    Returns:
        ``[F]``, of the dtype of the features.

    Raises:
        ValueError: No episode begins.
    """
    episodes = int((step == 0).sum())
    if episodes == 0:
        raise ValueError("no episode begins: there is no row with step 0")
    faded = discount ** step.to(features.dtype)
    return (faded.unsqueeze(-1) * features).sum(0) / episodes


def projected_expectation(mixed: Tensor, found: Tensor, expert: Tensor) -> Tensor:
    """Return the point nearest to the expert's on the line from the mixture's through a policy's.

    Of policies found so far the mixture matches the expert up to |expert - mixed|; the reward to
    find the next policy for has the weights expert - mixed.

    Args:
        mixed: ``[F]``, feature expectations of the mixture so far.
        found: ``[F]``, those of the policy that was best for expert - mixed.
        expert: ``[F]``.

    Returns:
        ``[F]``; ``mixed`` itself where the policy is that mixture.

    Reference:
        Abbeel and Ng 2004, section 3.1, the projection method.
    """
    return mixed + _share_ahead(mixed, found, expert) * (found - mixed)


class FeatureMatch(NamedTuple):
    """Policies that together do what an expert does, as far as features tell."""

    weights: Tensor
    """``[J, F]``: the reward that each policy answered."""
    shares: Tensor
    """``[J]``, how often to play each: one policy for a whole episode; they sum to 1."""
    mixed: Tensor
    """``[F]``: feature expectations of that mixture."""
    gap: float
    """|expert - mixed|: a reward of weights w tells both apart by |w| times this at most."""


def match_features(
    expert: Tensor,
    respond: Callable[[Tensor], Tensor],
    *,
    rounds: int = 50,
    tolerance: float = 1e-3,
) -> FeatureMatch:
    """Return policies whose feature expectations together come near an expert's.

        mu = feature_expectation(log.column("features").double(), log.column("step"), discount=0.99)
        found = match_features(mu, respond)

    Each round asks for a policy whose reward is the difference that is left, and mixes it in by the
    share that leaves least. Policies of a learner with tasks (``LinearTasks``) answer without being
    trained again: roll them out with the weights as the task.

    Args:
        expert: ``[F]``, feature expectations of the expert.
        respond: From the weights ``[F]`` of a reward to the feature expectations ``[F]`` of a
            policy that is good for it. The length of the weights says nothing.
        rounds: Policies asked for at most, at least 1.
        tolerance: Gap at which to stop, at least 0.

    Returns:
        The policies, by their rewards, and what they reach. It ends early where no policy comes
        nearer.

    Raises:
        ValueError: An argument is out of range, or ``respond`` returns another shape.

    Reference:
        Abbeel and Ng 2004, section 3.1; the share is kept in [0, 1], so that the mixture exists
        where a response is not the best one.
    """
    if rounds < 1 or tolerance < 0.0:
        raise ValueError(f"rounds {rounds} must be at least 1 and tolerance {tolerance} at least 0")
    weights, shares, mixed = [expert], expert.new_ones(1), respond(expert)
    same_shape(expert=expert, response=mixed)
    while len(weights) < rounds and float((expert - mixed).norm()) > tolerance:
        found = respond(expert - mixed)
        share = _share_ahead(mixed, found, expert).clamp(0.0, 1.0)
        if not share > 0.0:
            break
        weights.append(expert - mixed)
        shares = torch.cat([(1.0 - share) * shares, share.reshape(1)])
        mixed = mixed + share * (found - mixed)
    gap = float((expert - mixed).norm())
    return FeatureMatch(torch.stack(weights), shares, mixed, gap)


def _share_ahead(mixed: Tensor, found: Tensor, expert: Tensor) -> Tensor:
    """Return how far ``[]`` from the mixture towards a policy the expert's nearest point lies."""
    ahead = found - mixed
    length = ahead.square().sum()
    return torch.where(length > 0, (ahead * (expert - mixed)).sum() / length, 0.0)
