"""SIL: T15 in the paper's and in the code's form, and what it reduces to."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.sil import SIL
from hindsight_rl.maths.losses import expectile_loss
from hindsight_rl.training.learner import Learner

ATOL = 2e-6
# What the authors' code chooses: the cap, and 64 of its 512 rows.
CODE = {"max_advantage": 1.0, "min_positive": 0.125}
PLAIN = {"value_weight": 1.0, "regression_weight": 0.0, "entropy_weight": 0.0}


class Ones(nn.Module):
    """V = 1 everywhere, as a parameter, so that gradients can be read."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(rows))

    def forward(self, *_: Tensor) -> Tensor:
        return self.values


class Told(nn.Module):
    """A policy with these log-probabilities and this entropy."""

    scale = SimpleNamespace(to_policy=lambda action: action)

    def __init__(self, log_prob: Tensor, entropy: float) -> None:
        super().__init__()
        self.log_likelihood, self.nats = nn.Parameter(log_prob), entropy

    def forward(self, *_: Tensor) -> Any:
        return SimpleNamespace(
            log_prob=lambda _: self.log_likelihood,
            entropy=lambda: torch.full_like(self.log_likelihood, self.nats),
        )


def case(discrete: bool = False, **arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(SIL, episode_log(discrete=discrete))
    learner = learner_of(SIL, data.spec, **arguments)
    return learner, whole_log(learner, data)


def injected(
    returns: tuple[float, ...] = (2.0, 0.5, 3.0), entropy: float = 0.0, **arguments: Any
) -> tuple[Learner, TensorDict]:
    """Return T15: R = 2, .5, 3, V = 1, -log pi(a) = 1, 2, 6."""
    learner, batch = case(**PLAIN | arguments)
    learner.value = Ones(3)
    learner.actor = Told(-torch.tensor([1.0, 2.0, 6.0]), entropy)
    return learner, batch[:3].set("return_to_go", torch.tensor(returns))


def gradients(learner: Learner, batch: TensorDict) -> tuple[dict[str, float], Tensor, Tensor]:
    """Return the terms, and the gradients by log pi(a) and by V."""
    terms = learner.losses(batch).terms
    (terms["actor"] + terms["value"]).backward()
    found = {name: term.item() for name, term in terms.items()}
    return found, learner.actor.log_likelihood.grad, learner.value.values.grad


def close(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=ATOL)


# --- T15 ------------------------------------------------------------------------------------------


def test_paper_form_of_t15() -> None:
    """A+ = 1, 0, 2: (1 * 1 + 2 * 6) / 3 = 4.333333 and (1 + 4) / 2 / 3 = .833333.

    Gradients: -A+ / 3 by log pi(a), -A+ / 3 by V; what did worse moves nothing.
    """
    terms, by_policy, by_value = gradients(*injected())
    assert terms == pytest.approx({"actor": 4.333333, "value": 0.833333}, abs=ATOL)
    close(by_policy, [-1 / 3, 0, -2 / 3])
    close(by_value, [-1 / 3, 0, -2 / 3])


def test_code_form_of_t15() -> None:
    """Advantage clipped to [0, 1]: 1, 0, 1; two of three rows divide the sums.

    Policy: (1 + 6) / 2. V: slopes -1 / 2, and losses 1/2 and 2 - 1/2 beyond the cap.
    """
    terms, by_policy, by_value = gradients(*injected(**CODE))
    assert terms == pytest.approx({"actor": 3.5, "value": 1.0}, abs=ATOL)
    close(by_policy, [-0.5, 0, -0.5])
    close(by_value, [-0.5, 0, -0.5])


def test_few_positive_rows_are_divided_by_the_least_share() -> None:
    """One row of three is positive, A = 2, and the least share is 1/2: 2 * 6 / 3 / (1/2) = 8."""
    learner, batch = injected((0.0, 0.5, 3.0), min_positive=0.5)
    terms, by_policy, _ = gradients(learner, batch)
    assert terms["actor"] == pytest.approx(8.0) and terms["value"] == pytest.approx(4 / 3)
    close(by_policy, [0, 0, -4 / 3])


def test_share_of_positive_rows_is_taken_from_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statistic of the batch with the code's form, and only there."""
    asked: list[Tensor] = []
    for arguments, expected in ((CODE, 2), ({}, 0)):
        learner, batch = injected(**arguments)
        mean = learner.batch_mean
        monkeypatch.setattr(learner, "batch_mean", lambda v, mean=mean: asked.append(v) or mean(v))
        asked.clear()
        learner.losses(batch)
        assert len(asked) == expected


@pytest.mark.parametrize("arguments", [{}, CODE])
def test_nothing_moves_where_nothing_did_better(arguments: dict[str, float]) -> None:
    terms, by_policy, by_value = gradients(*injected((-5.0, 0.5, 1.0), **arguments))
    assert terms == {"actor": 0.0, "value": 0.0}
    assert not by_policy.any() and not by_value.any()


def test_entropy_counts_in_imitated_states_alone() -> None:
    """Two of three rows with 1.5 nats: 4.333333 - .01 * 1.5 * 2 / 3."""
    learner, batch = injected(entropy=1.5, entropy_weight=0.01)
    assert learner.losses(batch).terms["actor"].item() == pytest.approx(4.323333, abs=ATOL)
    learner, batch = injected(entropy=1.5, entropy_weight=0.01, **CODE)
    assert learner.losses(batch).terms["actor"].item() == pytest.approx(3.485, abs=ATOL)


def test_metrics_say_how_many_rows_are_imitated() -> None:
    """A = 1, -.5, 2: (1 + 2)^2 / (3 * 5) of the batch counts, a third is at a cap of 2."""
    learner, batch = injected()
    found = learner.losses(batch).metrics
    assert found["actor/positive"].item() == pytest.approx(2 / 3)
    assert found["actor/weight"].item() == pytest.approx(1.0)
    assert found["actor/effective_sample_size"].item() == pytest.approx(0.6)
    assert found["value/advantage"].item() == pytest.approx(2.5 / 3)
    learner.max_advantage = 2.0
    assert learner.losses(batch).metrics["actor/clipped"].item() == pytest.approx(1 / 3)


# --- reductions -----------------------------------------------------------------------------------


def test_value_is_an_expectile() -> None:
    """Weights v and r of the two parts: that of (r + v) / (2 r + v), its loss times (2 r + v) / 2.

    So it is the mean without the first part, and the largest return without the second.
    """
    learner, batch = case(value_weight=0.3, regression_weight=0.5)
    found, advantage = learner.value_loss(batch)
    expected = 0.65 * expectile_loss(advantage, expectile=0.8 / 1.3).mean()
    torch.testing.assert_close(found.detach(), expected)


def test_value_above_all_returns_never_falls_without_regression() -> None:
    """The deviation's reason: on a log alone the paper's losses have no gradient at all there."""
    for weight, moves in ((0.0, False), (0.5, True)):
        learner, batch = case(value_weight=0.01, regression_weight=weight)
        batch = batch.copy().set("return_to_go", batch["return_to_go"] - 100.0)
        terms = learner.losses(batch).terms
        found = torch.autograd.grad(terms["value"], list(learner.value.parameters()))
        assert any(bool(g.any()) for g in found) == moves
        assert terms["actor"].item() == 0.0


@pytest.mark.parametrize("discrete", [False, True])
def test_equal_advantages_are_cloning(discrete: bool) -> None:
    """Every return 1 above V: the loss and the gradients of BC."""
    learner, batch = case(discrete, entropy_weight=0.0)
    value = learner.value(batch["observation"]).detach()
    batch = batch.copy().set("return_to_go", value + 1.0)
    cloning = learner_of(BC, learner.spec)
    cloning.actor.load_state_dict(learner.actor.state_dict())
    ours, theirs = learner.losses(batch).terms["actor"], cloning.losses(batch).terms["actor"]
    torch.testing.assert_close(ours, theirs)
    one = torch.autograd.grad(ours, list(learner.actor.parameters()))
    two = torch.autograd.grad(theirs, list(cloning.actor.parameters()))
    for found, expected in zip(one, two, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value_weight": -1.0}, "value_weight -1.0, .* must be at least 0"),
        ({"regression_weight": -1.0}, "regression_weight -1.0 .* must be at least 0"),
        ({"entropy_weight": -1.0}, "entropy_weight -1.0 must be at least 0"),
        ({"value_weight": 0.0, "regression_weight": 0.0}, "both 0: nothing would learn V"),
        ({"max_advantage": 0.0}, "max_advantage 0.0 must be above 0"),
        ({"min_positive": 0.0}, r"min_positive 0.0 in \(0, 1\]"),
        ({"min_positive": 1.5}, r"min_positive 1.5 in \(0, 1\]"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)
