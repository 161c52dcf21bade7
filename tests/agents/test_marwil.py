"""MARWIL: T4 with injected numbers, its three norms, its two targets, and beta 0."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.marwil import MARWIL
from hindsight_rl.maths.returns import lambda_returns
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner

ADVANTAGE = [1.0, -1.0, 2.0, 0.0]


class Zero(nn.Module):
    """V = 0 everywhere, as a parameter, so that gradients can be read."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(rows))

    def forward(self, *_: Tensor) -> Tensor:
        return self.value


def case(**arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(MARWIL, None, arguments)
    learner = learner_of(MARWIL, data.spec, **arguments)
    return learner, whole_log(learner, data)


def injected(**arguments: Any) -> tuple[Learner, TensorDict, Tensor]:
    """Return T4: G = 1, -1, 2, 0, V = 0, pi(a) = .5, .25, .125, .5."""
    learner, batch = case(**arguments)
    batch = batch[:4].set("return_to_go", torch.tensor(ADVANTAGE))
    learner.value = Zero(4)
    log_prob = torch.tensor([0.5, 0.25, 0.125, 0.5]).log().requires_grad_()
    learner.actor.log_prob = lambda *_: log_prob
    return learner, batch, log_prob


def weight_of(learner: Learner, batch: TensorDict) -> Tensor:
    return learner.actor_loss(batch, batch["return_to_go"])[1]


# --- T4 -------------------------------------------------------------------------------------------


def test_losses_of_t4() -> None:
    """T4: 1.313350 + .750000 = 2.063350 with the first weights (c^2 = 100 - 9.85e-7).

    Gradients: -w / 4 by log pi; -A / 4 by V, from the value loss alone.
    """
    learner, batch, log_prob = injected()
    terms = learner.losses(batch).terms
    assert terms["actor"].item() == pytest.approx(1.313350, abs=2e-6)
    assert terms["value"].item() == pytest.approx(0.75, abs=2e-6)
    total = terms["actor"] + terms["value"]
    assert total.item() == pytest.approx(2.063350, abs=2e-6)
    total.backward()
    expected = torch.tensor([1.105171, 0.904837, 1.221403, 1.0])
    torch.testing.assert_close(log_prob.grad, -expected / 4, rtol=0, atol=2e-6)
    torch.testing.assert_close(learner.value.value.grad, -torch.tensor(ADVANTAGE) / 4)


@pytest.mark.parametrize(
    ("rate", "square_mean", "expected"),
    [
        (1e-8, 100.0, [1.105171, 0.904837, 1.221403, 1]),
        (0.01, 99.015, [1.105719, 0.904389, 1.222615, 1]),
        (1.0, 1.5, [2.262559, 0.441977, 5.119174, 1]),
    ],
)
def test_running_norm_of_t4_moves_before_it_is_used(
    rate: float, square_mean: float, expected: list[float]
) -> None:
    learner, batch, _ = injected(norm_rate=rate)
    weight = weight_of(learner, batch)
    assert learner.square_mean.item() == pytest.approx(square_mean, abs=1e-4)
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=0, atol=2e-6)


def test_running_norm_rests_in_evaluation() -> None:
    learner, batch, _ = injected(norm_rate=0.01)
    weight = weight_of(learner.eval(), batch)
    expected = torch.tensor([1.105719, 0.904389, 1.222615, 1.0])  # by 99.015, as while training
    torch.testing.assert_close(weight, expected, rtol=0, atol=2e-6)
    assert learner.square_mean.item() == 100.0
    weight_of(learner.train(), batch)
    weight_of(learner, batch)
    assert learner.square_mean.item() == pytest.approx(99.015 + 0.01 * (1.5 - 99.015), abs=1e-4)
    assert "square_mean" in learner.state_dict()


def test_norm_by_the_batch_and_none() -> None:
    """A = 1, -1, 2, 0: mean .5, variance 1.5 - .25 = 1.25; with none, w = exp(A)."""
    learner, batch, _ = injected(norm="batch_std")
    torch.testing.assert_close(
        weight_of(learner, batch), torch.exp(torch.tensor(ADVANTAGE) / 1.25**0.5)
    )
    learner, batch, _ = injected(norm="none", beta=0.5)
    expected = torch.exp(0.5 * torch.tensor(ADVANTAGE))
    torch.testing.assert_close(weight_of(learner, batch), expected)
    assert learner.square_mean.item() == 100.0


def test_weights_are_capped() -> None:
    learner, batch, _ = injected(norm="none", max_weight=2.0)
    assert weight_of(learner, batch).tolist() == pytest.approx([2.0, 0.367879, 2.0, 1.0], abs=2e-6)


def test_rows_do_not_change_each_other_without_a_norm() -> None:
    learner, batch = case(norm="none")
    alone = [learner.losses(batch[row : row + 1]).terms for row in range(len(batch))]
    for name, term in learner.losses(batch).terms.items():
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(mean, term, rtol=1e-4, atol=1e-6)


# --- what it reduces to ---------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["marwil", "batch_std", "none"])
def test_beta_0_is_cloning(norm: str, tmp_path: Path) -> None:
    """The same loss on a batch, and the same policy bit for bit after 30 updates."""
    learner, batch = case(beta=0.0, norm=norm)
    cloning = learner_of(BC, learner.spec)
    cloning.actor.load_state_dict(learner.actor.state_dict())
    ours, theirs = learner.losses(batch).terms["actor"], cloning.losses(batch).terms["actor"]
    assert ours == theirs
    fit(learner, data_for(MARWIL), tmp_path, 30)
    fit(cloning, data_for(MARWIL), tmp_path, 30)
    for name, value in cloning.actor.state_dict().items():
        assert learner.actor.state_dict()[name].equal(value), name


def test_value_weight_scales_the_value_loss() -> None:
    learner, batch = case(value_weight=3.0)
    value, _ = learner.value_loss(batch)
    error = batch["return_to_go"] - learner.value(batch["observation"])
    torch.testing.assert_close(value, 1.5 * error.square().mean())


# --- targets --------------------------------------------------------------------------------------


def test_monte_carlo_target_is_the_return_to_go() -> None:
    learner, batch = case()
    assert learner.in_keys == ("observation", "action", "return_to_go") and not learner.log_pass
    _, advantage = learner.value_loss(batch)
    expected = batch["return_to_go"] - learner.value(batch["observation"])
    torch.testing.assert_close(advantage, expected)
    assert not advantage.requires_grad


def test_td_lambda_target_comes_from_a_sweep() -> None:
    learner, batch = case(discount=0.9, lambda_=0.5)
    assert learner.in_keys == ("observation", "action")
    expected = lambda_returns(
        batch["next", "reward"],
        learner.value(batch["next", "observation"]),
        batch["next", "terminated"],
        batch["episode_end"] == batch["index"],
        discount=0.9,
        lambda_=0.5,
    )
    torch.testing.assert_close(batch["lambda_return"], expected.float())
    _, advantage = learner.value_loss(batch)
    difference = expected.float() - learner.value(batch["observation"])
    torch.testing.assert_close(advantage, difference)


def test_td_lambda_sweeps_while_fitting(tmp_path: Path) -> None:
    data = data_for(MARWIL, None, {"lambda_": 0.95})
    learner = learner_of(MARWIL, data.spec, lambda_=0.95, sweep_every=10)
    fit(learner, data, tmp_path, 25)
    assert learner.log_pass is not None and learner.log_pass.swept_at == 20


def test_better_actions_become_likelier() -> None:
    """One state, two actions, returns 1 and 0, equally often: pi(1) = e / (1 + e) at c = 1, beta 1.

    V is held at .5, so the advantages are .5 and -.5, a ratio of weights of e.
    """
    zeros = torch.zeros(2, 3)
    log = episode_log([1, 1], reward=[1.0, 0.0], discrete=True).with_columns(
        {"observation": zeros, "action": torch.tensor([1, 0])}
    )
    log.info["discrete_actions"] = 2
    data = data_for(MARWIL, log)
    learner = learner_of(MARWIL, data.spec, network=Network(hidden=()), norm="none")
    batch = whole_log(learner, data)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        torch.stack(list(learner.losses(batch).terms.values())).sum().backward()
        optimizer.step()
    probability = torch.softmax(learner.scores(zeros[:1]), -1)[0, 1].item()
    assert probability == pytest.approx(0.731059, abs=1e-3)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "beta -1.0 .*must be at least 0"),
        ({"value_weight": -1.0}, "value_weight -1.0 must be at least 0"),
        ({"norm_start": 0.0}, "norm_start 0.0 above 0"),
        ({"norm_rate": 1.5}, r"norm_rate 1.5 in \[0, 1\]"),
        ({"max_weight": 0.0}, "max_weight is 0.0, it must be above 0"),
        ({"discount": 7.0}, r"discount 7.0 .* must lie in \[0, 1\]"),
        ({"lambda_": 0.95, "discount": 1.5}, r"discount 1.5 .* must lie in \[0, 1\]"),
        ({"lambda_": 0.95, "sweep_every": 0}, "sweep_every is 0, it must be at least 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(MARWIL, data_for(BC).spec, **arguments)
