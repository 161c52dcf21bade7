"""Closed form T5: repeated reward-weighted and return-weighted fits on a bandit.

A weighted maximum-likelihood fit to samples of a policy is the policy times the weight, normalised.
"""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.losses import categorical_log_prob, weighted_nll
from hindsight_rl.maths.weights import exponential_weight, return_weight, softmax_weight

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor | None, expected: Tensor | list[float], atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def policy_step(policy: Tensor, weight: Tensor) -> Tensor:
    """Return the policy that minimises E_policy[weighted NLL]: proportional to policy * weight.

    Checked by gradient: the loss over all outcomes, each counted with its probability, is
    stationary in the logits there, and equals (old policy * weight) minus its total times pi
    elsewhere.
    """
    fitted = policy * weight / (policy * weight).sum()
    for start, gradient in [
        (fitted, torch.zeros_like(policy)),
        (policy, policy * (policy * weight).sum() - policy * weight),
    ]:
        logits = start.log().requires_grad_()
        log_prob = categorical_log_prob(torch.arange(len(policy)), logits.expand(len(policy), -1))
        (policy * weighted_nll(log_prob, weight)).sum().backward()
        close(logits.grad, gradient)
    return fitted


@pytest.mark.parametrize(
    ("policy", "temperature", "steps", "expected"),
    [
        ([1 / 3] * 3, 1.0, 1, [0.090031, 0.244728, 0.665241]),
        ([1 / 3] * 3, 2.0, 1, [0.186324, 0.307196, 0.506480]),
        ([0.5, 0.3, 0.2], 1.0, 1, [0.179000, 0.291944, 0.529056]),
        ([1 / 3] * 3, 1.0, 3, [0.002356, 0.047314, 0.950330]),
    ],
)
def test_rwr_of_t5(
    policy: list[float], temperature: float, steps: int, expected: list[float]
) -> None:
    """T5: r = 1, 2, 3; one step gives pi_old * exp(r / temperature), normalised.

    From uniform at temperature 1 that is softmax(r), after three steps softmax(3 r). The softmax
    weight differs by a constant factor only, so it gives the same policy.
    """
    reward, current = f64(1, 2, 3), f64(*policy)
    for _ in range(steps):
        soft = policy_step(current, softmax_weight(reward, temperature=temperature))
        current = policy_step(current, exponential_weight(reward, temperature=temperature))
        close(soft, current)
    close(current, expected)


def test_emrl_of_t5() -> None:
    """T5: weights equal to r = 1, 2, 3 from uniform: 1/6, 2/6, 3/6, then 1, 4, 9 over 14, ..."""
    reward, policy = f64(1, 2, 3), torch.full((3,), 1 / 3, dtype=torch.float64)
    for expected in (
        [0.166667, 0.333333, 0.5],
        [0.071429, 0.285714, 0.642857],
        [0.027778, 0.222222, 0.75],
    ):
        policy = policy_step(policy, return_weight(reward))
        close(policy, expected)


def test_two_actions_of_t5() -> None:
    """T5: r = .9, .1: EMRL .9, .1; RWR softmax(.9, .1) = .689974, .310026."""
    reward, uniform = f64(0.9, 0.1), f64(0.5, 0.5)
    close(policy_step(uniform, return_weight(reward)), [0.9, 0.1])
    close(policy_step(uniform, exponential_weight(reward)), [0.689974, 0.310026])
