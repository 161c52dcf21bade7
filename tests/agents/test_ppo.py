"""PPO: its loss through the learner, torchrl as oracle, its arguments, and what it learns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from small_replays import iterated
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from tiny_envs import Line
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value.functional import generalized_advantage_estimate
from torchrl_oracles import torchrl_actor

from hindsight_rl.agents.ppo import PPO
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.policy_gradient import kl_k3, v_trace
from hindsight_rl.nets.network import Head
from hindsight_rl.training.learner import Learner


def case(log: Log | None = None, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(PPO, log)
    learner = learner_of(PPO, data.spec, **arguments)
    return learner, whole_log(learner, data)


def as_collected(learner: Learner, batch: TensorDict) -> TensorDict:
    """Return the batch with actions of the learner itself, some at their bounds."""
    draws = counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(len(batch)))[0]
    with torch.no_grad():
        action = learner.act(batch["observation"], draws=draws)
        log_prob = learner.actor.executed_log_prob(batch["observation"], action)
    return batch.copy().set("action", action).set("action_log_prob", log_prob.float())


def actor_gradient(learner: Learner, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(learner.actor.parameters()), retain_graph=True))


# --- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("clip", [0.2, None])
def test_on_own_actions_the_gradient_is_that_of_reinforce(
    discrete: bool, clip: float | None
) -> None:
    """Ratios are 1: -A log pi, with the mass of what is clipped where an action is at a bound."""
    learner, batch = case(episode_log(discrete=discrete, stated=True), clip=clip)
    batch = as_collected(learner, batch)
    if not discrete:
        low, high = torch.tensor(LOW), torch.tensor(HIGH)
        assert bool(((batch["action"] == low) | (batch["action"] == high)).any())
    loss, metrics = learner.actor_loss(batch)
    assert float(metrics["ratio_off"]) < 1e-5 and float(metrics["kl"]) < 1e-9
    log_prob = learner.actor.executed_log_prob(batch["observation"], batch["action"])
    expected = actor_gradient(learner, -(batch["advantage"] * log_prob.float()).mean())
    for ours, theirs in zip(actor_gradient(learner, loss), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


class Values(nn.Module):
    """The value network, as torchrl reads it."""

    def __init__(self, value: nn.Module) -> None:
        super().__init__()
        self.value = value

    def forward(self, observation: Tensor) -> Tensor:
        """Return values ``[B, 1]``."""
        found: Tensor = self.value(observation).unsqueeze(-1)
        return found


@pytest.mark.parametrize("discrete", [False, True])
def test_loss_and_gradient_are_those_of_torchrl(discrete: bool) -> None:
    """ClipPPOLoss on the same weights, off-policy rows within the bounds, an entropy bonus."""
    learner, batch = case(episode_log(discrete=discrete, stated=True), entropy_weight=0.03)
    batch = as_collected(learner, batch)
    with torch.no_grad():  # away from the policy that collected, or nothing is clipped
        for parameter in learner.actor.net.parameters():
            parameter.add_(0.5 * torch.sin(torch.arange(parameter.numel())).view_as(parameter))
    action = batch["action"]
    if not discrete:
        low, high = torch.tensor(LOW), torch.tensor(HIGH)
        batch = batch[((action > low) & (action < high)).all(-1)]
    rows = batch.copy()
    rows["action"] = learner.actor.scale.to_policy(batch["action"])
    rows["advantage"] = batch["advantage"].unsqueeze(-1)
    rows["value_target"] = batch["lambda_return"].unsqueeze(-1)
    # torchrl's densities are in policy units.
    rows["action_log_prob"] = learner.actor.scale.to_policy_density(batch["action_log_prob"])
    values = TensorDictModule(
        Values(learner.value), in_keys=["observation"], out_keys=["state_value"]
    )
    loss = ClipPPOLoss(
        torchrl_actor(learner),
        values,
        clip_epsilon=0.2,
        entropy_coeff=0.03,
        critic_coeff=0.5,
        loss_critic_type="l2",
        normalize_advantage=False,
        functional=False,
    )
    loss.set_keys(sample_log_prob="action_log_prob")
    theirs = loss(rows.detach())
    ours, metrics = learner.actor_loss(batch)
    assert float(metrics["beyond_clip"]) > 0.1
    expected = theirs["loss_objective"] + theirs["loss_entropy"]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    for one, two in zip(
        actor_gradient(learner, ours), actor_gradient(learner, expected), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(learner.value_loss(batch)[0], theirs["loss_critic"])


def test_columns_are_generalized_advantages_over_the_log() -> None:
    """Raw ones equal torchrl's; standardised ones have mean 0 and deviation 1."""
    log = episode_log(stated=True)
    learner, batch = case(log, scaling="raw", discount=0.9, lambda_=0.8)
    with torch.no_grad():
        value = learner.value(batch["observation"])
        following = learner.value(batch["next", "observation"])
    terminated = batch["next", "terminated"]
    done = terminated | batch["next", "truncated"]
    parts = (value, following, batch["next", "reward"], done, terminated)
    theirs, target = generalized_advantage_estimate(0.9, 0.8, *(part[:, None] for part in parts))
    torch.testing.assert_close(batch["advantage"], theirs[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch["lambda_return"], target[:, 0], rtol=1e-4, atol=1e-5)
    advantage = case(log)[1]["advantage"]
    assert float(advantage.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(advantage.std(correction=0)) == pytest.approx(1.0, abs=1e-3)


def test_returns_of_another_policy_are_corrected_by_v_trace() -> None:
    """On a log whose ratios are not 1; of own actions nothing is corrected."""
    log = episode_log(stated=True)
    uneven = log.column("action_log_prob") + torch.sin(torch.arange(len(log)))
    log = log.with_columns({"action_log_prob": uneven})
    settings = {"scaling": "raw", "discount": 0.9, "lambda_": 0.8}
    learner, batch = case(log, max_ratio=1.5, **settings)
    with torch.no_grad():
        log_ratio, _ = learner.log_ratio(batch)
        value = learner.value(batch["observation"])
        following = learner.value(batch["next", "observation"])
    assert bool((log_ratio.exp() > 1.5).any()) and bool((log_ratio < 0.0).any())
    traced = v_trace(
        batch["next", "reward"],
        value,
        following,
        log_ratio,
        batch["next", "terminated"],
        batch["next", "terminated"] | batch["next", "truncated"],
        discount=0.9,
        lambda_=0.8,
        max_ratio=1.5,
    )
    torch.testing.assert_close(batch["lambda_return"], traced.value.float())
    torch.testing.assert_close(batch["advantage"], traced.error.float())
    with torch.no_grad():
        own = learner.actor.executed_log_prob(batch["observation"], batch["action"]).float()
    own_log = log.with_columns({"action_log_prob": own})
    corrected, plain = case(own_log, max_ratio=1.0, **settings)[1], case(own_log, **settings)[1]
    for key in ("lambda_return", "advantage"):
        torch.testing.assert_close(corrected[key], plain[key], rtol=1e-4, atol=1e-5)


# --- its arguments --------------------------------------------------------------------------------


def test_the_policy_rests_where_it_has_gone_too_far() -> None:
    learner, batch = case()
    kl = float(kl_k3(learner.log_ratio(batch)[0].detach()).mean())
    assert kl > 0.0
    for target, moves in ((kl / 1.4, True), (kl / 1.6, False)):
        learner.proximal = learner.proximal._replace(target_kl=target)
        slopes = actor_gradient(learner, learner.losses(batch).terms["actor"])
        assert any(bool(slope.any()) for slope in slopes) == moves
    value = learner.losses(batch).terms["value"]
    assert bool(torch.autograd.grad(value, learner.value.net[-1].weight)[0].any())


def test_the_entropy_counts_with_its_weight() -> None:
    plain, batch = case()
    weighed, _ = case(entropy_weight=0.5)
    entropy = plain.log_ratio(batch)[1].mean()
    torch.testing.assert_close(
        weighed.actor_loss(batch)[0], plain.actor_loss(batch)[0] - 0.5 * entropy
    )


def test_the_value_learns_in_units_of_its_scale() -> None:
    """Equal weights answer ten times as much, and an error of ten counts as one of one."""
    (plain, batch), (scaled, _) = case(), case(value_scale=10.0)
    torch.testing.assert_close(
        scaled.value(batch["observation"]), 10 * plain.value(batch["observation"])
    )
    batch = batch.copy().set("lambda_return", 10.0 * batch["lambda_return"])
    error = batch["lambda_return"] - scaled.value(batch["observation"])
    torch.testing.assert_close(scaled.value_loss(batch)[0], error.square().mean() / 200)


def test_first_weights_are_orthogonal() -> None:
    learner, _ = case(weight_seed=5)
    for network, last in ((learner.actor.net, 0.01), (learner.value.net, 1.0)):
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert [type(part) for part in network][1] is nn.Tanh
        for layer in layers:
            gain = last if layer is layers[-1] else math.sqrt(2.0)
            sizes = torch.linalg.svdvals(layer.weight)
            torch.testing.assert_close(sizes, torch.full_like(sizes, gain))
            assert not layer.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 1.0}, r"clip is 1.0, it must lie in \(0, 1\) or null"),
        ({"target_kl": 0.0}, "target_kl is 0.0, it must be above 0 or null"),
        ({"entropy_weight": -0.1}, "entropy_weight is -0.1, it must be at least 0"),
        ({"value_scale": 0.0}, "value_scale is 0.0, it must be above 0"),
        ({"sweep_every": -1}, "sweep_every is -1, it must be at least 0"),
        ({"max_ratio": 0.5}, "max_ratio is 0.5, it must be at least 1 or null"),
        ({"lambda_": 1.5}, r"discount 0.99 and lambda_ 1.5 must lie in \[0, 1\]"),
        ({"head": Head("deterministic")}, "PPO needs an exact density, and head 'deterministic'"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


# --- what it learns -------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["gaussian", "tanh_gaussian"])
def test_it_finds_the_best_action(head: str, tmp_path: Path) -> None:
    """Rewards are best at -1.5 in [-2, 2], where a random action is 1.6 away on average."""
    collection = {"initial_episodes": 4, "steps_per_round": 256, "epochs": 10}
    data = iterated(Line, batch_size=64, updates_per_step=40, seed=2, **collection)
    learner = learner_of(PPO, data.spec, head=head, optimizer=_adam)
    fit(learner, data, tmp_path, 1200)
    first, last = data.history[1].mean_return, data.history[-1].mean_return
    assert last > 0.4 * first and len(data.history) > 20
    action = learner(torch.zeros(1, 3))
    assert abs(float(action[0, 0]) + 1.5) < 0.3


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)
