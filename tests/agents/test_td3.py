"""TD3: its terms against torchrl's on the same weights, its three additions, what it reduces to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from deterministic_oracles import assert_twin_equals, move_targets, torchrl_point, unit_case
from episode_logs import episode_log
from small_fits import data_for, equal, fit, learner_of, weights, whole_log
from specs import changed
from tensordict import TensorDict
from torchrl.objectives import TD3Loss
from torchrl_oracles import network_gradients, torchrl_batch, torchrl_critics

from hindsight_rl.agents.ddpg import DDPG
from hindsight_rl.agents.td3 import TD3
from hindsight_rl.agents.td3_bc import TD3BC
from hindsight_rl.training.learner import Learner

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")


def case(*, task: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose targets differ from what they follow, and a batch."""
    data = data_for(TD3, episode_log(task=task))
    learner = learner_of(TD3, data.spec, **arguments)
    with torch.no_grad():
        for name in learner.targets:
            for parameter in getattr(learner, name).parameters():
                parameter += 0.1
    return learner, whole_log(learner, data)


# --- torchrl on the same weights and batch --------------------------------------------------------


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_losses_and_gradients_equal_torchrl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told the same noise, and some of it is cut. Actions lie in [-1, 1] here.

    Difference: torchrl regresses critics by the smooth L1 distance unless told ``l2``.
    """
    learner, batch = unit_case(TD3, discount=0.95, target_noise=0.4, target_noise_limit=0.5)
    theirs = TD3Loss(
        torchrl_point(learner),
        torchrl_critics(learner, "state_action_value"),
        bounds=(-1.0, 1.0),
        policy_noise=learner.target_noise,
        noise_clip=learner.target_noise_limit,
        loss_function="l2",
    )
    theirs.make_value_estimator(gamma=learner.discount)
    move_targets(learner, theirs, "actor", "qvalue")
    noise = batch["noise", "next"]
    assert (0.4 * noise.abs() > 0.5).any()
    monkeypatch.setattr(torch, "randn_like", lambda *_: noise)
    assert_twin_equals(learner, batch, theirs, theirs(torchrl_batch(batch)))


# --- what it adds ---------------------------------------------------------------------------------


def test_targets_take_the_smaller_critic() -> None:
    """1 + .9 min(10, 5) = 5.5 and, where it ends, 2. Q = 0: (30.25 + 4) / 2, for each critic."""
    learner, batch = case(discount=0.9)
    batch = batch[:2]
    batch[REWARD] = torch.tensor([1.0, 2.0])
    batch[TERMINATED] = torch.tensor([False, True])
    learner.target_critic.forward = lambda *_: torch.tensor([[10.0, 7.0], [5.0, 8.0]])
    learner.critic.forward = lambda *_: torch.zeros(2, 2)
    assert learner.critic_loss(batch)[0].item() == pytest.approx(34.25)
    own = batch.set("discount", torch.full((2,), 0.6))
    assert learner.critic_loss(own)[0].item() == pytest.approx(16.0 + 4.0)


def test_target_critics_are_asked_beside_the_target_policy() -> None:
    """Noise of 1 adds .1 and noise of -9 takes .3, in policy units, within the bounds."""
    learner, batch = case(target_noise=0.1, target_noise_limit=0.3)
    batch["noise", "next"] = torch.tensor([1.0, -9.0]).expand(len(batch), 2)
    asked = []
    learner.target_critic.forward = lambda observation, action, task: (
        asked.append(action) or torch.zeros(2, len(action))
    )
    learner.critic_loss(batch)
    chosen = learner.target_actor(batch["next", "observation"]).mode
    expected = (chosen + torch.tensor([0.1, -0.3])).clamp(-1, 1)
    torch.testing.assert_close(learner.actor.scale.to_policy(asked[0]), expected)


def test_noise_reaches_the_critics_target_alone() -> None:
    learner, batch = case()
    assert learner.noise == {"next": 2}
    other = batch.clone()
    other["noise", "next"] += 1.0
    one, two = learner.losses(batch).terms, learner.losses(other).terms
    assert one["critic"] != two["critic"] and one["actor"] == two["actor"]


def test_policy_climbs_the_first_critic() -> None:
    learner, batch = case()
    before = learner.actor_loss(batch)
    with torch.no_grad():
        learner.critic.members[1][-1].bias -= 100.0
    assert learner.actor_loss(batch) == before
    with torch.no_grad():
        learner.critic.members[0][-1].bias += 1.0
    torch.testing.assert_close(learner.actor_loss(batch), before - 1.0)


@pytest.mark.parametrize("kind", [TD3, TD3BC])
def test_policy_and_targets_wait(kind: type[Learner], tmp_path: Path) -> None:
    """With a delay of 3 only critics move at updates 1 and 2, and all networks at the third."""
    data = data_for(kind)
    first = weights(learner_of(kind, data.spec, delay=3))
    for updates, waits in ((2, {"actor", "target_actor", "target_critic"}), (3, set())):
        learner = learner_of(kind, data.spec, delay=3)
        fit(learner, data, tmp_path, updates)
        moved = {
            name.partition(".")[0]
            for name, value in learner.state_dict().items()
            if not value.equal(first[name])
        }
        assert moved == {"actor", "critic", "target_actor", "target_critic"} - waits


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


# --- reduction ------------------------------------------------------------------------------------


def test_without_its_additions_it_is_ddpg(tmp_path: Path) -> None:
    """One critic, no noise, no delay: equal terms, gradients and weights after updates."""
    data = data_for(TD3)
    ours = learner_of(TD3, data.spec, critics=1, target_noise=0.0, delay=1)
    theirs = learner_of(DDPG, data.spec)
    assert equal(weights(ours), weights(theirs))
    batch = whole_log(ours, data)
    one, two = ours.losses(batch).terms, theirs.losses(batch).terms
    assert one == two
    for name in one:
        found = network_gradients(getattr(ours, name), one[name])
        assert equal(found, network_gradients(getattr(theirs, name), two[name]))
    for learner in (ours, theirs):
        fit(learner, data, tmp_path, 5)
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, theirs.state_dict()[name])


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
    data = data_for(TD3)
    data.spec = changed(data.spec, action={"low": None, "high": None})
    with pytest.raises(ValueError, match="action bounds: give action_low and action_high"):
        learner_of(TD3, data.spec)
