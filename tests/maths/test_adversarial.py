"""Discriminators by hand: T40's optimum, rewards of each sign, AIRL's f, one share per pair."""

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.objectives import GAILLoss

from hindsight_rl.maths.adversarial import (
    adversarial_reward,
    between,
    discriminator_loss,
    gradient_penalty,
    policy_logit,
    shaped_reward,
)
from hindsight_rl.maths.soft_value import discounted_visits, soft_fixed_point

ATOL = 2e-6
F64 = torch.float64
EXPERT = torch.tensor([0.7, 0.3], dtype=F64)
POLICY = torch.tensor([0.4, 0.6], dtype=F64)
RATIO = (EXPERT / POLICY).log()


def close(found: Tensor, expected: object) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=0, atol=ATOL)


def expected_loss(logit: Tensor) -> Tensor:
    """Return the loss over all outcomes, each as often as expert and policy meet it."""
    yes, no = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    own = EXPERT * discriminator_loss(logit, yes) + POLICY * discriminator_loss(logit, no)
    return own.sum()


# --- the optimum of T40 ---------------------------------------------------------------------------


def test_the_best_logit_is_the_log_ratio() -> None:
    """D* = (.636364, .333333), objective -1.293893 = -log 4 + 2 JS with JS = .046201."""
    logit = RATIO.clone().requires_grad_()
    loss = expected_loss(logit)
    (slope,) = torch.autograd.grad(loss, logit)
    close(torch.sigmoid(logit.detach()), [0.636364, 0.333333])
    assert -loss.item() == pytest.approx(-1.293893, abs=ATOL)
    assert -loss.item() == pytest.approx(-math.log(4.0) + 2.0 * 0.046201, abs=ATOL)
    close(slope, [0.0, 0.0])


def test_slope_away_from_the_optimum() -> None:
    """At logit 0 both labels pull by a half: (p_policy - p_expert) / 2."""
    logit = torch.zeros(2, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(expected_loss(logit), logit)
    close(slope, [-0.15, 0.15])


def test_rewards_at_the_optimum() -> None:
    close(adversarial_reward(RATIO, "survive"), [1.011601, 0.405465])
    close(adversarial_reward(RATIO, "end"), [-0.451985, -1.098612])
    close(adversarial_reward(RATIO, "logit"), [0.559616, -0.693147])
    far = torch.tensor([-1e4, 1e4], dtype=F64)
    assert adversarial_reward(far, "survive").tolist() == [0.0, 1e4]
    assert adversarial_reward(far, "end").tolist() == [-1e4, 0.0]


def test_airls_f_is_the_experts_log_density_and_its_d_the_same() -> None:
    """With f - log pi as logit in f is 0 at f = log p_expert."""
    reward = EXPERT.log().requires_grad_()
    logit = policy_logit(reward, POLICY.log())
    close(logit.detach(), RATIO.tolist())
    (slope,) = torch.autograd.grad(expected_loss(logit), reward)
    close(slope, [0.0, 0.0])


def test_airl_recovers_the_reward_of_a_ring_up_to_a_constant() -> None:
    """Three states, stay or go on, r = (0, 1, -.5); policy and expert do what is soft-optimal.

    The optimum is f = log pi = r + .9 V(s') - V(s): g is r and h is V, whatever they began as, up
    to a constant of each. The loss is 2 log 2 and its slopes are 0 there.
    """
    state, following = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    moves = torch.zeros(3, 2, 3, dtype=F64)
    moves[state, torch.arange(6) % 2, following] = 1.0
    true = torch.tensor([0.0, 1.0, -0.5], dtype=F64)
    value, policy = soft_fixed_point(true, moves, discount=0.9)
    visits = discounted_visits(policy, moves, torch.full((3,), 1 / 3).double(), discount=0.9)
    weight = (0.1 * visits.unsqueeze(-1) * policy).flatten()
    log_pi, going_on = policy.log().flatten(), torch.zeros(6, dtype=torch.bool)

    def loss(g: Tensor, h: Tensor) -> Tensor:
        f = shaped_reward(g[state], h[state], h[following], going_on, discount=0.9)
        logit = policy_logit(f, log_pi)
        sides = [discriminator_loss(logit, torch.full((6,), side)) for side in (True, False)]
        return (weight * (sides[0] + sides[1])).sum()

    at_best = [true.clone().requires_grad_(), value.clone().requires_grad_()]
    assert loss(*at_best).item() == pytest.approx(2 * math.log(2), abs=ATOL)
    for slope in torch.autograd.grad(loss(*at_best), at_best):
        close(slope, [0.0] * 3)
    found = [torch.ones(3, dtype=F64, requires_grad=True) for _ in range(2)]
    solver = torch.optim.LBFGS(found, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16)

    def step() -> Tensor:
        solver.zero_grad()
        here = loss(*found)
        here.backward()
        return here

    solver.step(step)
    for one, other in zip(found, (true, value), strict=True):
        torch.testing.assert_close(
            one.detach() - one.detach().mean(), other - other.mean(), rtol=0, atol=1e-4
        )


def test_no_slope_enters_the_policy() -> None:
    log_prob = POLICY.log().requires_grad_()
    policy_logit(torch.zeros(2, dtype=F64, requires_grad=True), log_prob).sum().backward()
    assert log_prob.grad is None


def test_shaped_reward_drops_the_potential_behind_an_end() -> None:
    """It is g + .9 h' - h: 1 + 1.8 - .5 = 2.3, and .5 where the step ended the episode."""
    one = torch.ones(2, dtype=F64)
    half, two = 0.5 * one, (2.0 * one).requires_grad_()
    ended = torch.tensor([False, True])
    found = shaped_reward(one, half, two, ended, discount=0.9)
    close(found.detach(), [2.3, 0.5])
    (slope,) = torch.autograd.grad(found.sum(), two)
    close(slope, [0.9, 0.0])
    with pytest.raises(ValueError, match=r"potential \(2,\), next_potential \(2, 1\)"):
        shaped_reward(one, half, two[:, None], ended, discount=0.9)


def test_shaping_sums_to_the_potential_of_the_start() -> None:
    """Along an episode that ends sum discount^t (f_t - g_t) = -h(s_0), whatever lies between."""
    height = torch.tensor([1.5, -2.0, 0.3], dtype=F64)
    after = torch.tensor([-2.0, 0.3, 9.0], dtype=F64)
    ended = torch.tensor([False, False, True])
    found = shaped_reward(torch.zeros(3, dtype=F64), height, after, ended, discount=0.9)
    assert (0.9 ** torch.arange(3, dtype=F64) @ found).item() == pytest.approx(-1.5)


def test_smoothed_labels_keep_the_optimum_away_from_certainty() -> None:
    """Label .9: the slope of an expert row is sigmoid(logit) - .9, 0 at logit log 9."""
    logit = torch.tensor([math.log(9.0)], dtype=F64, requires_grad=True)
    loss = discriminator_loss(logit, torch.tensor([True]), smoothing=0.1)
    assert loss.item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    (slope,) = torch.autograd.grad(loss.sum(), logit)
    close(slope, [0.0])
    with pytest.raises(ValueError, match="smoothing is 1.0"):
        discriminator_loss(logit, torch.tensor([True]), smoothing=1.0)
    with pytest.raises(ValueError, match="never"):
        discriminator_loss(logit, torch.tensor([[True]]))


# --- the penalty ----------------------------------------------------------------------------------


def test_penalty_and_its_slope() -> None:
    """|(3, 4)| = 5: (5 - 1)^2 = 16, slope 2 * 4 * (.6, .8); at 0 it is 1 with no slope."""
    slope = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=F64, requires_grad=True)
    found = gradient_penalty(slope)
    assert found.tolist() == [16.0, 1.0]
    (second,) = torch.autograd.grad(found.sum(), slope)
    close(second, [[4.8, 6.4], [0.0, 0.0]])
    assert gradient_penalty(slope, target=0.0).tolist() == [25.0, 0.0]


def test_one_share_for_all_numbers_of_a_pair() -> None:
    found = between(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0.25, 1.0]))
    assert found.tolist() == [[0.25] * 3, [1.0] * 3]
    with pytest.raises(ValueError, match="expert"):
        between(torch.ones(2, 3), torch.zeros(2, 2), torch.tensor([0.25, 1.0]))


# --- torchrl --------------------------------------------------------------------------------------


class Pair(nn.Module):
    """A network of observation and action; its own sigmoid makes what torchrl calls a logit."""

    def __init__(self, squash: bool) -> None:
        super().__init__()
        self.net = nn.Linear(5, 1) if not squash else nn.Sequential(nn.Linear(5, 8), nn.Tanh())
        self.last = nn.Linear(8, 1) if squash else nn.Identity()
        self.squash = squash

    def logit(self, features: Tensor) -> Tensor:
        found: Tensor = self.last(self.net(features))
        return found

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        found = self.logit(torch.cat([observation, action], -1))
        return torch.sigmoid(found) if self.squash else found


def torchrl_loss(network: Pair, batch: TensorDict, **options: Any) -> TensorDict:
    """Return torchrl's loss, its penalty if there is one, and its slopes by parameter."""
    module = TensorDictModule(network, in_keys=["observation", "action"], out_keys=["d_logits"])
    loss = GAILLoss(module, **options)
    names = {"expert_observation": "observation", "expert_action": "action"}
    found = loss(TensorDict({names.get(k, k): v for k, v in batch.items()}, batch.batch_size))
    weights = loss.discriminator_network_params.flatten_keys(".")
    slopes = torch.autograd.grad(found["loss"], [weights[name] for name in _names(network)])
    result = TensorDict({"loss": found["loss"].detach()})
    for name, slope in zip(_names(network), slopes, strict=True):
        result[name] = slope
    return result.update({k: v for k, v in found.items() if k == "gp_loss"})


def _names(network: Pair) -> list[str]:
    return [f"module.{name}" for name, _ in network.named_parameters()]


def rows(scale: float) -> TensorDict:
    generator = torch.Generator().manual_seed(0)
    widths = {"expert_observation": 3, "expert_action": 2}
    widths |= {"collector_observation": 3, "collector_action": 2}
    return TensorDict(
        {
            name: scale * torch.randn(16, width, generator=generator)
            for name, width in widths.items()
        },
        [16],
    )


def features_of(batch: TensorDict, who: str) -> Tensor:
    return torch.cat([batch[f"{who}_observation"], batch[f"{who}_action"]], -1)


def test_loss_and_slopes_are_torchrls_where_its_input_is_a_probability() -> None:
    torch.manual_seed(0)
    network, batch = Pair(squash=True), rows(1.0)
    theirs = torchrl_loss(network, batch)
    own = [
        discriminator_loss(network.logit(features_of(batch, who)).squeeze(-1), expert)
        for who, expert in (
            ("expert", torch.ones(16).bool()),
            ("collector", torch.zeros(16).bool()),
        )
    ]
    loss = (own[0] + own[1]).mean()
    torch.testing.assert_close(loss.detach(), theirs["loss"])
    slopes = torch.autograd.grad(loss, list(network.parameters()))
    for name, slope in zip(_names(network), slopes, strict=True):
        torch.testing.assert_close(slope, theirs[name], rtol=1e-4, atol=1e-6)


def test_penalty_is_torchrls_where_the_mixing_does_not_matter() -> None:
    """Of a linear network: its slope is the same at every point between two rows."""
    torch.manual_seed(0)
    network, batch = Pair(squash=False), rows(1e-3)
    with torch.no_grad():
        network.net.bias.fill_(0.5)  # torchrl wants probabilities
    theirs = torchrl_loss(network, batch, use_grad_penalty=True, gp_lambda=10.0)
    expert, other = (features_of(batch, who) for who in ("expert", "collector"))
    point = between(expert, other, torch.linspace(0, 1, 16)).requires_grad_()
    (slope,) = torch.autograd.grad(network.logit(point).sum(), point, create_graph=True)
    penalty = 10.0 * gradient_penalty(slope).mean()
    torch.testing.assert_close(penalty.detach(), theirs["gp_loss"])
