"""BCQ: its steps against the recipe written out, targets by hand, proposals, and the file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, learner_of, whole_log
from specs import changed
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional
from torchrl_oracles import network_gradients

from hindsight_rl.agents.bcq import BCQ
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import LatentNetwork
from hindsight_rl.policies.action_values import best_of
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.learner import Learner

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")


def case(task: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner whose targets differ from what they follow, and every row of a log."""
    data = data_for(BCQ, episode_log(task=task))
    learner = learner_of(BCQ, data.spec, **arguments)
    with torch.no_grad():
        for name in learner.targets:
            for parameter in getattr(learner, name).parameters():
                parameter += 0.1
        for parameter in learner.target_critic.members[1].parameters():
            parameter *= -1.0  # so that neither member is always the smaller one
    return learner, whole_log(learner, data)


def draws_of(rows: int) -> Tensor:
    return counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(rows))[0]


# --- the authors' steps on the same weights, batch and noise --------------------------------------


def scaled(action: Tensor) -> Tensor:
    """Return actions as a share of half their range, [-1, 1]."""
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return 2 * (action - low) / (high - low) - 1


class Recipe:
    """The authors' steps one by one, on a learner's weights; actions in [-1, 1], task aside."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.model = learner, learner.behavior

    def inputs(self, observation: Tensor, *more: Tensor) -> Tensor:
        spec = self.learner.spec.whole
        plain = (observation - torch.tensor(spec.mean)) / torch.tensor(spec.std)
        return torch.cat([plain, *more], -1)

    def decode(self, observation: Tensor, latent: Tensor) -> Tensor:
        return self.model.decoder(self.inputs(observation, latent)).tanh()

    def perturbed(self, actor: nn.Module, observation: Tensor, action: Tensor) -> Tensor:
        move = 0.05 * actor.net(self.inputs(observation, action)).tanh()
        return (action + move).clamp(-1, 1)

    def q(self, critic: nn.Module, observation: Tensor, action: Tensor) -> list[Tensor]:
        inputs = self.inputs(observation, action)
        return [member(inputs).squeeze(-1) for member in critic.members]

    def behavior_loss(self, batch: TensorDict) -> Tensor:
        observation, action = batch["observation"], scaled(batch["action"])
        mean, log_std = self.model.encoder(self.inputs(observation, action)).chunk(2, -1)
        std = log_std.clamp(-4, 15).exp()
        decoded = self.decode(observation, mean + std * batch["noise", "behavior"])
        divergence = -0.5 * (1 + std.square().log() - mean.square() - std.square()).mean()
        return functional.mse_loss(decoded, action) + 0.5 * divergence

    def target(self, row: TensorDict, discount: float) -> Tensor:
        """Return the target of one row: the best of ten proposals in the next state."""
        learner, following, values = self.learner, row["next", "observation"], []
        for latent in row["noise", "next"].chunk(10):
            action = self.decode(following, latent.clamp(-0.5, 0.5))
            action = self.perturbed(learner.target_actor, following, action)
            one, two = self.q(learner.target_critic, following, action)
            values.append(0.75 * torch.minimum(one, two) + 0.25 * torch.maximum(one, two))
        return row[REWARD] + discount * (1 - row[TERMINATED].float()) * max(values)

    def critic_loss(self, batch: TensorDict, discount: float) -> Tensor:
        with torch.no_grad():
            y = torch.stack([self.target(row, discount) for row in batch.unbind(0)])
        q = self.q(self.learner.critic, batch["observation"], scaled(batch["action"]))
        return functional.mse_loss(q[0], y) + functional.mse_loss(q[1], y)

    def actor_loss(self, batch: TensorDict) -> Tensor:
        observation = batch["observation"]
        action = self.decode(observation, batch["noise", "now"].clamp(-0.5, 0.5))
        action = self.perturbed(self.learner.actor, observation, action)
        return -self.q(self.learner.critic, observation, action)[0].mean()


def test_losses_and_gradients_equal_the_recipe() -> None:
    """Each term, and what it gives to its network.

    The authors' gradients of the perturbation's loss reach model and critic as well, and are never
    stepped; here they stop before.
    """
    learner, batch = case(discount=0.95)
    recipe = Recipe(learner)
    expected = {
        "behavior": recipe.behavior_loss(batch),
        "critic": recipe.critic_loss(batch, 0.95),
        "actor": recipe.actor_loss(batch),
    }
    found = learner.losses(batch).terms
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term, rtol=1e-5, atol=1e-6)
        ours, theirs = (
            network_gradients(getattr(learner, name), loss) for loss in (found[name], term)
        )
        for key, gradient in theirs.items():
            torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-6)


def test_one_call_of_the_target_critic_values_all_proposals() -> None:
    learner, batch = case()
    asked = []
    learner.target_critic.register_forward_hook(
        lambda module, inputs, output: asked.append(tuple(inputs[1].shape))
    )
    learner.losses(batch)
    assert asked == [(10, len(batch), 2)]


# --- values by hand -------------------------------------------------------------------------------


def test_target_is_the_best_proposal_by_the_soft_clipped_minimum() -> None:
    """Two proposals valued 1, 9 and 4, 2 by the two critics: .75 min + .25 max is 3 and 2.5.

    So y = 1 + .9 * 3 = 3.7; terminated: 1. From Q = 0: (3.7^2 + 1) / 2, twice.
    """
    learner, batch = case(discount=0.9, target_samples=2)
    batch = batch[:2].clone()
    batch[REWARD] = torch.ones(2)
    batch[TERMINATED] = torch.tensor([False, True])
    value = torch.tensor([[[1.0, 1.0], [4.0, 4.0]], [[9.0, 9.0], [2.0, 2.0]]])
    learner.target_critic.forward = lambda *_: value
    learner.critic.forward = lambda *_: torch.zeros(2, 2)
    assert learner.critic_loss(batch)[0].item() == pytest.approx(3.7**2 + 1)


def test_n_step_rows_bring_their_discount() -> None:
    data = OfflineDataModule(episode_log(), [NStep(3, 0.9)], batch_size=16)
    learner = learner_of(BCQ, data.spec, discount=0.5)
    batch = whole_log(learner, data)
    own, _ = learner.critic_loss(batch)
    constant, _ = learner.critic_loss(batch.exclude("discount"))
    assert own != constant


# --- reductions -----------------------------------------------------------------------------------


def test_without_perturbation_the_policy_is_the_best_decoded_action() -> None:
    learner, batch = case(max_perturbation=0.0, samples=7)
    observation, latents = batch["observation"][:5], learner.behavior.latents
    for row, found in zip(observation, learner(observation), strict=True):
        rows = row.expand(7, -1)
        action = learner.actor.scale.to_environment(learner.behavior(rows, latents))
        best = learner.critic(rows, action)[0].argmax()
        torch.testing.assert_close(found, action[best])


def test_one_sample_is_the_model_of_the_log_moved_by_at_most_the_limit() -> None:
    """However large what the perturbation's network answers; and within the bounds."""
    learner, batch = case(samples=1, max_perturbation=0.3)
    with torch.no_grad():
        learner.actor.net[-1].weight *= 1e4
    observation = batch["observation"]
    latent = learner.behavior.latents.expand(len(observation), -1)
    decoded = learner.behavior(observation, latent)
    moved = scaled(learner(observation))
    assert (moved - decoded).abs().max().item() == pytest.approx(0.3, abs=1e-5)
    assert bool((moved.abs() <= 1 + 1e-6).all())


def test_perturbation_leads_to_larger_values_of_the_first_critic() -> None:
    """One step down its loss raises Q_1 of the same proposals; the limit is wide here."""
    learner, batch = case(max_perturbation=1.0)
    before = learner.actor_loss(batch)
    before.backward()
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter -= 0.1 * parameter.grad
        assert learner.actor_loss(batch) < before


@pytest.mark.parametrize(("weight", "part"), [(0.0, "behavior/error"), (100.0, "behavior/kl")])
def test_the_weight_trades_error_for_divergence(weight: float, part: str) -> None:
    """At 0 the model is an auto-encoder that repeats actions; far above, its code says nothing."""
    learner, batch = case(kl_weight=weight, behavior=LatentNetwork(hidden=(32,)))
    optimizer = torch.optim.Adam(learner.behavior.parameters(), lr=3e-2)
    before = learner.behavior_loss(batch)[1]
    for _ in range(100):
        optimizer.zero_grad()
        learner.behavior_loss(batch)[0].backward()
        optimizer.step()
    assert learner.behavior_loss(batch)[1][part] < 0.1 * before[part]


def test_spread_of_the_encoder_has_a_floor() -> None:
    """Whatever its network answers: exp(-4), so that a code keeps a finite divergence."""
    learner, batch = case()
    with torch.no_grad():
        learner.behavior.encoder[-1].bias[learner.behavior.latent :] = -10.0
    action = learner.actor.scale.to_policy(batch["action"])
    assert learner.behavior.encode(batch["observation"], action).log_std.eq(-4.0).all()


# --- the policy -----------------------------------------------------------------------------------


def test_kept_latents_are_the_same_clipped_normals_everywhere() -> None:
    """100 vectors of two numbers per action dimension; they travel with the weights."""
    (one, _), (two, _) = case(weight_seed=1), case(weight_seed=2)
    latents = one.behavior.latents
    assert latents.shape == (100, 4) and latents.equal(two.behavior.latents)
    assert latents.abs().max() == 0.5 and latents.unique().numel() > 100
    assert "behavior.latents" in one.state_dict()


@pytest.mark.parametrize("task", [False, True])
def test_drawn_actions_are_the_best_of_fresh_proposals(task: bool) -> None:
    """Those of the row's own draws, whatever rows stand beside it."""
    learner, batch = case(task=task)
    observation, goal = batch["observation"], batch.get("task", None)
    draws = draws_of(len(batch))
    found = learner.act(observation, goal, draws=draws)
    torch.testing.assert_close(
        learner.act(observation[3:5], None if goal is None else goal[3:5], draws=draws[3:5]),
        found[3:5],
    )
    latent = normals(draws[3], 400).clamp(-0.5, 0.5).reshape(100, 1, 4)
    row = observation[3:4], latent, None if goal is None else goal[3:4]
    torch.testing.assert_close(learner.best(*row)[0], found[3])


def test_exported_file_answers_as_the_learner_does(tmp_path: Path) -> None:
    learner, batch = case()
    report = export_policy(learner, tmp_path / "policy.onnx", opset=17)
    assert report["parity"]["max_difference"] < 1e-5
    observation = batch["observation"]
    found = torch.from_numpy(OnnxPolicy(tmp_path / "policy.onnx").act(observation.numpy()))
    torch.testing.assert_close(found, learner(observation), rtol=0, atol=1e-5)


def test_proposals_are_compared_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 exported files of fitted learners chose other proposals than PyTorch."""
    asked = []

    def compared(action: Tensor, value: Tensor) -> Tensor:
        asked.append((action.dtype, value.dtype))
        return best_of(action, value)

    monkeypatch.setattr("hindsight_rl.policies.proposals.best_of", compared)
    learner, batch = case()
    assert learner(batch["observation"]).dtype == torch.float32
    assert asked == [(torch.float64, torch.float64)]


def test_proposals_in_float64_are_those_in_float32() -> None:
    """One row at a time too; a dimension whose bounds are equal stays there."""
    data = data_for(BCQ)
    data.spec = changed(data.spec, action={"low": [-2.0, 1.0], "high": [2.0, 1.0]})
    learner = learner_of(BCQ, data.spec)
    observation = whole_log(learner, data)["observation"]
    latent = learner.behavior.latents.unsqueeze(1).expand(-1, len(observation), -1)
    plain, wide = (
        learner.actor(observation, learner.behavior(observation, z))
        for z in (latent, latent.double())
    )
    assert wide.dtype == torch.float64 and plain.dtype == torch.float32
    torch.testing.assert_close(wide.float(), plain, rtol=0, atol=1e-5)
    assert bool((wide[..., 1] == 0).all()) and bool((learner(observation)[:, 1] == 1).all())


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_samples": 0}, r"target_samples 0 and samples 100 must be at least 1"),
        ({"samples": 0}, r"samples 0 must be at least 1"),
        ({"kl_weight": -1.0}, r"kl_weight -1.0 and max_perturbation 0.05 must be at least 0"),
        ({"max_perturbation": -0.1}, r"max_perturbation -0.1 must be at least 0"),
        ({"min_weight": 1.5}, r"min_weight is 1.5, it must lie in \[0, 1\]"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(BCQ, data_for(BCQ).spec, **arguments)


def test_actions_without_bounds_are_refused() -> None:
    log = episode_log()
    log.info["action"] = {}
    with pytest.raises(ValueError, match="BCQ needs action bounds: give .* in the column map "):
        learner_of(BCQ, OfflineDataModule(log).spec)
