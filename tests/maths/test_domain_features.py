"""TB23: what ``benchmarks/course/sensors.py`` measures by, domain-adversarial features."""

import pytest
import torch
from benchmark_scripts import loaded

sensors = loaded("course/sensors")


def test_the_weight_of_the_adversary_rises_from_0_to_nearly_1() -> None:
    found = [sensors.strength(progress) for progress in (0.0, 0.1, 0.5, 1.0)]
    assert found == pytest.approx([0.0, 0.462117, 0.986614, 0.999909], abs=1e-6)


def test_a_turned_gradient_is_minus_lambda_times_it_and_the_value_stays() -> None:
    """Of sum(x^2 / 2) it is -lambda x."""
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64, requires_grad=True)
    turned = sensors.Reversal.apply(x, 0.25)
    assert torch.equal(turned, x)
    (turned.square() / 2).sum().backward()
    assert torch.equal(x.grad, -0.25 * x)


def test_one_step_makes_sides_harder_to_tell_and_the_domain_net_better_at_it() -> None:
    """Of the loss of the sides alone: features climb it, the net that tells them descends it."""
    torch.manual_seed(0)
    parts = sensors.Domains()
    sides = [torch.randn(sensors.BATCH, sensors.SENSORS) + shift for shift in (0.0, 1.0)]
    nothing = torch.zeros(1, sensors.SENSORS), torch.zeros(1, 1)
    plain, turned = (
        torch.autograd.grad(parts.loss(sides, *nothing, strength), list(parts.parameters()))
        for strength in (-1.0, 1.0)
    )
    zero = torch.autograd.grad(parts.loss(sides, *nothing, 0.0), list(parts.parameters()))
    names = [name for name, _ in parts.named_parameters()]
    for name, down, up, cloned in zip(names, plain, turned, zero, strict=True):
        if name.startswith("features"):  # the part that tells the sides apart comes back turned
            torch.testing.assert_close(up - cloned, cloned - down, atol=1e-6, rtol=1e-4)
            assert (up - cloned).abs().max() > 1e-6
        else:
            assert torch.equal(up, down)
