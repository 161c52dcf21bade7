"""Estimators where the truth is known: a linear system with a quadratic cost, for 20 steps."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.doubly_robust import doubly_robust, weighted_doubly_robust
from hindsight_rl.maths.importance import (
    Ratios,
    cumulative_log_ratio,
    effective_sample_size,
    per_decision,
    step_weighted,
)
from hindsight_rl.maths.intervals import student
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


@pytest.mark.parametrize(("policy", "value"), [(JUDGED, -2.123823), (BEHAVIOR, -2.725880)])
def test_values_by_the_backward_recursion(policy: tuple[float, float], value: float) -> None:
    p, c = exact(policy)[0]
    assert p + c == pytest.approx(value, abs=1e-6)
    if policy is BEHAVIOR:
        _, _, reward = recorded(20_000, seed=0)
        found = (reward * DISCOUNT ** torch.arange(HORIZON)).sum(-1)
        assert float(found.mean()) == pytest.approx(value, abs=4 * float(found.std()) / 141)


def test_each_estimator_meets_the_truth() -> None:
    """1,000 episodes: exact values leave the least error, ratios alone the most."""
    truth = -2.123823
    state, action, reward = recorded(1000, seed=1)
    log_ratio, (q, v) = log_ratio_of(state, action), exact_values(state, action)
    found: dict[str, Ratios] = {
        "per decision": per_decision(log_ratio, reward, discount=DISCOUNT),
        "step-weighted": step_weighted(log_ratio, reward, discount=DISCOUNT),
        "doubly robust": doubly_robust(log_ratio, reward, q, v, discount=DISCOUNT),
        "weighted": weighted_doubly_robust(log_ratio, reward, q, v, discount=DISCOUNT),
        "half of Q": doubly_robust(log_ratio, reward, q / 2, v / 2, discount=DISCOUNT),
    }
    allowed = {
        "per decision": 1.3,
        "step-weighted": 0.9,
        "doubly robust": 0.25,
        "weighted": 0.25,
        "half of Q": 0.75,
    }
    for name, estimate in found.items():
        assert float(estimate.value()) == pytest.approx(truth, abs=allowed[name]), name
    width = {name: student(each).high - student(each).low for name, each in found.items()}
    assert width["doubly robust"] < 0.7 * width["per decision"]
    assert width["doubly robust"] < width["half of Q"]
    low, high = student(found["doubly robust"])
    assert low < truth < high
    # Twenty steps of these ratios leave a sixth of the episodes at most.
    assert 5.0 < float(effective_sample_size(log_ratio[:, -1])) < 400.0


def test_least_squares_backwards_are_fitted_q_evaluation() -> None:
    """Stage by stage with the right features: lstd of one step, discount 0."""
    state, action, reward = recorded(1000, seed=2)
    gain, spread = JUDGED
    ahead = torch.zeros(1000, dtype=torch.float64)
    over = torch.ones(1000, dtype=torch.bool)
    for step in reversed(range(HORIZON)):
        now = features(state[:, step], action[:, step])
        target = reward[:, step] + DISCOUNT * ahead
        theta = lstd(now, now, target, over, discount=0.0).theta
        here = state[:, step]
        ahead = features(here, gain * here, spread) @ theta
    assert float(ahead.mean()) == pytest.approx(-2.123823, abs=0.28)
    # With V of the first states known, what is left is their own spread.
    value = exact_values(state, action)[1][:, 0]
    assert float((ahead - value).abs().mean()) < 0.02
    assert math.isfinite(float(theta.sum()))
