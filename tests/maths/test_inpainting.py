"""What is known of a chunk: put in, drawn, and continued as the joint distribution says."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.diffusion import cosine_betas, ddim, signals
from hindsight_rl.maths.flow import euler_flow, flow_error, heun_flow, interpolate, valid_sum
from hindsight_rl.maths.inpainting import delays, first_entries, inpainted, put_in

RHO = 0.8
KNOWN = torch.tensor([[0.5], [-2.0]], dtype=torch.float64)
NOISE = torch.tensor([[0.3, 1.7], [-1.1, -0.4]], dtype=torch.float64)


def test_the_first_entries() -> None:
    found = first_entries(torch.tensor([0, 2, 3]), 3)
    assert found.tolist() == [[False] * 3, [True, True, False], [True] * 3]


def test_what_is_known_replaces_the_first_numbers_and_gets_no_gradient() -> None:
    """(1, 2, 3) with (7, 9), the first of which is known: (7, 2, 3)."""
    point = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    found = put_in(point, torch.tensor([[7.0, 9.0]]), torch.tensor([[True, False]]))
    assert found.tolist() == [[7.0, 2.0, 3.0]]
    (found * torch.tensor([5.0, 6.0, 8.0])).sum().backward()
    assert point.grad is not None and point.grad.tolist() == [[0.0, 6.0, 8.0]]


def test_delays_are_uniform_and_leave_an_action_to_fit() -> None:
    """Of 0, ..., 3 a quarter each; a chunk of two actions gives at most one, one of one none."""
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    valid = torch.ones(1000, 5, dtype=torch.bool)
    assert delays(uniform, valid, largest=3).bincount().tolist() == [250] * 4
    valid[:, 2:] = False
    assert delays(uniform, valid, largest=3).bincount().tolist() == [250, 750]
    valid[:, 1:] = False
    assert not delays(uniform, valid, largest=3).any()
    assert delays(torch.tensor([0.0, 1.0]), torch.ones(2, 9).bool(), largest=3).tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"uniform \(2, 1\), valid \(2,\)"):
        delays(torch.zeros(2, 1), torch.ones(2, 9).bool(), largest=3)


def test_errors_count_behind_what_is_given() -> None:
    """Chunks (a_0, a_1) of one number, v = w x: by hand, in value and gradient.

    With t = 1/4, a = (2, 4), eps = (1, -1): x = (1.25, 0.25), with a_0 given (2, 0.25). The target
    is (1, 5). Given a_0 the loss is (0.25 w_1 - 5)^2; with w_1 = 4 it is 16 and its gradient
    2 (1 - 5) 0.25 = -2, that of w_0 0. Nothing given, the plain loss to the bit.
    """
    data, noise = torch.tensor([[2.0, 4.0]]), torch.tensor([[1.0, -1.0]])
    weight = torch.tensor([3.0, 4.0], requires_grad=True)

    def loss(count: int) -> Tensor:
        given = first_entries(torch.tensor([count]), 2)
        point = put_in(interpolate(data, noise, torch.tensor([0.25])), data, given)
        return valid_sum(flow_error(weight * point, data, noise), ~given).sum()

    found = loss(1)
    assert found.item() == 16.0
    (gradient,) = torch.autograd.grad(found, weight)
    assert gradient.tolist() == [0.0, -2.0]
    plain = flow_error(weight * interpolate(data, noise, torch.tensor([0.25])), data, noise).sum()
    assert torch.equal(loss(0), plain)
    assert loss(2).item() == 0.0


def conditional(known: Tensor) -> tuple[Tensor, float]:
    """Return mean and variance of a_1 given a_0, of two numbers of variance 1."""
    return RHO * known, 1.0 - RHO**2


def velocity(point: Tensor, time: float) -> Tensor:
    """Return E[a - eps | x_t] of a_1 given that the first number of x_t is a_0, and nonsense."""
    mean, variance = conditional(point[..., :1])
    spread = (1.0 - time) ** 2 + time**2 * variance
    pull = (time * variance - (1.0 - time)) / spread
    rest = mean + pull * (point[..., 1:] - time * mean)
    return torch.cat([torch.full_like(rest, 1e3), rest], dim=-1)


@pytest.mark.parametrize("walk", [euler_flow, heun_flow])
@pytest.mark.parametrize("steps", [1, 4, 200])
def test_a_flow_given_the_first_action_has_the_conditional_mean(
    walk: Callable[..., Tensor], steps: int
) -> None:
    """Two actions of correlation rho: opposite noises meet at rho a_0, for any number of steps.

    The velocity is linear in x - t rho a_0, so noise moves the end by what it is times a number.
    With many steps the number is sqrt(1 - rho^2): the conditional distribution itself.
    """
    mask = torch.ones(2, 1, dtype=torch.bool)
    field = inpainted(velocity, KNOWN, mask)
    ends = [put_in(walk(field, noise, steps), KNOWN, mask) for noise in (NOISE, -NOISE)]
    for end in ends:
        assert torch.equal(end[:, :1], KNOWN)
    middle = (ends[0] + ends[1])[:, 1] / 2
    torch.testing.assert_close(middle, RHO * KNOWN[:, 0], atol=1e-12, rtol=0)
    if steps == 200:
        moved = (ends[0] - ends[1])[:, 1] / 2 / NOISE[:, 1]
        assert moved.tolist() == pytest.approx([math.sqrt(1 - RHO**2)] * 2, abs=5e-3)


def test_a_diffusion_given_the_first_action_has_the_conditional_mean() -> None:
    """The same by DDIM: E[eps | a_k, a_0] = sqrt(1 - abar) (a_k - sqrt(abar) m) / var(a_k).

    The end is m + g (eps - sqrt(abar) m), abar being that of the noisiest step, nearly 0.
    """
    signal = signals(cosine_betas(100))

    def noise_in(point: Tensor, k: int) -> Tensor:
        mean, variance = conditional(point[..., :1])
        spread = signal[k] * variance + 1.0 - signal[k]
        rest = math.sqrt(1.0 - signal[k]) / spread * (point[..., 1:] - math.sqrt(signal[k]) * mean)
        return torch.cat([torch.full_like(rest, 1e3), rest], dim=-1)

    mask = torch.ones(2, 1, dtype=torch.bool)
    field = inpainted(noise_in, KNOWN, mask)
    ends = [put_in(ddim(field, noise, signal, steps=10), KNOWN, mask) for noise in (NOISE, -NOISE)]
    assert torch.equal(ends[0][:, :1], KNOWN)
    middle, mean = (ends[0] + ends[1])[:, 1] / 2, RHO * KNOWN[:, 0]
    moved = (ends[0] - ends[1])[:, 1] / 2 / NOISE[:, 1]
    # Walks of a diffusion compute with numbers of float32, see maths.diffusion.single.
    torch.testing.assert_close(
        middle, mean * (1.0 - moved * math.sqrt(signal[-1])), atol=2e-8, rtol=0
    )
    torch.testing.assert_close(middle, mean, atol=1e-3, rtol=0)
