"""Which states are ahead: a classifier of the future, learned from single steps (C-learning).

    C(s, a, g) = p(F = 1 | s, a, g): g was met after (s, a), not drawn from all states
    ratio      = C / (1 - C) = p_future(g | s, a) / p(g)
    L = -(1 - discount) log C(s, a, s') - discount ratio(s', a', g) log C(s, a, g)
        - log(1 - C(s, a, g)),   g ~ p(g), a' ~ pi(s', g)                                 (eq. 8)

p_future is the state a geometric number of steps ahead, P(k steps) = (1 - discount) discount^(k-1).
The ratio is exact only where positives and negatives count alike and negatives are drawn from that
very marginal p(g): one positive of each kind beside one negative of the same g, as above.
Its size needs no reward and no unit of one.

Reference: Eysenbach, Salakhutdinov and Levine 2021, "C-Learning: Learning to achieve goals via
recursive classification", arXiv 2011.08909, equations 5 to 9.
"""

from torch import Tensor
from torch.nn import functional

from hindsight_rl.maths.losses import same_shape


def future_ratio(logit: Tensor, *, limit: float) -> Tensor:
    """Return C / (1 - C), how much likelier a state is ahead than anywhere, without gradient.

    Args:
        logit: ``[...]``, nats: log C / (1 - C).
        limit: Largest ratio, above 0.

    Returns:
        ``[...]``, in (0, limit].

    Raises:
        ValueError: ``limit`` is not above 0.
    """
    if not limit > 0:
        raise ValueError(f"limit is {limit}, it must be above 0")
    return logit.detach().exp().clamp(max=limit)


def future_loss(
    reached: Tensor, other: Tensor, ratio: Tensor, terminated: Tensor, *, discount: float
) -> Tensor:
    """Return the cross-entropy of telling states ahead from states anywhere, by one step.

    It is least where exp(logit) is p_future / p.

    Args:
        reached: ``[...]``, logit of the state that the step led to, nats.
        other: ``[...]``, logit of a state drawn from all, nats.
        ratio: ``[...]``, C / (1 - C) of that state from the next state on; no gradient passes.
        terminated: ``[...]`` bool: nothing is ahead of the next state.
        discount: In [0, 1).

    Returns:
        ``[...]``, nats, at least 0.

    Raises:
        ValueError: Shapes differ, or ``discount`` is out of range.

    Reference:
        Eysenbach et al. 2021, arXiv 2011.08909, eq. 8.
    """
    same_shape(reached=reached, other=other, ratio=ratio, terminated=terminated)
    if not 0.0 <= discount < 1.0:
        raise ValueError(f"discount is {discount}, it must be in [0, 1): the future is discounted")
    ahead = discount * (~terminated).to(ratio.dtype) * ratio.detach()
    soft = functional.softplus
    return (1.0 - discount) * soft(-reached) + ahead * soft(-other) + soft(other)
