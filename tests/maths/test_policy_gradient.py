"""TB24 to TB26: baselines, GAE, the clipped loss, and estimates of a KL."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate

from hindsight_rl.maths.policy_gradient import (
    clipped_surrogate,
    generalized_advantages,
    kl_k1,
    kl_k3,
    optimal_baseline,
)
from hindsight_rl.maths.signed import within_clip

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def close(actual: Tensor, expected: Tensor | list[float] | float, atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach().double(), expected, rtol=0, atol=atol)


# --- TB24: baselines ------------------------------------------------------------------------------

LOGITS, REWARD = f64(0.2, -0.1, 0.4), f64(1, 2, 4)


def scores() -> tuple[Tensor, Tensor]:
    """Return the probabilities of three actions, and grad log pi of each, ``[3, 3]``."""
    policy = torch.softmax(LOGITS, -1)
    return policy, torch.eye(3, dtype=torch.float64) - policy


def test_a_baseline_moves_the_variance_and_not_the_mean() -> None:
    """TB24: variance 3.860154 without, .387926 with E r, .367841 with b*."""
    policy, score = scores()
    best = optimal_baseline(score.square().sum(-1), REWARD, policy)
    close(best, 2.311750)
    for baseline, variance in ((0.0, 3.860154), (2.487069, 0.387926), (float(best), 0.367841)):
        terms = (REWARD - baseline)[:, None] * score
        mean = (policy[:, None] * terms).sum(0)
        close(mean, [-0.502011, -0.121810, 0.623822])
        close((policy * (terms - mean).square().sum(-1)).sum(), variance, atol=1e-5)


def test_no_other_baseline_has_less_variance() -> None:
    policy, score = scores()

    def variance(baseline: Tensor) -> Tensor:
        return (policy * (REWARD - baseline).square() * score.square().sum(-1)).sum()

    best = optimal_baseline(score.square().sum(-1), REWARD, policy).requires_grad_()
    close(torch.autograd.grad(variance(best), best)[0], 0.0, atol=1e-12)


def test_the_optimal_baseline_of_drawn_rows_needs_no_probabilities() -> None:
    square, value = f64(1, 3), f64(2, 6)
    close(optimal_baseline(square, value), 5.0)
    with pytest.raises(ValueError, match="shapes differ"):
        optimal_baseline(square, value[:, None])


# --- TB25: GAE ------------------------------------------------------------------------------------

GAMMA, LAMBDA = 0.99, 0.95


def advantages(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, last: Tensor
) -> Tensor:
    """Return ours, after a comparison with torchrl's."""
    ours = generalized_advantages(
        reward, value, next_value, terminated, last, discount=GAMMA, lambda_=LAMBDA
    )
    gamma, mix = f64(GAMMA, LAMBDA)  # plain numbers become float32 there
    theirs, target = generalized_advantage_estimate(
        gamma,
        mix,
        value[:, None],
        next_value[:, None],
        reward[:, None],
        last[:, None],
        terminated[:, None],
    )
    close(ours, theirs[:, 0], atol=1e-12)
    close(ours + value, target[:, 0], atol=1e-12)
    return ours


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [(0, [3.087884, 2.120026, 1.092]), (1, [2.387329, 1.375150, 0.3])],
    ids=["truncated", "terminated"],
)
def test_gae_bootstraps_where_an_episode_was_cut(terminated: int, expected: list[float]) -> None:
    """TB25: r 1, V .5, .6, .7; V .8 follows, which counts only where the episode was cut."""
    value = f64(0.5, 0.6, 0.7)
    found = advantages(
        f64(1, 1, 1), value, f64(0.6, 0.7, 0.8), flags(0, 0, terminated), flags(0, 0, 1)
    )
    close(found, expected)


def test_a_time_limit_needs_the_next_observation_and_not_the_last() -> None:
    """TB25: a bootstrap from V(s_t) at the time limit, the error of others, gives other numbers."""
    value, wrong = f64(0.5, 0.6, 0.7), f64(0.6, 0.7, 0.7)
    found = advantages(f64(1, 1, 1), value, wrong, flags(0, 0, 0), flags(0, 0, 1))
    close(found, [3.000315, 2.026916, 0.993])


def test_nothing_leaks_from_one_episode_into_another() -> None:
    """TB25: two episodes, one cut and one terminated; what follows the latter is never read."""
    for beyond in (0.0, 1e6):
        found = advantages(
            f64(1, 1, 1, 1),
            f64(0.5, 0.6, 0.3, 0.4),
            f64(0.6, 0.9, 0.4, beyond),
            flags(0, 0, 0, 1),
            flags(0, 1, 0, 1),
        )
        close(found, [2.308185, 1.291, 1.6603, 0.6])


def test_gae_at_both_ends_of_lambda() -> None:
    reward, value, following = f64(1, 0, 2), f64(0.5, 0.6, 0.7), f64(0.6, 0.7, 0.8)
    ends = flags(0, 0, 0), flags(0, 0, 1)
    one = generalized_advantages(reward, value, following, *ends, discount=0.9, lambda_=0.0)
    close(one, reward + 0.9 * following - value)
    whole = generalized_advantages(reward, value, following, *ends, discount=0.9, lambda_=1.0)
    close(whole[0], 1 + 0.81 * 2 + 0.729 * 0.8 - 0.5)


def test_advantages_have_no_gradient() -> None:
    value = f64(0.5, 0.6).requires_grad_()
    found = generalized_advantages(
        f64(1, 1), value, value, flags(0, 0), flags(0, 1), discount=0.9, lambda_=0.9
    )
    assert not found.requires_grad


# --- TB26: the clipped loss, and estimates of the KL ----------------------------------------------

RATIO = (0.7, 0.9, 1.1, 1.3)


@pytest.mark.parametrize(
    ("advantage", "loss", "slope"),
    [
        (1.0, [-0.7, -0.9, -1.1, -1.2], [-1.0, -1.0, -1.0, 0.0]),
        (-1.0, [0.8, 0.9, 1.1, 1.3], [0.0, 1.0, 1.0, 1.0]),
    ],
)
def test_clipped_loss_and_gradient(advantage: float, loss: list[float], slope: list[float]) -> None:
    """TB26 with clip .2: the slope ends beyond 1.2 where A > 0, and below .8 where A < 0."""
    ratio = f64(*RATIO).requires_grad_()
    found = clipped_surrogate(ratio, torch.full_like(ratio, advantage), clip=0.2)
    close(found, loss)
    close(torch.autograd.grad(found.sum(), ratio)[0], slope)


def test_at_a_ratio_of_one_the_gradient_is_that_of_reinforce() -> None:
    policy, score = scores()
    logits = LOGITS.clone().requires_grad_()
    log_prob = torch.log_softmax(logits, -1)
    ratio = torch.exp(log_prob - log_prob.detach())
    for clip in (0.2, None):
        loss = (policy * clipped_surrogate(ratio, REWARD, clip=clip)).sum()
        found = torch.autograd.grad(loss, logits, retain_graph=True)[0]
        close(found, -(policy * REWARD) @ score, atol=1e-12)


def test_without_a_clip_the_loss_is_the_weighted_advantage() -> None:
    ratio = f64(*RATIO).requires_grad_()
    found = clipped_surrogate(ratio, f64(1, -2, 3, -4), clip=None)
    close(found, [-0.7, 1.8, -3.3, 5.2])
    close(torch.autograd.grad(found.sum(), ratio)[0], [-1, 2, -3, 4])


@given(st.floats(0.01, 3.0), st.floats(-5.0, 5.0))
def test_the_slope_is_that_of_the_weights_of_signed_cloning(ratio: float, label: float) -> None:
    """The two forms of eq. 7 in this package have one gradient, off the corners themselves."""
    if min(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-6 or label == 0:
        return
    at, advantage = f64(ratio).requires_grad_(), f64(label)
    slope = torch.autograd.grad(clipped_surrogate(at, advantage, clip=0.2).sum(), at)[0]
    close(slope, -advantage * within_clip(at.detach(), advantage, clip=0.2))


def test_clipped_loss_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match=r"clip is 1.5, it must lie in \(0, 1\)"):
        clipped_surrogate(f64(1), f64(1), clip=1.5)
    with pytest.raises(ValueError, match="shapes differ"):
        clipped_surrogate(f64(1, 1), f64(1), clip=0.2)


def test_estimates_of_the_kl() -> None:
    """TB26: of ratios 1.2, 1.1, .95, 1 the mean of k1 is negative, that of k3 is not."""
    log_ratio = f64(1.2, 1.1, 0.95, 1.0).log()
    close(kl_k1(log_ratio).mean(), -0.056585)
    close(kl_k3(log_ratio).mean(), 0.005915)


def test_both_estimates_average_to_the_kl() -> None:
    old, new = torch.log_softmax(LOGITS, -1), torch.log_softmax(f64(0.5, 0.1, -0.3), -1)
    exact = (old.exp() * (old - new)).sum()
    for estimate in (kl_k1, kl_k3):
        close((old.exp() * estimate(new - old)).sum(), exact, atol=1e-12)


@given(st.floats(-20.0, 5.0))
def test_k3_is_never_negative(log_ratio: float) -> None:
    for dtype in (torch.float64, torch.float32):
        assert float(kl_k3(torch.tensor(log_ratio, dtype=dtype))) >= 0.0


def test_k3_keeps_its_digits_near_a_ratio_of_one() -> None:
    small = torch.tensor(1e-3)  # float32
    close(kl_k3(small) / 5.001667e-7, 1.0, atol=2e-4)
    assert abs(float(small.exp() - 1.0 - small) / 5.001667e-7 - 1.0) > 1e-2
