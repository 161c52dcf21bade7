"""DDPG: its terms against torchrl's on the same weights, target and climb by hand."""

from typing import Any

import pytest
import torch
from deterministic_oracles import move_targets, torchrl_point, unit_case
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from specs import changed
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.objectives import DDPGLoss
from torchrl_oracles import compare, network_gradients, torchrl_batch

from hindsight_rl.agents.ddpg import DDPG
from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.distributions import Deterministic
from hindsight_rl.training.learner import Learner

REWARD, TERMINATED, TRUNCATED = (("next", key) for key in ("reward", "terminated", "truncated"))


def case(*, task: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose targets differ from what they follow, and a batch."""
    data = data_for(DDPG, episode_log(task=task))
    learner = learner_of(DDPG, data.spec, **arguments)
    with torch.no_grad():
        for name in learner.targets:
            for parameter in getattr(learner, name).parameters():
                parameter += 0.1
    return learner, whole_log(learner, data)


# --- torchrl on the same weights and batch --------------------------------------------------------


class Alone(nn.Module):
    """The only member of our critic; its standardised input is kept out of its parameters."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        (self.value,) = critic.members
        self.shared = (critic.inputs,)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return values ``[B, 1]``."""
        return self.value(torch.cat([self.shared[0](observation), action], dim=-1))


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_losses_and_gradients_equal_torchrl() -> None:
    """There is no target policy in torchrl unless told ``delay_actor``.

    Actions lie in [-1, 1] here.
    """
    learner, batch = unit_case(DDPG, discount=0.95)
    critic = TensorDictModule(
        Alone(learner.critic),
        in_keys=["observation", "action"],
        out_keys=["state_action_value"],
    )
    theirs = DDPGLoss(torchrl_point(learner), critic, delay_actor=True)
    theirs.make_value_estimator(gamma=learner.discount)
    move_targets(learner, theirs, "actor", "value")
    expected = theirs(torchrl_batch(batch))
    terms = learner.losses(batch).terms
    torch.testing.assert_close(terms["critic"], expected["loss_value"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms["actor"], expected["loss_actor"], rtol=1e-5, atol=1e-6)
    found = network_gradients(learner.critic.members[0], terms["critic"])
    compare(found, expected["loss_value"], theirs, "value")
    found = network_gradients(learner.actor, terms["actor"])
    compare(found, expected["loss_actor"], theirs, "actor")


# --- critic ---------------------------------------------------------------------------------------


def two_rows() -> TensorDict:
    batch = case()[1][:2]
    batch[REWARD] = torch.tensor([1.0, 2.0])
    batch[TERMINATED] = torch.tensor([False, True])
    batch[TRUNCATED] = torch.tensor([True, False])
    return batch


def test_critic_regresses_on_the_one_step_target() -> None:
    """R + g Q': Q' = 10, g = .9: targets 1 + 9 and, where it ends, 2; a time limit is no end.

    Q = 0: the mean of 100 and 4; with the row's own discount .5 of 36 and 4.
    """
    learner, _ = case(discount=0.9)
    batch = two_rows()
    learner.target_critic.forward = lambda *_: torch.full((1, 2), 10.0)
    learner.critic.forward = lambda *_: torch.zeros(1, 2)
    assert learner.critic_loss(batch)[0].item() == pytest.approx(52.0)
    own = batch.set("discount", torch.full((2,), 0.5))
    assert learner.critic_loss(own)[0].item() == pytest.approx(20.0)


def test_next_actions_are_those_of_the_target_policy() -> None:
    learner, batch = case()
    asked = []
    learner.target_critic.forward = lambda observation, action, task: (
        asked.append(action) or torch.zeros(1, len(action))
    )
    learner.critic_loss(batch)
    seen = batch["next", "observation"]
    assert asked[0].equal(learner.target_actor.mode(seen))
    assert not asked[0].equal(learner.actor.mode(seen))


# --- policy ---------------------------------------------------------------------------------------


def test_policy_climbs_the_critic() -> None:
    """Q = 3 a_1 - 2 a_2, a = centre + scale mu: the loss is -mean Q, its gradient by mu -dQ/da."""
    learner, batch = case()
    batch, slope = batch[:4], torch.tensor([3.0, -2.0])
    mean = torch.linspace(-0.5, 0.5, 8).view(4, 2).requires_grad_()
    learner.actor.forward = lambda *_: Deterministic(mean)
    learner.critic.forward = lambda observation, action, task: (action * slope).sum(-1)[None]
    loss = learner.actor_loss(batch)
    scale = learner.actor.scale
    expected = ((scale.centre + scale.scale * mean) * slope).sum(-1).mean()
    torch.testing.assert_close(loss, -expected)
    loss.backward()
    torch.testing.assert_close(mean.grad, (-slope * scale.scale / 4).expand(4, 2))


def test_drawn_actions_are_the_policys_with_noise() -> None:
    """Standard deviation .05 in policy units; 0 is the policy itself, which forward always is."""
    learner, batch = case(exploration=0.05)
    seen, draws = batch["observation"], batch["draws"]
    noisy = learner.actor(seen).mode + 0.05 * normals(draws, 2)
    assert learner.act(seen, draws=draws).equal(learner.actor.scale.to_environment(noisy))
    still, _ = case(exploration=0.0)
    assert still.act(seen, draws=draws).equal(still(seen))


def test_task_conditions_all_networks() -> None:
    """Each row's action and value move with its task, and the terms with them."""
    learner, batch = case(task=True)
    other = batch.copy().set("task", batch["task"] + 1.0)
    for actor in (learner.actor, learner.target_actor):
        one, two = (actor.mode(b["observation"], b["task"]) for b in (batch, other))
        assert (one != two).any(-1).all()
    for critic in (learner.critic, learner.target_critic):
        one, two = (critic(b["observation"], b["action"], b["task"]) for b in (batch, other))
        assert (one != two).all()
    first, second = learner.losses(batch).terms, learner.losses(other).terms
    assert all(first[name] != second[name] for name in first)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"exploration": -0.1}, r"exploration is -0.1, it must be at least 0"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_actions_need_bounds() -> None:
    data = data_for(DDPG)
    data.spec = changed(data.spec, action={"low": None, "high": None})
    with pytest.raises(ValueError, match="action bounds: give action_low and action_high"):
        learner_of(DDPG, data.spec)
