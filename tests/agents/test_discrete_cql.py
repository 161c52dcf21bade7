"""DiscreteCQL: its loss against torchrl's on the same weights, T14, T3, limits to DQN."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor
from torchrl.modules import QValueActor
from torchrl.objectives import DiscreteCQLLoss
from torchrl_oracles import Member, network_gradients, torchrl_batch

from hindsight_rl.agents import discrete_cql
from hindsight_rl.agents.discrete_cql import DiscreteCQL
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.training.learner import Learner


def case(
    kind: type[Learner] = DiscreteCQL, *, task: bool = False, **arguments: Any
) -> tuple[Learner, TensorDict]:
    """Return a learner whose target critic prefers other actions than its critic, and a batch."""
    data = data_for(kind, episode_log(discrete=True, task=task))
    learner = learner_of(kind, data.spec, **arguments)
    with torch.no_grad():
        for parameter in learner.target_critic.parameters():
            parameter *= -1.0
    return learner, whole_log(learner, data)


# --- torchrl on the same weights and batch --------------------------------------------------------


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_loss_and_gradient_equal_torchrl() -> None:
    """Both parts and what they give to the critic.

    Differences: torchrl's targets are the largest values of the online critic (it holds a target
    network, but its value estimator ignores the argument by which that is passed), so both are one
    here, and double or not are too. Its error is squared, with the factor 1/2. It returns the gap
    beside the loss, unweighted, for the caller to add.
    """
    learner, batch = case(conservative_weight=0.7, huber=None, discount=0.95)
    learner.target_critic.load_state_dict(learner.critic.state_dict())
    network = QValueActor(
        Member(learner.critic, 0), in_keys=["observation"], action_space="categorical"
    )
    theirs = DiscreteCQLLoss(network, action_space="categorical")
    theirs.make_value_estimator(gamma=learner.discount)
    found = theirs(torchrl_batch(batch))
    expected = found["loss_qvalue"] + 0.7 * found["loss_cql"]
    ours = learner.losses(batch)
    loss = ours.terms["critic"]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.metrics["critic/gap"], found["loss_cql"].detach())

    kept = theirs.value_network_params.flatten_keys(".")
    trained = {key: kept[key] for key in kept.keys() if kept[key].requires_grad}
    gradients = network_gradients(learner.critic, loss)
    assert len(trained) == len(gradients)
    for key, parameter in trained.items():
        gradient = torch.autograd.grad(expected, parameter, retain_graph=True)[0]
        name = f"members.0.{key.partition('net.')[2]}"
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)


# --- closed forms ---------------------------------------------------------------------------------


def told(learner: Learner, values: Tensor) -> None:
    """Have both critics answer with these values ``[E, n]`` in every state."""
    for critic in (learner.critic, learner.target_critic):

        def answer(observation: Tensor, action: Tensor | None, _: Any) -> Tensor:
            assert action is None
            return values[:, None].expand(-1, len(observation), -1)

        critic.forward = answer


def ended_row() -> TensorDict:
    """A row that took action 0 at its episode's end, for nothing."""
    batch = case()[1][:1].clone()
    batch["action"] = torch.zeros(1, dtype=torch.int64)
    batch["next", "reward"] = torch.zeros(1)
    batch["next", "terminated"] = torch.ones(1, dtype=torch.bool)
    return batch


def test_loss_and_gradient_of_t14() -> None:
    """Q = [1, 2, 3], action 0 logged, target 0: half of 1, and the weighted gap 2.407606."""
    learner, _ = case(conservative_weight=2.0, huber=None)
    values = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    told(learner, values)
    loss, q, gap = learner.critic_loss(ended_row())
    assert q.tolist() == [[1.0]] and gap.item() == pytest.approx(2.407606, abs=2e-6)
    assert loss.item() == pytest.approx(0.5 + 2 * 2.407606, abs=2e-6)
    loss.backward()
    expected = [[1 - 2 * 0.909969, 2 * 0.244728, 2 * 0.665241]]
    torch.testing.assert_close(values.grad, torch.tensor(expected), rtol=0, atol=2e-6)


def test_each_of_several_critics_has_a_gap() -> None:
    """Q = [1, 2, 3] and [0, 0, 0]: gaps 2.407606 and log 3, added."""
    learner, _ = case(critics=2, huber=None)
    told(learner, torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    loss, _, gap = learner.critic_loss(ended_row())
    assert gap.flatten().tolist() == pytest.approx([2.407606, 1.098612], abs=2e-6)
    assert loss.item() == pytest.approx(0.5 + 2.407606 + 1.098612, abs=2e-6)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.0, [2.0, 4.0, 8.0, 16.0]),
        (1.0, [1.268941, 1.757321, 2.661769]),
        (1.4, [0.976518, 0.936053, 0.866483, 0.747347]),
    ],
)
def test_iterates_of_t3(weight: float, expected: list[float]) -> None:
    """One state, Q(s, a) = theta a for actions 1 and 2, reward 0, only action 1 logged, discount 1.

    The learner's own loss in steps of 1 on theta: values double without the gap, run away with too
    little of it, and fall with enough.
    """
    learner, _ = case(conservative_weight=weight, huber=None, discount=1.0)
    batch = ended_row()
    batch["next", "terminated"] = torch.zeros(1, dtype=torch.bool)
    theta, found = torch.ones(()), []
    for _ in expected:
        theta = theta.detach().requires_grad_()
        told(learner, theta * torch.tensor([[1.0, 2.0]]))
        learner.critic_loss(batch)[0].backward()
        assert theta.grad is not None
        theta = theta.detach() - theta.grad
        found.append(theta.item())
    assert found == pytest.approx(expected, abs=1e-5)


# --- limits and options ---------------------------------------------------------------------------


@pytest.mark.parametrize("task", [False, True])
@pytest.mark.parametrize("huber", [None, 1.0])
def test_without_weight_it_is_double_dqn_bit_for_bit(task: bool, huber: float | None) -> None:
    """The same terms, and the same gradients, with a task and without."""
    learner, batch = case(conservative_weight=0.0, huber=huber, task=task, critics=2)
    plain, _ = case(DQN, double=True, huber=huber, task=task, critics=2)
    plain.load_state_dict(learner.state_dict())
    found, expected = learner.losses(batch).terms, plain.losses(batch).terms
    assert found["critic"].equal(expected["critic"]) and found.keys() == expected.keys()
    theirs = network_gradients(plain.critic, expected["critic"])
    for name, gradient in network_gradients(learner.critic, found["critic"]).items():
        assert gradient.equal(theirs[name]), name


def test_acts_and_values_as_dqn_does() -> None:
    learner, batch = case(task=True, temperature=0.5)
    plain, _ = case(DQN, task=True, temperature=0.5)
    plain.load_state_dict(learner.state_dict())
    observation, task = batch["observation"], batch["task"]
    assert learner(observation, task).equal(plain(observation, task))
    assert learner.every == plain.every == {"target_critic": 100} and learner.tau == 1.0
    found, expected = (one.soft_values(batch, task, batch["draws"]) for one in (learner, plain))
    for name in ("log_prob", "next_value", "temperature", "discount", "value"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_the_gap_alone_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gap is the negative log-likelihood of the soft-max: its gradient alone is cloning's."""
    learner, batch = case(conservative_weight=1.0)
    monkeypatch.setattr(discrete_cql, "huber_loss", lambda error, limit: torch.zeros_like(error))
    loss = learner.losses(batch).terms["critic"]
    logits = learner.critic(batch["observation"], None)[0]
    cloning = torch.nn.functional.cross_entropy(logits, batch["action"])
    torch.testing.assert_close(loss, cloning)
    theirs = network_gradients(learner.critic, cloning)
    for name, gradient in network_gradients(learner.critic, loss).items():
        torch.testing.assert_close(gradient, theirs[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conservative_weight": -0.1}, r"conservative_weight is -0.1, it must be at least 0"),
        ({"huber": 0.0}, r"huber is 0.0, it must be above 0, or null for squared errors"),
        ({"target_every": 0}, r"target_every is 0, it must be at least 1"),
        ({"temperature": 0.0}, r"temperature is 0.0, it must be above 0"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)
