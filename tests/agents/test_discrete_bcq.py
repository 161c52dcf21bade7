"""DiscreteBCQ: T3 and T16 through the learner, its losses by hand, and what it reduces to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, equal, fit, learner_of, weights, whole_log
from tensordict import TensorDict
from torch import Tensor
from torch.nn import functional
from torchrl_oracles import network_gradients

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.discrete_bcq import EXCLUDED, DiscreteBCQ
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.distributions import Categorical
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.learner import Learner

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")
T16 = torch.tensor([0.6, 0.3, 0.1])


def case(**arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner that excludes some actions, and a batch of every row of a log.

    Its target critic prefers other actions than its critic.
    """
    data = data_for(DiscreteBCQ)
    learner = learner_of(DiscreteBCQ, data.spec, **arguments)
    with torch.no_grad():
        learner.behavior.net[-1].weight *= 8.0
        for parameter in learner.target_critic.parameters():
            parameter *= -1.0
    return learner, whole_log(learner, data)


def answering(
    learner: Learner, behavior: Tensor, q: list[float], target: list[float] | None = None
) -> Learner:
    """Make a learner's networks answer with these probabilities and values in every state."""

    def values(numbers: list[float]) -> Any:
        def call(observation: Tensor, action: Tensor | None, task: Tensor | None = None) -> Tensor:
            every = torch.tensor(numbers).expand(1, len(observation), -1)
            return every if action is None else every.gather(-1, action[None, :, None]).squeeze(-1)

        return call

    learner.behavior.forward = lambda observation, task=None: Categorical(
        behavior.log().expand(len(observation), -1)
    )
    learner.critic.forward = values(q)
    learner.target_critic.forward = values(target or q)
    return learner


# --- closed forms ---------------------------------------------------------------------------------


def test_policy_of_t16() -> None:
    """T16: ratios 1, .5, .1667; of Q = 0, 1, 5 the third is out at .3, and in at .1.

    Values below 0 change nothing: times a mask of 0 the excluded one would be the best.
    """
    for threshold, shift, best in ((0.3, 0.0, 1), (0.3, -10.0, 1), (0.1, 0.0, 2), (0.1, -10.0, 2)):
        learner, _ = case(threshold=threshold)
        answering(learner, T16, [q + shift for q in (0.0, 1.0, 5.0)])
        assert learner(torch.zeros(4, 3)).tolist() == [best] * 4


def test_excluded_actions_are_never_drawn_and_their_scores_are_finite() -> None:
    """At temperature .5 the allowed ones are drawn by soft-max(0, 2): .1192 and .8808."""
    learner, _ = case(threshold=0.3, temperature=0.5)
    answering(learner, T16, [0.0, 1.0, 5.0])
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(4000))[0]
    shares = learner.act(torch.zeros(4000, 3), draws=draws).bincount(minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.1192, 0.8808, 0.0]), rtol=0, atol=0.02)
    scores = learner.scores(torch.zeros(1, 3))
    assert scores.tolist() == [[0.0, 2.0, 2 * torch.tensor(EXCLUDED).item()]]
    assert bool(torch.isfinite(scores).all())


def test_target_takes_the_best_allowed_action_of_the_critic_from_the_target_critic() -> None:
    """Q = 0, 1, 5 chooses the second, worth 20 to the target critic: 1 + .9 * 20 = 19.

    Terminated: 1. Errors 19 and 1 from Q = 0 of the logged action: Huber 18.5 and .5, mean 9.5.
    """
    learner, batch = case(threshold=0.3, discount=0.9)
    answering(learner, T16, [0.0, 1.0, 5.0], [10.0, 20.0, 30.0])
    batch = batch[:2].clone()
    batch["action"] = torch.zeros(2, dtype=torch.int64)
    batch[REWARD] = torch.ones(2)
    batch[TERMINATED] = torch.tensor([False, True])
    assert learner.critic_loss(batch)[0].item() == pytest.approx(9.5)


@pytest.mark.parametrize(("threshold", "expected"), [(0.3, [1, 1, 1, 1, 1]), (0, [1, 2, 4, 8, 16])])
def test_masked_deadly_triad_of_t3_stays_where_it_is(threshold: float, expected: list[int]) -> None:
    """T3: Q(a) = theta a for a = 1, 2, reward 0, discount 1, and only a = 1 is in the log.

    theta - (theta - max_a theta a): with a = 2 excluded theta stays 1, else it doubles.
    """
    learner, batch = case(threshold=threshold, discount=1.0, huber=None)
    batch = batch[:1].clone()
    batch["action"], batch[REWARD] = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
    batch[TERMINATED] = torch.zeros(1, dtype=torch.bool)
    theta, seen = torch.ones((), requires_grad=True), []
    learner.critic.forward = learner.target_critic.forward = lambda _, action, task=None: (
        (theta * torch.tensor([[[1.0, 2.0]]])) if action is None else theta.expand(1, 1)
    )
    learner.behavior.forward = lambda *_: Categorical(torch.tensor([[0.9, 0.1]]).log())
    for _ in expected:
        seen.append(theta.item())
        (slope,) = torch.autograd.grad(learner.critic_loss(batch)[0], theta)
        theta = (theta - slope).detach().requires_grad_()
    assert seen == expected


def test_behavior_loss_by_hand() -> None:
    """Logits 1, 0, -1: mean square 2/3. With action 0, -log pi = log(e + 1 + 1/e) - 1 = .4076.

    Above .3 of the likeliest: e^-1 = .37 is, e^-2 = .14 is not, so two actions are allowed.
    """
    learner, batch = case(threshold=0.3, logit_weight=0.3)
    logits = torch.tensor([1.0, 0.0, -1.0], requires_grad=True)
    learner.behavior.forward = lambda observation, task=None: Categorical(
        logits.expand(len(observation), -1)
    )
    batch = batch[:3].clone()
    batch["action"] = torch.zeros(3, dtype=torch.int64)
    loss, allowed = learner.behavior_loss(batch)
    assert loss.item() == pytest.approx(0.407606 + 0.3 * 2 / 3, abs=2e-6)
    assert allowed.tolist() == [2, 2, 2]
    assert learner.losses(batch).metrics["behavior/allowed"] == 2.0
    loss.backward()
    expected = torch.softmax(logits.detach(), -1) - torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(logits.grad, expected + 0.3 * 2 * logits.detach() / 3)


# --- the authors' steps on the same weights and batch ---------------------------------------------


def test_losses_and_gradients_equal_the_recipe() -> None:
    """The steps of the recipe one by one, with probabilities and a mask of a large number."""
    learner, batch = case(discount=0.95)
    following, rows = batch["next", "observation"], torch.arange(len(batch))
    with torch.no_grad():
        pi = torch.softmax(learner.behavior(following).logits, -1)
        mask = pi / pi.max(-1, keepdim=True).values > 0.3
        best = torch.where(mask, learner.critic(following, None)[0], -1e8).argmax(-1)
        value = learner.target_critic(following, None)[0][rows, best]
        y = batch[REWARD] + 0.95 * (1 - batch[TERMINATED].float()) * value
    assert not bool(mask.all()) and bool(mask.any())
    logits = learner.behavior(batch["observation"]).logits
    q = learner.critic(batch["observation"], None)[0][rows, batch["action"]]
    expected = {
        "critic": functional.smooth_l1_loss(q, y),
        "behavior": functional.cross_entropy(logits, batch["action"])
        + 0.01 * logits.square().mean(),
    }
    found = learner.losses(batch).terms
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)
        ours, theirs = (
            network_gradients(getattr(learner, name), loss) for loss in (found[name], term)
        )
        for key, gradient in theirs.items():
            torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-6)


# --- reductions -----------------------------------------------------------------------------------


def test_threshold_0_is_double_q_learning(tmp_path: Path) -> None:
    """The critic takes the same steps, from equal first weights, and acts alike."""
    data = data_for(DiscreteBCQ)
    ours = learner_of(DiscreteBCQ, data.spec, threshold=0.0, compile="off")
    theirs = learner_of(DQN, data.spec, double=True, target_every=1, tau=0.005, compile="off")
    for learner in (ours, theirs):
        fit(learner, data, tmp_path, 20)
    assert equal(weights(ours.critic), weights(theirs.critic))
    assert equal(weights(ours.target_critic), weights(theirs.target_critic))
    observation = data.log.column("observation")
    assert ours(observation).equal(theirs(observation))


def test_threshold_near_1_acts_as_a_clone() -> None:
    """Without the weight on logits the second network is BC's, loss and mode."""
    learner, batch = case(threshold=0.9999, logit_weight=0.0)
    cloning = learner_of(BC, learner.spec)
    cloning.actor.load_state_dict(learner.behavior.state_dict())
    assert learner(batch["observation"]).equal(cloning(batch["observation"]))
    found, expected = learner.losses(batch).terms["behavior"], cloning.losses(batch).terms["actor"]
    torch.testing.assert_close(found, expected)


def test_several_critics_choose_and_value_by_their_minimum() -> None:
    """Two: the sum of both losses, each on one target."""
    learner, batch = case(critics=2, threshold=0.0)
    following = batch["next", "observation"]
    with torch.no_grad():
        best = learner.critic(following, None).amin(0).argmax(-1, keepdim=True)
        value = learner.target_critic(following, None).amin(0).gather(-1, best).squeeze(-1)
        y = batch[REWARD] + 0.99 * (1 - batch[TERMINATED].float()) * value
    loss, q = learner.critic_loss(batch)
    assert q.shape == (2, len(batch))
    torch.testing.assert_close(loss, sum(functional.smooth_l1_loss(each, y) for each in q))


def test_n_step_rows_bring_their_discount() -> None:
    data = OfflineDataModule(episode_log(discrete=True), [NStep(3, 0.9)], batch_size=16)
    learner = learner_of(DiscreteBCQ, data.spec, discount=0.5)
    batch = whole_log(learner, data)
    own, _ = learner.critic_loss(batch)
    constant, _ = learner.critic_loss(batch.exclude("discount"))
    assert own != constant


# --- the file -------------------------------------------------------------------------------------


def test_exported_file_excludes_as_the_learner_does(tmp_path: Path) -> None:
    learner, batch = case(temperature=0.5)
    observation = batch["observation"]
    scores = learner.scores(observation)
    assert 0 < (scores < 0.5 * EXCLUDED).sum() < scores.numel()
    report = export_policy(learner, tmp_path / "policy.onnx", opset=17)
    assert report["parity"]["disagreements"] == 0 and report["parity"]["close"] == 0
    found = OnnxPolicy(tmp_path / "policy.onnx").act(observation.numpy())
    assert (found == learner(observation).numpy()).all()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, r"threshold is 1.0, it must lie in \[0, 1\)"),
        ({"threshold": -0.1}, r"threshold is -0.1, it must lie in \[0, 1\)"),
        ({"logit_weight": -1.0}, r"logit_weight is -1.0, it must be at least 0"),
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
        learner_of(DiscreteBCQ, data_for(DiscreteBCQ).spec, **arguments)


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="DiscreteBCQ chooses discrete actions"):
        learner_of(DiscreteBCQ, OfflineDataModule(episode_log()).spec)
