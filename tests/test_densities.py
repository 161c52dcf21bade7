"""Log-probabilities in numpy: those of ``maths.executed``, which are tested by hand there."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hindsight_rl.densities import KINDS, Likelihood, shapes
from hindsight_rl.maths.draws import counters, normals, uniforms
from hindsight_rl.maths.executed import Units
from hindsight_rl.nets.distributions import (
    Categorical,
    Deterministic,
    DiagonalNormal,
    Laplace,
    Mixture,
    TanhNormal,
)

LOW, HIGH = [-1.0, -2.0, 0.5], [1.0, 4.0, 0.5]
"""The last dimension has one action."""
ROWS = 400


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distributions() -> dict[str, Any]:
    mean, log_std = numbers(ROWS, 3, seed=1, scale=2.0), numbers(ROWS, 3, seed=2)
    logits, means = numbers(ROWS, 4, seed=3), numbers(ROWS, 4, 3, seed=4, scale=2.0)
    return {
        "normal": DiagonalNormal(mean, log_std),
        "exploring": Deterministic(mean, 0.25),
        "narrow": DiagonalNormal(mean, log_std - 6.0),  # of which bounds lie 500 spreads away
        "laplace": Laplace(mean, log_std),
        "tanh_normal": TanhNormal(mean, log_std),
        "mixture": Mixture(logits, means, numbers(ROWS, 4, 3, seed=5)),
    }


def likelihood_of(found: Any, units: Units) -> Likelihood:
    """Return the log-probabilities of a distribution by the numbers that a file would hold."""
    stated = found.described(Units(*(part.float() for part in units)))
    rows = {name: value.numpy() for name, value in stated.numbers.items()}
    return Likelihood(stated.kind, rows, np.float32(LOW), np.float32(HIGH))


@pytest.mark.parametrize("tighter", [False, True])
@pytest.mark.parametrize("kind", distributions())
def test_they_are_those_of_torch(kind: str, tighter: bool) -> None:
    found = distributions()[kind]
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    scale = torch.where(high > low, (high - low) / 2, 1.0)
    end_low, end_high = (end * torch.tensor([0.5, 0.5, 1.0]) for end in (low, high))
    if not tighter:  # the environment has none of its own
        end_low, end_high = torch.full((3,), -math.inf), torch.full((3,), math.inf)
    lower, upper = torch.maximum(low, end_low), torch.minimum(high, end_high)
    units = Units(*(part.double() for part in ((high + low) / 2, scale, lower, upper)))
    action = numbers(ROWS, 3, seed=9, scale=3.0).clamp(lower, upper)
    action[0] += 1.0  # beyond a bound
    expected = found.executed(action, units).numpy()
    stated = likelihood_of(found, units)(action.numpy(), end_low.numpy(), end_high.numpy())
    at_bound = ((action == lower) | (action == upper))[:, :2].float().mean()
    assert 0.2 < at_bound < 0.9 and stated.dtype == np.float64
    assert stated[0] == expected[0] == -math.inf
    np.testing.assert_allclose(stated, expected, rtol=2e-5, atol=2e-5)


def test_of_one_dimension_by_hand() -> None:
    """N(0, 1) clipped to [-1, 2]: log phi(0.5), log Phi(-1) and log(1 - Phi(2))."""
    rows = {"mean": np.zeros((3, 1), np.float32), "std": np.ones((3, 1), np.float32)}
    found = Likelihood("normal", rows, np.float32([-1.0]), np.float32([2.0]))
    stated = found(np.float32([[0.5], [-1.0], [2.0]]), found.low, found.high)
    assert stated.tolist() == pytest.approx([-1.0439385, math.log(0.1586553), math.log(0.0227501)])


def test_choices() -> None:
    """Logits 0 and log 3 of choices 5 and 6: 1/4 and 3/4; of others nothing is known."""
    logits = torch.tensor([[0.0, math.log(3.0)]]).expand(4, 2)
    stated = Categorical(logits).described()
    rows = {name: value.numpy() for name, value in stated.numbers.items()}
    none = np.zeros(0, np.float32)
    found = Likelihood(stated.kind, rows, none, none, start=5)(np.array([5, 6, 4, 7]), none, none)
    expected = [math.log(0.25), math.log(0.75), -math.inf, -math.inf]
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_those_of_the_numbers(kind: Any) -> None:
    made = distributions() | {"categorical": Categorical(numbers(ROWS, 4))}
    zero, one = torch.zeros(3), torch.ones(3)
    stated = made[kind].described(Units(zero, one, -one, one))
    assert stated.kind == kind
    found = {name: tuple(value.shape[1:]) for name, value in stated.numbers.items()}
    assert found == shapes(kind, (3,), 4) and list(found) == list(shapes(kind, (3,), 4))


@pytest.mark.parametrize("kind", [*distributions(), "categorical"])
def test_samples_are_made_of_the_noise_that_is_stated(kind: str) -> None:
    """What a file draws is what is collected, to the bit: the same counters give the same noise."""
    found = (distributions() | {"categorical": Categorical(numbers(ROWS, 4))})[kind]
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(ROWS))[0]
    draw = normals if found.noise.distribution == "normal" else uniforms
    action, scores = found.from_noise(draw(draws, found.noise.width))
    assert action.equal(found.sample(draws))
    assert (scores is None) == (kind not in ("mixture", "categorical"))
    if found.noise.zero:
        assert found.from_noise(torch.zeros(ROWS, found.noise.width))[0].equal(found.mode)
