"""Signed labels: T6 as cloning, policy gradient and two sets; remedies; off-policy weights."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import scalars
from torch import Tensor

from hindsight_rl.maths.losses import categorical_log_prob, weighted_nll
from hindsight_rl.maths.signed import importance_ratio, signed_nll, unlikelihood, within_clip

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(
    actual: Tensor | None, expected: Tensor | list[float] | float, atol: float = ATOL
) -> None:
    assert actual is not None
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


def slope(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits, retain_graph=True)[0]


# --- T6 -------------------------------------------------------------------------------------------

ACTION, LABEL = torch.tensor([0, 2, 1]), f64(1, -1, 1)


def case_of_t6() -> tuple[Tensor, Tensor]:
    """Return the logits and the log-probabilities of the three actions."""
    logits = f64(0.1, -0.2, 0.3).requires_grad_()
    return logits, categorical_log_prob(ACTION, logits.expand(3, -1))


def test_loss_and_gradient_of_t6() -> None:
    """Policy .337585, .250089, .412327; labels 1, -1, 1 of actions 0, 2, 1; mean of three rows."""
    logits, log_prob = case_of_t6()
    close(torch.softmax(logits, -1), [0.337585, 0.250089, 0.412327])
    loss = signed_nll(log_prob, LABEL).mean()
    close(loss, 0.528646)
    close(slope(loss, logits), [-0.220805, -0.249970, 0.470776])


def test_t6_is_the_score_based_policy_gradient() -> None:
    """REINFORCE with the label as reward: -mean y (one-hot(a) - pi), by hand."""
    logits, log_prob = case_of_t6()
    policy = torch.softmax(logits.detach(), -1)
    score = torch.eye(3, dtype=torch.float64)[ACTION] - policy
    expected = -(LABEL[:, None] * score).mean(0)
    close(slope(signed_nll(log_prob, LABEL).mean(), logits), expected, atol=1e-12)


def test_t6_as_two_sets() -> None:
    """Two rows to imitate, one to avoid: 2 / 3 NLL of the first less 1 / 3 NLL of the second."""
    logits, log_prob = case_of_t6()
    whole = signed_nll(log_prob, LABEL).mean()
    ones = torch.ones_like(log_prob)
    nll = weighted_nll(log_prob, ones)
    two = 2 / 3 * nll[[0, 2]].mean() - 1 / 3 * nll[[1]].mean()
    close(whole, two, atol=1e-12)
    close(slope(whole, logits), slope(two, logits), atol=1e-12)


def test_expected_gradient_on_policy_is_that_of_the_expected_reward() -> None:
    """Every action as often as the policy takes it: the gradient of -E_pi[y]."""
    logits, reward = f64(0.1, -0.2, 0.3).requires_grad_(), f64(2.0, -1.0, 0.5)
    policy = torch.softmax(logits, -1)
    log_prob = categorical_log_prob(torch.arange(3), logits.expand(3, -1))
    loss = (policy.detach() * signed_nll(log_prob, reward)).sum()
    close(slope(loss, logits), slope(-(policy * reward).sum(), logits), atol=1e-12)


# --- remedies -------------------------------------------------------------------------------------


def test_floor_leaves_what_is_avoided_enough_alone() -> None:
    """At -6 and -4 with floor -5: the first negative row costs -5 and has no gradient."""
    log_prob = f64(-6.0, -4.0, -6.0).requires_grad_()
    loss = signed_nll(log_prob, f64(-1.0, -2.0, 1.0), floor=-5.0)
    close(loss, [-5.0, -8.0, 6.0])
    close(slope(loss.sum(), log_prob), [0.0, 2.0, -1.0])


def test_the_floor_bounds_the_loss() -> None:
    """Where log pi falls without end: the plain loss does too, the floored one stays."""
    label = f64(-1.0)
    assert signed_nll(f64(-1e6), label) == -1e6
    assert signed_nll(f64(-1e6), label, floor=-5.0) == -5.0
    assert signed_nll(f64(-math.inf), label, floor=-5.0) == -5.0


def test_negative_labels_are_scaled() -> None:
    log_prob = f64(-1.0, -2.0, -3.0).requires_grad_()
    loss = signed_nll(log_prob, f64(-1.0, 2.0, -0.5), negative_scale=0.5)
    close(loss, [-0.5, 4.0, -0.75])
    close(slope(loss.sum(), log_prob), [0.5, -2.0, 0.25])


@given(log_prob=scalars(4, -9, 0), label=scalars(4))
def test_limits(log_prob: Tensor, label: Tensor) -> None:
    """Scale 1 and no floor: the weighted likelihood. Scale 0: that of positive labels alone."""
    close(signed_nll(log_prob, label), weighted_nll(log_prob, label))
    close(signed_nll(log_prob, label, negative_scale=0.0), weighted_nll(log_prob, label.clamp(0.0)))


def test_unlikelihood_and_its_gradient() -> None:
    """-log(1 - pi(a)); by the logits: pi(a) at a, -pi(a) pi(b) / (1 - pi(a)) at each other b."""
    logits = f64(0.1, -0.2, 0.3).requires_grad_()
    loss = unlikelihood(torch.tensor(2), logits)
    close(loss, -math.log(1 - 0.4123266), atol=1e-6)
    policy = torch.softmax(logits.detach(), -1)
    others = -policy[2] * policy[:2] / (1 - policy[2])
    close(slope(loss, logits), [*others.tolist(), float(policy[2])])


def test_unlikelihood_is_exact_where_the_action_is_certain() -> None:
    """At logits 40 and 0 in float32, 1 - pi rounds to 0: the cost is 40, the slope 1."""
    logits = torch.tensor([40.0, 0.0], requires_grad=True)
    loss = unlikelihood(torch.tensor(0), logits)
    assert loss.item() == 40.0
    assert slope(loss, logits).tolist() == [1.0, -1.0]
    assert unlikelihood(torch.tensor(1), logits).item() == 0.0


# --- off-policy -----------------------------------------------------------------------------------


def test_importance_weights_give_the_on_policy_gradient() -> None:
    """Every action as often as pi_b takes it: weights y pi / pi_b give the gradient of -E_pi[y].

    The ratio itself passes no gradient: it would add the same once more.
    """
    logits, reward = f64(0.1, -0.2, 0.3).requires_grad_(), f64(2.0, -1.0, 0.5)
    behavior = f64(0.7, 0.1, 0.2)
    log_prob = categorical_log_prob(torch.arange(3), logits.expand(3, -1))
    ratio = importance_ratio(log_prob, behavior.log())
    close(ratio, torch.softmax(logits, -1) / behavior, atol=1e-12)
    found = slope((behavior * signed_nll(log_prob, ratio * reward)).sum(), logits)
    policy = torch.softmax(logits, -1)
    close(found, slope(-(policy * reward).sum(), logits), atol=1e-12)
    plain = slope((behavior * signed_nll(log_prob, reward)).sum(), logits)
    assert (found - plain).abs().max() > 0.1
    assert not ratio.requires_grad


def test_ratio_is_cut() -> None:
    """Densities e^200 apart overflow, and are cut like any other."""
    ratio = importance_ratio(f64(0.0, 900.0, -900.0), f64(0.0, 0.0, 0.0), max_ratio=3.0)
    close(ratio, [1.0, 3.0, 0.0])


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_clipped_gradient_is_that_of_ppo(seed: int, clip: float) -> None:
    """Against the gradient of -min(rho y, clamp(rho) y) itself."""
    generator = torch.Generator().manual_seed(seed)
    behavior, label = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    log_prob = (behavior + torch.randn(6, generator=generator)).requires_grad_()
    rho = torch.exp(log_prob - behavior)
    surrogate = -torch.minimum(rho * label, rho.clamp(1 - clip, 1 + clip) * label)
    ratio = importance_ratio(log_prob, behavior)
    ours = signed_nll(log_prob, ratio * within_clip(ratio, label, clip=clip) * label)
    close(slope(ours.sum(), log_prob), slope(surrogate.sum(), log_prob), atol=1e-9)


# --- errors ---------------------------------------------------------------------------------------


def test_wrong_arguments_are_named() -> None:
    one = f64(1.0)
    with pytest.raises(ValueError, match="negative_scale is -1.0, it must be at least 0"):
        signed_nll(one, one, negative_scale=-1.0)
    with pytest.raises(ValueError, match=r"shapes differ: log_prob \(1,\), label \(2,\)"):
        signed_nll(one, f64(1, 2))
    with pytest.raises(ValueError, match="one action only: nothing could be chosen"):
        unlikelihood(torch.tensor(0), one)
    with pytest.raises(ValueError, match="max_ratio is 0.0, it must be above 0"):
        importance_ratio(one, one, max_ratio=0.0)
    with pytest.raises(ValueError, match=r"log_prob \(1,\), behavior_log_prob \(1, 1\)"):
        importance_ratio(one, one[:, None])
    with pytest.raises(ValueError, match=r"clip is 1.0, it must lie in \(0, 1\)"):
        within_clip(one, one, clip=1.0)
