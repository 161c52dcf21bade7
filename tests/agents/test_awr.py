"""AWR: T4 through a sweep of the log, its cap, what it reduces to, its interrupted fit."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.logs.log import Log
from hindsight_rl.training.learner import Learner

ADVANTAGE = [1.0, -1.0, 2.0, 0.0]


def case(log: Log | None = None, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(AWR, log)
    learner = learner_of(AWR, data.spec, **arguments)
    return learner, whole_log(learner, data)


def t4(**arguments: Any) -> tuple[Learner, TensorDict]:
    """Return four one-step episodes that end with rewards 1, -1, 2, 0, swept with V = 0.

    Returns and raw advantages are then 1, -1, 2, 0.
    """
    log = episode_log([1] * 4, reward=ADVANTAGE).with_columns(
        {("next", "terminated"): torch.ones(4, dtype=torch.bool)}
    )
    data = data_for(AWR, log, batch_size=4)
    learner = learner_of(AWR, data.spec, **arguments)
    with torch.no_grad():
        for parameter in learner.value.parameters():
            parameter.zero_()
    return learner, whole_log(learner, data)


def weight_of(learner: Learner, batch: TensorDict) -> Tensor:
    return learner.actor_loss(batch)[1]


# --- T4 -------------------------------------------------------------------------------------------


def test_weights_of_t4_through_a_sweep() -> None:
    """T4: A' = .447210, -1.341629, 1.341629, -.447210; w = exp(A').

    With pi(a) = .5, .25, .125, .5 the loss is -mean(w log pi), its gradient by log pi -w / 4.
    """
    learner, batch = t4()
    standardised = torch.tensor([0.447210, -1.341629, 1.341629, -0.447210])
    expected = torch.tensor([1.563942, 0.261420, 3.825269, 0.639410])
    torch.testing.assert_close(batch["advantage"], standardised, rtol=0, atol=2e-6)
    log_prob = torch.tensor([0.5, 0.25, 0.125, 0.5]).log().requires_grad_()
    learner.actor.log_prob = lambda *_: log_prob
    loss, weight = learner.actor_loss(batch)
    torch.testing.assert_close(weight, expected, rtol=0, atol=4e-6)
    torch.testing.assert_close(loss, -(expected * log_prob).mean())
    loss.backward()
    torch.testing.assert_close(log_prob.grad, -expected / 4, rtol=0, atol=2e-6)


def test_raw_weights_of_t4_through_a_sweep() -> None:
    """T4, the paper's text: A / .05 = 20, -20, 40, 0; w = exp of it, capped at 20: 20, 0, 20, 1.

    The gradient of the loss by log pi is -w / 4.
    """
    learner, batch = t4(scaling="raw", temperature=0.05)
    torch.testing.assert_close(batch["advantage"], torch.tensor(ADVANTAGE))
    log_prob = torch.tensor([0.5, 0.25, 0.125, 0.5]).log().requires_grad_()
    learner.actor.log_prob = lambda *_: log_prob
    loss, weight = learner.actor_loss(batch)
    expected = torch.tensor([20.0, math.exp(-20), 20.0, 1.0])
    torch.testing.assert_close(weight, expected)
    loss.backward()
    torch.testing.assert_close(log_prob.grad, -expected / 4)
    assert learner.losses(batch).metrics["actor/clipped"] == 0.5


def test_standardised_weights_are_capped() -> None:
    learner, batch = t4(max_weight=1.0)
    expected = torch.tensor([1.0, 0.261420, 1.0, 0.639410])
    torch.testing.assert_close(weight_of(learner, batch), expected, rtol=0, atol=4e-6)


def test_scalings_differ_by_the_standard_deviation_of_the_log() -> None:
    """Raw at a temperature of one standard deviation: the same up to the factor exp(mean / std)."""
    learner, batch = t4()
    raw, rows = t4(scaling="raw", temperature=1.25**0.5)
    ratio = weight_of(raw, rows) / weight_of(learner, batch)
    torch.testing.assert_close(
        ratio, torch.full((4,), math.exp(0.5 / 1.25**0.5)), rtol=1e-4, atol=0
    )


def test_value_regresses_on_the_return_in_units_of_its_scale() -> None:
    """V = 0, returns 1, -1, 2, 0, scale 1 / (1 - .9) = 10: half of mean (G / 10)^2 = .0075.

    Its gradient by the network's own output z = V / 10 is (z - G / 10) / 4.
    """
    learner, batch = t4(discount=0.9)
    assert learner.value.scale == pytest.approx(10.0)
    loss, advantage = learner.value_loss(batch)
    assert loss.item() == pytest.approx(0.0075)
    torch.testing.assert_close(advantage, torch.tensor(ADVANTAGE))
    assert not advantage.requires_grad
    assert learner.losses(batch).metrics["value/advantage"].item() == pytest.approx(0.5)
    last = learner.value.net[-1].bias
    (gradient,) = torch.autograd.grad(loss, last)
    assert gradient.item() == pytest.approx(-sum(ADVANTAGE) / 10 / 4)
    assert t4(value_scale=3.0)[0].value.scale == 3.0


# --- what it reduces to ---------------------------------------------------------------------------


def test_large_temperature_is_cloning() -> None:
    learner, batch = case(temperature=1e9)
    cloning = learner_of(BC, learner.spec)
    cloning.actor.load_state_dict(learner.actor.state_dict())
    expected = cloning.losses(batch).terms["actor"]
    torch.testing.assert_close(learner.losses(batch).terms["actor"], expected)


def test_weight_of_an_old_sweep_stays_until_the_next() -> None:
    """The advantage is a column: moving V changes the value loss, not the weights."""
    learner, batch = case()
    before, weight = learner.value_loss(batch)[0], weight_of(learner, batch)
    with torch.no_grad():
        learner.value.net[-1].bias += 1.0
    assert weight_of(learner, batch).equal(weight)
    assert learner.value_loss(batch)[0] != before


def test_value_of_the_log_is_learned(tmp_path: Path) -> None:
    """Reward 1 a step, every episode cut after one: V = 1 + .9 V, so 10, sweep after sweep."""
    rows = torch.zeros(8, 3)
    log = episode_log([1] * 8, reward=[1.0] * 8).with_columns(
        {
            "observation": rows,
            ("next", "observation"): rows,
            ("next", "terminated"): torch.zeros(8, dtype=torch.bool),
        }
    )
    data = data_for(AWR, log, updates_per_step=64)
    learner = learner_of(
        AWR,
        data.spec,
        discount=0.9,
        sweep_every=10,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.3),
    )
    fit(learner, data, tmp_path, 1500)
    assert learner.value(rows[:1]).item() == pytest.approx(10.0, abs=0.05)


def test_networks_are_those_of_the_paper() -> None:
    learner, _ = case()
    assert set(learner.networks()) == {"actor", "value"} and learner.targets == {}
    assert all(isinstance(network, nn.Module) for network in learner.networks().values())


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 and max_weight 20.0 must be above 0"),
        ({"max_weight": -1.0}, "max_weight -1.0 must be above 0"),
        ({"discount": 1.0}, "discount is 1.0: below 1, or give value_scale"),
        ({"value_scale": 0.0}, "value_scale is 0.0, it must be above 0 or null"),
        ({"lambda_": 1.5}, r"lambda_ 1.5 must lie in \[0, 1\]"),
        ({"sweep_every": 0}, "sweep_every is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(AWR, data_for(BC).spec, **arguments)


def test_discount_1_goes_with_a_scale() -> None:
    learner, batch = case(discount=1.0, value_scale=5.0)
    assert all(bool(torch.isfinite(term)) for term in learner.losses(batch).terms.values())
