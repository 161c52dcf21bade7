"""Preferences: T41, T42, T43 and T9 by hand, values and gradients; limits between the losses."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.preferences import (
    aggregate,
    best_of,
    by_preference,
    calibration_error,
    contrastive_loss,
    direct_loss,
    disagreement,
    implied_reward,
    pair_accuracy,
    preference_loss,
    ranked_loss,
    segment_sum,
    standardised,
    teacher_label,
)

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor | list[float] | float, atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


def slopes(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss.sum(), inputs, retain_graph=True))


# --- Bradley-Terry: T41, T9 -----------------------------------------------------------------------


def test_loss_and_gradient_of_t41() -> None:
    """Sums 1 (first) and 3 (second, preferred): -log sigma(2) = .126928, slope -(1 - sigma(2))."""
    first, second = f64(1).requires_grad_(), f64(3).requires_grad_()
    loss = preference_loss(first, second, f64(1))
    close(loss, [0.126928])
    down, up = slopes(loss, first, second)
    close(down, [0.119203])
    close(up, [-0.119203])


def test_a_tie_and_the_other_label() -> None:
    """Labels .5 and 0 of the same sums: 1.126928 = .126928 + 1, and 2.126928."""
    first, second = f64(1, 1), f64(3, 3).requires_grad_()
    loss = preference_loss(first, second, f64(0.5, 0))
    close(loss, [1.126928, 2.126928])
    close(slopes(loss, second)[0], [0.880797 - 0.5, 0.880797])


def test_noise_mixes_the_probability_with_one_half() -> None:
    """P = .9 sigma(2) + .05 = .842717; slope -.9 sigma'(2) / P; the loss of an error is bounded."""
    second = f64(3, -1000).requires_grad_()
    loss = preference_loss(f64(1, 0), second, f64(1, 1), noise=0.1)
    probability = 0.9 / (1 + math.exp(-2)) + 0.05
    close(loss, [-math.log(probability), -math.log(0.05)])
    expected = -0.9 * 0.880797 * 0.119203 / probability
    close(slopes(loss, second)[0], [expected, 0])


def test_noise_towards_zero_is_none() -> None:
    margin, label = f64(-3, 0.2, 4), f64(0, 0.5, 1)
    zero = torch.zeros_like(margin)
    close(
        preference_loss(zero, margin, label, noise=1e-12), preference_loss(zero, margin, label),
        atol=1e-9,
    )  # fmt: skip


def test_a_constant_in_every_step_changes_nothing_at_equal_lengths() -> None:
    """And decides at unequal ones, T41: .5 a step, lengths 12 and 10, P(second) = .268941."""
    reward = f64(0.1, -0.4, 0.3, 2).expand(2, 4) * f64(1, -1)[:, None]
    plain = segment_sum(reward)
    shifted = segment_sum(reward + 7)
    close(shifted[1] - shifted[0], plain[1] - plain[0], atol=1e-12)
    longer, shorter = segment_sum(torch.full((12,), 0.5)), segment_sum(torch.full((10,), 0.5))
    close(torch.sigmoid(shorter - longer).double(), 0.268941)


def test_segment_sums_are_discounted_from_their_first_step() -> None:
    """1 + .5 * 2 + .25 * 4 = 3."""
    reward = f64(1, 2, 4).requires_grad_()
    total = segment_sum(reward, 0.5)
    close(total, 3.0)
    close(slopes(total, reward)[0], [1, 0.5, 0.25])


def test_accuracy_leaves_ties_out_and_counts_undecided_models_half() -> None:
    """Right, wrong, model undecided, tie: (1 + 0 + .5) / 3."""
    margin = torch.stack([f64(2, 1, 0, 5), f64(-1, -1, 0, -5)])
    close(pair_accuracy(margin, f64(1, 0, 1, 0.5)), [0.5, 0.5])
    close(pair_accuracy(f64(2, -1), f64(1, 0)), 1.0)
    close(pair_accuracy(f64(1), f64(0.5)), 0.5)


def test_calibration_error_by_hand() -> None:
    """Bin .9..1 holds .9, .9 with labels 1, 0 (gap .4); bin .2.. holds .2 with 0 (gap .2)."""
    found = calibration_error(f64(0.9, 0.9, 0.2), f64(1, 0, 0))
    close(found, (2 * 0.4 + 1 * 0.2) / 3)
    close(calibration_error(f64(1.0, 0.0), f64(1, 0)), 0.0)


def test_members_that_agree_do_not_disagree() -> None:
    """Probabilities 0 and 1 spread by .5; equal ones by 0."""
    close(disagreement(torch.stack([f64(-50, 1), f64(50, 1)])), [0.5, 0])


# --- over-optimisation: T42 -----------------------------------------------------------------------


def test_members_become_one_reward() -> None:
    """T42: three members of three rows."""
    members = torch.stack([f64(1, 2, 4), f64(1.2, 2.1, -1), f64(0.8, 1.9, 3)])
    close(aggregate(members, "mean"), [1, 2, 2])
    close(aggregate(members, "min"), [0.8, 1.9, -1])
    close(aggregate(members, "mean-std"), [0.836701, 1.918350, -0.160247])
    close(aggregate(members, "mean-std", coefficient=0), [1, 2, 2])


@pytest.mark.parametrize(
    ("count", "divergence", "proxy", "gold", "of_three"),
    [
        (2, 0.193147, 0.797885, 0.398942, 0.488603),  # E max = 1 / sqrt(pi)
        (4, 0.636294, 1.455757, 0.727878, 0.891465),
        (16, 1.835089, 2.497489, 1.248744, 1.529393),
        (64, 3.174508, 3.314540, 1.657270, 2.029733),
    ],
)
def test_best_of_n_by_a_noisy_proxy(
    count: int, divergence: float, proxy: float, gold: float, of_three: float
) -> None:
    """T42, with E max = integral of x d(Phi^n) by a fine quadrature: 1.029375, 1.765991, 2.343733.

    The mean of three members has a third of the variance, and reaches more.
    """
    found = best_of(count, 1.0)
    assert found == pytest.approx((divergence, proxy, gold), abs=ATOL)
    assert best_of(count, math.sqrt(1 / 3)).gold == pytest.approx(of_three, abs=ATOL)


def test_best_of_one_is_no_choice() -> None:
    assert best_of(1, 1.0) == pytest.approx((0, 0, 0), abs=1e-9)


def test_standardised_rewards_by_the_rows_that_count() -> None:
    """Rows 0 and 1 hold 1 and 3: mean 2, spread 1. A constant reward says nothing: 0."""
    found = standardised(torch.stack([f64(1, 3, 5), f64(7, 7, 7)]), torch.tensor([0, 1]))
    close(found, torch.stack([f64(-1, 1, 3), f64(0, 0, 0)]))


# --- CPL: T43, T9 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "loss", "slope"),
    [(1.0, 0.598139, (-0.045017, 0.045017)), (0.5, 0.744397, (-0.052498, 0.026249))],
)
def test_contrastive_loss_of_t43(bias: float, loss: float, slope: tuple[float, float]) -> None:
    """Sums of log pi -4 (winner) and -6, alpha .1; slopes in the sums."""
    winner, loser = f64(-4).requires_grad_(), f64(-6).requires_grad_()
    found = contrastive_loss(0.1 * loser, 0.1 * winner, f64(1), bias=bias)
    close(found, [loss])
    up, down = slopes(found, winner, loser)
    close(torch.cat([up, down]), list(slope))
    close(contrastive_loss(0.1 * winner, 0.1 * loser, f64(0), bias=bias), found)


def test_contrastive_loss_without_bias_is_bradley_terry() -> None:
    first, second, label = f64(-1, 2, 0.3), f64(0.5, -4, 1), f64(1, 0.5, 0.2)
    close(contrastive_loss(first, second, label), preference_loss(first, second, label), 1e-12)


@pytest.mark.parametrize(("bias", "mean"), [(1.0, 0.628977), (0.5, 0.771166)])
def test_ranked_loss_of_t43(bias: float, mean: float) -> None:
    """Sums -4, -6, -5 with scores 3, 1, 2, alpha .1: three pairs."""
    value = f64(-4, -6, -5).requires_grad_()
    found = ranked_loss(0.1 * value, f64(3, 1, 2), bias=bias)
    assert found.shape == (3,)
    close(found.mean(), mean)
    pairs = [(0, 1), (0, 2), (2, 1)]  # better, worse
    expected = torch.zeros(3, dtype=torch.float64)
    for better, worse in pairs:
        wrong = 1 - torch.sigmoid(0.1 * (value[better] - bias * value[worse])).detach()
        expected[better] -= 0.1 * wrong / 3
        expected[worse] += 0.1 * bias * wrong / 3
    close(slopes(found.mean(), value)[0], expected, 1e-12)


def test_equal_scores_are_ties() -> None:
    close(ranked_loss(f64(1, 3), f64(2, 2)), [0.5 * 0.126928 + 0.5 * 2.126928])


def ordered_pairs(count: int) -> tuple[Tensor, Tensor]:
    """Return all pairs of different options, both orders."""
    kept = ~torch.eye(count, dtype=torch.bool)
    first, second = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    return first[kept], second[kept]


def test_contrastive_minimiser_is_the_policy_of_the_advantage() -> None:
    """T43: preferences from A = .5 log(.2, .3, .5), alpha .5; loss .340113, slope 0."""
    policy = f64(0.2, 0.3, 0.5)
    first, second = ordered_pairs(3)
    label = torch.sigmoid(0.5 * policy.log()[second] - 0.5 * policy.log()[first])
    logits = policy.log().requires_grad_()
    log_prob = torch.log_softmax(logits, -1)
    loss = contrastive_loss(0.5 * log_prob[first], 0.5 * log_prob[second], label)
    close(slopes(loss, logits)[0], [0, 0, 0], 1e-12)
    close(loss.mean(), 2 * 0.340113)  # each pair has two orders, and T43 counts the mean of both


# --- DPO: T43, T9 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "minimiser"),
    [(1.0, (0.179000, 0.291944, 0.529056)), (2.0, (0.325040, 0.321540, 0.353420))],
)
def test_direct_minimiser_is_one_weighted_step(beta: float, minimiser: tuple[float, ...]) -> None:
    """T43: r = (1, 2, 3), reference (.5, .3, .2): reference * exp(r / beta), slope 0 there."""
    reference, reward = f64(0.5, 0.3, 0.2), f64(1, 2, 3)
    policy = torch.softmax(reference.log() + reward / beta, -1)
    close(policy, list(minimiser))
    first, second = ordered_pairs(3)
    label = torch.sigmoid(reward[second] - reward[first])
    logits = policy.log().requires_grad_()
    ratio = torch.log_softmax(logits, -1) - reference.log()
    loss = direct_loss(ratio[first], ratio[second], label, beta=beta)
    close(slopes(loss, logits)[0], [0, 0, 0], 1e-12)
    close(loss.mean(), 2 * 0.254957)  # as above


def test_direct_loss_of_t9_and_of_segments() -> None:
    """T9: ratios .2 and -.2. T43: four steps of .2 against two of -.1, and their means beside."""
    winner = f64(0.2).requires_grad_()
    for beta, loss, slope in ((0.1, 0.673347, -0.049), (0.5, 0.598139, -0.225083)):
        found = direct_loss(f64(-0.2), winner, f64(1), beta=beta)
        close(found, [loss])
        close(slopes(found, winner)[0], [slope])
    segments = segment_sum(torch.full((1, 2), -0.1)), segment_sum(torch.full((1, 4), 0.2))
    close(direct_loss(*segments, torch.ones(1), beta=0.1).double(), [0.644397])
    close(direct_loss(f64(-0.1), f64(0.2), f64(1), beta=0.1), [0.678260])


# --- IPL ------------------------------------------------------------------------------------------


def test_implied_reward_ends_where_the_episode_does() -> None:
    """Q 2, V' 10, gamma .9: -7; at a terminal step 2."""
    q, v = f64(2, 2).requires_grad_(), f64(10, 10).requires_grad_()
    found = implied_reward(q, v, torch.tensor([False, True]), 0.9)
    close(found, [-7, 2])
    close(torch.stack(slopes(found, q, v)), torch.stack([f64(1, 1), f64(-0.9, 0)]))


# --- better and worse -----------------------------------------------------------------------------


def test_values_by_preference_are_mixed_by_the_label() -> None:
    """Values 1 and 3: the second better, the first better, a tie, and surely .9."""
    better, worse = by_preference(f64(1, 1, 1, 1), f64(3, 3, 3, 3), f64(1, 0, 0.5, 0.9))
    close(better, [3, 1, 2, 2.8])
    close(worse, [1, 3, 2, 1.2])


# --- errors ---------------------------------------------------------------------------------------


def test_arguments_out_of_range() -> None:
    one = f64(1)
    with pytest.raises(ValueError, match=r"noise is 1, it must lie in \[0, 1\)"):
        preference_loss(one, one, one, noise=1)
    with pytest.raises(ValueError, match=r"bias is 0, it must lie in \(0, 1\]"):
        contrastive_loss(one, one, one, bias=0)
    with pytest.raises(ValueError, match="beta is 0, it must be above 0"):
        direct_loss(one, one, one, beta=0)
    with pytest.raises(ValueError, match="give a batch of at least 2"):
        ranked_loss(one, one)
    with pytest.raises(ValueError, match=r"discount is 2, it must lie in \[0, 1\]"):
        segment_sum(one, 2)
    with pytest.raises(ValueError, match="bins is 0"):
        calibration_error(one, one, 0)
    with pytest.raises(ValueError, match="count 0 must be at least 1"):
        best_of(0, 1.0)
    with pytest.raises(ValueError, match=r"label"):
        preference_loss(one, one, f64(1, 0))


# --- synthetic teachers ---------------------------------------------------------------------------


def test_teachers_by_hand() -> None:
    """Margins 2, -2, 0, .1; draws below sigma(beta margin) choose the second; then mistakes."""
    margin = f64(2, -2, 0, 0.1)
    chance = torch.stack([f64(0.9, 0.01, 0.3, 0.5), f64(0.05, 0.5, 0.01, 0.5)], dim=1)
    close(teacher_label(margin, chance), [1, 0, 0.5, 1])
    close(teacher_label(margin, chance, mistakes=0.1), [0, 0, 0.5, 1])
    close(teacher_label(margin, chance, ties=0.1), [1, 0, 0.5, 0.5])
    close(teacher_label(margin, chance, beta=1), [0, 1, 0.5, 1])  # .88 < .9; .12 > .01; .52 > .5


def test_a_rational_teacher_is_as_sure_as_bradley_terry() -> None:
    chance = torch.stack([(torch.arange(1000) + 0.5) / 1000, torch.ones(1000)], dim=1).double()
    found = teacher_label(torch.full((1000,), 1.0, dtype=torch.float64), chance, beta=2.0)
    close(found.mean(), 0.881)  # sigma(2) = .8808, of 1,000 even draws


def test_teacher_arguments_out_of_range() -> None:
    chance = torch.zeros(1, 2)
    for wrong in ({"beta": 0.0}, {"mistakes": 1.1}, {"ties": -1.0}):
        with pytest.raises(ValueError, match=r"mistakes .* in \[0, 1\], ties .* at least 0"):
            teacher_label(f64(1), chance, **wrong)
