"""IQL: its three losses against torchrl's on the same weights, T2, T4, and what it reduces to."""

import math
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.modules import ValueOperator
from torchrl.objectives import DiscreteIQLLoss, IQLLoss
from torchrl_oracles import (
    compare,
    network_gradients,
    torchrl_actor,
    torchrl_batch,
    torchrl_critics,
    without_scale,
)

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.learner import Learner

REWARD = ("next", "reward")


def case(discrete: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(IQL, episode_log(discrete=discrete))
    learner = learner_of(IQL, data.spec, **arguments)
    with torch.no_grad():  # a target that differs from what it follows
        for parameter in learner.target_critic.parameters():
            parameter += 0.1
    return learner, whole_log(learner, data)


# --- torchrl on the same weights and batch --------------------------------------------------------


class Column(nn.Module):
    """A network of ours with values ``[B, 1]`` instead of ``[B]``."""

    def __init__(self, value: nn.Module) -> None:
        super().__init__()
        self.value = value

    def forward(self, observation: Tensor) -> Tensor:
        return self.value(observation).unsqueeze(-1)


def oracle(learner: Learner) -> IQLLoss:
    """Return torchrl's loss on a learner's networks, its target moved as in :func:`case`."""
    discrete = learner.actor.discrete
    options: dict[str, Any] = {"action_space": "categorical"} if discrete else {}
    loss = (DiscreteIQLLoss if discrete else IQLLoss)(
        torchrl_actor(learner),
        torchrl_critics(learner, "state_action_value"),
        ValueOperator(Column(learner.value)),
        loss_function="l2",
        temperature=learner.inverse_temperature,
        expectile=learner.expectile,
        **options,
    )
    loss.make_value_estimator(gamma=learner.discount)
    loss.target_qvalue_network_params.data.apply_(lambda value: value.add_(0.1))
    return loss


@pytest.mark.filterwarnings("ignore:No target network updater")
@pytest.mark.parametrize("head", ["gaussian", "tanh_gaussian", "discrete"])
def test_losses_and_gradients_equal_torchrl(head: str) -> None:
    """Actions lie in [-1, 1] here, so that environment and policy units are one."""
    discrete = head == "discrete"
    data = data_for(IQL, episode_log(discrete=discrete))
    without_scale(data)
    arguments = {} if discrete else {"head": head}
    learner = learner_of(IQL, data.spec, expectile=0.8, discount=0.95, **arguments)
    batch = whole_log(learner, data)
    if not discrete:
        batch["action"] = batch["action"].clamp(-3, 3) / 3.1
    theirs = oracle(learner)
    with torch.no_grad():
        for parameter in learner.target_critic.parameters():
            parameter += 0.1
    expected = theirs(torchrl_batch(batch))
    terms = learner.losses(batch).terms
    named = {"value": "loss_value", "critic": "loss_qvalue", "actor": "loss_actor"}
    for ours, name in named.items():
        torch.testing.assert_close(terms[ours], expected[name], rtol=1e-5, atol=1e-6)

    for ours, theirs_name in (("actor", "actor"), ("value", "value"), ("critic", "qvalue")):
        found = network_gradients(getattr(learner, ours), terms[ours])
        compare(found, expected[named[ours]], theirs, theirs_name)


# --- T2 and T4 through the learner ----------------------------------------------------------------


class Constant(nn.Module):
    """A network that answers with a parameter, whatever it is asked."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, *_: Tensor) -> Tensor:
        return self.values


def injected(value: list[float], q: list[float], **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose V and target Q are these numbers, and a batch of as many rows."""
    learner, batch = case(**arguments)
    learner.value = Constant(*value)
    learner.target_critic = Constant(*q)
    learner.target_critic.forward = lambda *_: torch.tensor(
        [q, [v + 1 for v in q]], dtype=torch.float32
    )
    return learner, batch[: len(q)]


@pytest.mark.parametrize(
    ("expectile", "value", "loss"),
    [(0.5, 3.25, 7.843750), (0.7, 4.9375, 8.123438), (0.9, 7.75, 4.606250)],
)
def test_value_is_the_expectile_of_t2(expectile: float, value: float, loss: float) -> None:
    """T2: the expectile m of Q = 0, 1, 2, 10 has this loss, and there its gradient is 0.

    The second critic is larger by 1 everywhere, so the minimum is the first.
    """
    learner, batch = injected([value] * 4, [0, 1, 2, 10], expectile=expectile)
    found, advantage = learner.value_loss(batch)
    assert found.item() == pytest.approx(loss, abs=2e-6)
    assert advantage.tolist() == pytest.approx([0 - value, 1 - value, 2 - value, 10 - value])
    found.backward()
    assert learner.value.values.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_weights_of_t4() -> None:
    """T4: A = 1, -1, 2, 0 at beta 3 and cap 100: 20.085537, .049787, 100, 1.

    With pi(a) = .5, .25, .125, .5 the loss is -mean(w log pi), its gradient by log pi -w / 4.
    """
    learner, batch = injected([0, 0, 0, 0], [1, -1, 2, 0])
    log_prob = torch.tensor([0.5, 0.25, 0.125, 0.5]).log().requires_grad_()
    learner.actor.log_prob = lambda *_: log_prob
    _, advantage = learner.value_loss(batch)
    loss, weight = learner.actor_loss(batch, advantage)
    expected = torch.tensor([20.085537, 0.049787, 100.0, 1.0])
    torch.testing.assert_close(weight, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(loss, -(expected * log_prob).mean())
    loss.backward()
    torch.testing.assert_close(log_prob.grad, -expected / 4)
    assert learner.value.values.grad is None


def test_critics_regress_on_the_one_step_target() -> None:
    """R + g V(s'), summed over two critics: V(s') = 10, g = .9, terminated in the second row only.

    Q = 0: targets 1 + 9 and 2, squares 100 and 4, mean 52, twice.
    """
    learner, batch = case(discount=0.9)
    batch = batch[:2]
    batch[REWARD] = torch.tensor([1.0, 2.0])
    batch["next", "terminated"] = torch.tensor([False, True])
    batch["next", "truncated"] = torch.tensor([True, False])
    learner.value = Constant(10.0, 10.0)
    learner.critic.forward = lambda *_: torch.zeros(2, 2)
    assert learner.critic_loss(batch)[0].item() == pytest.approx(104.0)


def test_discount_of_the_row_replaces_the_constant() -> None:
    learner, batch = case(discount=0.5)
    half, _ = learner.critic_loss(batch)
    same, _ = learner.critic_loss(batch.copy().set("discount", torch.full((len(batch),), 0.5)))
    other, _ = learner.critic_loss(batch.copy().set("discount", torch.full((len(batch),), 0.9)))
    assert half == same and half != other


def test_n_step_rows_bring_their_discount() -> None:
    data = OfflineDataModule(episode_log(), [NStep(3, 0.9)], batch_size=16)
    learner = learner_of(IQL, data.spec)
    batch = whole_log(learner, data)
    assert batch["discount"].unique().tolist() == pytest.approx([0.729, 0.81, 0.9])
    assert math.isfinite(learner.critic_loss(batch)[0].item())


# --- reductions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_inverse_temperature_0_is_cloning(discrete: bool) -> None:
    learner, batch = case(discrete, inverse_temperature=0.0)
    cloning = learner_of(BC, learner.spec)
    cloning.actor.load_state_dict(learner.actor.state_dict())
    ours, theirs = learner.losses(batch).terms["actor"], cloning.losses(batch).terms["actor"]
    assert ours == theirs
    one, two = network_gradients(learner.actor, ours), network_gradients(cloning.actor, theirs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_expectile_one_half_is_half_the_squared_error() -> None:
    learner, batch = case(expectile=0.5)
    q = learner.target_critic(batch["observation"], batch["action"]).amin(0)
    error = q - learner.value(batch["observation"])
    found = learner.losses(batch).terms["value"]
    torch.testing.assert_close(found, 0.5 * error.square().mean())


def test_bandit_is_solved_in_closed_form() -> None:
    """One state, four actions logged once each, rewards 0, 1, 2, 10, all terminal.

    Q = r; V is the 0.7-expectile of T2, 4.9375; pi is proportional to exp(beta (Q - V)).
    """
    reward = [0.0, 1.0, 2.0, 10.0]
    zeros = torch.zeros(4, 3)
    log = episode_log([1] * 4, reward=reward, discrete=True).with_columns(
        {
            "observation": zeros,
            ("next", "observation"): zeros,
            "action": torch.arange(4),
            ("next", "terminated"): torch.ones(4, dtype=torch.bool),
        }
    )
    log.info["discrete_actions"] = 4
    data = OfflineDataModule(log, batch_size=4)
    learner = learner_of(IQL, data.spec, network=Network(hidden=()), inverse_temperature=0.3)
    batch = whole_log(learner, data)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=0.1)
    for step in range(1500):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 1500)
        optimizer.zero_grad()
        torch.stack(list(learner.losses(batch).terms.values())).sum().backward()
        optimizer.step()
        learner.target_critic.load_state_dict(learner.critic.state_dict())
    q = learner.critic(zeros, torch.arange(4))
    torch.testing.assert_close(q, torch.tensor([reward, reward]), rtol=0, atol=1e-2)
    torch.testing.assert_close(learner.value(zeros), torch.full((4,), 4.9375), rtol=0, atol=1e-2)
    expected = torch.softmax(0.3 * torch.tensor(reward), -1)
    found = torch.softmax(learner.scores(zeros[:1]), -1)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)


# --- soft values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_soft_values_by_hand(discrete: bool) -> None:
    """``[R, N]`` of R rows under N tasks: as each pair by itself; V knows no action to draw."""
    data = data_for(IQL, episode_log(discrete=discrete, task=True))
    learner = learner_of(IQL, data.spec, inverse_temperature=4.0)
    batch, tasks = whole_log(learner, data)[:6], torch.randn(6, 5, 2)
    pairs = batch.unsqueeze(-1).expand(6, 5)
    with torch.no_grad():
        found = learner.soft_values(pairs, tasks, batch["draws"].unsqueeze(1))
    assert found.log_prob.shape == found.next_value.shape == (6, 5)
    assert found.temperature.shape == () and found.temperature.item() == 0.25
    for number in range(5):
        task = tasks[:, number]
        log_prob = learner.actor.log_prob(batch["observation"], batch["action"], task)
        torch.testing.assert_close(found.log_prob[:, number], log_prob)
        value = learner.value(batch["next", "observation"], task)
        torch.testing.assert_close(found.next_value[:, number], value)
        logged = learner.critic(batch["observation"], batch["action"], task).amin(0)
        torch.testing.assert_close(found.value[:, number], logged)


def test_soft_values_of_cloning_have_temperature_0() -> None:
    learner, batch = case(inverse_temperature=0.0)
    found = learner.soft_values(batch, torch.zeros(len(batch), 0), batch["draws"])
    assert found.temperature.item() == 0.0


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expectile": 0.0}, r"expectile is 0.0, it must lie in \(0, 1\)"),
        ({"expectile": 1.0}, r"expectile is 1.0, it must lie in \(0, 1\)"),
        ({"inverse_temperature": -1.0}, r"inverse_temperature -1.0 must be at least 0"),
        ({"max_weight": 0.0}, r"max_weight 0.0 above 0"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(IQL, data_for(IQL).spec, **arguments)
