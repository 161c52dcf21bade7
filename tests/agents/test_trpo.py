"""TRPO: its step against dense algebra and TB28, what it refuses, and what it learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import check_resumed, data_for, equal, fit, learner_of, weights, whole_log
from small_replays import iterated
from tensordict import TensorDict
from tiny_envs import Line, Walk
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from hindsight_rl.agents.trpo import TRPO
from hindsight_rl.nets.layers import FlatWeights
from hindsight_rl.nets.network import Head, TanhNetwork
from hindsight_rl.training.learner import Learner

LOGITS = torch.tensor([0.2, -0.1, 0.4])


class Fitting(TRPO):
    """TRPO without a trainer, as in its first update."""

    updates = 0

    def _fitting(self) -> bool:
        return True


def case(discrete: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner that has not moved yet, and rows that its own policy stated."""
    data = data_for(TRPO, episode_log(discrete=discrete, stated=True))
    learner = learner_of(TRPO, data.spec, **arguments)
    learner.__class__ = Fitting
    rows = whole_log(learner_of(TRPO, data.spec, **arguments), data)
    with torch.no_grad():
        own = learner.actor.executed_log_prob(rows["observation"], rows["action"])
    return learner, rows.copy().set("action_log_prob", own.float())


def distribution(learner: Learner, rows: TensorDict, vector: Tensor) -> Any:
    """Return torch's distribution of the policy with other weights."""
    found = FlatWeights(learner.actor)(vector, rows["observation"], None)
    if learner.actor.discrete:
        return Categorical(logits=found.logits)
    return Independent(Normal(found.mean, found.log_std.exp()), 1)


# --- the step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tries", [1, 10])
def test_the_step_of_a_softmax_is_that_of_the_natural_gradient(tries: int) -> None:
    """TB28: alpha .106915 along (-1.333333, -.333333, 1.666667), whose KL .010029 is above .01.

    One row for each choice, its advantage 3 pi (r - E r), makes E[ rho A ] the expected reward. The
    whole step is refused and 0.8 of it taken; where it alone may be tried, nothing is.
    """
    learner, rows = case(True, network=TanhNetwork(hidden=()), damping=0.0, tries=tries)
    with torch.no_grad():
        learner.actor.net[-1].weight.zero_()
        learner.actor.net[-1].bias.copy_(LOGITS)
    rows = rows[:3].copy()
    share = torch.softmax(LOGITS, -1)
    reward = torch.tensor([1.0, 2.0, 4.0])
    rows["observation"] = learner.actor.inputs.observation.mean.expand(
        3, -1
    ).clone()  # zeros, standardised
    rows["action"] = torch.arange(3)
    rows["action_log_prob"] = share.log()
    rows["advantage"] = 3 * share * (reward - share @ reward)
    learner.improve(rows)
    moved = learner.actor.net[-1].bias.detach() - LOGITS
    taken = 0.8 if tries > 1 else 0.0
    natural = torch.tensor([-1.333333, -0.333333, 1.666667])
    torch.testing.assert_close(moved, taken * 0.106915 * natural, rtol=0, atol=2e-6)
    assert float(learner.share) == pytest.approx(taken)
    kl = kl_divergence(Categorical(logits=LOGITS), Categorical(logits=LOGITS + moved))
    torch.testing.assert_close(learner.divergence, kl, rtol=1e-3, atol=1e-7)
    assert float(learner.divergence) <= 0.01


@pytest.mark.parametrize("discrete", [False, True])
def test_the_step_is_that_of_dense_algebra(discrete: bool) -> None:
    """F by torch's Hessian of torch's KL, x by a solver, on the same weights and rows."""
    learner, rows = case(discrete, network=TanhNetwork(hidden=(4,)), iterations=200)
    start = FlatWeights(learner.actor).vector
    old = distribution(learner, rows, start)
    fisher = torch.autograd.functional.hessian(
        lambda vector: kl_divergence(old, distribution(learner, rows, vector)).mean(), start
    ).double()
    free = start.clone().requires_grad_()
    gain = learner.gain(rows, FlatWeights(learner.actor)(free, rows["observation"], None))
    slope = torch.autograd.grad(gain, free)[0].double()
    x = torch.linalg.solve(fisher + 0.1 * torch.eye(len(start)).double(), slope)
    step = torch.sqrt(0.02 / (x @ fisher @ x)) * x
    learner.improve(rows)
    moved = FlatWeights(learner.actor).vector - start
    share = float(learner.share)
    assert share > 0
    torch.testing.assert_close(moved.double(), share * step, rtol=2e-3, atol=2e-5)
    new = distribution(learner, rows, start + moved)
    reached = kl_divergence(old, new).mean()
    torch.testing.assert_close(learner.divergence, reached.detach(), rtol=1e-3, atol=1e-6)
    assert 0.003 < float(reached) <= 0.01


@pytest.mark.parametrize("discrete", [False, True])
def test_the_objective_grows_by_the_step(discrete: bool) -> None:
    learner, rows = case(discrete)
    before = learner.gain(rows, learner.actor(rows["observation"]))
    torch.testing.assert_close(before, rows["advantage"].mean(), rtol=1e-4, atol=1e-6)
    learner.improve(rows)
    after = learner.gain(rows, learner.actor(rows["observation"]))
    assert bool(after > before + 0.01)


def test_on_own_actions_the_slope_is_that_of_reinforce() -> None:
    learner, rows = case()
    parameters = list(learner.actor.parameters())
    found = learner.gain(rows, learner.actor(rows["observation"]))
    log_prob = learner.actor.executed_log_prob(rows["observation"], rows["action"]).float()
    expected = torch.autograd.grad((rows["advantage"] * log_prob).mean(), parameters)
    for one, other in zip(torch.autograd.grad(found, parameters), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_nothing_is_gained_and_nothing_moves() -> None:
    """Advantages of 0: no direction, no step."""
    learner, rows = case()
    rows["advantage"] = torch.zeros_like(rows["advantage"])
    before = weights(learner.actor)
    learner.improve(rows)
    assert equal(before, weights(learner.actor))
    assert float(learner.share) == 0.0 and float(learner.divergence) == 0.0


# --- when it moves --------------------------------------------------------------------------------


def test_only_the_sweep_of_a_fit_moves_the_policy(tmp_path: Path) -> None:
    """Not a look at held-out rows before, and not the optimiser behind it."""
    data = data_for(TRPO, validation=0.3)
    learner = learner_of(TRPO, data.spec)
    first = weights(learner.actor)
    trainer = fit(learner, data, tmp_path, 1, num_sanity_val_steps=2)
    once = weights(learner.actor)
    assert not equal(first, once)
    other = data_for(TRPO, validation=0.3)
    longer = learner_of(TRPO, other.spec)
    fit(longer, other, tmp_path, 9)
    assert equal(once, weights(longer.actor))
    assert not equal(weights(learner.value), weights(longer.value))
    looked = learner_of(TRPO, other.spec)
    trainer.validate(looked, data, verbose=False)
    assert equal(first, weights(looked.actor))


def test_the_policy_waits_while_it_is_frozen(tmp_path: Path) -> None:
    def after(updates: int) -> dict[str, Tensor]:
        data = _rounds()
        learner = learner_of(TRPO, data.spec, freeze={"actor": 25})
        first = weights(learner.actor)
        fit(learner, data, tmp_path, updates)
        return first if equal(first, weights(learner.actor)) else {}

    assert after(20) and not after(60)


def _choosing() -> Walk:
    return Walk(discrete=True)


def _rounds(env: Any = _choosing, **options: Any) -> Any:
    plain = {"initial_episodes": 4, "episodes_per_round": 6, "epochs": 2, "num_envs": 2}
    return iterated(env, **plain | {"batch_size": 8, "updates_per_step": 5, "seed": 3} | options)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_resumed_run_of_rounds_ends_with_the_same_bits(seeds: int, tmp_path: Path) -> None:
    """From the middle of the first round: the step is not taken again."""

    def begun() -> tuple[Any, Learner]:
        data = _rounds() if seeds == 1 else data_for(TRPO)
        return data, learner_of(TRPO, data.spec, seeds=seeds)

    check_resumed(begun, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, "radius 0.0 and value_scale 1.0 must be above 0"),
        ({"damping": -0.1}, "damping is -0.1, it must be at least 0"),
        ({"iterations": 0}, "iterations 0 and tries 10 must be at least 1"),
        ({"tries": 0}, "iterations 15 and tries 0 must be at least 1"),
        ({"shrink": 1.0}, r"shrink is 1.0, it must lie in \(0, 1\)"),
        ({"head": Head("mixture")}, "head is 'mixture', it must be 'gaussian' or 'tanh_gaussian'"),
        ({"learning_rates": {"actor": 1e-3}}, "learning_rates of 'actor': no rate moves it"),
        ({"decay": {"actor": 10}}, "decay of 'actor': no rate moves it"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(TRPO, data_for(TRPO).spec, **arguments)


# --- what it learns -------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["gaussian", "tanh_gaussian"])
def test_it_finds_the_best_action(head: str, tmp_path: Path) -> None:
    """Rewards are best at -1.5 in [-2, 2], where a random action is 1.6 away on average."""
    data = _rounds(Line, batch_size=64, updates_per_step=40, seed=2, steps_per_round=256, epochs=4)
    learner = learner_of(TRPO, data.spec, head=head, radius=0.05)
    fit(learner, data, tmp_path, 480)
    first, last = data.history[1].mean_return, data.history[-1].mean_return
    assert last > 0.4 * first and len(data.history) > 20
    action = learner(torch.zeros(1, 3))
    assert bool((action[0, 0] + 1.5).abs() < 0.3)
