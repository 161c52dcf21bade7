"""Models of the dynamics by hand: TB1 (soft bounds, loss), TB2 (uncertainties), elites, penalty."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.dynamics import (
    EPISTEMIC,
    UNCERTAINTIES,
    elites,
    gaussian_loss,
    mixture_variance,
    penalised,
    soft_bounds,
    unit_circle,
)
from hindsight_rl.maths.losses import normal_log_prob

ATOL = 2e-6
MEAN = [[1, 0, 0.5], [1.2, 0.1, 0.5], [0.9, -0.3, 0.8]]
STD = [[0.1, 0.2, 0.2], [0.3, 0, 0.4], [0.2, 0.2, 0.1]]


def f64(*values: float | list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: list[float] | list[list[float]] | float) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), wanted, rtol=0, atol=ATOL)


# --- TB1: bounds and loss -------------------------------------------------------------------------


def test_soft_bounds() -> None:
    """TB1. softplus(12.5) = 12.500004, so .5 less it is -12.000004; softplus(-2.000004) = .126928.

    The slope by lv is sigma(high - lv) sigma(bounded - low): .999996 x .119203 = .119202,
    .622459 x .999927 = .622414, .182426 x .999966 = .182419. That by high is
    sigma(lv - high) sigma(bounded - low), that by low sigma(low - bounded).
    """
    lv, low, high = f64(-12, 0, 2), f64(-10, -10, -10), f64(0.5, 0.5, 0.5)
    for given in (lv, low, high):
        given.requires_grad_()
    found = soft_bounds(lv, low, high)
    close(high - torch.nn.functional.softplus(high - lv), [-12.000004, -0.474077, 0.298587])
    close(found, [-9.873072, -0.474004, 0.298620])
    by_value, by_low, by_high = torch.autograd.grad(found.sum(), (lv, low, high))
    close(by_value, [0.119202, 0.622414, 0.182419])
    close(by_low, [0.880797, 0.000073, 0.000034])
    close(by_high, [0.000000, 0.377513, 0.817546])


def test_loss_is_twice_the_nll_less_its_constant() -> None:
    """TB1: [.25, -2]. Slopes 2 (mu - y) exp(-lv): [-1, 0]; 1 - (mu - y)^2 exp(-lv): [.75, 1]."""
    mean, lv, y = f64(0, 1).requires_grad_(), f64(0, -2).requires_grad_(), f64(0.5, 1)
    loss = gaussian_loss(mean, lv, y)
    close(loss, [0.25, -2])
    close(loss.mean(), -0.875)
    by_mean, by_lv = torch.autograd.grad(loss.sum(), (mean, lv))
    close(by_mean, [-1, 0])
    close(by_lv, [0.75, 1])
    nll = -normal_log_prob(y.unsqueeze(-1), mean.unsqueeze(-1), 0.5 * lv.unsqueeze(-1))
    close(nll, [1.043939, -0.081061])
    close(0.5 * (loss.sum() + 2 * math.log(2 * math.pi)), 0.962877)
    close(nll.sum(), 0.962877)


def test_one_target_serves_all_members_or_each_has_its_own() -> None:
    mean, lv = torch.zeros(3, 4, 2), torch.zeros(3, 4, 2)
    target = torch.arange(8.0).reshape(4, 2)
    alike = gaussian_loss(mean, lv, target)
    assert alike.equal(target.square().expand(3, 4, 2))
    assert gaussian_loss(mean, lv, target.expand(3, 4, 2)).equal(alike)
    with pytest.raises(ValueError, match=r"mean \(3, 4, 2\).*target \(4, 1\)"):
        gaussian_loss(mean, lv, target[:, :1])


def test_angles_return_to_the_circle() -> None:
    """(3, 4) by 5, the other stays; slopes of c / n: s^2 / n^3 = .128, -c s / n^3 = -.096."""
    value, where = f64(3, 7, 4).requires_grad_(), (torch.tensor([0]), torch.tensor([2]))
    found = unit_circle(value, *where)
    close(found, [0.6, 7, 0.8])
    close(torch.autograd.grad(found[0], value, retain_graph=True)[0], [0.128, 0, -0.096])
    close(torch.autograd.grad(found[1], value)[0], [0.0, 1, 0])
    rows = torch.stack([value, torch.zeros(3, dtype=torch.float64)])[:, None]
    close(unit_circle(rows, *where)[:, 0], [[0.6, 7, 0.8], [0.0, 0, 0]])
    nowhere = torch.zeros(0, dtype=torch.int64)
    assert unit_circle(value, nowhere, nowhere) is value


# --- TB2: uncertainties ---------------------------------------------------------------------------


def test_two_parts_of_the_variance() -> None:
    parts = mixture_variance(f64(*MEAN), f64(*STD))
    close(parts.aleatoric, [0.046667, 0.026667, 0.07])
    close(parts.epistemic, [0.015556, 0.028889, 0.02])
    # The variance of the mixture: E x^2 - (E x)^2.
    second = (f64(*STD).square() + f64(*MEAN).square()).mean(0)
    total = parts.aleatoric + parts.epistemic
    torch.testing.assert_close(total, second - f64(*MEAN).mean(0).square())


@pytest.mark.parametrize(
    ("kind", "outputs", "value"),
    [
        ("aleatoric_max", 3, 0.5),
        ("mean_deviation", 2, 0.268742),
        ("pairwise", 2, 0.5),
        ("ensemble_std", 2, 0.210819),
        ("total_std", 3, 0.455826),
    ],
)
def test_uncertainties(kind: str, outputs: int, value: float) -> None:
    """TB2; of one row, of rows in any shape."""
    mean, std = f64(*MEAN)[:, :outputs], f64(*STD)[:, :outputs]
    close(UNCERTAINTIES[kind](mean, std), value)
    many = UNCERTAINTIES[kind](*(t[:, None, None].expand(3, 4, 5, -1) for t in (mean, std)))
    close(many, [[value] * 5] * 4)


def slopes(kind: str, outputs: int) -> tuple[Tensor, Tensor]:
    mean = f64(*MEAN)[:, :outputs].requires_grad_()
    std = f64(*STD)[:, :outputs].requires_grad_()
    found = torch.autograd.grad(
        UNCERTAINTIES[kind](mean, std), (mean, std), allow_unused=True, materialize_grads=True
    )
    return found[0], found[1]


def test_slopes_of_uncertainties() -> None:
    """By hand.

    `aleatoric_max`: sigma of the second member by its norm. `mean_deviation`: the third is the
    furthest, by (-.133333, -.233333), a direction of (-.496139, -.868243), of which it has 2/3 and
    each other -1/3. `pairwise`: second less third, (.3, .4) by .5. `ensemble_std`: deviations by
    3 x .210819. `total_std`: sigma by 3 x .455826.
    """
    none = [[0.0, 0, 0]] * 3
    by_mean, by_std = slopes("aleatoric_max", 3)
    close(by_mean, none)
    close(by_std, [[0, 0, 0], [0.6, 0, 0.8], [0, 0, 0]])
    by_mean, _ = slopes("mean_deviation", 2)
    close(by_mean, [[0.165380, 0.289414], [0.165380, 0.289414], [-0.330759, -0.578829]])
    by_mean, _ = slopes("pairwise", 2)
    close(by_mean, [[0, 0], [0.6, 0.8], [-0.6, -0.8]])
    by_mean, by_std = slopes("ensemble_std", 2)
    close(by_mean, [[-0.052705, 0.105409], [0.263523, 0.263523], [-0.210819, -0.368932]])
    close(by_std, [[0.0, 0]] * 3)
    by_mean, by_std = slopes("total_std", 3)
    close(by_mean[0], [-0.033333 / 1.367479, 0.066667 / 1.367479, -0.1 / 1.367479])
    close(by_std, (f64(*STD) / 1.367479).tolist())


def test_members_that_agree() -> None:
    """All but the two with noise in them are 0, with a slope that is a number."""
    mean, std = f64(*MEAN[:1]).expand(3, 3).clone().requires_grad_(), f64(*STD[:1]).expand(3, 3)
    for kind in EPISTEMIC:
        found = UNCERTAINTIES[kind](mean, std)
        close(found, 0.0)
        close(torch.autograd.grad(found, mean)[0], [[0.0, 0, 0]] * 3)
    for kind in set(UNCERTAINTIES) - set(EPISTEMIC):
        close(UNCERTAINTIES[kind](mean, std), 0.3)


def test_order_of_members_does_not_matter() -> None:
    mean, std = torch.randn(2, 5, 7, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    order = torch.tensor([3, 0, 4, 1, 2])
    for kind in UNCERTAINTIES.values():
        torch.testing.assert_close(kind(mean[order], std[order].abs()), kind(mean, std.abs()))


# --- penalty, elites ------------------------------------------------------------------------------


def test_penalty_of_tb2() -> None:
    """TB2: 1 - 2 x .268742."""
    found = penalised(f64(1), f64(0.268742), penalty=2.0)
    close(found, [0.462516])
    reward = f64(1, math.pi)
    assert penalised(reward, f64(math.inf, 3), penalty=0.0) is reward
    with pytest.raises(ValueError, match=r"reward \(2,\), disagreement \(2, 1\)"):
        penalised(reward, f64([1], [2]), penalty=1.0)


def test_elites_have_the_least_error() -> None:
    error = torch.tensor([0.3, 0.1, 0.2, 0.1, 0.9])
    assert elites(error, 3).tolist() == [1, 2, 3]
    assert elites(error, 1).tolist() == [1]
    assert elites(error, 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"elites is 6, it must lie in \[1, 5\]"):
        elites(error, 6)
