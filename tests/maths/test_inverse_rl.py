"""Inverse RL by hand: T38 to T40, a lottery, features, samples, and rewards that are not unique."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.feature_matching import (
    feature_expectation,
    match_features,
    projected_expectation,
)
from hindsight_rl.maths.inverse_rl import (
    causal_entropy_loss,
    causal_likelihood_loss,
    demonstrated_visits,
    effective_share,
    fall_penalty,
    guided_cost_loss,
    jump_penalty,
    log_partition_estimate,
    mixture_log_density,
)
from hindsight_rl.maths.soft_value import (
    discounted_visits,
    soft_fixed_point,
    soft_values,
    state_visits,
)

ATOL = 2e-6
F64 = torch.float64


def close(found: Tensor, expected: object) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=0, atol=ATOL)


def chain(seed: int = 0, states: int = 4, actions: int = 3) -> tuple[Tensor, Tensor]:
    """Return random transitions ``[S, A, S]`` and a random start ``[S]``."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.rand(states, actions, states, generator=generator, dtype=F64)
    start = torch.rand(states, generator=generator, dtype=F64)
    return moves / moves.sum(-1, keepdim=True), start / start.sum()


# --- the lottery, T38 -----------------------------------------------------------------------------


def test_expected_values_are_not_taken_in_by_a_lottery() -> None:
    """Safe 1, risky 3 or -3: by E V the risky action is taken with .268941, not .787401.

    Inference over trajectories, Q = log E exp(V), would choose luck: 2.309329 instead of 0.
    """
    moves = torch.zeros(4, 2, 4, dtype=F64)
    moves[0, 0, 1] = 1.0
    moves[0, 1, 2] = moves[0, 1, 3] = 0.5
    reward = torch.tensor([0.0, 1.0, 3.0, -3.0], dtype=F64)
    value, policy = soft_values(reward, moves, 2)
    risky = moves[0, 1] @ (value[1] - math.log(2.0))  # every end is one of two equal actions
    assert risky.item() == pytest.approx(0.0, abs=ATOL)
    assert policy[0, 0, 1].item() == pytest.approx(0.268941, abs=ATOL)
    reward.requires_grad_()
    (slope,) = torch.autograd.grad(soft_values(reward, moves, 2).value[0, 0], reward)
    close(slope, [1.0, 0.731059, 0.134471, 0.134471])  # both ends of the lottery alike
    reward = reward.detach()
    inferred = torch.logsumexp(reward[2:], 0) - math.log(2.0)
    assert inferred.item() == pytest.approx(2.309329, abs=ATOL)
    assert torch.sigmoid(inferred - 1.0).item() == pytest.approx(0.787401, abs=ATOL)


# --- maximum causal entropy -----------------------------------------------------------------------


def test_features_match_at_the_optimum_of_t39() -> None:
    """One choice of three, features (1,0), (0,1), (1,1), demonstrated mean (.7, .6).

    The optimum is psi = (0, log .75) with p = (.4, .3, .3): the slope is 0 there, and at psi = 0 it
    is the model's mean 2/3 minus the demonstrated one.
    """
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
    demonstrated = torch.tensor([[0.4, 0.3, 0.3]], dtype=F64)
    assert (demonstrated @ features).tolist() == [[0.7, 0.6]]
    moves, start = torch.ones(1, 3, 1, dtype=F64), torch.ones(1, dtype=F64)

    def loss(psi: Tensor) -> Tensor:
        reward = (features @ psi).unsqueeze(0)
        return causal_entropy_loss(reward, demonstrated, moves, start, discount=1.0, horizon=1)

    psi = torch.zeros(2, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(psi), psi)
    close(slope, [2 / 3 - 0.7, 2 / 3 - 0.6])
    best = torch.tensor([0.0, -0.287682], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(best), best)
    close(slope, [0.0, 0.0])
    close(torch.softmax(features @ best.detach(), 0), [0.4, 0.3, 0.3])


@pytest.mark.parametrize("horizon", [5, None])
def test_slope_is_the_models_visits_minus_the_demonstrated(horizon: int | None) -> None:
    """By finite differences too: the value is right, and not only its slope."""
    moves, start = chain()
    demonstrated = torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    reward = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=F64)

    def loss(reward: Tensor) -> Tensor:
        return causal_entropy_loss(
            reward, demonstrated, moves, start, discount=0.8, horizon=horizon
        )

    if horizon is None:
        policy = soft_fixed_point(reward, moves, discount=0.8).policy
        visits = discounted_visits(policy, moves, start, discount=0.8).unsqueeze(-1) * policy
    else:
        policy = soft_values(reward, moves, horizon, discount=0.8).policy
        faded = 0.8 ** torch.arange(horizon, dtype=F64)
        by_step = state_visits(policy, moves, start) * faded.unsqueeze(-1)
        visits = (by_step.unsqueeze(-1) * policy).sum(0)
    reward.requires_grad_()
    (slope,) = torch.autograd.grad(loss(reward), reward)
    torch.testing.assert_close(slope, visits - demonstrated, rtol=0, atol=1e-8)
    step = torch.zeros(4, 3, dtype=F64)
    step[2, 1] = 1e-4
    rise = (loss(reward.detach() + step) - loss(reward.detach() - step)) / 2e-4
    assert rise.item() == pytest.approx(slope[2, 1].item(), abs=1e-6)


def test_the_loss_is_the_negative_log_likelihood_where_steps_are_certain() -> None:
    """A line of two states, 0 stays and 1 moves; demonstrated: move, stay."""
    moves = torch.zeros(2, 2, 2, dtype=F64)
    moves[0, 0, 0] = moves[0, 1, 1] = moves[1, 0, 1] = moves[1, 1, 0] = 1.0
    reward = torch.tensor([[0.3, -0.2], [1.0, 0.4]], dtype=F64)
    visits = demonstrated_visits(
        torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0, 1]),
        states=2, actions=2, discount=1.0,
    )  # fmt: skip
    start = torch.tensor([1.0, 0.0], dtype=F64)
    loss = causal_entropy_loss(reward, visits, moves, start, discount=1.0, horizon=2)
    policy = soft_values(reward, moves, 2).policy
    expected = -(policy[0, 0, 1].log() + policy[1, 1, 0].log())
    torch.testing.assert_close(loss, expected)
    assert loss.item() == pytest.approx(_by_sequences(moves, reward), abs=1e-12)


def _by_sequences(moves: Tensor, reward: Tensor) -> float:
    """Return log Z over the four sequences of actions from state 0, minus R of (1, 0)."""
    totals = []
    for first in (0, 1):
        middle = int(moves[0, first].argmax())
        totals += [float(reward[0, first] + reward[middle, second]) for second in (0, 1)]
    return math.log(sum(map(math.exp, totals))) - totals[2]


def test_the_likelihood_of_actions_and_its_slope_by_hand() -> None:
    """A lottery, lost: safe 1, risky 3 or -3 half each, risky is demonstrated and ends at -3.

    Both losses start at log(1 + e) for the first choice and log 2 for the second. The dual then
    also asks why -3 was reached, and so falls without end as its reward rises.
    """
    moves = torch.zeros(4, 2, 4, dtype=F64)
    moves[0, 0, 1] = 1.0
    moves[0, 1, 2] = moves[0, 1, 3] = 0.5
    reward = torch.tensor([0.0, 1.0, 3.0, -3.0], dtype=F64, requires_grad=True)
    shown = {"states": 4, "actions": 2, "discount": 1.0}
    rows = torch.tensor([0, 3]), torch.tensor([1, 0]), torch.tensor([0, 1])
    visits = demonstrated_visits(*rows, **shown, horizon=2)
    assert visits.shape == (2, 4, 2) and visits[0, 0, 1] == visits[1, 3, 0] == 1
    loss = causal_likelihood_loss(reward, visits, moves, discount=1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.e) + math.log(2), abs=1e-12)
    (slope,) = torch.autograd.grad(loss, reward)
    close(slope, [0.0, 0.731059, -0.365529, -0.365529])  # p(safe), and its half at either end
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=F64)
    dual = causal_entropy_loss(
        reward, visits.sum(0), moves, start, discount=1.0, horizon=2
    )  # fmt: skip
    (slope,) = torch.autograd.grad(dual, reward)
    close(slope, [0.0, 0.731059, 0.134471, 0.134471 - 1.0])


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_where_steps_are_certain_both_losses_are_one(discount: float) -> None:
    moves = torch.zeros(3, 2, 3, dtype=F64)
    for state in range(3):
        moves[state, 0, state] = moves[state, 1, (state + 1) % 3] = 1.0
    reward = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    reward.requires_grad_()
    rows = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 1, 0]), torch.arange(4)
    shown = {"states": 3, "actions": 2, "discount": discount}
    start = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
    one = causal_likelihood_loss(
        reward, demonstrated_visits(*rows, **shown, horizon=4), moves, discount=discount
    )
    two = causal_entropy_loss(
        reward, demonstrated_visits(*rows, **shown), moves, start, discount=discount, horizon=4
    )
    torch.testing.assert_close(one, two)
    slopes = [torch.autograd.grad(loss, reward)[0] for loss in (one, two)]
    torch.testing.assert_close(slopes[0], slopes[1])


def test_rewards_shaped_by_a_potential_explain_the_same() -> None:
    """Adding discount E h(s') - h(s) moves start . V and <mu_demo, r> by -start . h both."""
    moves, start = chain(3)
    reward = torch.randn(4, 3, generator=torch.Generator().manual_seed(4), dtype=F64)
    policy = soft_fixed_point(reward, moves, discount=0.9).policy
    visits = discounted_visits(policy, moves, start, discount=0.9).unsqueeze(-1) * policy
    height = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=F64)
    shaped = reward + 0.9 * moves @ height - height.unsqueeze(-1)
    losses = [
        causal_entropy_loss(each, visits, moves, start, discount=0.9) for each in (reward, shaped)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-8)
    other = soft_fixed_point(shaped, moves, discount=0.9).policy
    torch.testing.assert_close(policy, other, rtol=0, atol=1e-8)


def test_endings_and_absent_actions() -> None:
    """A step that ends half of the time: V = log(e^(0+V/2) + 0) = V / 2, so 0; visits sum to 2."""
    moves = torch.full((1, 2, 1), 0.5, dtype=F64)
    reward = torch.tensor([[0.0, -math.inf]], dtype=F64)
    start = torch.ones(1, dtype=F64)
    value, policy = soft_values(reward, moves, 4)
    close(value[:, 0], [0.0] * 4)
    close(policy[:, 0], [[1.0, 0.0]] * 4)
    free = reward.clone().requires_grad_()
    visited = torch.tensor([[2.0, 0.0]], dtype=F64)
    loss = causal_entropy_loss(free, visited, moves, start, discount=1.0, horizon=60)
    (slope,) = torch.autograd.grad(loss, free)
    close(slope, [[0.0, 0.0]])


def test_visits_of_demonstrations_are_discounted_means() -> None:
    found = demonstrated_visits(
        torch.tensor([0, 1, 0]), torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0]),
        states=2, actions=2, discount=0.5,
    )  # fmt: skip
    close(found, [[0.0, 1.0], [0.25, 0.0]])
    with pytest.raises(ValueError, match="no demonstration begins"):
        demonstrated_visits(
            torch.tensor([0]), torch.tensor([0]), torch.tensor([1]),
            states=1, actions=1, discount=1.0,
        )  # fmt: skip
    with pytest.raises(ValueError, match="discount is 1.0"):
        discounted_visits(torch.ones(1, 1), torch.ones(1, 1, 1), torch.ones(1), discount=1.0)


# --- guided cost learning, T40 --------------------------------------------------------------------

SCORE = torch.tensor([0.0, 1.0, 2.0], dtype=F64)
DEMONSTRATED = torch.tensor([0.1, 0.2, 0.7], dtype=F64)
SAMPLER = torch.tensor([0.5, 0.3, 0.2], dtype=F64)


def samples(share: list[int]) -> Tensor:
    """Return outcomes as often as their shares of ten say."""
    return torch.arange(3).repeat_interleave(torch.tensor(share))


def test_loss_and_slope_of_t40() -> None:
    """Ten samples as a sampler of (.5, .3, .2) gives them: the estimate is log Z itself."""
    score = SCORE.clone().requires_grad_()
    drawn, shown = samples([5, 3, 2]), samples([1, 2, 7])
    log_density = SAMPLER.log()[drawn]
    weight = (score[drawn] - log_density).exp()
    close(weight.detach()[[0, 5, 8]], [2.0, 9.060939, 36.945280])
    assert log_partition_estimate(score[drawn], log_density).item() == pytest.approx(
        2.407606, abs=ATOL
    )
    loss = guided_cost_loss(score[shown], score[drawn], log_density)
    assert loss.item() == pytest.approx(0.807606, abs=ATOL)
    (slope,) = torch.autograd.grad(loss, score)
    close(slope, [-0.009969, 0.044728, -0.034759])
    share = effective_share(score.detach()[drawn], log_density)
    assert share.item() == pytest.approx(0.411763, abs=ATOL)


def test_demonstrations_among_the_samples_double_the_effective_share() -> None:
    """.411763 -> .799987; the density of the mixture is that of drawing from both alike."""
    drawn = torch.cat([samples([5, 3, 2]), samples([1, 2, 7])])
    each = torch.stack([SAMPLER.log()[drawn], DEMONSTRATED.log()[drawn]])
    log_density = mixture_log_density(each, torch.tensor([0.5, 0.5], dtype=F64))
    close(log_density.exp()[[0, 5, 8]], [0.3, 0.25, 0.45])
    share = effective_share(SCORE[drawn], log_density)
    assert share.item() == pytest.approx(0.799987, abs=ATOL)
    assert log_partition_estimate(SCORE[drawn], log_density).item() == pytest.approx(
        2.407606, abs=ATOL
    )


def test_no_slope_enters_the_sampler() -> None:
    log_density = SAMPLER.log().requires_grad_()
    guided_cost_loss(SCORE, SCORE.clone().requires_grad_(), log_density).backward()
    assert log_density.grad is None


def test_extreme_scores_stay_finite() -> None:
    score = torch.tensor([1e4, -1e4], dtype=F64)
    assert log_partition_estimate(score, torch.zeros(2, dtype=F64)).item() == pytest.approx(
        1e4 - math.log(2.0)
    )
    assert effective_share(score, torch.zeros(2, dtype=F64)).item() == 0.5


def test_penalties_of_rewards_in_time() -> None:
    """(0, 1, 2, 0): second differences 0, -3; it falls by 2 once, 1 more than allowed."""
    reward = torch.tensor([0.0, 1.0, 2.0, 0.0], dtype=F64, requires_grad=True)
    assert jump_penalty(reward).item() == 9.0
    assert fall_penalty(reward).item() == 1.0
    (slope,) = torch.autograd.grad(fall_penalty(reward), reward)
    assert slope.tolist() == [0.0, 0.0, 2.0, -2.0]
    (slope,) = torch.autograd.grad(jump_penalty(reward), reward)
    assert slope.tolist() == [0.0, -6.0, 12.0, -6.0]


# --- features -------------------------------------------------------------------------------------


def test_feature_expectations_and_their_projection() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], dtype=F64)
    found = feature_expectation(features, torch.tensor([0, 1, 0]), discount=0.5)
    assert found.tolist() == [2.0, 0.5]
    expert = torch.tensor([1.0, 1.0], dtype=F64)
    mixed, new = torch.zeros(2, dtype=F64), torch.tensor([2.0, 0.0], dtype=F64)
    assert projected_expectation(mixed, new, expert).tolist() == [1.0, 0.0]
    assert projected_expectation(mixed, mixed, expert).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="no episode begins"):
        feature_expectation(features, torch.tensor([1, 1, 1]), discount=0.5)


def test_matched_features_bound_what_any_linear_reward_can_tell_apart() -> None:
    """|J_w(pi) - J_w(E)| <= |w| |mu - mu_E|, with equality along the difference."""
    mean, expert = torch.tensor([2.0, 0.5], dtype=F64), torch.tensor([1.0, 1.5], dtype=F64)
    gap = torch.linalg.vector_norm(mean - expert)
    generator = torch.Generator().manual_seed(0)
    for weight in torch.randn(20, 2, generator=generator, dtype=F64):
        assert abs(weight @ mean - weight @ expert) <= weight.norm() * gap + 1e-12
    along = mean - expert
    assert (along @ along).item() == pytest.approx((along.norm() * gap).item())


def corner(weights: Tensor) -> Tensor:
    """Return features (x, y) of the best of three policies: (0, 0), (2, 0) and (0, 2)."""
    policies = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=F64)
    return policies[(policies @ weights).argmax()]


def test_policies_are_mixed_until_they_match() -> None:
    """(1, .999) is nearest to the line from (2, 0) to (0, 2) at a share of 3.998 / 8."""
    expert = torch.tensor([1.0, 0.999], dtype=F64)
    found = match_features(expert, corner, tolerance=1e-2)
    assert found.gap < 1e-2 and len(found.weights) == 2
    close(found.shares, [0.50025, 0.49975])
    close(found.mixed, [1.0005, 0.9995])
    assert found.weights[0].tolist() == expert.tolist()
    close(found.weights[1], [-1.0, 0.999])


def test_what_no_policy_reaches_ends_with_the_nearest() -> None:
    """Of (1.5, 1.5) the line x + y = 2 is off by .5 sqrt 2, in whatever many rounds."""
    found = match_features(torch.tensor([1.5, 1.5], dtype=F64), corner, rounds=500)
    assert found.gap == pytest.approx(math.sqrt(0.5), abs=1e-6)
    assert len(found.weights) < 500  # nobody answers (.5, .5) with more
    assert float(found.shares.sum()) == pytest.approx(1.0) and bool((found.shares >= 0).all())
    worse = match_features(torch.ones(2, dtype=F64), lambda weights: -weights)
    assert worse.shares.tolist() == [1.0] and worse.mixed.tolist() == [-1.0, -1.0]


def test_three_policies_match_within_the_tolerance() -> None:
    found = match_features(torch.tensor([0.5, 0.7], dtype=F64), corner, rounds=5_000)
    assert found.gap <= 1e-3 and float(found.shares.sum()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="rounds 0 must be at least 1"):
        match_features(torch.ones(2), corner, rounds=0)
    with pytest.raises(ValueError, match=r"expert \(2,\), response \(3,\)"):
        match_features(torch.ones(2), lambda weights: torch.ones(3))
