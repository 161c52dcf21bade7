"""MPO: T13 through the learner, its M-step against torch's distributions, and its limits."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor, distributions, nn

from hindsight_rl.agents.mpo import MPO, Multiplier
from hindsight_rl.maths.divergences import categorical_kl
from hindsight_rl.nets.network import Network
from hindsight_rl.policies.action_values import several
from hindsight_rl.training.learner import Learner

REWARD = ("next", "reward")
BOTH = pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
IMPROVED = [0.169735, 0.300006, 0.530259]


def case(discrete: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose targets differ from what they follow, and a batch."""
    data = data_for(MPO, episode_log(discrete=discrete))
    learner = learner_of(MPO, data.spec, **{"samples": 3} | arguments)
    with torch.no_grad():
        for target in (learner.target_actor, learner.target_critic):
            for parameter in target.parameters():
                parameter += 0.1
    return learner, whole_log(learner, data)


def t13(discrete: bool, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner of T13: Q' = 1, 2, 3 of the three actions, equally likely under pi'.

    Of two critics the second values all of them higher.
    """
    learner, batch = case(discrete, **{"critics": 2} | arguments)
    value = torch.tensor([1.0, 2.0, 3.0])

    def critic(observation: Tensor, action: Tensor | None, task: Tensor | None) -> Tensor:
        rows = value.expand(len(observation), 3)
        least = rows if action is None else rows.T
        return torch.stack([least, least + 1.0])

    learner.target_critic.forward = critic
    if discrete:
        for parameter in learner.target_actor.net[-1].parameters():
            nn.init.zeros_(parameter)
    return learner, batch


def descend(learner: Learner, batch: TensorDict, term: str) -> None:
    """Take one term to its minimum by its own network; by the signs of slopes, which stay exact."""
    optimizer = torch.optim.Rprop(
        getattr(learner, term).parameters(), lr=0.1, step_sizes=(1e-7, 2.0)
    )
    for _ in range(100):
        optimizer.zero_grad()
        learner.losses(batch).terms[term].backward()
        optimizer.step()


# --- T13 ------------------------------------------------------------------------------------------


@BOTH
def test_dual_of_t13(discrete: bool) -> None:
    learner, batch = t13(discrete, initial_temperature=1.0)
    found = learner.losses(batch)
    assert found.terms["temperature"].item() == pytest.approx(2.408994, abs=2e-6)
    assert found.metrics["temperature/kl"].item() == pytest.approx(0.266217, abs=2e-6)
    weight = learner.improve(batch).weight
    expected = torch.tensor([0.090031, 0.244728, 0.665241])
    torch.testing.assert_close(weight, expected[:, None].expand_as(weight), rtol=0, atol=2e-6)


@BOTH
def test_temperature_finds_the_optimum_of_t13(discrete: bool) -> None:
    """The learner's own dual, descended from 10: eta 1.755735, and KL(q || pi') at its limit."""
    learner, batch = t13(discrete)
    descend(learner, batch[:1], "temperature")
    assert learner.temperature().item() == pytest.approx(1.755735, abs=1e-5)
    found = learner.improve(batch)
    expected = torch.tensor(IMPROVED)[:, None].expand(3, len(batch))
    torch.testing.assert_close(found.weight, expected, rtol=0, atol=2e-6)
    kl = categorical_kl(found.weight, found.share.log())
    torch.testing.assert_close(kl, torch.full((len(batch),), 0.1), rtol=0, atol=2e-6)


def test_policy_becomes_the_improved_one_where_nothing_limits_it() -> None:
    """T13's shares, learned by the policy from its M-step under a penalty of almost 0."""
    learner, batch = t13(
        True, network=Network(hidden=()), initial_temperature=1.755735, initial_penalty=(1e-7, 1e-7)
    )
    descend(learner, batch[:1], "actor")
    found = torch.softmax(learner.scores(batch[:1]["observation"]), -1)
    torch.testing.assert_close(found, torch.tensor(IMPROVED).expand_as(found), rtol=0, atol=1e-3)


# --- the critics ----------------------------------------------------------------------------------


@BOTH
def test_critics_regress_on_the_policys_mean_value(discrete: bool) -> None:
    """R + g (1 + 2 + 3) / 3, summed over two critics; g = .9, terminated in the second row only.

    Q = 0: targets 1 + 1.8 and 2, squares 7.84 and 4, mean 5.92, twice.
    """
    learner, batch = t13(discrete, discount=0.9)
    batch = batch[:2]
    batch[REWARD] = torch.tensor([1.0, 2.0])
    batch["next", "terminated"] = torch.tensor([False, True])
    batch["next", "truncated"] = torch.tensor([True, False])
    learner.critic.forward = lambda *_: torch.zeros(2, 2)
    assert learner.critic_loss(batch)[0].item() == pytest.approx(11.84)


def test_discount_of_the_row_replaces_the_constant() -> None:
    learner, batch = case(discount=0.5)
    half, _ = learner.critic_loss(batch)
    same, _ = learner.critic_loss(batch.copy().set("discount", torch.full((len(batch),), 0.5)))
    other, _ = learner.critic_loss(batch.copy().set("discount", torch.full((len(batch),), 0.9)))
    assert half == same and half != other


# --- the M-step -----------------------------------------------------------------------------------


def test_continuous_m_step_equals_torch() -> None:
    """Value and gradient of both cross-entropies and of both divergences, dimension by dimension.

    The densities are those of the actions before they are clipped, which are the ones valued.
    """
    learner, batch = case(initial_penalty=(2.0, 30.0))
    found, divergence = learner.actor_loss(batch, learner.improve(batch))
    new, old = (net(batch["observation"]) for net in (learner.actor, learner.target_actor))
    old_mean, old_std = old.mean.detach(), old.log_std.exp().detach()
    before = distributions.Normal(old_mean, old_std)
    moved = distributions.Normal(new.mean, old_std)
    spread = distributions.Normal(old_mean, new.log_std.exp())
    action = old_mean + old_std * several(batch["noise", "now"], 2)
    with torch.no_grad():
        seen = learner.actor.scale.to_environment(action)
        q = learner.target_critic(batch["observation"], seen).amin(0)
        weight = torch.softmax(q / 10.0, 0)
    cross = (moved.log_prob(action) + spread.log_prob(action)).sum(-1)
    kl = [distributions.kl_divergence(before, other) for other in (moved, spread)]
    expected = -(weight * cross).sum(0) + 2.0 * kl[0].sum(-1) + 30.0 * kl[1].sum(-1)
    torch.testing.assert_close(divergence, torch.cat(kl, -1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, expected.mean(), rtol=1e-5, atol=1e-5)
    parameters = list(learner.actor.parameters())
    ours = torch.autograd.grad(found, parameters, retain_graph=True)
    theirs = torch.autograd.grad(expected.mean(), parameters)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_discrete_m_step_equals_torch() -> None:
    """-sum_a q(a) log pi(a) + alpha KL(pi' || pi), value and gradient."""
    learner, batch = case(True, initial_penalty=(2.0, 30.0))
    found, divergence = learner.actor_loss(batch, learner.improve(batch))
    new, old = (net(batch["observation"]).logits for net in (learner.actor, learner.target_actor))
    before, after = (distributions.Categorical(logits=logits) for logits in (old.detach(), new))
    with torch.no_grad():
        q = learner.target_critic(batch["observation"], None).amin(0)
        weight = torch.softmax(q / 10.0 + before.logits, -1)
    kl = distributions.kl_divergence(before, after)
    expected = -(weight * after.logits).sum(-1) + 2.0 * kl
    torch.testing.assert_close(divergence, kl[:, None], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, expected.mean(), rtol=1e-5, atol=1e-5)
    parameters = list(learner.actor.parameters())
    ours = torch.autograd.grad(found, parameters, retain_graph=True)
    theirs = torch.autograd.grad(expected.mean(), parameters)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_shares_at_the_ends_of_the_temperature() -> None:
    """At eta near 0 the best of the three actions alone is cloned; hot, all alike."""
    for eta, expected in ((1e-3, [0.0, 0.0, 1.0]), (1e6, [1 / 3] * 3)):
        learner, batch = t13(False, initial_temperature=eta)
        weight = learner.improve(batch).weight[:, 0]
        torch.testing.assert_close(weight, torch.tensor(expected), rtol=0, atol=1e-5)


def test_hot_policy_stays_where_it_is() -> None:
    """At an infinite temperature the M-step fits pi' itself: no gradient where pi is pi'."""
    learner, batch = case(True, initial_temperature=1e9)
    learner.actor.load_state_dict(learner.target_actor.state_dict())
    loss = learner.losses(batch).terms["actor"]
    for gradient in torch.autograd.grad(loss, list(learner.actor.parameters())):
        assert gradient.abs().amax() < 1e-6


# --- temperature and penalties --------------------------------------------------------------------


def test_multipliers_start_where_they_are_told() -> None:
    """Large and small ones, through the soft-plus."""
    initial = torch.tensor([1e-3, 1.0, 10.0, 1000.0])
    found = Multiplier(initial, torch.zeros(4))()
    torch.testing.assert_close(found, initial, rtol=1e-5, atol=2e-8)
    for discrete, expected in ((False, [10.0, 10.0, 1000.0, 1000.0]), (True, [10.0])):
        learner, _ = case(discrete)
        assert learner.penalty().tolist() == pytest.approx(expected)
        limits = [2.5e-3, 2.5e-3, 1e-6, 1e-6][: len(expected)]
        assert learner.penalty.limit.tolist() == pytest.approx(limits)


def test_multipliers_start_at_whole_numbers() -> None:
    """10 and (10, 1000), as people write them: the parameters are floats all the same."""
    learner, batch = case(initial_temperature=10, initial_penalty=(10, 1000))
    other, _ = case()
    assert learner.temperature() == other.temperature()
    assert learner.penalty().tolist() == other.penalty().tolist()
    learner.losses(batch).terms["penalty"].backward()
    assert bool(learner.penalty.moved.grad.ne(0).all())


def test_penalties_grow_over_their_limits_and_fall_below_them() -> None:
    """Alpha 1 times limit - KL, of KL = .3, 0, 0, 2e-6 on average; slopes minus that."""
    learner, batch = case(initial_penalty=(1.0, 1.0))
    divergence = torch.tensor([[0.5, 0.0, 0.0, 1e-6], [0.1, 0.0, 0.0, 3e-6]])
    learner.actor_loss = lambda *_: (torch.zeros(()), divergence)
    found = learner.losses(batch[:2])
    slope = torch.tensor([2.5e-3 - 0.3, 2.5e-3, 1e-6, -1e-6])
    torch.testing.assert_close(found.terms["penalty"], slope.sum())
    assert found.metrics["actor/kl"].item() == pytest.approx(120.0)
    gradient = torch.autograd.grad(found.terms["penalty"], learner.penalty.moved)[0]
    expected = slope * torch.sigmoid(learner.penalty.start)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-10)


def test_penalties_hold_the_policy_back() -> None:
    """One action is better; alpha 0, 1 and 1000: the divergence from pi' falls."""
    reached = []
    for alpha in (1e-7, 1.0, 1000.0):
        learner, batch = t13(
            True, network=Network(hidden=()), initial_penalty=(alpha, 1.0), initial_temperature=0.1
        )
        descend(learner, batch[:1], "actor")
        reached.append(learner.losses(batch[:1]).metrics["actor/kl"].item())
    assert reached[0] > 2 * reached[1] > 100 * reached[2]


def test_rates_of_the_multipliers() -> None:
    """1e-2 each unless they are given; other rates stand beside them."""
    for given, temperature in (({"actor": 1e-4}, 1e-2), ({"temperature": 1e-3}, 1e-3)):
        learner, _ = case(learning_rates=given)
        expected = {"temperature": 1e-2, "penalty": 1e-2} | given
        assert learner.learning_rates == learner.hparams["learning_rates"] == expected
        groups = {g["name"]: g["lr"] for g in learner.configure_optimizers().param_groups}
        assert groups["temperature"] == temperature and groups["penalty"] == 1e-2


def test_targets_are_copies_at_intervals() -> None:
    learner, _ = case(target_every=7)
    assert learner.tau == 1.0
    assert learner.every == {"target_actor": 7, "target_critic": 7}


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 1}, "samples is 1, it must be at least 2: one cannot be better"),
        ({"limit": 0.0}, "limit 0.0, mean_limit .* must be above 0"),
        ({"mean_limit": 0.0}, "mean_limit 0.0 and spread_limit .* must be above 0"),
        ({"spread_limit": 0.0}, "spread_limit 0.0 must be above 0"),
        ({"initial_temperature": 0.0}, "initial_temperature 0.0 and .* must be above 0"),
        ({"initial_penalty": (1.0, 0.0)}, r"initial_penalty \[1.0, 0.0\] must be above 0"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"target_every": 0}, "target_every 0 and critics 1 must be at least 1"),
        ({"critics": 0}, "critics 0 must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)
