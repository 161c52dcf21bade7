"""What a step would say about an unknown world: information gain, disagreement, and their price.

An ensemble's members are draws of what the world may be. Where they differ, seeing the outcome says
which is right; where all expect the same noise, it says nothing. Prediction errors do not know the
difference: they stay high in front of noise (the "noisy TV").

    information gain   I(outcome; member) = H(mean_e p_e) - mean_e H(p_e)
    of normals, about  1/2 sum_d log( 1 + epistemic_d / aleatoric_d )
    disagreement       mean_d Var_e mu_e

Reference: Houthooft et al. 2016 (VIME), arXiv 1605.09674; Pathak, Gandhi and Gupta 2019, arXiv
1906.04161; Sekar et al. 2020, arXiv 2005.05960; ratio: Russo and Van Roy 2014, arXiv 1403.5556.
"""

import torch
from torch import Tensor

from hindsight_rl.maths.dynamics import MixtureVariance, mixture_variance
from hindsight_rl.maths.losses import same_shape


def categorical_gain(share: Tensor) -> Tensor:
    """Return the information that a choice's outcome has about which member is right.

    Args:
        share: ``[E, ..., n]``, probabilities of n outcomes by each of E members, all as likely.

    Returns:
        ``[...]``, nats, in [0, log min(E, n)].
    """
    entropy = -torch.special.xlogy(share, share).sum(-1)
    mixed = share.mean(0)
    found: Tensor = -torch.special.xlogy(mixed, mixed).sum(-1) - entropy.mean(0)
    return found


def normal_gain(mean: Tensor, std: Tensor) -> Tensor:
    """Return 1/2 sum_d log(1 + epistemic_d / aleatoric_d) of members that are normal.

    It is exact where the members' means are normally distributed and share their noise. Outputs
    whose noise is 0 count by the smallest number there is.

    Args:
        mean: ``[E, ..., D]``.
        std: ``[E, ..., D]``, at least 0.

    Returns:
        ``[...]``, nats, at least 0.

    Raises:
        ValueError: Shapes differ.
    """
    aleatoric, epistemic = mixture_variance(mean, std)
    ratio = epistemic / aleatoric.clamp_min(torch.finfo(mean.dtype).tiny)
    return 0.5 * torch.log1p(ratio).sum(-1)


def mean_disagreement(mean: Tensor) -> Tensor:
    """Return mean_d Var_e mu_e.

    Args:
        mean: ``[E, ..., D]``, what E members expect, standardised.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Pathak, Gandhi and Gupta 2019, arXiv 1906.04161, eq. 1.
    """
    parts: MixtureVariance = mixture_variance(mean, torch.zeros_like(mean))
    return parts.epistemic.mean(-1)


def information_ratio(regret: Tensor, gain: Tensor) -> Tensor:
    """Return regret^2 / gain: what an action costs by what it says, of which the least is chosen.

    Args:
        regret: ``[..., A]``, expected, reward units, at least 0.
        gain: ``[..., A]``, information about the best action, nats, at least 0.

    Returns:
        ``[..., A]``; infinite for one that costs and says nothing, 0 for one that costs nothing.

    Raises:
        ValueError: Shapes differ.

    Reference:
        Russo and Van Roy 2014, arXiv 1403.5556, eq. 4, of actions that are not mixed.
    """
    same_shape(regret=regret, gain=gain)
    square = regret.square()
    ratio = square / torch.where(gain > 0, gain, 1.0)
    return torch.where((gain > 0) | (square == 0), ratio, torch.inf)
