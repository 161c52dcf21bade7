"""SignedBC: T6 and the policy gradient through the learner, remedies, what it reduces to."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.signed_bc import SignedBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner


def signed_log(label: Tensor | None = None, **options: Any) -> Log:
    """Return a log whose labels are 1, -1, 1, -1, ... unless given."""
    log = episode_log(**options)
    label = torch.tensor([1.0, -1.0]).repeat(len(log))[: len(log)] if label is None else label
    return log.with_columns({"label": label})


def case(log: Log | None = None, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(SignedBC, signed_log() if log is None else log)
    learner = learner_of(SignedBC, data.spec, **arguments)
    return learner, whole_log(learner, data)


def actor_term(learner: Learner, batch: TensorDict) -> Tensor:
    return learner.losses(batch).terms["actor"]


def gradient(learner: Learner, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(learner.actor.parameters()), retain_graph=True))


def assert_same_loss(one: tuple[Learner, Tensor], two: tuple[Learner, Tensor]) -> None:
    """Compare values, and gradients of actors with equal weights."""
    torch.testing.assert_close(one[1], two[1])
    for ours, theirs in zip(gradient(*one), gradient(*two), strict=True):
        torch.testing.assert_close(ours, theirs)


def bandit(
    actions: list[int], logits: list[float], columns: dict[str, Tensor], **arguments: Any
) -> tuple[Learner, TensorDict, Tensor]:
    """Return a learner without hidden layers, its bias (the logits) and the log as a batch."""
    rows = len(actions)
    log = episode_log([1] * rows, discrete=True)
    zeros = torch.zeros(rows, 3)
    log = log.with_columns(
        {
            "observation": zeros,
            "action": torch.tensor(actions),
            ("next", "observation"): zeros,
            **columns,
        }
    )
    learner, batch = case(log, network=Network(hidden=()), **arguments)
    bias = learner.actor.net[-1].bias
    with torch.no_grad():
        bias.copy_(torch.tensor(logits))
    return learner, batch, bias


# --- the policy gradient --------------------------------------------------------------------------


def test_loss_and_gradient_of_t6() -> None:
    """Logits .1, -.2, .3; actions 0, 2, 1 labelled 1, -1, 1: the numbers of T6."""
    label = {"label": torch.tensor([1.0, -1.0, 1.0])}
    learner, batch, bias = bandit([0, 2, 1], [0.1, -0.2, 0.3], label)
    found = learner.losses(batch)
    loss = found.terms["actor"]
    assert loss.item() == pytest.approx(0.528646, abs=2e-6)
    slope = torch.autograd.grad(loss, bias)[0]
    expected = torch.tensor([-0.220805, -0.249970, 0.470776])
    torch.testing.assert_close(slope, expected, rtol=0, atol=2e-6)
    expected = {"negative": 1 / 3, "floored": 0.0, "log_prob_negative": math.log(0.412327)}
    expected["log_prob_positive"] = 0.5 * math.log(0.337585 * 0.250089)
    for name, value in expected.items():
        assert found.metrics[f"actor/{name}"].item() == pytest.approx(value, abs=2e-6)


REWARD = torch.tensor([2.0, -1.0, 0.5])


@pytest.mark.parametrize("ratio", ["importance", "none"])
def test_off_policy_gradient_is_the_on_policy_one_by_enumeration(ratio: str) -> None:
    """Actions 0, 0, 1, 2 are those of pi_b = 1/2, 1/4, 1/4, each as often as it takes it.

    The batch's mean is then the expectation over pi_b, and weighed by pi / pi_b its gradient is
    that of -E_pi[reward]; not weighed it is another one.
    """
    action = torch.tensor([0, 0, 1, 2])
    behavior = torch.tensor([0.5, 0.25, 0.25])
    columns = {"label": REWARD[action], "action_log_prob": behavior.log()[action]}
    arguments = {"ratio": ratio, "behavior": "logged", "floor": -math.inf}
    learner, batch, bias = bandit(action.tolist(), [-1.0, 0.5, 0.2], columns, **arguments)
    found = torch.autograd.grad(actor_term(learner, batch), bias)[0]
    logits = bias.detach().clone().requires_grad_()
    expected = torch.autograd.grad(-(torch.softmax(logits, -1) * REWARD).sum(), logits)[0]
    if ratio == "importance":
        torch.testing.assert_close(found, expected)
    else:
        assert (found - expected).abs().max() > 0.1


def test_a_cloned_behavior_comes_to_weigh_as_the_true_one(tmp_path: Path) -> None:
    """Actions 0, 0, 1, 2: pi_b is found to be 1/2, 1/4, 1/4; the actor ends at the best action."""
    action = torch.tensor([0, 0, 1, 2])
    log = episode_log([1] * 4, discrete=True)
    zeros = torch.zeros(4, 3)
    log = log.with_columns(
        {"observation": zeros, "action": action, ("next", "observation"): zeros}
        | {"label": torch.tensor([0.0, 0.0, 1.0, 0.0])}
    )
    data = OfflineDataModule(log, batch_size=64, updates_per_step=50)
    learner = learner_of(
        SignedBC,
        data.spec,
        network=Network(hidden=()),
        ratio="importance",
        optimizer=lambda params: torch.optim.Adam(params, lr=0.03),
    )
    fit(learner, data, tmp_path, 300)
    observation = torch.zeros(1, 3)
    behavior = torch.softmax(learner.behavior(observation).logits, -1)[0]
    torch.testing.assert_close(behavior, torch.tensor([0.5, 0.25, 0.25]), rtol=0, atol=0.05)
    assert torch.softmax(learner.actor(observation).logits, -1)[0, 1] > 0.9


def test_logged_densities_are_of_actions_in_environment_units() -> None:
    """Those of the actor itself, divided by the half-ranges 2 and 2 of the bounds: ratio 1."""
    log = signed_log()
    learner, batch = case(log.with_columns({"action_log_prob": torch.zeros(len(log))}))
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"]).detach()
    log = log.with_columns({"action_log_prob": log_prob - math.log(2 * 2)})
    weighed, rows = case(log, ratio="importance", behavior="logged")
    assert weighed.in_keys[-1] == "action_log_prob"
    assert_same_loss((weighed, actor_term(weighed, rows)), (learner, actor_term(learner, batch)))
    assert weighed.losses(rows).metrics["actor/weight"].item() == pytest.approx(1.0, abs=1e-5)


# --- what it reduces to ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"discrete": True}, {"task": True}])
def test_labels_of_1_are_plain_cloning(options: dict[str, bool]) -> None:
    log = signed_log(torch.ones(47), **options)
    learner, batch = case(log)
    plain = learner_of(BC, data_for(BC, log).spec)
    assert_same_loss((learner, actor_term(learner, batch)), (plain, actor_term(plain, batch)))


@pytest.mark.parametrize("ratio", ["importance", "clipped"])
def test_a_behavior_that_starts_as_the_policy_weighs_1(ratio: str) -> None:
    """The first loss is the plain one, and pi_b's is that of cloning."""
    plain, batch = case()
    learner, _ = case(ratio=ratio)
    assert_same_loss((learner, actor_term(learner, batch)), (plain, actor_term(plain, batch)))
    cloned = learner_of(BC, data_for(BC).spec)
    found = learner.losses(batch)
    torch.testing.assert_close(found.terms["behavior"], actor_term(cloned, batch))
    assert found.metrics["actor/effective_sample_size"].item() == pytest.approx(1.0)


def test_each_term_moves_its_own_network() -> None:
    learner, batch = case(ratio="clipped")
    terms = learner.losses(batch).terms
    assert set(terms) == set(learner.networks()) == {"actor", "behavior"}
    for name, term in terms.items():
        learner.zero_grad()
        term.backward(retain_graph=True)
        for owner, network in learner.networks().items():
            moved = [p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters()]
            assert all(moved) if owner == name else not any(moved)


# --- remedies -------------------------------------------------------------------------------------


def test_what_is_avoided_is_left_alone_below_the_floor(tmp_path: Path) -> None:
    """Action 0 labelled 1 and action 1 labelled -1: without a floor the latter falls for ever.

    With one it still falls as action 0 takes the rest of the probability, but slowly.
    """
    found = []
    for floor in (-3.0, -math.inf):
        label = torch.tensor([1.0, -1.0])
        log = episode_log([1, 1], discrete=True)
        log = log.with_columns({"label": label, "action": torch.tensor([0, 1])})
        data = OfflineDataModule(log, batch_size=32, updates_per_step=50)
        optimizer = {"optimizer": lambda params: torch.optim.SGD(params, lr=0.3)}
        learner = learner_of(
            SignedBC, data.spec, network=Network(hidden=()), floor=floor, **optimizer
        )
        fit(learner, data, tmp_path, 150)
        batch = whole_log(learner, data)
        with torch.no_grad():
            found.append(learner.losses(batch).metrics["actor/log_prob_negative"].item())
    assert found[1] < found[0] - 5.0
    assert found[0] < -3.0


def test_the_floor_counts_per_dimension_of_the_action() -> None:
    """Two dimensions, floor -1: negative rows below -2 cost 2 each and give no gradient."""
    learner, batch = case(floor=-1.0)
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"])
    negative = batch["label"] < 0
    low = negative & (log_prob < -2.0)
    assert 0 < low.sum() < negative.sum()
    expected = torch.where(negative, log_prob.clamp(min=-2.0), -log_prob).mean()
    assert_same_loss((learner, actor_term(learner, batch)), (learner, expected))
    share = learner.losses(batch).metrics["actor/floored"]
    torch.testing.assert_close(share, low.sum() / negative.sum())


def test_negative_scale_and_entropy() -> None:
    """Loss of positive rows, less half of the others' log-probability, less .1 of the entropy."""
    learner, batch = case(negative_scale=0.5, entropy_weight=0.1, floor=-math.inf)
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"])
    scale = torch.where(batch["label"] < 0, -0.5, 1.0)
    expected = -(scale * log_prob).mean() - 0.1 * learner.actor(batch["observation"]).entropy()[0]
    assert_same_loss((learner, actor_term(learner, batch)), (learner, expected))


def test_clip_ends_the_gradient_where_the_ratio_is_spent() -> None:
    """PPO: rows labelled 1 with a ratio above 1.2, or -1 and one below 0.8, are left out."""
    log = signed_log(discrete=True)
    given = log.with_columns({"action_log_prob": torch.linspace(-2.0, -0.2, len(log))})
    learner, batch = case(given, ratio="clipped", behavior="logged")
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"])
    rho, label = torch.exp(log_prob - batch["action_log_prob"]), batch["label"]
    surrogate = -torch.minimum(rho * label, rho.clamp(0.8, 1.2) * label).mean()
    for ours, theirs in zip(
        gradient(learner, actor_term(learner, batch)), gradient(learner, surrogate), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    ends = ((label > 0) & (rho > 1.2)) | ((label < 0) & (rho < 0.8))
    assert 5 < ends.sum() < len(log) - 5


def test_unlikelihood_of_negative_labels() -> None:
    """-log(1 - pi) for rows labelled -1, times .5; the others as ever."""
    log = signed_log(discrete=True)
    learner, batch = case(log, avoid="unlikelihood", negative_scale=0.5)
    policy = torch.softmax(learner.scores(batch["observation"]), -1)
    chosen = policy.gather(-1, batch["action"][:, None])[:, 0]
    loss = torch.where(batch["label"] < 0, -0.5 * (1 - chosen).log(), -chosen.log())
    assert_same_loss((learner, actor_term(learner, batch)), (learner, loss.mean()))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negative_scale": -1.0}, r"negative_scale -1.0 and entropy_weight 0.0 must be at least"),
        ({"entropy_weight": -0.1}, r"negative_scale 1.0 and entropy_weight -0.1 must be at least"),
        ({"clip": 1.0}, r"clip 1.0 must lie in \(0, 1\)"),
        ({"max_ratio": 0.0}, r"max_ratio 0.0 above 0"),
        ({"avoid": "unlikelihood"}, r"avoid 'unlikelihood' is for discrete actions and ratio"),
        (
            {"head": "deterministic", "ratio": "clipped"},
            r"SignedBC needs an exact density, and head 'deterministic' has none: what is avoided",
        ),
        ({"head": "deterministic"}, r"needs an exact density, and head 'deterministic' has none"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    """Without a label the relabeler that gives one is named; log-probabilities only a log has."""
    for arguments, message in (
        ({}, r"'label'.*EpisodeLabel"),
        ({"ratio": "importance", "behavior": "logged"}, r"'action_log_prob'"),
    ):
        log = episode_log() if not arguments else signed_log()
        data = OfflineDataModule(log, batch_size=16)
        learner = learner_of(SignedBC, data.spec, **arguments)
        with pytest.raises(LogError, match=message):
            fit(learner, data, tmp_path, 1)
