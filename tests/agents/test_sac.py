"""SAC: its terms against torchrl's on the same weights, T16, temperature, task, soft values."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from specs import changed
from tensordict import TensorDict
from torch import Tensor
from torchrl.objectives import DiscreteSACLoss, LossModule, SACLoss
from torchrl_oracles import (
    compare,
    network_gradients,
    torchrl_actor,
    torchrl_batch,
    torchrl_critics,
    without_scale,
)

from hindsight_rl.agents.sac import SAC
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.distributions import Categorical
from hindsight_rl.training.learner import Learner, bootstrap

REWARD, TERMINATED, TRUNCATED = (("next", key) for key in ("reward", "terminated", "truncated"))


def case(
    *, discrete: bool = False, task: bool = False, **arguments: Any
) -> tuple[Learner, TensorDict]:
    """Return a learner whose target critics differ from what they follow, and a batch."""
    data = data_for(SAC, episode_log(discrete=discrete, task=task))
    learner = learner_of(SAC, data.spec, **arguments)
    with torch.no_grad():
        for parameter in learner.target_critic.parameters():
            parameter += 0.1
    return learner, whole_log(learner, data)


def draws(count: int, seed: int = 0) -> Tensor:
    return counters(seed, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]


# --- torchrl on the same weights and batch --------------------------------------------------------


def oracle(learner: Learner) -> LossModule:
    """Return torchrl's loss on a learner's networks, its target moved as in :func:`case`."""
    discrete = learner.actor.discrete
    options: dict[str, Any] = {"action_space": "categorical", "num_actions": 3} if discrete else {}
    loss = (DiscreteSACLoss if discrete else SACLoss)(
        torchrl_actor(learner),
        torchrl_critics(learner, "action_value" if discrete else "state_action_value"),
        loss_function="l2",
        alpha_init=learner.temperature().item(),
        target_entropy="auto" if discrete else learner.target_entropy,
        **options,
    )
    loss.make_value_estimator(gamma=learner.discount)
    loss.target_qvalue_network_params.data.apply_(lambda value: value.add_(0.1))
    return loss


def tell(noise: TensorDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch's normal distribution sample with our noise: of the next action, of this one."""
    numbers = iter([noise["next"], noise["now"]])
    monkeypatch.setattr(
        torch.distributions.normal, "_standard_normal", lambda *_, **__: next(numbers)
    )


@pytest.mark.filterwarnings("ignore:No target network updater")
@pytest.mark.parametrize("discrete", [False, True])
def test_losses_and_gradients_equal_torchrl(
    discrete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terms and what they give to each network; both are told the same noise.

    Differences: torchrl regresses critics by the smooth L1 distance unless told ``l2``, and then
    without the factor 1/2 of eq. 5 (SB3 and the authors have it), so theirs is twice ours. Both
    descend in log alpha with the factor log alpha. Actions lie in [-1, 1] here, so that
    environment and policy units are one.
    """
    data = data_for(SAC, episode_log(discrete=discrete))
    without_scale(data)
    learner = learner_of(SAC, data.spec, discount=0.95, initial_temperature=0.3)
    batch = whole_log(learner, data)
    if not discrete:
        batch["action"] = batch["action"].clamp(-3, 3) / 3.1
        tell(batch["noise"], monkeypatch)
    theirs = oracle(learner)
    with torch.no_grad():
        for parameter in learner.target_critic.parameters():
            parameter += 0.1
    expected = theirs(torchrl_batch(batch))
    terms = learner.losses(batch).terms
    losses = {
        "critic": 0.5 * expected["loss_qvalue"],
        "actor": expected["loss_actor"],
        "temperature": expected["loss_alpha"],
    }
    assert terms.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(terms[name], loss, rtol=1e-5, atol=1e-6)
    for name, theirs_name in (("actor", "actor"), ("critic", "qvalue")):
        found = network_gradients(getattr(learner, name), terms[name])
        compare(found, losses[name], theirs, theirs_name)
    found = network_gradients(learner.temperature, terms["temperature"])["log"]
    other = torch.autograd.grad(losses["temperature"], theirs.log_alpha)[0]
    torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-6)


# --- the critics' targets -------------------------------------------------------------------------


class Known:
    """A policy with known actions and log-probabilities."""

    def __init__(self, log_prob: float) -> None:
        self.log_prob = log_prob

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(noise), torch.full(noise.shape[:-1], self.log_prob)


def target(batch: TensorDict, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Tensor:
    """Return the targets of rows where Q' is 5 and 6, log pi -1.5 and alpha 0.2.

    The critics answer 0, so that the loss is half the sum of two squared targets, the target's
    square where there is one row.
    """
    learner, _ = case(initial_temperature=0.2, **arguments)
    monkeypatch.setattr(learner.actor, "forward", lambda *_: Known(-1.5))
    both = torch.tensor([5.0, 6.0]).view(2, 1, 1)
    learner.target_critic.forward = lambda *_: both
    learner.critic.forward = lambda *_: torch.zeros(2, 1)
    losses = [learner.critic_loss(batch[row : row + 1])[0] for row in range(len(batch))]
    return torch.stack(losses).sqrt()


def two_rows() -> TensorDict:
    batch = case()[1][:2]
    batch[REWARD] = torch.ones(2)
    batch[TERMINATED] = torch.tensor([False, True])
    batch[TRUNCATED] = torch.tensor([True, False])
    return batch


def test_target_of_t16(monkeypatch: pytest.MonkeyPatch) -> None:
    """T16: 1 + .99 (min(5, 6) + .2 * 1.5) = 6.247; a time limit does not end it, an end does."""
    found = target(two_rows(), monkeypatch, discount=0.99)
    assert found.tolist() == pytest.approx([6.247, 1.0])


def test_discount_of_the_row_replaces_the_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 + .5 * 5.3 = 3.65, whatever the learner's constant is."""
    batch = two_rows().set("discount", torch.full((2,), 0.5))
    assert target(batch, monkeypatch, discount=0.99).tolist() == pytest.approx([3.65, 1.0])


def test_targets_are_clipped_to_the_range_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found = target(two_rows(), monkeypatch, value_range=(2.0, 4.0))
    assert found.tolist() == pytest.approx([4.0, 2.0])


def sums(learner: Learner, critic: Callable[..., Tensor], seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the expected smaller value, and the entropy, ``[B]`` each, action by action."""
    share = torch.softmax(learner.actor(seen).logits, -1)
    value = entropy = torch.zeros(len(seen))
    for number in range(3):
        action = torch.full((len(seen),), number)
        one, two = critic(seen, action)
        value = value + share[:, number] * torch.minimum(one, two)
        entropy = entropy - share[:, number] * share[:, number].log()
    return value, entropy


def test_discrete_expectations_are_sums() -> None:
    """Over all actions of the smaller critic, and of the log-probability; no draw enters.

    The policy's loss and the critics' target are made of the two.
    """
    learner, batch = case(discrete=True, initial_temperature=0.5)
    assert learner.noise == {} and "noise" not in batch.keys()
    loss, log_prob = learner.actor_loss(batch)
    value, entropy = sums(learner, learner.critic, batch["observation"])
    torch.testing.assert_close(loss, (-0.5 * entropy - value).mean())
    torch.testing.assert_close(-log_prob, entropy)
    value, entropy = sums(learner, learner.target_critic, batch["next", "observation"])
    target = bootstrap(batch, value + 0.5 * entropy, learner.discount)
    q = learner.critic(batch["observation"], batch["action"])
    expected = 0.5 * (target - q).square().mean(-1).sum()
    torch.testing.assert_close(learner.critic_loss(batch)[0], expected)


def test_each_action_has_its_own_noise() -> None:
    """The target's moves the critics' term alone, the policy's the two others."""
    learner, batch = case(initial_temperature=0.5)
    assert learner.noise == {"now": 2, "next": 2}
    assert (batch["noise", "now"] != batch["noise", "next"]).all()
    first = learner.losses(batch).terms
    moved = {}
    for name in learner.noise:
        other = batch.clone()
        other["noise", name] += 1.0
        terms = learner.losses(other).terms
        moved[name] = {key for key in first if terms[key] != first[key]}
    assert moved == {"next": {"critic"}, "now": {"actor", "temperature"}}


def test_missing_noise_is_named() -> None:
    """A batch straight from the data, without what the learner completes it with."""
    learner, batch = case()
    with pytest.raises(KeyError, match="noise"):
        learner.losses(batch.exclude("noise"))


# --- temperature ----------------------------------------------------------------------------------


def test_target_entropy_has_the_usual_defaults() -> None:
    """Minus the number of action dimensions; 98 % of log n for n discrete actions."""
    assert case()[0].target_entropy == -2.0
    assert case(discrete=True)[0].target_entropy == pytest.approx(0.98 * math.log(3))
    assert case(target_entropy=-0.7)[0].target_entropy == -0.7
    assert case(discrete=True, target_entropy=0.0)[0].target_entropy == 0.0


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("offset", [-0.5, 0.5])
def test_temperature_rises_where_the_entropy_is_too_small(discrete: bool, offset: float) -> None:
    """The gradient of log alpha is the entropy's distance from its target."""
    learner, batch = case(discrete=discrete, initial_temperature=0.3)
    entropy = learner.losses(batch).metrics["actor/entropy"].item()
    learner.target_entropy = entropy + offset
    gradient = network_gradients(learner.temperature, learner.losses(batch).terms["temperature"])[
        "log"
    ].item()
    assert gradient == pytest.approx(-offset, abs=1e-5)


# --- task -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_task_conditions_all_networks(discrete: bool) -> None:
    """Each row's policy, value and target value move with its task, and the terms with them."""
    learner, batch = case(discrete=discrete, task=True, initial_temperature=0.5)
    other = batch.copy().set("task", batch["task"] + 1.0)
    for critic in (learner.critic, learner.target_critic):
        one, two = (critic(b["observation"], b["action"], b["task"]) for b in (batch, other))
        assert (one != two).all()
    one, two = (learner.actor_loss(b)[1] for b in (batch, other))
    assert (one != two).all()
    first, second = learner.losses(batch).terms, learner.losses(other).terms
    assert all(first[name] != second[name] for name in first)


# --- soft values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_soft_values_by_hand(discrete: bool) -> None:
    """``[R, N]`` of R rows under N tasks: as each pair by itself, by the first online critic."""
    learner, batch = case(discrete=discrete, task=True, initial_temperature=0.3)
    batch, tasks = batch[:6], torch.randn(6, 5, 2)
    pairs = batch.unsqueeze(-1).expand(6, 5)
    noise = draws(6, seed=2).unsqueeze(1)
    with torch.no_grad():
        found = learner.soft_values(pairs, tasks, noise)
    assert found.log_prob.shape == found.next_value.shape == (6, 5)
    assert found.temperature.item() == pytest.approx(0.3)
    for number in range(5):
        task, seen = tasks[:, number], batch["next", "observation"]
        expected = learner.actor.log_prob(batch["observation"], batch["action"], task)
        torch.testing.assert_close(found.log_prob[:, number], expected)
        policy = learner.actor(seen, task)
        if isinstance(policy, Categorical):
            q = learner.critic(seen, None, task)[0]
            value = (torch.softmax(policy.logits, -1) * q).sum(-1)
        else:
            action = learner.actor.scale.to_environment(policy.sample(noise[:, 0]))
            value = learner.critic(seen, action, task)[0]
        torch.testing.assert_close(found.next_value[:, number], value)
        logged = learner.critic(batch["observation"], batch["action"], task)[0]
        torch.testing.assert_close(found.value[:, number], logged)


def test_soft_values_ask_the_first_critic_alone() -> None:
    learner, batch = case(task=True)
    before = learner.soft_values(batch, batch["task"], batch["draws"])
    known, valued = before.next_value, before.value
    with torch.no_grad():
        learner.critic.members[1][-1].bias -= 100.0
        for parameter in learner.target_critic.parameters():
            parameter += 1.0
    after = learner.soft_values(batch, batch["task"], batch["draws"])
    assert after.next_value.equal(known) and after.value.equal(valued)
    with torch.no_grad():
        learner.critic.members[0][-1].bias += 1.0
    moved = learner.soft_values(batch, batch["task"], batch["draws"])
    torch.testing.assert_close(moved.next_value, known + 1.0)
    torch.testing.assert_close(moved.value, valued + 1.0)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
        ({"initial_temperature": 0.0}, r"initial_temperature is 0.0, it must be above 0"),
        ({"value_range": (0.0, 0.0)}, r"value_range is \[0.0, 0.0\]: the smallest value comes fi"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_continuous_actions_need_bounds() -> None:
    data = data_for(SAC, episode_log())
    data.spec = changed(data.spec, action={"low": None, "high": None})
    with pytest.raises(ValueError, match="needs action bounds: give .* in the column map "):
        learner_of(SAC, data.spec)
