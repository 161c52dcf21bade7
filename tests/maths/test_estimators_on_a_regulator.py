"""Estimators where the truth is known: a linear system with a quadratic cost, for 20 steps."""

import math

import pytest
import torch
from regulator import (
    BEHAVIOR,
    DISCOUNT,
    HORIZON,
    JUDGED,
    exact,
    exact_values,
    log_ratio_of,
    recorded,
    stagewise,
    value_at,
)

from hindsight_rl.maths.doubly_robust import doubly_robust, weighted_doubly_robust
from hindsight_rl.maths.importance import (
    Ratios,
    effective_sample_size,
    per_decision,
    step_weighted,
)
from hindsight_rl.maths.intervals import student


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
    coefficients = stagewise(state, action, reward)
    ahead = value_at(state[:, 0], coefficients[0])
    assert float(ahead.mean()) == pytest.approx(-2.123823, abs=0.28)
    # With V of the first states known, what is left is their own spread.
    value = exact_values(state, action)[1][:, 0]
    assert float((ahead - value).abs().mean()) < 0.02
    assert all(math.isfinite(float(theta.sum())) for theta in coefficients)
