"""AWAC: T4 and T5 through the learner, both losses by hand, and what it reduces to."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_bandits import fitted_bandit
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torchrl_oracles import network_gradients

from hindsight_rl.agents.awac import AWAC
from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.learner import Learner

REWARD = ("next", "reward")
BOTH = pytest.mark.parametrize("weights", ["clip", "softmax"])


def case(discrete: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(AWAC, episode_log(discrete=discrete))
    learner = learner_of(AWAC, data.spec, **arguments)
    with torch.no_grad():  # a target that differs from what it follows
        for parameter in learner.target_critic.parameters():
            parameter += 0.1
    return learner, whole_log(learner, data)


# --- T4 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [2.718282, 0.367879, 7.389056, 1.0]),
        ({"max_weight": 5.0}, [2.718282, 0.367879, 5.0, 1.0]),
        ({"temperature": 0.5}, [7.389056, 0.135335, 54.598150, 1.0]),
        ({"weights": "softmax"}, [0.947531, 0.128234, 2.575657, 0.348577]),
        ({"weights": "softmax", "max_weight": 1.0}, [0.947531, 0.128234, 2.575657, 0.348577]),
    ],
)
def test_weights_of_t4(arguments: dict[str, Any], expected: list[float]) -> None:
    """T4: A = 1, -1, 2, 0: Q of the logged actions by the first critic, 0 of the policy's.

    The second critic is larger by 1 for the logged actions. With pi(a) = .5, .25, .125, .5 the loss
    is -mean(w log pi), its gradient by log pi -w / 4.
    """
    learner, batch = case(**arguments)
    batch = batch[:4]
    learner.critic.forward = lambda observation, action, *_: torch.zeros(2, *action.shape[:-1])
    q = torch.tensor([[1.0, -1, 2, 0], [2, 0, 3, 1]])
    advantage = learner.advantage(batch, q)
    assert advantage.tolist() == [1, -1, 2, 0]
    log_prob = torch.tensor([0.5, 0.25, 0.125, 0.5]).log().requires_grad_()
    learner.actor.log_prob = lambda *_: log_prob
    loss, weight = learner.actor_loss(batch, advantage)
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(loss, -(weight * log_prob).mean())
    loss.backward()
    torch.testing.assert_close(log_prob.grad, -weight / 4)


# --- the losses by hand ---------------------------------------------------------------------------


def test_advantage_is_over_one_action_of_the_online_policy() -> None:
    """The least of the online critics of the logged action, less that of the drawn one."""
    learner, batch = case()
    observation = batch["observation"]
    drawn, _ = learner.actor.draw(observation, batch["noise", "now"])
    logged = learner.critic(observation, batch["action"])
    expected = logged.min(0).values - learner.critic(observation, drawn).min(0).values
    found = learner.advantage(batch, logged.detach())
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    torch.testing.assert_close(learner.losses(batch).metrics["actor/advantage"], expected.mean())


def test_advantage_over_discrete_actions_is_exact() -> None:
    """Q - sum_b pi(b) Q(b), b over all actions, one by one."""
    learner, batch = case(discrete=True)
    assert learner.noise == {} and "noise" not in batch.keys()
    share = torch.softmax(learner.scores(batch["observation"]), -1)
    mean = torch.zeros(len(batch))
    for action in range(3):
        taken = torch.full((len(batch),), action)
        mean += share[:, action] * learner.critic(batch["observation"], taken).min(0).values
    logged = learner.critic(batch["observation"], batch["action"]).detach()
    found = learner.advantage(batch, logged)
    torch.testing.assert_close(found, logged.min(0).values - mean)


def test_critics_regress_on_the_target_critics_value_of_the_online_policys_action() -> None:
    """R + g min Q'(s', a'), a' of the noise "next", nothing beyond a terminal step."""
    learner, batch = case(discount=0.9)
    following = batch["next"]
    action, _ = learner.actor.draw(following["observation"], batch["noise", "next"])
    ahead = learner.target_critic(following["observation"], action).min(0).values
    kept = torch.where(following["terminated"], 0.0, 0.9)
    target = (following["reward"] + kept * ahead).detach()
    q = learner.critic(batch["observation"], batch["action"])
    expected = ((target - q[0]) ** 2).mean() + ((target - q[1]) ** 2).mean()
    loss, values = learner.critic_loss(batch)
    torch.testing.assert_close(loss, expected)
    assert values.equal(q) and not values.requires_grad
    ours, theirs = (network_gradients(learner.critic, value) for value in (loss, expected))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient)


def test_discount_of_the_row_replaces_the_constant() -> None:
    data = OfflineDataModule(episode_log(), [NStep(3, 0.9)], batch_size=16)
    learner = learner_of(AWAC, data.spec, discount=0.5)
    batch = whole_log(learner, data)
    found, _ = learner.critic_loss(batch)
    constant, _ = learner.critic_loss(batch.exclude("discount"))
    same = learner_of(AWAC, data.spec, discount=0.1)
    assert found == same.critic_loss(batch)[0] and found != constant


# --- what it reduces to ---------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("discrete", [False, True])
def test_infinite_temperature_is_cloning(weights: str, discrete: bool) -> None:
    learner, batch = case(discrete, weights=weights, temperature=float("inf"))
    cloning = learner_of(BC, learner.spec, network=Network(hidden=(8, 8)))
    cloning.actor.load_state_dict(learner.actor.state_dict())
    ours, theirs = learner.losses(batch).terms["actor"], cloning.losses(batch).terms["actor"]
    torch.testing.assert_close(ours, theirs)
    one, two = network_gradients(learner.actor, ours), network_gradients(cloning.actor, theirs)
    for name, gradient in two.items():
        torch.testing.assert_close(one[name], gradient)


@pytest.mark.parametrize(
    ("weights", "counts", "temperature", "expected"),
    [
        ("clip", [1, 1, 1], 1.0, [0.090031, 0.244728, 0.665241]),
        ("softmax", [1, 1, 1], 2.0, [0.186324, 0.307196, 0.506480]),
        ("softmax", [5, 3, 2], 1.0, [0.179000, 0.291944, 0.529056]),
    ],
)
def test_bandit_of_t5(
    weights: str, counts: list[int], temperature: float, expected: list[float]
) -> None:
    """T5: rewards 1, 2, 3: Q = r, and pi is proportional to the log's share times exp(r / T).

    The value of the policy, which every weight is divided by, cancels: at the fixed point and, with
    the soft-max, at every step.
    """
    learner = fitted_bandit(AWAC, counts, [1.0, 2.0, 3.0], weights=weights, temperature=temperature)
    state = torch.zeros(1, 3)
    q = learner.critic(state, None)
    torch.testing.assert_close(q, torch.tensor([1.0, 2, 3]).expand(2, 1, 3), rtol=0, atol=5e-3)
    found = torch.softmax(learner.scores(state), -1)[0]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=5e-3)


# --- the soft-max is a batch statistic ------------------------------------------------------------


def test_softmax_is_taken_over_the_whole_batch_through_batch_mean() -> None:
    """Declared, so that ranks agree; a batch of one has weight 1 whatever its advantage."""
    learner, batch = case(weights="softmax")
    asked = []
    mean = learner.batch_mean
    learner.batch_mean = lambda value: asked.append(1) or mean(value)
    weight = learner.actor_loss(batch, torch.linspace(-3, 3, len(batch)))[1]
    assert asked and weight.mean().item() == pytest.approx(1.0, abs=1e-6)
    assert learner.actor_loss(batch[:1], torch.tensor([7.0]))[1].item() == 1.0
    assert "actor/clipped" not in learner.losses(batch).metrics


def test_softmax_compiles_to_one_graph() -> None:
    learner, batch = case(weights="softmax")
    compiled = torch.compile(learner.losses, fullgraph=True, backend="eager", dynamic=False)
    for name, term in learner.losses(batch).terms.items():
        torch.testing.assert_close(compiled(batch).terms[name], term)


def test_softmax_learns_in_two_copies_at_once(tmp_path: Any) -> None:
    """Vectorised over copies each has a soft-max of its own: the first is a run of its own."""
    alone, several = (
        learner_of(AWAC, data_for(AWAC).spec, weights="softmax", seeds=seeds) for seeds in (1, 2)
    )
    for learner in (alone, several):
        fit(learner, data_for(AWAC), tmp_path, 8)
    for name, value in alone.actor.state_dict().items():
        torch.testing.assert_close(several.actor.state_dict()[name], value, rtol=1e-4, atol=1e-5)


# --- soft values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_soft_values_by_hand(discrete: bool) -> None:
    """``[R, N]`` of R rows under N tasks: as each pair by itself, all with the row's own draws."""
    data = data_for(AWAC, episode_log(discrete=discrete, task=True))
    learner = learner_of(AWAC, data.spec, temperature=0.25)
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
        ({"temperature": 0.0}, "temperature 0.0 and max_weight 100.0 must be above 0"),
        ({"max_weight": 0.0}, "temperature 1.0 and max_weight 0.0 must be above 0"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, "critics is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(AWAC, data_for(AWAC).spec, **arguments)
