"""Returns of several steps, corrected for a policy that did not choose the actions.

One recurrence from the back of an episode, x the correction of a value Q(s_t, a_t):

    G_t = Q(s_t, a_t) + x_t
    x_t = r_t + gamma_t V_{t+1} - Q(s_t, a_t) + gamma_t c_{t+1} x_{t+1},   V = E_pi Q(s, .)

Methods differ in the trace c, which says how much of what follows belongs to the policy pi:

    lambda min(1, pi / mu)   Retrace: safe whatever mu, and as far-sighted as it is near pi
    lambda pi(a | s)         tree backup: needs no mu, and is short where pi is spread out
    lambda                   Peng's Q(lambda): not corrected at all

Reference: Munos, Stepleton, Harutyunyan and Bellemare 2016, "Safe and efficient off-policy
reinforcement learning", arXiv 1606.02647, equations 3 and 4, table 1.
"""

from torch import Tensor

from hindsight_rl.maths.losses import same_shape
from hindsight_rl.maths.returns import reverse_scan


def retrace_trace(log_ratio: Tensor, *, lambda_: float = 1.0) -> Tensor:
    """Return lambda min(1, pi / mu), without gradient.

    Args:
        log_ratio: ``[N]``, log pi(a | s) - log mu(a | s) of each row's action, nats.
        lambda_: In [0, 1].

    Returns:
        ``[N]``, in [0, ``lambda_``].
    """
    return lambda_ * log_ratio.detach().clamp(max=0.0).exp()


def tree_trace(log_prob: Tensor, *, lambda_: float = 1.0) -> Tensor:
    """Return lambda pi(a | s), without gradient.

    Args:
        log_prob: ``[N]``, log pi(a | s) of each row's action, one of finitely many, nats.
        lambda_: In [0, 1].

    Returns:
        ``[N]``, in [0, ``lambda_``].
    """
    return lambda_ * log_prob.detach().exp()


def corrected_returns(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    last: Tensor,
    trace: Tensor,
    *,
    discount: float,
) -> Tensor:
    """Return what Q(s, a) regresses on, for all rows of whole episodes in order, without gradient.

    On the last row of an episode, terminated or cut off, G is r + gamma (1 - terminated) V.

    Args:
        reward: ``[N]``, reward units.
        value: ``[N]``, Q(s, a) of each row's action, reward units.
        next_value: ``[N]``, E_pi Q(s', .) of each row's next observation, reward units.
        terminated: ``[N]`` bool; True stops bootstrapping.
        last: ``[N]`` bool, True on the last row of each episode.
        trace: ``[N]``, c of each row's own action, in [0, 1]; that of an episode's first row counts
            for nothing.
        discount: In [0, 1].

    Returns:
        ``[N]`` float64, reward units.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(
        reward=reward,
        value=value,
        next_value=next_value,
        terminated=terminated,
        last=last,
        trace=trace,
    )
    value = value.detach().double()
    live = discount * (~terminated).double()
    error = reward.double() + live * next_value.detach().double() - value
    return value + reverse_scan(error, live * (~last).double() * trace.double().roll(-1))
