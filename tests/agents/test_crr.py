"""CRR: T4 and T5 through the learner, losses by hand, what it reduces to, and which policy acts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_bandits import fitted_bandit
from small_fits import data_for, equal, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor
from torchrl_oracles import network_gradients, without_scale

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.crr import CRR
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.learner import Learner

RULES = pytest.mark.parametrize("rule", ["binary", "exponential"])


def case(discrete: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(CRR, episode_log(discrete=discrete))
    learner = learner_of(CRR, data.spec, **arguments)
    with torch.no_grad():  # targets that differ from what they follow
        for target in (learner.target_actor, learner.target_critic):
            for parameter in target.parameters():
                parameter += 0.1
    return learner, whole_log(learner, data)


def draws_of(rows: int) -> Tensor:
    return counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(rows))[0]


# --- T4 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rule": "binary"}, [1.0, 0.0, 1.0, 0.0]),
        ({"rule": "binary", "max_weight": 0.5}, [1.0, 0.0, 1.0, 0.0]),
        ({}, [2.718282, 0.367879, 7.389056, 1.0]),
        ({"temperature": 0.5}, [7.389056, 0.135335, 20.0, 1.0]),
    ],
)
def test_weights_of_t4(arguments: dict[str, Any], expected: list[float]) -> None:
    """T4: A = 1, -1, 2, 0, cap 20: Q of the logged actions, 0 of all the policy's.

    With pi(a) = .5, .25, .125, .5 the loss is -mean(w log pi), its gradient by log pi -w / 4.
    """
    learner, batch = case(**arguments)
    batch = batch[:4]
    learner.critic.forward = lambda observation, action, *_: torch.zeros(1, *action.shape[:-1])
    advantage = learner.advantage(batch, torch.tensor([[1.0, -1, 2, 0]]))
    assert advantage.tolist() == [1, -1, 2, 0]
    log_prob = torch.tensor([0.5, 0.25, 0.125, 0.5]).log().requires_grad_()
    learner.actor.log_prob = lambda *_: log_prob
    loss, weight = learner.actor_loss(batch, advantage)
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(loss, -(weight * log_prob).mean())
    loss.backward()
    torch.testing.assert_close(log_prob.grad, -weight / 4)


# --- the losses by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["exponential", "exponential_max"])
def test_baseline_is_over_four_actions_of_the_online_policy(rule: str) -> None:
    """Action j is made by noise j * A on; the least of two critics is taken of each by itself."""
    learner, batch = case(rule=rule, critics=2)
    observation, values = batch["observation"], []
    assert batch["noise", "now"].shape == (len(batch), 4 * 2)
    for noise in batch["noise", "now"].chunk(4, dim=-1):
        action, _ = learner.actor.draw(observation, noise)
        values.append(learner.critic(observation, action).min(0).values)
    over = torch.stack(values).mean(0) if rule == "exponential" else torch.stack(values).amax(0)
    logged = learner.critic(observation, batch["action"]).detach()
    found = learner.advantage(batch, logged)
    torch.testing.assert_close(found, logged.min(0).values - over)
    assert not found.requires_grad


@pytest.mark.parametrize("rule", ["exponential", "exponential_max"])
def test_baseline_over_discrete_actions_is_exact(rule: str) -> None:
    learner, batch = case(discrete=True, rule=rule, candidates=0)
    value = learner.critic(batch["observation"], None)[0]
    share = torch.softmax(learner.scores(batch["observation"]), -1)
    over = (share * value).sum(-1) if rule == "exponential" else value.amax(-1)
    logged = value.gather(-1, batch["action"].unsqueeze(-1)).squeeze(-1)
    found = learner.advantage(batch, logged.detach().unsqueeze(0))
    torch.testing.assert_close(found, (logged - over).detach())


def test_critic_regresses_on_the_value_of_the_target_policys_action() -> None:
    """R + g Q'(s', a'), a' drawn from the target policy; the online policy does not matter."""
    learner, batch = case(discount=0.9)
    following = batch["next"]
    action, _ = learner.target_actor.draw(following["observation"], batch["noise", "next"])
    ahead = learner.target_critic(following["observation"], action)[0]
    kept = torch.where(following["terminated"], 0.0, 0.9)
    target = (following["reward"] + kept * ahead).detach()
    q = learner.critic(batch["observation"], batch["action"])
    expected = ((target - q[0]) ** 2).mean()
    loss, _ = learner.critic_loss(batch)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (network_gradients(learner.critic, value) for value in (loss, expected))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient)
    with torch.no_grad():
        learner.actor.net[-1].bias += 1.0
    assert learner.critic_loss(batch)[0] == loss


def test_discount_of_the_row_replaces_the_constant() -> None:
    data = OfflineDataModule(episode_log(), [NStep(3, 0.9)], batch_size=16)
    learner = learner_of(CRR, data.spec, discount=0.5)
    batch = whole_log(learner, data)
    found, _ = learner.critic_loss(batch)
    constant, _ = learner.critic_loss(batch.exclude("discount"))
    same = learner_of(CRR, data.spec, discount=0.1)
    assert found == same.critic_loss(batch)[0] and found != constant


def test_targets_are_copied_every_so_many_updates(tmp_path: Path) -> None:
    """Every 4: after 8 updates both are copies, after 9 they lag."""
    for updates, copied in ((8, True), (9, False)):
        learner = learner_of(CRR, data_for(CRR).spec, target_every=4)
        fit(learner, data_for(CRR), tmp_path, updates)
        for name in ("actor", "critic"):
            pair = getattr(learner, name), getattr(learner, f"target_{name}")
            assert equal(pair[0].state_dict(), pair[1].state_dict()) == copied


# --- what it reduces to ---------------------------------------------------------------------------


@RULES
@pytest.mark.parametrize("discrete", [False, True])
def test_equal_weights_are_cloning(rule: str, discrete: bool) -> None:
    """Binary where every advantage is positive, exponential at an infinite temperature."""
    learner, batch = case(discrete, rule=rule, temperature=float("inf"))
    if rule == "binary":
        plain = learner.critic_loss
        learner.critic_loss = lambda rows: (plain(rows)[0], plain(rows)[1] + 1e3)
    cloning = learner_of(BC, learner.spec, network=Network(hidden=(8, 8)))
    cloning.actor.load_state_dict(learner.actor.state_dict())
    ours, theirs = learner.losses(batch).terms["actor"], cloning.losses(batch).terms["actor"]
    torch.testing.assert_close(ours, theirs)
    one, two = network_gradients(learner.actor, ours), network_gradients(cloning.actor, theirs)
    for name, gradient in two.items():
        torch.testing.assert_close(one[name], gradient)


@pytest.mark.parametrize("rule", ["exponential", "exponential_max"])
def test_exponential_bandit_of_t5(rule: str) -> None:
    """T5: rewards 1, 2, 3 logged 5, 3, 2 times: pi is proportional to share times exp(r).

    Whatever baseline all weights are divided by cancels where they are normalised.
    """
    learner = fitted_bandit(CRR, [5, 3, 2], [1.0, 2, 3], rule=rule, candidates=0)
    found = torch.softmax(learner.scores(torch.zeros(1, 3)), -1)[0]
    expected = torch.tensor([0.179000, 0.291944, 0.529056])
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_binary_bandit_becomes_greedy() -> None:
    """Only what beats the policy's own value is cloned, so that in the end the best remains."""
    learner = fitted_bandit(CRR, [5, 3, 2], [1.0, 2, 3], rule="binary", candidates=0)
    found = torch.softmax(learner.scores(torch.zeros(1, 3)), -1)[0]
    assert found[2] > 0.98


# --- which policy acts ----------------------------------------------------------------------------


def test_mean_of_the_kept_candidates_is_taken() -> None:
    """One by one: the mode and 16 pairs of opposite noise in every state, by soft-max of Q / T."""
    learner, batch = case(temperature=0.05, critics=2)
    observation = batch["observation"]
    kept = learner.weighted.noise
    assert kept.shape == (33, 1, 2) and kept[0].eq(0).all() and kept[1:17].equal(-kept[17:])
    total, normaliser = torch.zeros(len(batch), 2), torch.zeros(len(batch), 1)
    for noise in kept:
        action, _ = learner.actor.draw(observation, noise)
        value = learner.critic(observation, action).min(0).values
        factor = torch.exp(value / 0.05).unsqueeze(-1)
        total, normaliser = total + factor * action, normaliser + factor
    torch.testing.assert_close(learner(observation), total / normaliser)


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_temperature_leads_from_the_best_candidate_to_the_cloned_policy(temperature: float) -> None:
    """Cold: the candidate of the largest value. Hot: opposite candidates cancel, the mean is left.

    The spread is small, so that no action is clipped.
    """
    learner, batch = case(temperature=temperature)
    observation = batch["observation"]
    with torch.no_grad():
        learner.actor.log_std.fill_(-4.0)
    if temperature > 1:
        expected = learner.actor.mode(observation)
    else:
        action, _ = learner.actor.draw(observation, learner.weighted.noise)
        best = learner.critic(observation, action)[0].argmax(0)
        expected = action[best, torch.arange(len(batch))]
    torch.testing.assert_close(learner(observation), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arguments", [{"candidates": 1}, {"candidates": 0}])
def test_one_candidate_is_the_mode_of_the_policy(arguments: dict[str, Any]) -> None:
    learner, batch = case(**arguments)
    observation = batch["observation"]
    assert learner(observation).equal(learner.actor.mode(observation))
    drawn = learner.act(observation, draws=draws_of(len(batch)))
    assert not drawn.equal(learner(observation))


def test_cloned_policy_is_drawn_from_where_it_acts() -> None:
    learner, batch = case(candidates=0)
    draws = draws_of(len(batch))
    expected = learner.actor.scale.to_environment(learner.actor(batch["observation"]).sample(draws))
    assert learner.act(batch["observation"], draws=draws).equal(expected)


def test_discrete_policy_is_weighted_exactly() -> None:
    """Softmax of the scores is pi(a) exp(Q(a) / T), normalised; drawn actions have these shares."""
    learner, batch = case(discrete=True, temperature=0.2, critics=2)
    state = batch["observation"][:1]
    pi = torch.softmax(learner.actor(state).logits, -1)
    product = pi * torch.exp(learner.critic(state, None).amin(0) / 0.2)
    expected = product / product.sum()
    torch.testing.assert_close(torch.softmax(learner.scores(state), -1), expected)
    assert learner(state).item() == expected.argmax().item()
    drawn = learner.act(state.expand(4000, 3), draws=draws_of(4000))
    shares = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(shares, expected[0], rtol=0, atol=0.03)


def test_drawn_actions_are_tilted_by_the_critic() -> None:
    """N(m, s^2) times exp(c a / T) is N(m + s^2 c / T, s^2): s = exp(-2), c = 3, T = 0.5.

    4,000 draws of one state, the standard error of their mean is 0.002. The policy without draws is
    the mean itself, by 65 actions.
    """
    data = data_for(CRR)
    without_scale(data)
    learner = learner_of(CRR, data.spec, temperature=0.5, candidates=65)
    with torch.no_grad():
        learner.actor.log_std.fill_(-2.0)
        learner.actor.net[-1].weight.zero_()
        learner.actor.net[-1].bias.zero_()
    learner.critic.forward = lambda observation, action, *_: 3.0 * action[..., 0].unsqueeze(0)
    drawn = learner.act(torch.zeros(4000, 3), draws=draws_of(4000))
    spread = torch.tensor(-2.0).exp()
    assert drawn[:, 0].mean().item() == pytest.approx(spread.item() ** 2 * 6.0, abs=0.01)
    assert drawn[:, 1].mean().item() == pytest.approx(0.0, abs=0.01)
    torch.testing.assert_close(drawn.std(0), spread.expand(2), rtol=0.05, atol=0)
    assert learner(torch.zeros(1, 3))[0, 0].item() == pytest.approx(
        spread.item() ** 2 * 6, abs=0.03
    )


# --- soft values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_soft_values_by_hand(discrete: bool) -> None:
    """``[R, N]`` of R rows under N tasks: as each pair by itself, all with the row's own draws."""
    data = data_for(CRR, episode_log(discrete=discrete, task=True))
    learner = learner_of(CRR, data.spec, temperature=0.25)
    batch, tasks = whole_log(learner, data)[:6], torch.randn(6, 5, 2)
    pairs = batch.unsqueeze(-1).expand(6, 5)
    with torch.no_grad():
        found = learner.soft_values(pairs, tasks, batch["draws"].unsqueeze(1))
    assert found.log_prob.shape == found.next_value.shape == (6, 5)
    assert found.temperature.shape == () and found.temperature.item() == 0.25
    following = batch["next", "observation"]
    for number in range(5):
        task = tasks[:, number]
        log_prob = learner.actor.log_prob(batch["observation"], batch["action"], task)
        torch.testing.assert_close(found.log_prob[:, number], log_prob)
        if discrete:
            share = torch.softmax(learner.actor(following, task).logits, -1)
            value = (share * learner.critic(following, None, task).amin(0)).sum(-1)
        else:
            action, _ = learner.actor.draw(following, normals(batch["draws"], 2), task)
            value = learner.critic(following, action, task).amin(0)
        torch.testing.assert_close(found.next_value[:, number], value)
        logged = learner.critic(batch["observation"], batch["action"], task).amin(0)
        torch.testing.assert_close(found.value[:, number], logged)


def test_soft_values_of_cloning_have_temperature_0() -> None:
    learner, batch = case(temperature=float("inf"))
    found = learner.soft_values(batch, torch.zeros(len(batch), 0), batch["draws"])
    assert found.temperature.item() == 0.0


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 and max_weight 20.0 must be above 0"),
        ({"max_weight": 0.0}, "temperature 1.0 and max_weight 0.0 must be above 0"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"samples": 0}, "samples 0, target_every 100 and critics 1 must be at least 1"),
        ({"target_every": 0}, "samples 4, target_every 0 and critics 1 must be at least 1"),
        ({"critics": 0}, "samples 4, target_every 100 and critics 0 must be at least 1"),
        ({"candidates": -1}, "candidates is -1, it must be odd and at least 1"),
        ({"candidates": 4}, "candidates is 4, it must be odd and at least 1: the mode, and pairs"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(CRR, data_for(CRR).spec, **arguments)


def test_filter_that_nothing_passes_is_refused() -> None:
    with pytest.raises(ValueError, match="none is better than the best of all. Use rule 'binary'"):
        case(discrete=True, rule="binary_max")
    assert case(rule="binary_max")
