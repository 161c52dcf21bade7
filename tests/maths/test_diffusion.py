"""Diffusion against data whose noise is known: a Gaussian, to six digits (closed form T22)."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.diffusion import (
    Prediction,
    cosine_betas,
    data_implied,
    ddim,
    diffusion_error,
    noised,
    signals,
    trailing_steps,
    vp_betas,
)

MEAN, STD, ATOL = 0.3, 0.2, 2e-6
COSINE = signals(cosine_betas(100))
SPREAD = {
    1: (0.3, 0.00002),
    2: (0.299994, 0.038027),
    5: (0.299986, 0.097346),
    10: (0.299979, 0.140602),
    20: (0.299975, 0.168161),
    100: (0.299971, 0.193073),
}


def gaussian_noise(x: Tensor, k: int) -> Tensor:
    """E[eps | a_k = x] for data N(0.3, 0.2^2): data and a_k are jointly normal."""
    kept = COSINE[k]
    return math.sqrt(1 - kept) * (x - math.sqrt(kept) * MEAN) / (kept * STD**2 + 1 - kept)


def gaussian_data(x: Tensor, k: int) -> Tensor:
    """E[a | a_k = x] for the same data."""
    kept = COSINE[k]
    return MEAN + math.sqrt(kept) * STD**2 * (x - math.sqrt(kept) * MEAN) / (
        kept * STD**2 + 1 - kept
    )


def gaussian_velocity(x: Tensor, k: int) -> Tensor:
    """E[sqrt(abar) eps - sqrt(1 - abar) a | a_k = x] for the same data."""
    kept = COSINE[k]
    return math.sqrt(kept) * gaussian_noise(x, k) - math.sqrt(1 - kept) * gaussian_data(x, k)


@pytest.mark.parametrize("k", [0, 49, 99])
def test_the_velocity_magnifies_no_error(k: int) -> None:
    """An error in the answer moves the data by as much at most; of the noise by 2,029 times it."""
    point, error = torch.tensor([0.7], dtype=torch.float64), 1e-6
    moved = {}
    for network, predict in ((gaussian_noise, "noise"), (gaussian_velocity, "velocity")):
        answer = network(point, k)
        right, wrong = (
            data_implied(point, answer + off, COSINE[k], predict) for off in (0.0, error)
        )
        torch.testing.assert_close(right, gaussian_data(point, k))
        moved[predict] = abs(float(wrong - right)) / error
    ratio = math.sqrt(1.0 - COSINE[k])
    assert moved["velocity"] == pytest.approx(ratio, rel=1e-4)
    assert moved["noise"] == pytest.approx(ratio / math.sqrt(COSINE[k]), rel=1e-4)
    assert moved["noise"] == pytest.approx(2029.0, abs=1.0) or k < 99


def test_squared_cosine_schedule() -> None:
    found = [COSINE[k] for k in (0, 1, 49, 50)]
    assert found == pytest.approx([0.999369, 0.998252, 0.493844, 0.478265], abs=ATOL)
    assert math.sqrt(COSINE[99]) == pytest.approx(4.928e-4, abs=5e-8)
    assert cosine_betas(100)[99] == 0.999


def test_variance_preserving_schedule() -> None:
    expected = [0.195875, 0.458818, 0.635781, 0.754878, 0.835031]
    assert vp_betas(5) == pytest.approx(expected, abs=ATOL)
    assert signals(vp_betas(5))[-1] == pytest.approx(0.006409, abs=ATOL)


@pytest.mark.parametrize(("length", "left"), [(100, 0.363563), (1000, 4.036e-5)])
def test_linear_betas_belong_to_a_thousand_steps(length: int, left: float) -> None:
    """With a hundred a third of the data is left where the sampler believes in pure noise."""
    betas = torch.linspace(1e-4, 2e-2, length, dtype=torch.float64).tolist()
    assert signals(betas)[-1] == pytest.approx(left, abs=ATOL if length == 100 else 5e-9)


@pytest.mark.parametrize("steps", SPREAD)
@pytest.mark.parametrize(
    ("network", "predict"),
    [(gaussian_noise, "noise"), (gaussian_data, "sample"), (gaussian_velocity, "velocity")],
)
def test_ddim_of_a_gaussian_is_affine(steps: int, network: Prediction, predict: str) -> None:
    """Without clipping: mean and spread of what comes out, whichever of the three is predicted."""
    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    start, one = ddim(network, noise, COSINE, steps=steps, predict=predict)
    mean, spread = SPREAD[steps]
    assert start.item() == pytest.approx(mean, abs=ATOL)
    assert (one - start).item() == pytest.approx(spread, abs=ATOL)
    (slope,) = torch.autograd.grad(one, noise)
    assert slope.flatten().tolist() == pytest.approx([0, spread], abs=ATOL)


@pytest.mark.parametrize(
    ("steps", "mean", "spread"),
    [
        (1, 0.004664, 0.984764),
        (2, 0.282698, 0.083393),
        (5, 0.289635, 0.118409),
        (10, 0.293647, 0.151480),
    ],
)
def test_leading_steps_would_keep_the_spread_of_the_noise(
    steps: int, mean: float, spread: float
) -> None:
    """The default spacing of other libraries: one such step changes next to nothing.

    A schedule of which only the leading steps are left gives that sampler.
    """
    leading = [i * (100 // steps) for i in range(steps)]

    def network(x: Tensor, place: int) -> Tensor:
        return gaussian_noise(x, leading[place])

    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    start, one = ddim(network, noise, [COSINE[k] for k in leading], steps=steps)
    assert start.item() == pytest.approx(mean, abs=ATOL)
    assert (one - start).item() == pytest.approx(spread, abs=ATOL)


def test_trailing_steps_begin_at_the_noisiest() -> None:
    assert trailing_steps(100, 10) == (99, 89, 79, 69, 59, 49, 39, 29, 19, 9)
    assert trailing_steps(100, 1) == (99,)
    assert trailing_steps(5, 5) == (4, 3, 2, 1, 0)
    for steps in range(1, 101):
        found = trailing_steps(100, steps)
        assert len(set(found)) == steps and found[0] == 99 and min(found) >= 0


@pytest.mark.parametrize("steps", [0, 101])
def test_more_steps_than_there_are_is_an_error(steps: int) -> None:
    with pytest.raises(ValueError, match=f"{steps} steps of a diffusion of 100: give 1 to 100"):
        trailing_steps(100, steps)


def test_estimates_are_clipped_and_the_noise_follows_the_clipped_one() -> None:
    """Two steps, signals .8 and .2, an answer of 0 noise: a_1 = 2 means data 2/sqrt(.2) = 4.47.

    Clipped to 1, the noise in a_1 is (2 - sqrt(.2))/sqrt(.8), so a_0 = sqrt(.8) + sqrt(.2) of it,
    and the data there a_0/sqrt(.8) = 1.868: clipped to 1. Unclipped at the end: 1.868034.
    """
    asked: list[float] = []

    def nothing(x: Tensor, _: int) -> Tensor:
        asked.append(x.item())
        return torch.zeros_like(x)

    limits = torch.tensor([-1.0]), torch.tensor([1.0])
    noise = torch.tensor([[2.0]], dtype=torch.float64)
    assert ddim(nothing, noise, (0.8, 0.2), steps=2, limits=limits).item() == 1
    rest = (2 - math.sqrt(0.2)) / math.sqrt(0.8)
    assert asked == pytest.approx([2, math.sqrt(0.8) + math.sqrt(0.2) * rest])
    # Each dimension has its own limits.
    wide = torch.tensor([-1.0, -9.0]), torch.tensor([1.0, 9.0])
    answers = ddim(lambda x, _: torch.zeros_like(x), torch.full((1, 2), 2.0), (0.2,), steps=1,
                   limits=wide)  # fmt: skip
    assert answers.tolist()[0] == pytest.approx([1, 2 / math.sqrt(0.2)])


def test_forward_noise_and_errors() -> None:
    """Signal .64, data 2, noise 5: .8 * 2 + .6 * 5 = 4.6; slopes .8 and .6."""
    data = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([[5.0]], dtype=torch.float64, requires_grad=True)
    point = noised(data, noise, torch.tensor([0.64], dtype=torch.float64))
    assert point.item() == pytest.approx(4.6)
    slopes = torch.autograd.grad(point, (data, noise))
    assert [slope.item() for slope in slopes] == pytest.approx([0.8, 0.6])
    # The velocity: .8 * 5 - .6 * 2 = 2.8.
    signal = torch.tensor([0.64], dtype=torch.float64)
    for predict, error in (("noise", 2.0), ("sample", 5.0), ("velocity", 4.2)):
        answer = torch.tensor([[7.0]], dtype=torch.float64, requires_grad=True)
        found = diffusion_error(answer, data.detach(), noise.detach(), signal, predict)
        assert found.item() == pytest.approx(error**2)
        (slope,) = torch.autograd.grad(found, answer)
        assert slope.item() == pytest.approx(2 * error)
