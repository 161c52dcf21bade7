"""Maximum a posteriori policy optimisation: which actions to imitate, and the size of a step.

Of m actions per state (all n discrete ones, or some drawn by the policy), better ones get a larger
share (E-step); the policy is then fitted to these shares (M-step). Both steps stay within a
Kullback-Leibler (KL) divergence, and a multiplier of each limit is learned.

Reference: Abdolmaleki et al. 2018, arXiv 1806.06920 (E-step); arXiv 1812.02256 (M-step).
"""

import torch
from torch import Tensor


def temperature_dual(
    value: Tensor, share: Tensor, temperature: Tensor, *, limit: Tensor | float
) -> Tensor:
    """Return eta * (limit + log sum_j share_j exp(Q_j / eta)).

    Its mean over states is convex in eta. At its minimum :func:`improved_share` lies as far from
    ``share`` as the limit allows, on average over states.

    Args:
        value: ``[m, B]`` of each action, reward units; no gradient flows through it.
        share: ``[m, B]``, what each action counts under the policy; they sum to 1.
        temperature: ``[]``, eta, above 0, reward units.
        limit: KL divergence that is allowed, above 0, nats.

    Returns:
        ``[B]``, reward units.

    Reference:
        Abdolmaleki et al. 2018, arXiv 1806.06920, eq. 9.
    """
    tempered = value.detach() / temperature + share.detach().log()
    return temperature * (limit + torch.logsumexp(tempered, 0))


def improved_share(value: Tensor, share: Tensor, temperature: Tensor) -> Tensor:
    """Return share_j exp(Q_j / eta), normalised over the actions of each state, without gradient.

    Args:
        value: ``[m, B]`` of each action, reward units.
        share: ``[m, B]``, what each action counts under the policy; they sum to 1.
        temperature: ``[]``, eta, above 0, reward units.

    Returns:
        ``[m, B]``, sum 1 over the actions.

    Reference:
        Abdolmaleki et al. 2018, arXiv 1806.06920, eq. 8.
    """
    return torch.softmax(value / temperature + share.log(), 0).detach()
