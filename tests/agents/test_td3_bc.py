"""TD3+BC: its terms against torchrl's on the same weights, T16, what it reduces to."""

from typing import Any

import pytest
import torch
from deterministic_oracles import assert_twin_equals, move_targets, torchrl_point, unit_case
from episode_logs import episode_log
from small_fits import data_for, equal, learner_of, whole_log
from specs import changed
from tensordict import TensorDict
from torchrl.objectives import TD3BCLoss
from torchrl_oracles import network_gradients, torchrl_batch, torchrl_critics

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.td3 import TD3
from hindsight_rl.agents.td3_bc import TD3BC
from hindsight_rl.nets.distributions import Deterministic
from hindsight_rl.training.learner import Learner


def case(**arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose targets differ from what they follow, and a batch."""
    data = data_for(TD3BC, episode_log())
    learner = learner_of(TD3BC, data.spec, **arguments)
    with torch.no_grad():
        for name in learner.targets:
            for parameter in getattr(learner, name).parameters():
                parameter += 0.1
    return learner, whole_log(learner, data)


# --- torchrl on the same weights and batch --------------------------------------------------------


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_losses_and_gradients_equal_torchrl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told the same noise. Actions lie in [-1, 1] here.

    Difference: torchrl regresses critics by the smooth L1 distance unless told ``l2``.
    """
    learner, batch = unit_case(TD3BC, discount=0.95, value_weight=1.5)
    theirs = TD3BCLoss(
        torchrl_point(learner),
        torchrl_critics(learner, "state_action_value"),
        bounds=(-1.0, 1.0),
        policy_noise=learner.target_noise,
        noise_clip=learner.target_noise_limit,
        alpha=learner.value_weight,
        loss_function="l2",
    )
    theirs.make_value_estimator(gamma=learner.discount)
    move_targets(learner, theirs, "actor", "qvalue")
    noise = batch["noise", "next"]
    monkeypatch.setattr(torch, "randn_like", lambda *_: noise)
    expected = theirs(torchrl_batch(batch))
    assert_twin_equals(learner, batch, theirs, expected)
    found = learner.losses(batch).metrics["actor/lambda"]
    torch.testing.assert_close(found, expected["lmbd"])


# --- policy ---------------------------------------------------------------------------------------


def test_weight_of_t16() -> None:
    """T16: Q = 10, -20, 30 at alpha 2.5: lambda = 2.5 / 20 = .125, and no gradient reaches it.

    Q = c + 6 a_1 there. The squared errors over two dimensions are 4 and 0, their mean 2, so the
    loss is 2 - .125 * 20 / 3. Its gradient by mu is the error, 2 (2, 0) / 2, less .125 (6, 0), over
    three rows; a = centre + scale mu makes 6 scale of the slope by mu.
    """
    learner, batch = case()
    scale = learner.actor.scale
    batch = batch[:3]
    mean = torch.zeros(3, 2, requires_grad=True)
    batch["action"] = scale.centre + scale.scale * torch.tensor([-2.0, 0.0]).expand(3, 2)
    learner.actor.forward = lambda *_: Deterministic(mean)
    value = torch.tensor([10.0, -20.0, 30.0])

    def critic(observation: Any, action: Any, task: Any, members: int) -> Any:
        assert members == 1
        return (value + 6 * (action - scale.centre)[:, 0])[None]

    learner.critic.forward = critic
    loss, weight = learner.actor_loss(batch)
    assert weight.item() == pytest.approx(0.125)
    assert loss.item() == pytest.approx(2 - 0.125 * 20 / 3)
    loss.backward()
    expected = torch.tensor([2 - 0.125 * 6 * scale.scale[0].item(), 0.0]) / 3
    torch.testing.assert_close(mean.grad, expected.expand(3, 2))


def test_unit_of_the_reward_does_not_matter() -> None:
    """Values ten times as large are divided by a mean ten times as large."""
    learner, batch = case()
    loss, weight = learner.actor_loss(batch)
    with torch.no_grad():
        for parameter in learner.critic.members[0][-1].parameters():
            parameter *= 10.0
    scaled, other = learner.actor_loss(batch)
    torch.testing.assert_close(scaled, loss)
    torch.testing.assert_close(other, weight / 10)


# --- interval -----------------------------------------------------------------


def test_the_rhythm_is_that_of_td3() -> None:
    """Which networks it moves, and when, is tested in test_td3.py for both."""
    spec = data_for(TD3BC).spec
    assert learner_of(TD3BC, spec, delay=3).every == learner_of(TD3, spec, delay=3).every


# --- reductions -----------------------------------------------------------------------------------


def test_value_weight_0_is_cloning() -> None:
    """That of a deterministic policy: the mean squared error."""
    learner, batch = case(value_weight=0.0)
    cloning = learner_of(BC, learner.spec, head="deterministic")
    cloning.actor.load_state_dict(learner.actor.state_dict())
    ours, theirs = learner.losses(batch).terms["actor"], cloning.losses(batch).terms["actor"]
    assert ours == theirs
    one, two = network_gradients(learner.actor, ours), network_gradients(cloning.actor, theirs)
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, two[name])


def test_it_is_td3_and_cloning() -> None:
    """The critics' term is TD3's; the policy's gradient is cloning's and lambda times TD3's."""
    learner, batch = case()
    td3 = learner_of(TD3, learner.spec)
    td3.load_state_dict(learner.state_dict())
    cloning = learner_of(BC, learner.spec, head="deterministic")
    cloning.actor.load_state_dict(learner.actor.state_dict())
    found, terms = learner.losses(batch), td3.losses(batch).terms
    assert found.terms["critic"] == terms["critic"]
    one = network_gradients(learner.critic, found.terms["critic"])
    assert equal(one, network_gradients(td3.critic, terms["critic"]))
    ours = network_gradients(learner.actor, found.terms["actor"])
    climb = network_gradients(td3.actor, terms["actor"])
    clone = network_gradients(cloning.actor, cloning.losses(batch).terms["actor"])
    for name, gradient in ours.items():
        expected = clone[name] + found.metrics["actor/lambda"] * climb[name]
        torch.testing.assert_close(gradient, expected)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value_weight": -1.0}, r"value_weight is -1.0, it must be at least 0"),
        ({"target_noise": -0.1}, r"target_noise -0.1 and target_noise_limit 0.5 must be at least"),
        ({"target_noise_limit": -1.0}, r"target_noise_limit -1.0 must be at least 0"),
        ({"delay": 0}, r"delay is 0 updates, it must be at least 1"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
        ({"exploration": -0.1}, r"exploration is -0.1, it must be at least 0"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_actions_need_bounds() -> None:
    data = data_for(TD3BC)
    data.spec = changed(data.spec, action={"low": None, "high": None})
    with pytest.raises(ValueError, match="action bounds: give action_low and action_high"):
        learner_of(TD3BC, data.spec)
