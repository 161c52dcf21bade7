"""CQL: its terms against torchrl's on the same samples, the gap by hand, limits to SAC."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from specs import changed
from tensordict import TensorDict
from torch import Tensor
from torchrl.objectives import CQLLoss
from torchrl_oracles import (
    compare,
    network_gradients,
    torchrl_actor,
    torchrl_batch,
    torchrl_critics,
    without_scale,
)

from hindsight_rl.agents.cql import CQL
from hindsight_rl.agents.sac import SAC
from hindsight_rl.maths.conservative import uniform_actions
from hindsight_rl.policies.action_values import several
from hindsight_rl.training.learner import Learner


def move_target(learner: Learner) -> None:
    with torch.no_grad():
        for parameter in learner.target_critic.parameters():
            parameter += 0.1


def case(
    kind: type[Learner] = CQL,
    *,
    task: bool = False,
    moved: bool = True,
    unscaled: bool = False,
    **arguments: Any,
) -> tuple[Learner, TensorDict]:
    """Return a learner whose target critics differ from what they follow if moved, and a batch."""
    data = data_for(kind, episode_log(task=task))
    if unscaled:
        without_scale(data)
    learner = learner_of(kind, data.spec, **arguments)
    if moved:
        move_target(learner)
    batch = whole_log(learner, data)
    if unscaled:
        batch["action"] = batch["action"].clamp(-3, 3) / 3.1
    return learner, batch


# --- torchrl on the same weights, batch and samples -----------------------------------------------


def oracle(learner: Learner) -> CQLLoss:
    """Return torchrl's loss on a learner's networks, its target moved as in :func:`case`."""
    loss = CQLLoss(
        torchrl_actor(learner),
        torchrl_critics(learner, "state_action_value"),
        loss_function="l2",
        alpha_init=learner.temperature().item(),
        target_entropy=learner.target_entropy,
        min_q_weight=learner.conservative_weight,
        deterministic_backup=learner.deterministic_backup,
        num_random=learner.samples,
        with_lagrange=learner.threshold is not None,
        lagrange_thresh=learner.threshold or 0.0,
    )
    loss.make_value_estimator(gamma=learner.discount)
    loss.target_qvalue_network_params.data.apply_(lambda value: value.add_(0.1))
    return loss


def tell(noise: TensorDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torchrl draw what we drew, in its order; it has a row's samples one after another."""

    def rows(values: Tensor) -> Tensor:
        return values.movedim(0, 1).flatten(0, 1)

    kinds = {name: several(noise[name], 2) for name in ("uniform", "of_now", "of_next")}
    wanted = [noise["next"], rows(kinds["of_now"]), rows(kinds["of_next"])]
    numbers = iter([*wanted, noise["now"], noise["now"]])
    monkeypatch.setattr(
        torch.distributions.normal, "_standard_normal", lambda *_, **__: next(numbers)
    )
    uniform = rows(uniform_actions(kinds["uniform"])[0])
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda *_: uniform)


@pytest.mark.filterwarnings("ignore:No target network updater")
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("threshold", [None, 2.0])
def test_losses_and_gradients_equal_torchrl(
    threshold: float | None, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terms and what they give to each network, one sample of each kind.

    Differences: torchrl values the actions of pi(s') in s', not in s, so both states are one here.
    It regresses critics by the smooth L1 distance unless told ``l2``, and then without the factor
    1/2 of eq. 4. It reports the weighted gap beside the critics' loss, never
    multiplied by alpha' nor less the threshold, though alpha' is learned: ours is both, as in
    appendix F; alpha' starts at 1, so only the constant differs. Actions lie in [-1, 1] here, so
    that environment and policy units are one.
    """
    learner, batch = case(
        moved=False,
        unscaled=True,
        discount=0.95,
        initial_temperature=0.3,
        conservative_weight=0.7,
        samples=1,
        threshold=threshold,
        deterministic_backup=deterministic,
    )
    batch["next", "observation"] = batch["observation"]
    theirs = oracle(learner)
    move_target(learner)
    with monkeypatch.context() as patch:
        tell(batch["noise"], patch)
        expected = theirs(torchrl_batch(batch))
    terms = learner.losses(batch).terms
    losses = {
        "critic": 0.5 * expected["loss_qvalue"] + expected["loss_cql"] - 2 * (threshold or 0.0),
        "actor": expected["loss_actor"],
        "temperature": expected["loss_alpha"],
    }
    if threshold is not None:
        losses["multiplier"] = expected["loss_alpha_prime"]
    assert terms.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(terms[name], loss, rtol=1e-5, atol=1e-6)
    for name, theirs_name in (("actor", "actor"), ("critic", "qvalue")):
        found = network_gradients(getattr(learner, name), terms[name])
        compare(found, losses[name], theirs, theirs_name)
    for name in terms.keys() & {"temperature", "multiplier"}:
        found = network_gradients(getattr(learner, name), terms[name])["log"]
        parameter = theirs.log_alpha if name == "temperature" else theirs.log_alpha_prime
        other = torch.autograd.grad(losses[name], parameter)[0]
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_torchrl_averages_gaps_of_three_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the test above has one sample of each kind.

    torchrl's log-sum-exp runs over one uniform action, one of pi(s) and one of pi(s') at a time,
    and its penalty is the mean of m such; the paper's, d3rlpy's and ours runs over all 3 m.
    """
    learner, batch = case(moved=False, unscaled=True, samples=4)
    batch["next", "observation"] = batch["observation"]
    theirs, noise = oracle(learner), batch["noise"]
    with monkeypatch.context() as patch:
        tell(noise, patch)
        expected = theirs(torchrl_batch(batch))["loss_cql"]
    zeros = torch.zeros(2, len(batch))
    whole, means = learner.gap(batch, zeros), []
    for kind in ("uniform", "of_now", "of_next"):
        noise[f"all_{kind}"] = noise[kind]
    for sample in range(4):
        for kind in ("uniform", "of_now", "of_next"):
            noise[kind] = noise[f"all_{kind}"][:, 2 * sample : 2 * sample + 2]
        means.append(learner.gap(batch, zeros))
    q = learner.critic(batch["observation"], batch["action"])
    found = 5.0 * (torch.stack(means).mean(0) - q).mean(-1).sum()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # Four such sums of exponentials make ours; the mean of logarithms is below that of the whole.
    torch.testing.assert_close(whole, torch.stack(means).logsumexp(0))


# --- the gap --------------------------------------------------------------------------------------


def test_gap_by_hand() -> None:
    """Every action is valued in s, those of pi(s') too, and divided by what it was drawn from."""
    learner, batch = case(task=True, samples=3)
    batch = batch[:4]
    q = learner.critic(batch["observation"], batch["action"], batch["task"])
    found = learner.gap(batch, q)
    for row in range(4):
        one, task = batch[row], batch["task"][row]
        terms = []
        for sample in range(3):
            part = slice(2 * sample, 2 * sample + 2)
            share = 0.5 * (1 + torch.erf(one["noise", "uniform"][part] / math.sqrt(2)))
            # Bounds are [-2, 2] and [-1, 3], whose middle is -0 and 1; density 1/2 per dimension.
            action = torch.tensor([-2.0, -1.0]) + 4.0 * share
            terms.append((action, math.log(0.25)))
            for name, observed in (("of_now", one), ("of_next", one["next"])):
                chosen, log_prob = learner.actor.draw(
                    observed["observation"], one["noise", name][part], task
                )
                terms.append((chosen, log_prob.item()))
        value = torch.stack(
            [learner.critic(one["observation"], a, task) - density for a, density in terms]
        )
        torch.testing.assert_close(found[:, row], value.logsumexp(0) - q[:, row])


def test_critics_evaluate_all_samples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls with a gradient per update: the logged actions, and ``[30, B]`` sampled ones."""
    learner, batch = case()
    asked, ask = [], learner.critic.forward

    def spy(observation: Tensor, action: Tensor, *rest: Any, **named: Any) -> Tensor:
        asked.append(tuple(action.shape))
        return ask(observation, action, *rest, **named)

    monkeypatch.setattr(learner.critic, "forward", spy)
    learner.critic_loss(batch)
    assert asked == [(47, 2), (30, 47, 2)]


# --- limits ---------------------------------------------------------------------------------------


def test_without_weight_it_is_sac_bit_for_bit() -> None:
    """Conservative weight 0, entropy in the backup: the same terms, and the same gradients."""
    learner, batch = case(conservative_weight=0.0, deterministic_backup=False)
    plain, _ = case(SAC)
    plain.load_state_dict({k: v for k, v in learner.state_dict().items() if k != "cloned"})
    found, expected = learner.losses(batch), plain.losses(batch)
    for name, term in expected.terms.items():
        assert term.equal(found.terms[name]), name
        theirs = network_gradients(getattr(plain, name), term)
        ours = network_gradients(getattr(learner, name), found.terms[name])
        assert all(gradient.equal(theirs[key]) for key, gradient in ours.items()), name


def test_deterministic_backup_leaves_the_entropy_out() -> None:
    """The temperature then moves no target; with the entropy it does."""
    for deterministic in (True, False):
        losses = [
            case(deterministic_backup=deterministic, initial_temperature=alpha)[0].critic_loss(
                case()[1]
            )[0]
            for alpha in (0.1, 1.0)
        ]
        assert losses[0].equal(losses[1]) == deterministic


def test_more_weight_lowers_the_values_of_other_actions(tmp_path: Path) -> None:
    """After as many updates the gap is smaller."""
    gaps = []
    for weight in (0.0, 5.0):
        data = data_for(CQL, episode_log())
        learner = learner_of(
            CQL, data.spec, conservative_weight=weight, learning_rates={"critic": 1e-2}
        )
        fit(learner, data, tmp_path, 40)
        gaps.append(learner.losses(whole_log(learner, data)).metrics["critic/gap"].item())
    assert gaps[1] < gaps[0] - 0.3


def test_rates_of_the_policy_and_the_temperature() -> None:
    """1e-4 each unless they are given; the critic's rate stands beside them."""
    for given, actor in (({"critic": 1e-2}, 1e-4), ({"actor": 1e-3}, 1e-3)):
        learner, _ = case(learning_rates=given)
        expected = {"actor": 1e-4, "temperature": 1e-4} | given
        assert learner.learning_rates == learner.hparams["learning_rates"] == expected
        groups = {g["name"]: g["lr"] for g in learner.configure_optimizers().param_groups}
        assert groups["actor"] == actor and groups["temperature"] == 1e-4


# --- soft values, errors --------------------------------------------------------------------------


def test_soft_values_are_those_of_sac() -> None:
    learner, batch = case(task=True)
    plain, _ = case(SAC, task=True)
    plain.load_state_dict({k: v for k, v in learner.state_dict().items() if k != "cloned"})
    found, expected = (
        one.soft_values(batch, batch["task"], batch["draws"]) for one in (learner, plain)
    )
    for name in ("log_prob", "next_value", "temperature", "discount", "value"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conservative_weight": -1.0}, r"conservative_weight -1.0 and cloning_updates 0 must be"),
        ({"cloning_updates": -1}, r"cloning_updates -1 must be at least 0"),
        ({"samples": 0}, r"samples 0 at least 1"),
        ({"threshold": -1.0}, r"threshold is -1.0, it must be at least 0, or null for none"),
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"critics": 0}, r"critics is 0, it must be at least 1"),
        ({"initial_temperature": 0.0}, r"initial_temperature is 0.0, it must be above 0"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_actions_need_bounds() -> None:
    data = data_for(CQL, episode_log())
    data.spec = changed(data.spec, action={"low": None, "high": None})
    with pytest.raises(ValueError, match="needs action bounds: give action_low and action_high"):
        learner_of(CQL, data.spec)
