"""Weights of the weighted negative log-likelihood: closed form T4, and what they reduce to.

Gradients are taken through the loss they feed, -mean(weight * log pi), because none may flow
through the weight itself.
"""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import permutations, scalars
from torch import Tensor

from hindsight_rl.maths.losses import expectile_loss, weighted_nll
from hindsight_rl.maths.weights import (
    binary_weight,
    expectile_weight,
    exponential_weight,
    marwil_weight,
    positive_weight,
    return_weight,
    softmax_weight,
    top_fraction_weight,
    uniform_weight,
    weight_metrics,
)

ATOL = 2e-6
Weight = Callable[[Tensor], Tensor]

ROW_BY_ROW: dict[str, Weight] = {
    "uniform": uniform_weight,
    "exponential": lambda a: exponential_weight(a, temperature=0.7, max_weight=3.0),
    "binary": binary_weight,
    "expectile": lambda a: expectile_weight(a, expectile=0.8),
    "positive": lambda a: positive_weight(a, max_weight=2.0),
    "marwil": lambda a: marwil_weight(a, torch.tensor(4.0, dtype=a.dtype), beta=0.5),
    "return": lambda a: return_weight(a.abs()),
}
BATCH_WIDE: dict[str, Weight] = {
    "softmax": lambda a: softmax_weight(a, temperature=2.0),
    "top fraction": lambda a: top_fraction_weight(a, fraction=0.4),
}
EVERY = ROW_BY_ROW | BATCH_WIDE


def every(weights: dict[str, Weight]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("weight", weights.values(), ids=weights.keys())


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor | None, expected: Tensor | list[float], atol: float = ATOL) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def advantages() -> Tensor:
    return f64(1, -1, 2, 0)


def nll_gradient(weight: Tensor, log_prob: Tensor) -> tuple[float, Tensor]:
    """Return the mean weighted loss and its gradient by the log-probabilities."""
    log_prob = log_prob.clone().requires_grad_()
    loss = weighted_nll(log_prob, weight).mean()
    loss.backward()
    assert log_prob.grad is not None
    return loss.item(), log_prob.grad


# --- T4 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "square_mean", "expected"),
    [
        (1e-8, 100.0, [1.105171, 0.904837, 1.221403, 1]),
        (0.01, 99.015, [1.105719, 0.904389, 1.222615, 1]),
        (1.0, 1.5, [2.262559, 0.441977, 5.119174, 1]),
    ],
)
def test_marwil_of_t4(rate: float, square_mean: float, expected: list[float]) -> None:
    """T4: A = 1, -1, 2, 0, beta 1, c^2 from 100 towards mean(A^2) = 1.5; w = exp(A / c).

    d loss / d log pi = -w / 4 per row; nothing reaches the advantage.
    """
    advantage = advantages().requires_grad_()
    norm = 100 + rate * (advantage.detach().square().mean() - 100)
    close(norm, torch.tensor(square_mean), 1e-5)
    weight = marwil_weight(advantage, norm, beta=1.0)
    close(weight, expected)
    _, gradient = nll_gradient(weight, torch.zeros(4, dtype=torch.float64))
    close(gradient, [-w / 4 for w in expected])


def test_marwil_losses_of_t4() -> None:
    """T4: with the first weights and pi(a) = .5, .25, .125, .5: 1.313350 + .75 = 2.063350.

    Policy loss: mean(w * -log pi), gradient -w / 4. Value loss: half the mean square of A = G - V,
    (1 + 1 + 4 + 0) / 8 = .75, gradient by V -A / 4.
    """
    weight = marwil_weight(advantages(), f64(100.0)[0], beta=1.0)
    policy_loss, gradient = nll_gradient(weight, f64(0.5, 0.25, 0.125, 0.5).log())
    assert policy_loss == pytest.approx(1.313350, abs=ATOL)
    close(gradient, [-1.105171 / 4, -0.904837 / 4, -1.221403 / 4, -0.25])

    value = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    value_loss = expectile_loss(advantages() - value, expectile=0.5).mean()
    value_loss.backward()
    assert value_loss.item() == pytest.approx(0.75, abs=ATOL)
    assert policy_loss + value_loss.item() == pytest.approx(2.063350, abs=ATOL)
    close(value.grad, [-0.25, 0.25, -0.5, 0])


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        pytest.param(
            lambda a: exponential_weight((a - a.mean()) / (a.std(correction=0) + 1e-5)),
            [1.563942, 0.261420, 3.825269, 0.639410],
            id="AWR, standardised",
        ),
        pytest.param(
            lambda a: exponential_weight(a, temperature=0.05, max_weight=20.0),
            [20, 0, 20, 1],
            id="AWR, raw",
        ),
        pytest.param(exponential_weight, [2.718282, 0.367879, 7.389056, 1], id="AWAC, exponential"),
        pytest.param(softmax_weight, [0.947531, 0.128234, 2.575657, 0.348577], id="AWAC, softmax"),
        pytest.param(
            lambda a: exponential_weight(a, temperature=1 / 3, max_weight=100.0),
            [20.085537, 0.049787, 100, 1],
            id="IQL",
        ),
        pytest.param(binary_weight, [1, 0, 1, 0], id="CRR, binary"),
        pytest.param(positive_weight, [1, 0, 2, 0], id="SIL"),
        pytest.param(
            lambda a: expectile_weight(a, expectile=0.7), [0.7, 0.3, 0.7, 0.3], id="implicit of IQL"
        ),
        pytest.param(
            lambda a: positive_weight(a, max_weight=1.5), [1, 0, 1.5, 0], id="SIL, capped"
        ),
    ],
)
def test_weights_of_t4(weight: Weight, expected: list[float]) -> None:
    """T4: A = 1, -1, 2, 0; exp(A / temperature) cut, softmax times 4, 1[A > 0]; gradient -w / 4.

    Standardised: (A - .5) / (sqrt(1.25) + 1e-5) = .447210, -1.341629, 1.341629, -.447210.
    """
    result = weight(advantages())
    close(result, expected)
    _, gradient = nll_gradient(result, f64(-0.1, -0.2, -0.3, -0.4))
    close(gradient, [-w / 4 for w in expected])


# --- what they reduce to --------------------------------------------------------------------------


@given(advantage=scalars())
def test_reductions_to_cloning(advantage: Tensor) -> None:
    """Beta 0, fraction 1, all advantages positive, all equal: weights of 1, behaviour cloning."""
    ones = torch.ones_like(advantage)
    assert torch.equal(uniform_weight(advantage), ones)
    assert torch.equal(marwil_weight(advantage, f64(2.0)[0], beta=0.0), ones)
    assert torch.equal(top_fraction_weight(advantage, fraction=1.0), ones)
    assert torch.equal(binary_weight(advantage.abs() + 0.1), ones)
    close(softmax_weight(ones * 7.5), ones, 1e-12)
    close(exponential_weight(advantage, temperature=math.inf), ones, 0)


@given(advantage=scalars(), temperature=st.floats(0.05, 10))
def test_a_softmax_weight_is_the_normalised_exponential(
    advantage: Tensor, temperature: float
) -> None:
    """They sum to B, and B * exp / sum(exp) is the same by definition."""
    result = softmax_weight(advantage, temperature=temperature)
    assert float(result.sum()) == pytest.approx(len(advantage), rel=1e-9)
    shifted = exponential_weight(advantage - advantage.max(), temperature=temperature)
    close(result, shifted / shifted.mean(), 1e-9)


@given(advantage=scalars(), shift=st.floats(-1e3, 1e3))
def test_a_softmax_weight_ignores_a_constant_shift(advantage: Tensor, shift: float) -> None:
    close(softmax_weight(advantage + shift), softmax_weight(advantage), 1e-9)


def test_a_softmax_weight_is_normalised_per_update() -> None:
    """[K, B]: each update has its own softmax over the last axis."""
    stacked = torch.stack([advantages(), 3 * advantages()])
    expected = torch.stack([softmax_weight(advantages()), softmax_weight(3 * advantages())])
    assert torch.equal(softmax_weight(stacked), expected)


@given(advantage=scalars(), inverse=st.floats(0.1, 10))
def test_marwil_with_norm_one_is_the_exponential(advantage: Tensor, inverse: float) -> None:
    one = marwil_weight(advantage, f64(1.0)[0], beta=inverse)
    two = exponential_weight(advantage, temperature=(1 + 1e-8) / inverse)
    torch.testing.assert_close(one, two, rtol=1e-9, atol=0)


def test_marwil_with_a_norm_of_zero_stays_finite() -> None:
    """All advantages 0, so c = 0: exp(0 / 1e-8) = 1."""
    assert torch.equal(marwil_weight(torch.zeros(3), torch.tensor(0.0), beta=1.0), torch.ones(3))


# --- caps and selections --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_weight", [0.3, 1.0, 7.0, 20.0, 100.0])
def test_no_weight_exceeds_its_cap(max_weight: float, dtype: torch.dtype) -> None:
    """Capped rows are the cap to the bit, overflowing exponentials included; others are not cut."""
    advantage = torch.tensor([-2.0, 5.0, 100.0, 1e6], dtype=dtype)
    result = exponential_weight(advantage, max_weight=max_weight)
    assert result.dtype == dtype
    assert torch.equal(
        result, torch.minimum(advantage.exp(), torch.tensor(max_weight, dtype=dtype))
    )
    assert result[0] == advantage[0].exp() and float(result[3]) == pytest.approx(max_weight)
    norm = torch.tensor(1.0, dtype=dtype)
    capped = marwil_weight(advantage, norm, beta=1.0, max_weight=max_weight)
    assert torch.equal(capped[1:], result[1:])
    torch.testing.assert_close(capped[0], result[0])


@given(score=scalars(), fraction=st.floats(0.01, 1))
def test_the_top_fraction_keeps_the_best(score: Tensor, fraction: float) -> None:
    """Against Python's sort: best first, earlier row first among equals, at least one."""
    count = len(score)
    keep = max(1, math.floor(fraction * count + 1e-9))
    order = sorted(range(count), key=lambda row: (-float(score[row]), row))
    expected = torch.zeros_like(score)
    expected[order[:keep]] = 1.0
    assert torch.equal(top_fraction_weight(score, fraction=fraction), expected)


@pytest.mark.parametrize(
    ("rows", "fraction", "kept"), [(10, 0.3, 3), (10, 0.7, 7), (3, 0.1, 1), (100, 0.29, 29)]
)
def test_a_fraction_is_not_lost_to_rounding(rows: int, fraction: float, kept: int) -> None:
    """0.29 * 100 is 28.999999999999996 in floating point, and means 29 rows."""
    result = top_fraction_weight(torch.arange(float(rows)), fraction=fraction)
    assert int(result.sum()) == kept
    assert torch.equal(result[-kept:], torch.ones(kept))


def test_ties_go_to_the_earlier_rows() -> None:
    result = top_fraction_weight(torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0]), fraction=0.4)
    assert result.tolist() == [0, 1, 1, 0, 0]


def test_an_advantage_of_zero_is_not_positive() -> None:
    result = binary_weight(f64(0, 1e-30, -1e-30))
    assert result.tolist() == [0, 1, 0] and result.dtype == torch.float64


@given(value=scalars(low=0.0))
def test_a_return_weight_is_the_return(value: Tensor) -> None:
    assert torch.equal(return_weight(value), value)


# --- properties of all ----------------------------------------------------------------------------


@every(EVERY)
def test_no_gradient_flows_through_a_weight(weight: Weight) -> None:
    advantage = advantages().requires_grad_()
    result = weight(advantage)
    assert not result.requires_grad and result.shape == advantage.shape


def test_no_gradient_flows_through_the_running_norm() -> None:
    norm = torch.tensor(4.0, requires_grad=True)
    assert not marwil_weight(advantages(), norm, beta=1.0).requires_grad


@every(EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_keeps_the_dtype_and_its_input(weight: Weight, dtype: torch.dtype) -> None:
    advantage = advantages().to(dtype)
    assert weight(advantage).dtype == dtype
    assert torch.equal(advantage, advantages().to(dtype))


@every(EVERY)
@given(data=st.data())
def test_a_permuted_batch_gives_permuted_weights(weight: Weight, data: st.DataObject) -> None:
    """Without ties, which the top fraction settles by row number."""
    advantage = data.draw(scalars())
    advantage = advantage + torch.arange(len(advantage)) * 1e-4
    order = data.draw(permutations(len(advantage)))
    if len(torch.unique(advantage)) == len(advantage):
        torch.testing.assert_close(
            weight(advantage[order]), weight(advantage)[order], rtol=1e-12, atol=1e-12
        )


@every(ROW_BY_ROW)
@given(data=st.data())
def test_one_row_never_changes_another(weight: Weight, data: st.DataObject) -> None:
    """Holds for all but the two that declare a batch statistic."""
    advantage = data.draw(scalars())
    row = data.draw(st.integers(0, len(advantage) - 1))
    moved = advantage.clone()
    moved[row] = -7.25
    others = torch.arange(len(advantage)) != row
    assert torch.equal(weight(advantage)[others], weight(moved)[others])


@every(BATCH_WIDE)
def test_batch_statistics_do_look_at_other_rows(weight: Weight) -> None:
    """The counterpart: row 2 falls from best to worst, and the weight of row 0 moves."""
    assert weight(f64(0.5, -1, 2, 0))[0] != weight(f64(0.5, -1, -9, 0))[0]


@every(
    {
        name: EVERY[name]
        for name in ("exponential", "softmax", "binary", "positive", "marwil", "return")
    }
)
@given(advantage=scalars(low=0.0))
def test_a_better_row_never_weighs_less(weight: Weight, advantage: Tensor) -> None:
    order = torch.argsort(advantage)
    assert bool((weight(advantage)[order].diff() >= -1e-12).all())


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature {temperature} .*must both be above 0"):
        exponential_weight(advantages(), temperature=temperature)
    with pytest.raises(ValueError, match=f"temperature {temperature} must be above 0"):
        softmax_weight(advantages(), temperature=temperature)


@pytest.mark.parametrize("max_weight", [0.0, -20.0, math.nan])
def test_a_cap_must_be_positive(max_weight: float) -> None:
    with pytest.raises(ValueError, match=f"max_weight {max_weight} must both be above 0"):
        exponential_weight(advantages(), max_weight=max_weight)
    with pytest.raises(ValueError, match=f"max_weight is {max_weight}, it must be above 0"):
        positive_weight(advantages(), max_weight=max_weight)
    with pytest.raises(ValueError, match=f"max_weight {max_weight} above 0"):
        marwil_weight(advantages(), f64(1.0)[0], beta=1.0, max_weight=max_weight)


@pytest.mark.parametrize("beta", [-0.5, math.nan])
def test_a_beta_must_not_be_negative(beta: float) -> None:
    with pytest.raises(ValueError, match=f"beta {beta} must be at least 0"):
        marwil_weight(advantages(), f64(1.0)[0], beta=beta)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan])
def test_a_fraction_must_lie_in_its_range(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"fraction is {fraction}, it must lie in \(0, 1\]"):
        top_fraction_weight(advantages(), fraction=fraction)


def test_a_negative_return_is_refused_with_its_row() -> None:
    """The first of two in a row; a return of 0 before them is allowed."""
    with pytest.raises(ValueError, match=r"return -0.5 in row 1 is negative.*shift the rewards"):
        return_weight(f64(0, -0.5, -2, 3))
    with pytest.raises(ValueError, match="return -1e-30 in row 2 is negative"):
        return_weight(f64(0, 1, -1e-30))


# --- what a batch of weights is worth -------------------------------------------------------------


def test_weight_metrics_of_four_weights() -> None:
    """Weights 0, 1, 1, 2: sum 4, sum of squares 6, so 16 / 6 rows of 4; one of 4 at the cap."""
    found = weight_metrics(torch.tensor([0.0, 1.0, 1.0, 2.0]), max_weight=2.0)
    assert found["weight"].item() == 1.0
    assert found["effective_sample_size"].item() == pytest.approx(2 / 3)
    assert found["clipped"].item() == 0.25


@pytest.mark.parametrize(
    ("weights", "share"),
    [([3.0] * 5, 1.0), ([0.0, 7.0, 0.0, 0.0, 0.0], 0.2), ([0.0] * 5, 0.0), ([1e30] * 5, 0.0)],
    ids=["equal", "one row", "none", "squares that overflow"],
)
def test_effective_sample_size_at_its_ends(weights: list[float], share: float) -> None:
    found = weight_metrics(torch.tensor(weights))
    assert found["effective_sample_size"].item() == pytest.approx(share)
    assert "clipped" not in found
