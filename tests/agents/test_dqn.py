"""DQN: its loss against torchrl's on the same weights, targets by hand, interval, reductions."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_bandits import fitted_bandit
from small_fits import data_for, equal, fit, learner_of, whole_log
from specs import changed
from tensordict import TensorDict
from torch import Tensor
from torchrl.modules import QValueActor
from torchrl.objectives import DQNLoss
from torchrl_oracles import Member, network_gradients, torchrl_batch

from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.q_learning import QLearning
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.learner import Learner, Transition

ATOMS: dict[str, Any] = {"atoms": 5, "value_range": (0.0, 4.0)}
REWARD, TERMINATED, TRUNCATED = (("next", key) for key in ("reward", "terminated", "truncated"))


def case(*, task: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose target critic prefers other actions than its critic, and a batch."""
    data = data_for(DQN, episode_log(discrete=True, task=task))
    learner = learner_of(DQN, data.spec, **arguments)
    with torch.no_grad():
        for parameter in learner.target_critic.parameters():
            parameter *= -1.0
    return learner, whole_log(learner, data)


# --- torchrl on the same weights and batch --------------------------------------------------------


@pytest.mark.filterwarnings("ignore:No target network updater")
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("huber", [None, 1.0])
def test_loss_and_gradient_equal_torchrl(double: bool, huber: float | None) -> None:
    """The term and what it gives to the critic.

    Differences: torchrl's ``smooth_l1`` is the Huber loss at 1, the only one it has; its ``l2`` is
    the squared error without the factor 1/2, so it is twice ours. Rewards are tenfold, so that
    errors lie on both sides of 1.
    """
    learner, batch = case(double=double, huber=huber, discount=0.95)
    batch = batch.clone()
    batch[REWARD] *= 10.0
    network = QValueActor(
        Member(learner.critic, 0), in_keys=["observation"], action_space="categorical"
    )
    theirs = DQNLoss(
        network,
        loss_function="l2" if huber is None else "smooth_l1",
        delay_value=True,
        double_dqn=double,
        action_space="categorical",
    )
    theirs.make_value_estimator(gamma=learner.discount)
    theirs.target_value_network_params.data.apply_(lambda value: value.mul_(-1.0))
    expected = theirs(torchrl_batch(batch))["loss"] * (0.5 if huber is None else 1.0)
    loss = learner.losses(batch).terms["critic"]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    other = case(double=not double, huber=huber, discount=0.95)[0].losses(batch).terms["critic"]
    assert abs(other.item() - loss.item()) > 1e-3

    kept = theirs.value_network_params.flatten_keys(".")
    trained = {key: kept[key] for key in kept.keys() if kept[key].requires_grad}
    found = network_gradients(learner.critic, loss)
    assert len(trained) == len(found)
    for key, parameter in trained.items():
        gradient = torch.autograd.grad(expected, parameter, retain_graph=True)[0]
        ours = found[f"members.0.{key.partition('net.')[2]}"]
        torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-6)


# --- targets and distances by hand ----------------------------------------------------------------


def told(learner: Learner, online: list[list[float]], target: list[list[float]]) -> None:
    """Have the critics, one per line, answer with these values of three actions in every state."""
    for critic, lines in ((learner.critic, online), (learner.target_critic, target)):
        values = torch.tensor(lines)

        def answer(
            observation: Tensor, action: Tensor | None, _: Any, values: Tensor = values
        ) -> Tensor:
            every = values[:, None].expand(-1, len(observation), -1)
            return every if action is None else every[:, torch.arange(len(action)), action]

        critic.forward = answer


def rows() -> TensorDict:
    """Two rows that took action 0 for reward 1: one cut off by a time limit, one at its end."""
    batch = case()[1][:2].clone()
    batch["action"] = torch.zeros(2, dtype=torch.int64)
    batch[REWARD] = torch.ones(2)
    batch[TERMINATED], batch[TRUNCATED] = torch.tensor([[False, True], [True, False]])
    return batch


@pytest.mark.parametrize(("double", "next_value"), [(False, 4.0), (True, 3.0)])
def test_target_by_hand(double: bool, next_value: float) -> None:
    """Online [0, 1, 5], target [0, 4, 3]: the largest is 4, that of the online choice 3.

    q is 0, so the loss of a row is half its target squared.
    """
    learner, _ = case(double=double, huber=None, discount=0.5)
    told(learner, [[0.0, 1.0, 5.0]], [[0.0, 4.0, 3.0]])
    batch = rows()
    targets = [1.0 + 0.5 * next_value, 1.0]
    for row, target in enumerate(targets):
        loss, q = learner.critic_loss(batch[row : row + 1])
        assert loss.item() == pytest.approx(0.5 * target**2) and q.tolist() == [[0.0]]
    own = batch.copy().set("discount", torch.full((2,), 0.25))
    loss, _ = learner.critic_loss(own[:1])
    assert loss.item() == pytest.approx(0.5 * (1.0 + 0.25 * next_value) ** 2)


def test_several_critics_are_asked_for_their_minimum() -> None:
    """Target [0, 4, 3] and [2, 1, 2]: minima [0, 1, 2]. Each critic regresses on 1 + 2 / 2 = 2."""
    learner, _ = case(critics=2, huber=None, discount=0.5)
    told(learner, [[0.0, 1.0, 5.0], [1.0, 6.0, 0.5]], [[0.0, 4.0, 3.0], [2.0, 1.0, 2.0]])
    loss, _ = learner.critic_loss(rows()[:1])
    assert loss.item() == pytest.approx(0.5 * 2.0**2 + 0.5 * 1.0**2)
    observation = rows()["observation"]
    assert learner.action_values(observation).tolist() == [[0.0, 1.0, 0.5]] * 2
    assert learner(observation).tolist() == [1, 1]


def test_n_steps_come_from_the_data() -> None:
    """Targets of three steps: their rewards, then the discount to the third."""
    data = OfflineDataModule(
        episode_log([6], reward=[1.0] * 6, discrete=True), [NStep(3, discount=0.5)]
    )
    learner = learner_of(DQN, data.spec, huber=None)
    told(learner, [[0.0, 0.0, 0.0]], [[8.0, 0.0, 0.0]])
    batch = whole_log(learner, data)
    loss, _ = learner.critic_loss(batch[:1])
    assert loss.item() == pytest.approx(0.5 * (1.0 + 0.5 + 0.25 + 0.125 * 8.0) ** 2)


# --- quantiles, soft values, Munchausen, weights --------------------------------------------------


@pytest.mark.parametrize(("double", "following"), [(False, (1.0, 5.0)), (True, (2.0, 2.0))])
def test_quantiles_by_hand(double: bool, following: tuple[float, float]) -> None:
    """Two quantiles of three actions. Target means 0, 3, 2: action 1. Online 0, 1, 4: action 2.

    Quantiles 0 and 0 at 1/4 and 3/4: pinball of targets y, all above: the sum of tau is 1, so the
    loss is the mean of y.
    """
    learner, _ = case(double=double, quantiles=2, huber=None, discount=0.5)
    told_quantiles(
        learner,
        [[0.0, 0.0], [1.0, 1.0], [4.0, 4.0]],
        [[0.0, 0.0], [1.0, 5.0], [2.0, 2.0]],
    )
    batch = rows()
    targets = [sum(1.0 + 0.5 * value for value in following) / 2.0, 1.0]
    for row, target in enumerate(targets):
        loss, q = learner.critic_loss(batch[row : row + 1])
        assert loss.item() == pytest.approx(target) and q.tolist() == [[0.0]]
    values = learner.action_values(batch["observation"])
    assert values.tolist() == [[0.0, 1.0, 4.0]] * 2


def told_quantiles(learner: Learner, *lines: list[list[float]]) -> None:
    """Have critic and target critic answer with these quantiles of three actions everywhere."""
    for critic, values in zip((learner.critic, learner.target_critic), lines, strict=True):

        def answer(
            observation: Tensor,
            action: Tensor | None,
            _: Any = None,
            values: list[list[float]] = values,
        ) -> Tensor:
            every = torch.tensor(values).expand(1, len(observation), -1, -1)
            return every if action is None else every[:, torch.arange(len(action)), action]

        critic.forward = answer


def test_one_quantile_of_a_wide_limit_is_half_the_squared_error() -> None:
    """|1/2| u^2 / 2 / limit, times the limit: half of half the squared error."""
    plain, batch = case(huber=None)
    one, _ = case(quantiles=1, huber=1e4)
    for name in ("critic", "target_critic"):
        getattr(one, name).load_state_dict(getattr(plain, name).state_dict())
    found, expected = one.losses(batch).terms["critic"], plain.losses(batch).terms["critic"]
    torch.testing.assert_close(1e4 * 2.0 * found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("double", "mean"), [(False, 2.29), (True, 1.4)])
def test_atoms_by_hand(double: bool, mean: float) -> None:
    """The largest mean is that of action 1, 2; the online choice, 2, has all of its mass at 1.

    Reward .5, discount .9: .1, .2, .4, .2, .1 lie at .5, 1.4, 2.3, 3.2 and, beyond the atoms, 4.1;
    a return of 1 at 1.4. The critic says that all are alike, and costs log 5 whatever the target.
    """
    learner, _ = case(double=double, discount=0.9, **ATOMS)
    wide = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).log().tolist()
    sure = [-50.0, 0.0, -50.0, -50.0, -50.0]
    last = [-50.0] * 4 + [0.0]
    told_quantiles(learner, [[0.0] * 5, [-9.0, 0.0, 0.0, 0.0, -9.0], last], [sure, wide, sure])
    batch = rows()
    batch[REWARD] = torch.full((2,), 0.5)
    place, share = learner.target(Transition(batch, 0.9))
    assert (place.clamp(0.0, 4.0) * share).sum(-1).tolist() == pytest.approx([mean, 0.5])
    loss, q = learner.critic_loss(batch)
    assert loss.item() == pytest.approx(math.log(5.0)) and q.tolist() == [[2.0, 2.0]]
    values = learner.action_values(batch["observation"])[0].tolist()
    assert values == pytest.approx([2.0, 2.0, 4.0], abs=1e-3)
    torch.testing.assert_close(learner.row_errors(batch), (place * share).sum(-1) - 2.0)


def test_rewards_of_a_bandit_become_its_atoms() -> None:
    """Rewards 1, 2.5 and 4 at an end: all on atom 1, half on 2 and 3 each, all on 4."""
    learner = fitted_bandit(DQN, [2, 2, 2], [1.0, 2.5, 4.0], steps=400, **ATOMS)
    numbers = learner.numbers(learner.critic, torch.zeros(1, 3), None)
    share = learner.returns.returns(numbers)[1][0]
    expected = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1.0]])
    torch.testing.assert_close(share, expected, rtol=0, atol=0.02)
    values = learner.action_values(torch.zeros(1, 3))[0]
    torch.testing.assert_close(values, torch.tensor([1.0, 2.5, 4.0]), rtol=0, atol=0.05)


def test_soft_target_by_hand() -> None:
    """Target [0, 4, 3] at temperature 2: 2 log(1 + e^2 + e^1.5)."""
    learner, _ = case(soft=2.0, huber=None, discount=0.5)
    told(learner, [[0.0, 1.0, 5.0]], [[0.0, 4.0, 3.0]])
    next_value = 2.0 * math.log(1.0 + math.exp(2.0) + math.exp(1.5))
    for row, target in enumerate([1.0 + 0.5 * next_value, 1.0]):
        loss, _ = learner.critic_loss(rows()[row : row + 1])
        assert loss.item() == pytest.approx(0.5 * target**2, rel=1e-6)


def test_munchausen_by_hand() -> None:
    """Action 0 of target values [0, 0.2, 0] at .1: .9 * .1 * log(1 / (2 + e^2)); clipped at -1."""
    learner, _ = case(soft=0.1, munchausen=0.9, huber=None, discount=0.0)
    for value, bonus in ((0.2, -0.09 * math.log(2.0 + math.exp(2.0))), (50.0, -0.9)):
        told(learner, [[0.0, 1.0, 5.0]], [[0.0, value, 0.0]])
        loss, _ = learner.critic_loss(rows())
        assert loss.item() == pytest.approx(0.5 * (1.0 + bonus) ** 2, rel=1e-6)


def test_cold_soft_values_are_plain_ones() -> None:
    """At a temperature far below the gaps of values, for each action of a quantile learner too."""
    for options in ({}, {"quantiles": 3}, {"double": True}):
        plain, batch = case(**options)
        soft, _ = case(soft=1e-5, **options)
        found, expected = soft.losses(batch).terms, plain.losses(batch).terms
        torch.testing.assert_close(found["critic"], expected["critic"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"quantiles": 3}, ATOMS], ids=["values", "quantiles", "atoms"]
)
def test_weights_multiply_the_losses_of_rows(options: dict[str, Any]) -> None:
    learner, batch = case(**options)
    ones = batch.copy().set("weight", torch.ones(len(batch)))
    assert learner.losses(ones).terms["critic"] == learner.losses(batch).terms["critic"]
    first = batch.copy().set("weight", torch.eye(len(batch))[0] * len(batch))
    torch.testing.assert_close(
        learner.losses(first).terms["critic"], learner.losses(batch[:1]).terms["critic"]
    )


# --- the target critic's interval -------------------------------------------------------------


def test_target_is_copied_every_so_many_updates(tmp_path: Path) -> None:
    """After 6 updates with a copy every 4 the target is the critic of update 4."""
    data = data_for(DQN, updates_per_step=2)
    kept = {}
    for updates in (4, 6):
        learner = learner_of(DQN, data.spec, target_every=4)
        fit(learner, data, tmp_path, updates)
        kept[updates] = learner
    critic, target = (getattr(kept[4], name).state_dict() for name in ("critic", "target_critic"))
    assert equal(critic, target)
    for name, value in kept[6].target_critic.state_dict().items():
        torch.testing.assert_close(value, target[name])
    assert not equal(kept[6].critic.state_dict(), kept[6].target_critic.state_dict())


def test_target_follows_slowly_if_asked(tmp_path: Path) -> None:
    """With tau 0.25 at every update: after the first, a quarter of the way."""
    data = data_for(DQN)
    learner = learner_of(DQN, data.spec, target_every=1, tau=0.25)
    first = {name: value.clone() for name, value in learner.critic.state_dict().items()}
    fit(learner, data, tmp_path, 1)
    for name, value in learner.target_critic.state_dict().items():
        expected = first[name].lerp(learner.critic.state_dict()[name], 0.25)
        torch.testing.assert_close(value, expected)


# --- reductions -----------------------------------------------------------------------------------


def test_a_linear_critic_of_one_hot_states_is_the_table() -> None:
    """With squared errors the loss is that of Q-learning, value for value."""
    data = data_for(DQN, episode_log(discrete=True, one_hot=True))
    data.spec = changed(data.spec, observation={"mean": [0.0] * 3, "std": [1.0] * 3})
    learner = learner_of(DQN, data.spec, network=Network(hidden=()), huber=None)
    table = learner_of(QLearning, data.spec)
    batch = whole_log(learner, data)
    with torch.no_grad():
        every = learner.action_values(torch.eye(3))
        for twin in (table.critic, table.target_critic):
            twin.value.copy_(every.unsqueeze(1))
    found, expected = learner.losses(batch).terms, table.losses(batch).terms
    torch.testing.assert_close(found["critic"], expected["critic"])


def test_double_is_plain_where_the_target_is_the_critic() -> None:
    terms = []
    for double in (False, True):
        learner, batch = case(double=double)
        learner.target_critic.load_state_dict(learner.critic.state_dict())
        terms.append(learner.losses(batch).terms["critic"])
    assert terms[0] == terms[1]


# --- the policy, soft values ----------------------------------------------------------------------


def test_drawn_actions_follow_the_soft_max_of_the_values() -> None:
    learner, batch = case(temperature=0.1)
    values = learner.action_values(batch["observation"])
    torch.testing.assert_close(learner.scores(batch["observation"]), values / 0.1)
    assert learner(batch["observation"]).equal(values.argmax(-1))


def test_soft_values_by_hand() -> None:
    """``[R, N]`` of R rows under N tasks: as each pair by itself."""
    learner, batch = case(task=True, temperature=0.5)
    batch, tasks = batch[:6], torch.randn(6, 5, 2)
    pairs = batch.unsqueeze(-1).expand(6, 5)
    with torch.no_grad():
        found = learner.soft_values(pairs, tasks, batch["draws"].unsqueeze(1))
    assert found.log_prob.shape == found.next_value.shape == (6, 5)
    assert found.temperature.item() == 0.5 and found.discount == 0.99
    for number in range(5):
        task = tasks[:, number]
        logits = learner.action_values(batch["observation"], task) / 0.5
        expected = torch.log_softmax(logits, -1).gather(-1, batch["action"].unsqueeze(-1))
        torch.testing.assert_close(found.log_prob[:, number], expected.squeeze(-1))
        value = learner.action_values(batch["next", "observation"], task).amax(-1)
        torch.testing.assert_close(found.next_value[:, number], value)
        value = learner.action_values(batch["observation"], task)
        value = value.gather(-1, batch["action"].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(found.value[:, number], value)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"huber": 0.0}, r"huber is 0.0, it must be above 0, or null for squared errors"),
        ({"target_every": 0}, r"target_every is 0, it must be at least 1"),
        ({"temperature": 0.0}, r"temperature is 0.0, it must be above 0"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"quantiles": -1}, r"quantiles -1 and atoms 0 must be at least 0"),
        ({**ATOMS, "soft": 0.1}, r"atoms is 5, soft 0.1 and critics 1: .* take quantiles"),
        ({**ATOMS, "critics": 2}, r"soft 0.0 and critics 2: shares of atoms have no least"),
        ({"soft": -0.1}, r"soft -0.1 .* must be at least 0"),
        ({"munchausen": -0.9}, r"munchausen -0.9 must be at least 0"),
        ({"munchausen": 0.9}, r"munchausen is 0.9 and soft is 0: .* give its temperature"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="DQN chooses discrete actions, and those of the log are"):
        learner_of(DQN, OfflineDataModule(episode_log()).spec)
