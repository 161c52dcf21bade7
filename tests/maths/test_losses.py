"""Losses and log-probabilities: closed forms T2, T6, T11 with gradients, torch as oracle."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import permutations, scalars
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import TanhTransform

from hindsight_rl.maths.losses import (
    categorical_log_prob,
    expectile_loss,
    mixture_log_prob,
    normal_log_prob,
    return_bound,
    tanh_log_slope,
    tanh_normal_log_prob,
    td_target,
    temperature_loss,
    weighted_nll,
)

ATOL = 2e-6


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def leaf(*values: float) -> Tensor:
    return f64(*values).requires_grad_()


def close(actual: Tensor | None, expected: Tensor | list[float], atol: float = ATOL) -> None:
    assert actual is not None
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=atol)


def randoms(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- T2: expectiles -------------------------------------------------------------------------------

SAMPLE = (0.0, 1.0, 2.0, 10.0)


@pytest.mark.parametrize(
    ("expectile", "at", "loss"),
    [
        (0.5, 3.25, 7.843750),
        (0.7, 4.937500, 8.123438),
        (0.8, 6.142857, None),
        (0.9, 7.750000, 4.606250),
        (0.99, 9.735294, None),
    ],
)
def test_expectiles_of_t2(expectile: float, at: float, loss: float | None) -> None:
    """T2: the expectile of 0, 1, 2, 10 solves (1 - t)(3 m - 3) = t (10 - m) for m in [2, 10].

    So m = (3 (1 - t) + 10 t) / (3 (1 - t) + t). There the mean loss has no gradient; at any m in
    [2, 10] the gradient is ((1 - t)(3 m - 3) - t (10 - m)) / 2, at m = 4: (9 (1 - t) - 6 t) / 2.
    """
    solution = (3 * (1 - expectile) + 10 * expectile) / (3 * (1 - expectile) + expectile)
    assert solution == pytest.approx(at, abs=ATOL)
    for point, gradient in [(solution, 0.0), (4.0, (9 * (1 - expectile) - 6 * expectile) / 2)]:
        value = leaf(point)
        result = expectile_loss(f64(*SAMPLE) - value, expectile=expectile).mean()
        result.backward()
        close(value.grad, [gradient])
        if loss is not None and point == solution:
            close(result, torch.tensor(loss))


@given(difference=scalars())
def test_an_expectile_of_one_half_is_half_the_squared_error(difference: Tensor) -> None:
    assert torch.equal(expectile_loss(difference, expectile=0.5), 0.5 * difference**2)


@given(difference=scalars(), expectile=st.floats(0.01, 0.99))
def test_expectile_loss_row_by_row(difference: Tensor, expectile: float) -> None:
    """Mirror image: the loss of -u at 1 - t is the loss of u at t."""
    result = expectile_loss(difference, expectile=expectile)
    expected = [abs(expectile - (u < 0)) * u * u for u in difference.tolist()]
    close(result, expected, 1e-12)
    close(expectile_loss(-difference, expectile=1 - expectile), result, 1e-12)


@pytest.mark.parametrize("expectile", [0.0, 1.0, -0.3, 1.5, math.nan])
def test_an_expectile_outside_its_range_is_refused(expectile: float) -> None:
    with pytest.raises(ValueError, match=rf"expectile is {expectile}, it must lie in \(0, 1\)"):
        expectile_loss(torch.zeros(2), expectile=expectile)


# --- targets and the weighted loss ----------------------------------------------------------------


def test_td_target_by_hand() -> None:
    """Row by row r + c V: 1 + .9 * 10 = 10; terminal: 2; 3 + .5 * 4 = 5; no gradient."""
    value = leaf(10, 20, 4)
    ended = torch.tensor([False, True, False])
    result = td_target(leaf(1, 2, 3), ended, value, f64(0.9, 0.9, 0.5))
    close(result, [10, 2, 5])
    assert not result.requires_grad and result.dtype == torch.float64


def test_weighted_nll_gradient_is_minus_the_weight() -> None:
    """-w log pi = .5, -.4, 0; gradient -w by log pi, none by w."""
    log_prob, weight = leaf(-0.5, -0.2, -3), leaf(1, -2, 0)
    result = weighted_nll(log_prob, weight)
    close(result, [0.5, -0.4, 0.0])
    result.sum().backward()
    close(log_prob.grad, [-1, 2, 0])
    assert weight.grad is None


@given(log_prob=scalars(low=-20, high=2))
def test_a_weight_of_one_is_the_plain_nll(log_prob: Tensor) -> None:
    assert torch.equal(weighted_nll(log_prob, torch.ones_like(log_prob)), -log_prob)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda a, b: weighted_nll(a, b), id="weighted_nll"),
        pytest.param(lambda a, b: td_target(a, a > 0, b, a), id="td_target, value"),
        pytest.param(lambda a, b: td_target(a, b > 0, a, a), id="td_target, terminated"),
        pytest.param(lambda a, b: td_target(b, a > 0, a, a), id="td_target, reward"),
        pytest.param(lambda a, b: td_target(a, a > 0, a, b), id="td_target, discount"),
    ],
)
def test_a_column_beside_a_row_is_refused(call: Callable[[Tensor, Tensor], Tensor]) -> None:
    """[B] with [B, 1] would broadcast to [B, B]; the message gives both shapes."""
    with pytest.raises(ValueError, match=r"shapes differ: .*never \[B, 1\]") as caught:
        call(torch.zeros(3), torch.zeros(3, 1))
    assert "(3,)" in str(caught.value) and "(3, 1)" in str(caught.value)


# --- T6: signed labels ----------------------------------------------------------------------------


def test_signed_labels_of_t6() -> None:
    """T6: logits .1, -.2, .3; (action, label) = (0, +1), (2, -1), (1, +1).

    pi = .337585, .250089, .412327. Loss -(log pi0 - log pi2 + log pi1) / 3 = .528646; its gradient
    by logit k is (pi_k * sum(labels) - sum of the labels of action k) / 3, sum(labels) = 1:
    (.337585 - 1) / 3, (.250089 - 1) / 3, (.412327 + 1) / 3.
    The same as REINFORCE with the label as reward, and as N+/N NLL(+) - N-/N NLL(-).
    """
    logits = leaf(0.1, -0.2, 0.3)
    action, label = torch.tensor([0, 2, 1]), f64(1, -1, 1)
    close(logits.softmax(-1), [0.337585, 0.250089, 0.412327])

    def mean_loss() -> Tensor:
        return weighted_nll(categorical_log_prob(action, logits.expand(3, 3)), label).mean()

    def reinforce() -> Tensor:
        return -(Categorical(logits=logits).log_prob(action) * label).mean()

    def two_sets() -> Tensor:
        nll = -Categorical(logits=logits).log_prob(action)
        return 2 / 3 * nll[label > 0].mean() - 1 / 3 * nll[label < 0].mean()

    for loss in (mean_loss, reinforce, two_sets):
        logits.grad = None
        result = loss()
        result.backward()
        close(result, torch.tensor(0.528646))
        close(logits.grad, [-0.220805, -0.249970, 0.470776])


# --- T11: heads -----------------------------------------------------------------------------------


def test_normal_head_of_t11() -> None:
    """T11: a = .5, mu 0, sigma 1: .125 + .918939 = 1.043939.

    Gradient of the NLL, z = (a - mu) / sigma: by mu -z / sigma = -.5, by log sigma 1 - z^2 = .75.
    """
    mean, log_std = leaf(0), leaf(0)
    loss = -normal_log_prob(f64(0.5), mean, log_std)
    loss.backward()
    close(loss, torch.tensor(1.043939))
    close(mean.grad, [-0.5])
    close(log_std.grad, [0.75])


def test_normal_head_with_another_spread() -> None:
    """Sigma 2, a = 3, mu 1: z = 1; NLL .5 + log 2 + .918939; gradients -z / sigma = -.5, 0."""
    mean, log_std = leaf(1), leaf(math.log(2))
    loss = -normal_log_prob(f64(3), mean, log_std)
    loss.backward()
    close(loss, torch.tensor(0.5 + math.log(2) + 0.918939))
    close(mean.grad, [-0.5])
    close(log_std.grad, [0.0])


def test_mixture_head_of_t11() -> None:
    """T11: weights .3, .7, means -1, 1, sigma .5, a = .2: NLL 1.779480.

    z = 2.4, -1.6; component densities proportional to .3 exp(-2.88) and .7 exp(-1.28); their shares
    are the responsibilities g. Gradient of the NLL: by logit k w_k - g_k, by mean k -g_k z_k / .5,
    by log sigma k g_k (1 - z_k^2).
    """
    logits = leaf(math.log(0.3), math.log(0.7))
    mean = f64(-1, 1)[:, None].requires_grad_()
    log_std = torch.full((2, 1), math.log(0.5), dtype=torch.float64, requires_grad=True)
    loss = -mixture_log_prob(f64(0.2), logits, mean, log_std)
    loss.backward()
    close(loss, torch.tensor(1.779480))

    parts = [0.3 * math.exp(-2.88), 0.7 * math.exp(-1.28)]
    share = [part / sum(parts) for part in parts]
    close(logits.grad, [0.3 - share[0], 0.7 - share[1]])
    close(mean.grad, [[-share[0] * 4.8], [share[1] * 3.2]])
    close(log_std.grad, [[share[0] * (1 - 2.4**2)], [share[1] * (1 - 1.6**2)]])


def test_tanh_normal_head_of_t11() -> None:
    """T11: before the squash u = .5, mu 0, sigma 1: -1.043939 - log(1 - tanh(.5)^2) = -.803710.

    The Jacobian does not depend on the parameters: gradients as in the normal case, .5 and -.75.
    """
    mean, log_std = leaf(0), leaf(0)
    result = tanh_normal_log_prob(f64(math.tanh(0.5)), mean, log_std)
    result.backward()
    close(result, torch.tensor(-0.803710))
    close(mean.grad, [0.5])
    close(log_std.grad, [-0.75])


# --- log-probabilities against torch --------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), actions=st.integers(1, 4))
def test_normal_equals_torch(seed: int, actions: int) -> None:
    action, mean, log_std = randoms(seed, 3, 2, 5, actions)
    expected = Independent(Normal(mean, log_std.exp()), 1).log_prob(action)
    torch.testing.assert_close(normal_log_prob(action, mean, log_std), expected)


@given(seed=st.integers(0, 2**32 - 1), actions=st.integers(1, 4))
def test_tanh_normal_equals_torch(seed: int, actions: int) -> None:
    before, mean, log_std = randoms(seed, 3, 2, 5, actions)
    action = before.tanh()
    base = Independent(Normal(mean, log_std.exp()), 1)
    expected = TransformedDistribution(base, TanhTransform()).log_prob(action)
    torch.testing.assert_close(tanh_normal_log_prob(action, mean, log_std, margin=1e-9), expected)


@given(seed=st.integers(0, 2**32 - 1), actions=st.integers(1, 3), parts=st.integers(1, 4))
def test_mixture_equals_torch(seed: int, actions: int, parts: int) -> None:
    action, logits = randoms(seed, 2, 5, actions), randoms(seed + 1, 2, 5, parts)
    mean, log_std = randoms(seed + 2, 2, 2, 5, parts, actions)
    components = Independent(Normal(mean, log_std.exp()), 1)
    expected = MixtureSameFamily(Categorical(logits=logits), components).log_prob(action)
    torch.testing.assert_close(mixture_log_prob(action, logits, mean, log_std), expected)


@given(seed=st.integers(0, 2**32 - 1), actions=st.integers(1, 6))
def test_categorical_equals_torch(seed: int, actions: int) -> None:
    logits = 3 * randoms(seed, 2, 5, actions)
    distribution = Categorical(logits=logits)
    for number in range(actions):
        action = torch.full((2, 5), number)
        result = categorical_log_prob(action, logits)
        torch.testing.assert_close(result, distribution.log_prob(action))


def test_a_mixture_of_one_and_of_equals_is_the_normal() -> None:
    action, mean, log_std = randoms(0, 3, 4, 2)
    expected = normal_log_prob(action, mean, log_std)
    for parts in (1, 3):
        copies = [tensor.unsqueeze(-2).expand(4, parts, 2) for tensor in (mean, log_std)]
        torch.testing.assert_close(
            mixture_log_prob(action, randoms(1, 4, parts), *copies), expected
        )


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_actions_on_the_bound_have_a_finite_density(sign: float, dtype: torch.dtype) -> None:
    """Logs hold actions of exactly +-1: density and gradient stay finite, margin by margin."""
    mean = torch.zeros(1, dtype=dtype, requires_grad=True)
    log_std = torch.zeros(1, dtype=dtype, requires_grad=True)
    action = torch.full((1,), sign, dtype=dtype)
    result = tanh_normal_log_prob(action, mean, log_std)
    result.backward()
    assert bool(torch.isfinite(result)) and bool(torch.isfinite(mean.grad).all())
    assert torch.equal(result, tanh_normal_log_prob(action * (1 - 1e-5), mean, log_std))
    assert torch.equal(result, tanh_normal_log_prob(action, mean, log_std, margin=1e-5))
    wide = tanh_normal_log_prob(action, mean, log_std, margin=0.1)
    assert torch.equal(wide, tanh_normal_log_prob(action * 0.9, mean, log_std, margin=0.1))


def test_densities_integrate_to_one() -> None:
    """The Jacobian is right: the tanh-normal density sums to 1 over (-1, 1), the mixture over R."""
    grid = torch.linspace(-1, 1, 200_003, dtype=torch.float64)[1:-1, None]
    area = tanh_normal_log_prob(grid, f64(0.4), f64(-0.3), margin=1e-7).exp().sum() * 1e-5
    assert float(area) == pytest.approx(1, abs=1e-4)
    grid = torch.linspace(-12, 12, 240_001, dtype=torch.float64)[:, None]
    mean, log_std = f64(-1, 2)[:, None], f64(0.1, -1)[:, None]
    area = mixture_log_prob(grid, f64(0.3, -2), mean, log_std).exp().sum() * 1e-4
    assert float(area) == pytest.approx(1, abs=1e-6)


def test_log_slope_of_tanh_is_exact_where_it_can_be_and_finite_everywhere() -> None:
    """log(1 - tanh^2); for large values 2 (log 2 - |x|), where 1 - tanh^2 is 0 in float32."""
    near = torch.linspace(-5, 5, 101, dtype=torch.float64)
    close(tanh_log_slope(near), (1 - near.tanh().square()).log(), atol=1e-10)
    far = torch.tensor([-300.0, -30.0, 30.0, 300.0], requires_grad=True)
    slope = tanh_log_slope(far)
    slope.sum().backward()
    torch.testing.assert_close(slope, 2 * (math.log(2) - far.abs()))
    assert far.grad is not None and far.grad.tolist() == [2.0, 2.0, -2.0, -2.0]


# --- temperature ----------------------------------------------------------------------------------


def test_temperature_grows_where_the_entropy_is_too_small() -> None:
    """Log pi = -1.5 and -.5 are entropies of 1.5 and .5; target 1: -log(.2) (log pi + 1).

    That is -.804719 and .804719. The gradient by log alpha is entropy minus target, .5 and -.5: a
    step against it raises alpha where the entropy falls short. None reaches the policy.
    """
    log_alpha, log_prob = leaf(math.log(0.2)), leaf(-1.5, -0.5)
    for row, gradient in ((0, 0.5), (1, -0.5)):
        loss = temperature_loss(log_alpha, log_prob, 1.0)
        close(loss, [-0.804719, 0.804719])
        log_alpha.grad = None
        loss[row].backward()
        close(log_alpha.grad, [gradient])
    assert log_prob.grad is None


# --- properties of all ----------------------------------------------------------------------------

Loss = Callable[[Tensor], Tensor]


def wide(batch: Tensor, *shape: int) -> Tensor:
    """Return ``[B, *shape]`` numbers that depend on the row alone."""
    steps = torch.arange(1, 1 + math.prod(shape), dtype=batch.dtype).view(shape)
    return torch.sin(batch.view(-1, *(1 for _ in shape)) * steps)


LOSSES: dict[str, Loss] = {
    "expectile": lambda x: expectile_loss(x, expectile=0.8),
    "td": lambda x: td_target(x, x > 0, x.sin(), x.cos().abs()),
    "nll": lambda x: weighted_nll(x.sin(), x),
    "normal": lambda x: normal_log_prob(wide(x, 2), wide(x + 1, 2), wide(x + 2, 2)),
    "tanh normal": lambda x: tanh_normal_log_prob(wide(x, 2), wide(x + 1, 2), wide(x + 2, 2)),
    "temperature": lambda x: temperature_loss(torch.tensor(0.3, dtype=x.dtype), x, -2.0),
    "mixture": lambda x: mixture_log_prob(
        wide(x, 2), wide(x, 3), wide(x + 1, 3, 2), wide(x + 2, 3, 2)
    ),
    "categorical": lambda x: categorical_log_prob(x.long().abs() % 3, wide(x, 3)),
    "bound": lambda x: return_bound(
        wide(x, 3).log_softmax(-1), wide(x + 1, 3).exp(), wide(x + 2, 3).softmax(-1)
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@given(data=st.data())
def test_rows_are_independent_and_unreduced(loss: Loss, data: st.DataObject) -> None:
    """One number per row; a permuted batch gives permuted rows; one row never moves another."""
    batch = data.draw(scalars())
    result = loss(batch)
    assert result.shape == batch.shape and result.dtype == torch.float64
    order = data.draw(permutations(len(batch)))
    torch.testing.assert_close(loss(batch[order]), result[order], rtol=1e-12, atol=1e-12)
    row = data.draw(st.integers(0, len(batch) - 1))
    moved = batch.clone()
    moved[row] = -7.25
    others = torch.arange(len(batch)) != row
    torch.testing.assert_close(loss(moved)[others], result[others], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_single_precision_stays_single(loss: Loss) -> None:
    assert loss(torch.tensor([0.5, -1.5, 2.0])).dtype == torch.float32
