"""BC: the weighted log-likelihood of the log, against torch, torchrl and closed forms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, equal, fit, learner_of, whole_log
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import IndependentNormal, ProbabilisticActor
from torchrl.objectives import BCLoss

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Attention, Head, History, Network
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.returns import ReturnWeight
from hindsight_rl.training.learner import Learner


def case(log: Log | None = None, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(BC, log)
    learner = learner_of(BC, data.spec, **arguments)
    return learner, whole_log(learner, data)


def actor_term(learner: Learner, batch: TensorDict) -> Tensor:
    return learner.losses(batch).terms["actor"]


class LocScale(nn.Module):
    """Mean and spread of a Gaussian policy, as torchrl wants them."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        found = self.policy(observation)
        return found.mean, found.log_std.exp()


class Logits(nn.Module):
    """Logits of a discrete policy."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        return self.policy(observation).logits


def torchrl_actor(policy: nn.Module) -> TensorDictModule:
    """Return a policy as torchrl's loss takes it: logits as the discrete "action"."""
    if policy.discrete:
        return TensorDictModule(Logits(policy), in_keys=["observation"], out_keys=["action"])
    keys = ["loc", "scale"]
    module = TensorDictModule(LocScale(policy), in_keys=["observation"], out_keys=keys)
    return ProbabilisticActor(module, in_keys=keys, distribution_class=IndependentNormal)


@pytest.mark.filterwarnings("ignore:The name target_actor_network_params")
@pytest.mark.parametrize("kind", ["shared", "per_state", "discrete"])
def test_loss_and_gradient_equal_torchrl(kind: str) -> None:
    discrete = kind == "discrete"
    options = {} if discrete else {"head": Head(spread=kind)}
    learner, batch = case(episode_log(discrete=discrete), **options)
    # Its actions are in policy units.
    other = batch.copy().set("action", learner.actor.scale.to_policy(batch["action"]))
    expected = BCLoss(torchrl_actor(learner.actor))(other)["loss_bc"]
    loss = actor_term(learner, batch)
    torch.testing.assert_close(loss, expected)
    parameters = list(learner.actor.parameters())
    ours = torch.autograd.grad(loss, parameters)
    for one, two in zip(ours, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, two)


def test_deterministic_head_gives_the_mean_squared_error() -> None:
    """In policy units, averaged over rows and dimensions."""
    learner, batch = case(head="deterministic")
    error = learner.actor(batch["observation"]).mean - learner.actor.scale.to_policy(
        batch["action"]
    )
    torch.testing.assert_close(actor_term(learner, batch), error.square().mean())


def test_weight_multiplies_each_row() -> None:
    """Half of the rows with weight 2, half with -1: mean of 2 l and -l, not normalised."""
    learner, batch = case()
    batch = batch[:40]
    weight = torch.tensor([2.0, -1.0]).repeat(20)
    even, odd = actor_term(learner, batch[0::2]), actor_term(learner, batch[1::2])
    found = actor_term(learner, batch.copy().set("weight", weight))
    torch.testing.assert_close(found, (2 * even - odd) / 2)
    ones = batch.copy().set("weight", torch.ones(40))
    assert actor_term(learner, ones) == actor_term(learner, batch)


def test_entropy_is_reported() -> None:
    """Spread 1 in two dimensions: log(2 pi e) nats."""
    learner, batch = case()
    assert learner.losses(batch).metrics["actor/entropy"].item() == pytest.approx(
        2.837877, abs=1e-5
    )


def test_task_conditions_the_policy() -> None:
    learner, batch = case(episode_log(task=True))
    other = batch.copy().set("task", batch["task"] + 1)
    assert actor_term(learner, other) != actor_term(learner, batch)


# --- data steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["episodes", "steps"])
def test_keeping_the_whole_log_is_plain_cloning(by: str, tmp_path: Path) -> None:
    """TopFraction(1) draws the same batches and ends with the same bits."""
    found = []
    for relabel in ([], [TopFraction(1.0, by=by)]):
        data = OfflineDataModule(episode_log(), relabel, batch_size=16, updates_per_step=8)
        learner = learner_of(BC, data.spec)
        fit(learner, data, tmp_path, 30)
        found.append(learner.state_dict())
    assert equal(*found)


def frequencies(weight: Tensor | None) -> Tensor:
    """Return what cloning learns for two one-hot states and three actions, ``[2, 3]``."""
    state = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    action = torch.tensor([0, 1, 1, 2, 0, 0, 0, 1, 2, 2])
    observation = nn.functional.one_hot(state, 2).float()
    log = episode_log([10], discrete=True).with_columns(
        {"observation": observation, "action": action, ("next", "observation"): observation}
    )
    data = OfflineDataModule(log, batch_size=16)
    learner = learner_of(BC, data.spec, network=Network(hidden=()))
    batch = whole_log(learner, data)
    batch = batch if weight is None else batch.copy().set("weight", weight)
    optimizer = torch.optim.LBFGS(
        learner.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = actor_term(learner, batch)
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.softmax(learner.scores(torch.eye(2)), -1)


def test_cloning_learns_the_frequencies_of_the_log() -> None:
    """State 0: actions 0 1 1 2. State 1: 0 0 0 1 2 2."""
    expected = torch.tensor([[1 / 4, 2 / 4, 1 / 4], [3 / 6, 1 / 6, 2 / 6]])
    torch.testing.assert_close(frequencies(None), expected, rtol=0, atol=1e-4)


def test_weighted_cloning_learns_the_weighted_frequencies() -> None:
    """Weights 1 to 10 in order: state 0 sums 1, 2 + 3, 4 of 10; state 1 5 + 6 + 7, 8, 9 + 10."""
    expected = torch.tensor([[0.1, 0.5, 0.4], [18 / 45, 8 / 45, 19 / 45]])
    torch.testing.assert_close(frequencies(torch.arange(1.0, 11)), expected, rtol=0, atol=1e-4)


def test_weights_of_the_data_step_reach_the_loss() -> None:
    data = OfflineDataModule(episode_log(), [ReturnWeight()], batch_size=16)
    learner = learner_of(BC, data.spec)
    batch = whole_log(learner, data)
    plain = actor_term(learner, batch.exclude("weight"))
    assert batch["weight"].std() > 0.1 and actor_term(learner, batch) != plain


# --- the past -------------------------------------------------------------------------------------


def with_past(history: History, **options: Any) -> tuple[BC, TensorDict]:
    data = data_for(BC, episode_log(**options), {"history": history})
    learner = learner_of(BC, data.spec, history=history)
    return learner, whole_log(learner, data.serve(learner))


@pytest.mark.parametrize("attention", [None, Attention(width=8, heads=2, layers=1)])
def test_a_hidden_past_is_none_and_only_while_training(attention: Attention | None) -> None:
    """With all but no row left, the loss is that of the rows' first steps: nothing before them."""
    learner, batch = with_past(History(3, attention=attention, hide_past=0.99))
    assert learner.noise == {"past": 4}
    batch["noise", "past"] = torch.full((len(batch), 4), -5.0)  # uniform numbers near 0
    shown = actor_term(learner.eval(), batch)
    hidden = actor_term(learner.train(), batch)
    batch["history", "valid"] = torch.zeros_like(batch["history", "valid"])
    assert torch.equal(actor_term(learner.eval(), batch), hidden)
    assert abs(float(shown - hidden)) > 1e-4


def test_steps_are_hidden_each_by_itself() -> None:
    learner, batch = with_past(History(3, hide_steps=0.5))
    batch["noise", "past"] = torch.tensor([[0.0, 1.0, -1.0, 1.0]]).expand(len(batch), -1)
    hidden = actor_term(learner.train(), batch)
    batch["history", "valid"] = batch["history", "valid"] & torch.tensor([True, False, True])
    assert torch.equal(actor_term(learner.eval(), batch), hidden)


def test_a_past_without_actions_holds_none() -> None:
    learner, _ = with_past(History(3, actions=False))
    assert set(learner.initial_state(1)) == {"observation", "valid"}
    assert ("history", "action") not in learner.in_keys and learner.action_state is None
    assert learner.noise == {}


def test_a_history_of_a_checkpoint_is_one_of_today() -> None:
    learner, _ = with_past(History(2, attention=Attention(8, 2, 1)))
    again = learner.fresh(0)
    assert again.history == learner.history and learner.history.attention == Attention(8, 2, 1)
    assert isinstance(learner.hparams["history"]["attention"], dict)


@pytest.mark.slow
def test_losses_compiled_by_inductor_give_nearly_the_same_weights(tmp_path: Path) -> None:
    """The real compiler, through the trainer; every learner's graph is tested without it."""
    torch._dynamo.reset()
    found, data = [], data_for(BC)
    for mode in ("off", "losses"):
        learner = learner_of(BC, data.spec, compile=mode)
        fit(learner, data, tmp_path, 20)
        found.append(learner.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-4)
