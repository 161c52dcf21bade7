"""A linear system with a quadratic cost, for 20 steps: values are known in closed form.

Imported as ``regulator`` (``tests`` is on pytest's path; benchmarks put it there).
"""

import torch
from torch import Tensor

from hindsight_rl.maths.importance import cumulative_log_ratio
from hindsight_rl.maths.least_squares import lstd

HORIZON, DISCOUNT = 20, 0.95
# Gain and spread of what recorded, and of what is judged: a ~ N(k s, sd^2).
BEHAVIOR, JUDGED = (-0.4, 0.3), (-0.6, 0.25)


def exact(policy: tuple[float, float]) -> list[tuple[float, float]]:
    """Return p_t and c_t of V_t(s) = p s^2 + c, from t = 0 to H."""
    gain, spread = policy
    found = [(0.0, 0.0)]
    for _ in range(HORIZON):
        p, c = found[0]
        ahead = DISCOUNT * (p * (0.25 * spread**2 + 0.01) + c) - 0.1 * spread**2
        p = -(1.0 + 0.1 * gain**2) + DISCOUNT * p * (0.9 + 0.5 * gain) ** 2
        found.insert(0, (p, ahead))
    return found


def recorded(episodes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return states ``[n, H + 1]``, actions and rewards ``[n, H]``."""
    random = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(episodes, generator=random, dtype=torch.float64)

    states, actions, rewards = [normal()], [], []
    for _ in range(HORIZON):
        state = states[-1]
        action = BEHAVIOR[0] * state + BEHAVIOR[1] * normal()
        actions.append(action)
        rewards.append(-(state**2) - 0.1 * action**2)
        states.append(0.9 * state + 0.5 * action + 0.1 * normal())
    return torch.stack(states, 1), torch.stack(actions, 1), torch.stack(rewards, 1)


def log_ratio_of(state: Tensor, action: Tensor) -> Tensor:
    judged, behavior = (
        torch.distributions.Normal(gain * state[:, :-1], spread).log_prob(action)
        for gain, spread in (JUDGED, BEHAVIOR)
    )
    return cumulative_log_ratio(judged, behavior, torch.ones_like(action, dtype=torch.bool))


def exact_values(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q ``[n, H]`` and V ``[n, H + 1]`` of what is judged."""
    p, c = torch.tensor(exact(JUDGED), dtype=torch.float64).T
    now, after = state[:, :-1], 0.9 * state[:, :-1] + 0.5 * action
    q = -(now**2) - 0.1 * action**2 + DISCOUNT * (p[1:] * (after**2 + 0.01) + c[1:])
    return q, p * state**2 + c


def features(state: Tensor, action: Tensor, spread: float = 0.0) -> Tensor:
    """Return s^2, s a, a^2 and 1, with a^2 of a normal action of that spread."""
    one = torch.ones_like(state)
    return torch.stack([state**2, state * action, action**2 + spread**2, one], -1)


def stagewise(state: Tensor, action: Tensor, reward: Tensor) -> list[Tensor]:
    """Return the coefficients of Q of each step, by least squares from the last step back."""
    episodes = len(state)
    ahead, over = reward.new_zeros(episodes), torch.ones(episodes, dtype=torch.bool)
    found: list[Tensor] = []
    for step in reversed(range(HORIZON)):
        now = features(state[:, step], action[:, step])
        target = reward[:, step] + DISCOUNT * ahead
        found.insert(0, lstd(now, now, target, over, discount=0.0).theta)
        ahead = value_at(state[:, step], found[0])
    return found


def value_at(state: Tensor, theta: Tensor) -> Tensor:
    """Return V of what is judged in states, from the coefficients of Q."""
    gain, spread = JUDGED
    return features(state, gain * state, spread) @ theta
