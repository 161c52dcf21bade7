"""What a wrong model does to values: the simulation lemma, worlds that end where nothing is known.

Tabular: S states (or state-action pairs) under a given policy, whose steps are a matrix P and whose
reward in each state is r.
"""

import torch
from torch import Tensor


def tabular_value(transition: Tensor, reward: Tensor, *, discount: float) -> Tensor:
    """Return V = (I - gamma P)^-1 r.

    Args:
        transition: ``[S, S]``, rows of probabilities with sums of at most 1.
        reward: ``[S]``.
        discount: gamma, in [0, 1).

    Returns:
        ``[S]``, reward units.

    Raises:
        ValueError: The shapes do not fit, or the discount is out of range.
    """
    _check(transition, reward, discount)
    unit = torch.eye(len(reward), dtype=reward.dtype, device=reward.device)
    found: Tensor = torch.linalg.solve(unit - discount * transition, reward)
    return found


def simulation_gap(transition: Tensor, model: Tensor, value: Tensor, *, discount: float) -> Tensor:
    """Return V - V_model = gamma (I - gamma P_model)^-1 (P - P_model) V, the rewards being known.

    What each step is wrong by is carried on by the model itself for 1 / (1 - gamma) steps, and V is
    1 / (1 - gamma) large: errors grow with the square of that. Short branches cut the former.

    Args:
        transition: ``[S, S]``, of the world.
        model: ``[S, S]``, of the model.
        value: ``[S]``, V in the world.
        discount: gamma, in [0, 1).

    Returns:
        ``[S]``, reward units.

    Raises:
        ValueError: The shapes do not fit, or the discount is out of range.

    Reference:
        Kearns and Singh 2002, "Near-optimal reinforcement learning in polynomial time", lemma 4.
    """
    _check(transition, value, discount)
    wrong = discount * ((transition - model) @ value)
    return tabular_value(model, wrong, discount=discount)


def pessimistic_world(
    transition: Tensor,
    reward: Tensor,
    unknown: Tensor,
    *,
    least: float,
    absorbing: bool,
) -> tuple[Tensor, Tensor]:
    """Return a world that leads from unknown states to a further, last one, HALT.

    With ``least`` the least reward there is and an absorbing HALT, no policy is worth more in it
    than in the world, as long as the model is right about known states.

    Args:
        transition: ``[S, S]``, of the model.
        reward: ``[S]``.
        unknown: ``[S]`` bool.
        least: Reward of unknown states.
        absorbing: HALT gives this reward for ever; it is worth 0 if not, as a terminated step is.

    Returns:
        ``[S + 1, S + 1]`` and ``[S + 1]``.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Kidambi et al. 2020 (MOReL), arXiv 2005.05951, definition 2.
    """
    _check(transition, reward, 0.0)
    halt = unknown.to(reward.dtype)
    inside = transition * (1 - halt).unsqueeze(-1)
    after = torch.zeros_like(transition[:1])
    last = torch.cat([halt, halt.new_full((1,), float(absorbing))])
    found = torch.cat([torch.cat([inside, after]), last.unsqueeze(-1)], dim=-1)
    ended = reward.new_full((1,), least if absorbing else 0.0)
    return found, torch.cat([torch.where(unknown, least, reward), ended])


def _check(transition: Tensor, vector: Tensor, discount: float) -> None:
    states = vector.shape[-1]
    if transition.shape != (states, states):
        raise ValueError(
            f"shapes differ: transition {tuple(transition.shape)} must be [S, S] for {states} "
            "states"
        )
    if not 0 <= discount < 1:
        raise ValueError(f"discount is {discount}, it must lie in [0, 1)")
