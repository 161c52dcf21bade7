"""TB27, TB29: gradients and values from rows of another policy, enumerated; torchrl as oracle."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchrl.objectives.value.functional import vtrace_advantage_estimate

from hindsight_rl.maths.importance import cumulative_log_ratio
from hindsight_rl.maths.policy_gradient import decision_weights, v_trace
from hindsight_rl.maths.returns import lambda_returns

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def close(actual: Tensor, expected: Tensor | list[float] | float, atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach().double(), expected, rtol=0, atol=atol)


# --- TB27: rows of another policy -----------------------------------------------------------------

FIRST, SECOND = f64(0.3, -0.3), torch.tensor([[0.1, 0.2], [-0.4, 0.5]], dtype=torch.float64)
R_FIRST, R_SECOND = f64(1, 0), torch.tensor([[0, 2], [3, 1]], dtype=torch.float64)
TRUE = [0.107954, -0.107954, -0.322022, 0.322022, 0.145635, -0.145635]


def trajectories() -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities ``[4, 2]``, scores ``[4, 2, 6]`` and rewards ``[4, 2]``."""
    log_prob, score, reward = [], [], []
    for first, second in itertools.product(range(2), range(2)):
        steps = (FIRST, first, 0), (SECOND[first], second, 2 + 2 * first)
        log_prob.append([torch.log_softmax(logits, -1)[action] for logits, action, _ in steps])
        rows = torch.zeros(2, 6, dtype=torch.float64)
        for row, (logits, action, start) in zip(rows, steps, strict=True):
            row[start : start + 2] = -torch.softmax(logits, -1)
            row[start + action] += 1.0
        score.append(rows)
        reward.append([R_FIRST[first], R_SECOND[first, second]])
    return torch.tensor(log_prob), torch.stack(score), torch.tensor(reward)


Weights = Callable[[Tensor, Tensor, Tensor], Tensor]


def total_return(step: Tensor, ratio: Tensor, reward: Tensor) -> Tensor:
    return reward.sum(-1, keepdim=True).expand_as(reward)


def to_go(step: Tensor, ratio: Tensor, reward: Tensor) -> Tensor:
    return reward.flip(-1).cumsum(-1).flip(-1)


def whole_ratio(step: Tensor, ratio: Tensor, reward: Tensor) -> Tensor:
    return ratio[:, -1:].exp() * to_go(step, ratio, reward)


def per_decision(step: Tensor, ratio: Tensor, reward: Tensor) -> Tensor:
    return decision_weights(ratio, reward)


def own_ratio_alone(step: Tensor, ratio: Tensor, reward: Tensor) -> Tensor:
    return step.exp() * to_go(step, ratio, reward)


def enumerated(weights: Weights, *, own: bool) -> tuple[Tensor, Tensor]:
    """Return mean ``[6]`` and summed variance of sum_t W_t score_t, over all trajectories."""
    log_prob, score, reward = trajectories()
    behavior = log_prob if own else torch.full_like(log_prob, 0.5).log()
    chance = behavior.sum(-1).exp()
    ratio = cumulative_log_ratio(log_prob, behavior, torch.ones_like(log_prob, dtype=torch.bool))
    weight = weights(log_prob - behavior, ratio, reward)
    terms = (weight[..., None] * score).sum(1)
    mean = chance @ terms
    return mean, chance @ (terms - mean).square().sum(-1)


@pytest.mark.parametrize(
    ("weights", "own", "variance"),
    [
        (total_return, True, 4.068261),
        (to_go, True, 3.134369),
        (whole_ratio, False, 2.640314),
        (per_decision, False, 2.617827),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_four_estimators_have_the_true_gradient(
    weights: Weights, own: bool, variance: float
) -> None:
    """TB27, by enumeration: one mean, and less variance with each step down the list."""
    mean, found = enumerated(weights, own=own)
    close(mean, TRUE)
    close(found, variance)


def test_the_true_gradient_is_that_of_the_expected_return() -> None:
    logits = torch.cat([FIRST, SECOND.flatten()]).requires_grad_()
    first, second = torch.softmax(logits[:2], -1), torch.softmax(logits[2:].view(2, 2), -1)
    expected = first @ (R_FIRST + (second * R_SECOND).sum(-1))
    close(torch.autograd.grad(expected, logits)[0], TRUE)


def test_without_the_ratios_of_states_the_gradient_can_vanish() -> None:
    """TB27: each row weighed by its own ratio alone; the first action gets no gradient at all."""
    mean, _ = enumerated(own_ratio_alone, own=False)
    close(mean, [0.0, 0.0, -0.249376, 0.249376, 0.205500, -0.205500])


def test_decision_weights_of_ones_are_returns_to_go() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0]])
    close(decision_weights(torch.zeros(1, 3), reward, discount=0.5), [[3.0, 2.0, 1.0]])
    with pytest.raises(ValueError, match="shapes differ"):
        decision_weights(torch.zeros(1, 2), reward)


# --- TB29: V-trace --------------------------------------------------------------------------------


def traced(log_ratio: Tensor, **arguments: float) -> tuple[Tensor, Tensor]:
    """Return targets and advantages of TB29's rows."""
    found = v_trace(
        f64(1, 0, 2),
        f64(1, 0.5, 0.8),
        f64(0.5, 0.8, 0.3),
        log_ratio,
        flags(0, 0, 0),
        flags(0, 0, 1),
        discount=0.9,
        **arguments,
    )
    return found.value, found.advantage


def test_v_trace() -> None:
    """TB29: ratios 2, .5, 1; the first is clipped to 1."""
    log_ratio = f64(2, 0.5, 1).log()
    value, advantage = traced(log_ratio)
    close(value, [2.144350, 1.271500, 2.27])
    close(advantage, [1.144350, 0.771500, 1.47])
    theirs, target = vtrace_advantage_estimate(
        f64(0.9),
        log_ratio[:, None],
        torch.zeros(3, 1, dtype=torch.float64),
        f64(1, 0.5, 0.8)[:, None],
        f64(0.5, 0.8, 0.3)[:, None],
        f64(1, 0, 2)[:, None],
        flags(0, 0, 1)[:, None],
        flags(0, 0, 0)[:, None],
    )
    close(advantage, theirs[:, 0], atol=1e-7)
    close(value, target[:, 0], atol=1e-7)


@pytest.mark.parametrize("lambda_", [1.0, 0.7])
def test_v_trace_of_own_rows_is_td_lambda(lambda_: float) -> None:
    """And the advantages are those of GAE."""
    expected = lambda_returns(
        f64(1, 0, 2),
        f64(0.5, 0.8, 0.3),
        flags(0, 0, 0),
        flags(0, 0, 1),
        discount=0.9,
        lambda_=lambda_,
    )
    value, advantage = traced(f64(0, 0, 0), lambda_=lambda_)
    close(value, expected, atol=1e-12)
    close(advantage, expected - f64(1, 0.5, 0.8), atol=1e-12)


def test_v_trace_keeps_episodes_apart_and_reads_nothing_after_an_end() -> None:
    for beyond in (0.0, 1e6):
        found = v_trace(
            f64(1, 1, 1),
            f64(0.5, 0.3, 0.4),
            f64(0.9, 0.4, beyond),
            f64(0.3, -0.2, 0.1),
            flags(0, 0, 1),
            flags(1, 0, 1),
            discount=0.9,
        )
        close(found.value[0], 0.5 + (1 + 0.81 - 0.5))  # its ratio is capped at 1
        close(found.value[2], 0.4 + (1 - 0.4))


def test_a_larger_cap_lets_a_ratio_through_to_its_own_row_alone() -> None:
    value, advantage = traced(f64(2, 0.5, 1).log(), max_ratio=2.0)
    # Row 0: rho 2, c 1: 1 + 2 (1 + .45 - 1) + .9 (1.2715 - .5).
    close(value, [2.594350, 1.271500, 2.27])
    close(advantage[0], 2 * (1 + 0.9 * 1.2715 - 1))
    with pytest.raises(ValueError, match="max_ratio is 0.5"):
        traced(f64(0, 0, 0), max_ratio=0.5)
