"""Information gain, disagreement and the ratio of regret to information: TB17 by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import information
from hindsight_rl.maths.divergences import normal_kl

# Three members, two outputs each: the state outputs of the example of maths.dynamics.
MEAN = torch.tensor([[1.0, 0.0], [1.2, 0.1], [0.9, -0.3]], dtype=torch.float64)
STD = torch.tensor([[0.1, 0.2], [0.3, 0.0], [0.2, 0.2]], dtype=torch.float64)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_categorical_gain_by_hand() -> None:
    """(.9, .1) and (.1, .9): log 2 less the entropy of (.9, .1); equal members say nothing."""
    share = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.1, 0.9], [0.3, 0.7]]], dtype=torch.float64)
    assert_close(information.categorical_gain(share), f64(0.368064, 0.0), atol=2e-6, rtol=0)


def test_members_that_are_sure_and_differ_say_all_there_is() -> None:
    assert information.categorical_gain(torch.eye(4)).item() == pytest.approx(math.log(4))


def test_normal_gain_by_hand() -> None:
    """Epistemic (.015556, .028889) by aleatoric (.046667, .026667)."""
    assert information.normal_gain(MEAN, STD).item() == pytest.approx(0.510826, abs=2e-6)


def test_normal_gain_slope() -> None:
    """Two members at m and 0 with noise 1: 1/2 log(1 + m^2 / 4), slope m / (4 + m^2) = 1/5 at 1."""
    mean = torch.tensor([[1.0], [0.0]], dtype=torch.float64, requires_grad=True)
    information.normal_gain(mean, torch.ones_like(mean)).backward()
    assert mean.grad[0].item() == pytest.approx(0.2)


def test_information_does_not_look_at_noise_and_disagreement_has_no_unit_of_it() -> None:
    """Louder noise says less of the members; what they expect, and so differ by, is the same."""
    louder = 3.0 * STD
    assert information.normal_gain(MEAN, louder) < information.normal_gain(MEAN, STD)
    alike = MEAN[:1].expand(3, 2)
    assert information.normal_gain(alike, STD).item() == 0.0
    assert information.mean_disagreement(alike).item() == pytest.approx(0.0, abs=1e-15)


def test_members_without_noise_are_no_fault() -> None:
    none = torch.zeros_like(STD)
    assert information.normal_gain(MEAN, none).isfinite()
    assert information.normal_gain(MEAN[:1].expand(3, 2), none).item() == 0.0


def test_mean_disagreement_by_hand() -> None:
    """(.015556 + .028889) / 2, and its slope 2 (mu_e - mean) / (E D)."""
    mean = MEAN.clone().requires_grad_()
    found = information.mean_disagreement(mean)
    assert found.item() == pytest.approx(0.022222, abs=2e-6)
    found.backward()
    assert_close(mean.grad, 2 * (MEAN - MEAN.mean(0)) / 6)


def test_divergence_of_what_a_step_taught() -> None:
    """KL(N(.1, .9^2) || N(0, 1)) is .015361, the other way round .018096."""
    zero, log_std = f64(0.0), f64(0.9).log()
    assert normal_kl(f64(0.1), log_std, zero, zero).item() == pytest.approx(0.015361, abs=2e-6)
    assert normal_kl(zero, zero, f64(0.1), log_std).item() == pytest.approx(0.018096, abs=2e-6)


def test_information_ratio_takes_the_dearer_arm_that_says_more() -> None:
    """.1^2 / .02 = .5 and .4^2 / .5 = .32: the second."""
    regret = f64(0.1, 0.4).requires_grad_()
    ratio = information.information_ratio(regret, f64(0.02, 0.5))
    assert_close(ratio.detach(), f64(0.5, 0.32))
    assert ratio.argmin().item() == 1
    ratio.sum().backward()
    assert_close(regret.grad, f64(10.0, 1.6))  # 2 regret / gain


def test_an_arm_that_says_nothing_is_free_or_endlessly_dear() -> None:
    found = information.information_ratio(f64(0.0, 0.1), f64(0.0, 0.0))
    assert found.tolist() == [0.0, math.inf]
