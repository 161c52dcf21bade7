"""Action distributions against torch.distributions, and samples drawn from counters."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as torchd

from hindsight_rl.maths.draws import counters, normals, uniforms
from hindsight_rl.nets import distributions
from hindsight_rl.nets.distributions import (
    Categorical,
    Deterministic,
    DiagonalNormal,
    Distribution,
    FromNoise,
    Laplace,
    Mixture,
    TanhNormal,
)

COUNT = 20_000


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws(count: int = COUNT, seed: int = 1) -> Tensor:
    return counters(seed, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]


def independent(mean: Tensor, log_std: Tensor) -> torchd.Distribution:
    return torchd.Independent(torchd.Normal(mean, log_std.exp()), 1)


def laplace(mean: Tensor, log_std: Tensor) -> torchd.Distribution:
    return torchd.Independent(torchd.Laplace(mean, log_std.exp()), 1)


def squashed(mean: Tensor, log_std: Tensor) -> torchd.Distribution:
    return torchd.TransformedDistribution(
        independent(mean, log_std), torchd.TanhTransform(cache_size=1)
    )


def mixed(logits: Tensor, mean: Tensor, log_std: Tensor) -> torchd.Distribution:
    return torchd.MixtureSameFamily(torchd.Categorical(logits=logits), independent(mean, log_std))


# Ours, torch's, shapes of the parameters behind the batch shape [2, 5], and an action.
CONTINUOUS = pytest.mark.parametrize(
    ("ours", "theirs", "shapes"),
    [
        (DiagonalNormal, independent, [(3,), (3,)]),
        (Laplace, laplace, [(3,), (3,)]),
        (TanhNormal, squashed, [(3,), (3,)]),
        (Mixture, mixed, [(4,), (4, 3), (4, 3)]),
    ],
    ids=["normal", "laplace", "tanh normal", "mixture"],
)


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    found = [0.5 * random(2, 5, *shape, seed=seed) for seed, shape in enumerate(shapes)]
    return [value.requires_grad_() for value in found]


@CONTINUOUS
def test_log_prob_and_gradients_equal_torch(
    ours: Callable[..., Distribution],
    theirs: Callable[..., torchd.Distribution],
    shapes: list[tuple[int, ...]],
) -> None:
    action = torch.tanh(random(2, 5, 3, seed=9))
    found, expected = parameters(shapes), parameters(shapes)
    log_prob, reference = ours(*found).log_prob(action), theirs(*expected).log_prob(action)
    assert log_prob.shape == (2, 5)
    torch.testing.assert_close(log_prob, reference)
    log_prob.sum().backward()
    reference.sum().backward()
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_categorical_equals_torch() -> None:
    logits = random(2, 5, 3).requires_grad_()
    same = logits.detach().clone().requires_grad_()
    action = torch.tensor([0, 1, 2, 1, 0]).expand(2, 5)
    ours, theirs = Categorical(logits), torchd.Categorical(logits=same)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    (ours.log_prob(action) + ours.entropy()).sum().backward()
    (theirs.log_prob(action) + theirs.entropy()).sum().backward()
    torch.testing.assert_close(logits.grad, same.grad)


def test_deterministic_log_prob_is_minus_the_mean_squared_error() -> None:
    """Errors 1 and 2: -(1 + 4) / 2; the gradient by the mean is the error: 2 e / 2."""
    mean = torch.tensor([[0.0, 1.0]], requires_grad=True)
    log_prob = Deterministic(mean).log_prob(torch.tensor([[1.0, 3.0]]))
    log_prob.sum().backward()
    assert log_prob.tolist() == [-2.5]
    assert mean.grad is not None and mean.grad.tolist() == [[1.0, 2.0]]


def test_deterministic_samples_lie_around_the_point() -> None:
    """With the standard deviation asked for; without one they are the point."""
    mean = torch.tensor([[0.5, -2.0]]).expand(COUNT, 2)
    assert Deterministic(mean).sample(draws()).equal(mean)
    noise = (Deterministic(mean, 0.1).sample(draws()) - mean) / 0.1
    assert noise.mean(0).abs().max() < 4 / math.sqrt(COUNT)
    assert (noise.std(0) - 1).abs().max() < 4 / math.sqrt(2 * COUNT)
    assert Deterministic(mean, 0.1).mode.equal(mean)


def test_entropies() -> None:
    mean, log_std = random(2, 5, 3), 0.3 * random(2, 5, 3, seed=1)
    exact = independent(mean, log_std).entropy()
    torch.testing.assert_close(DiagonalNormal(mean, log_std).entropy(), exact)
    expected = laplace(mean, log_std).entropy()
    torch.testing.assert_close(Laplace(mean, log_std).entropy(), expected)
    # Squashing to (-1, 1) can only lose entropy.
    torch.testing.assert_close(TanhNormal(mean, log_std).entropy(), exact)
    assert Deterministic(mean).entropy().equal(torch.zeros(2, 5, dtype=torch.float64))


def test_mixture_entropy_is_a_lower_bound() -> None:
    """Two far apart halves of spread 1 hold log 2 more than either; the bound leaves that out."""
    logits, mean = torch.zeros(2), torch.tensor([[-50.0], [50.0]])
    bound = Mixture(logits, mean, torch.zeros(2, 1)).entropy()
    assert bound.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=1e-6)
    sample = mixed(logits, mean, torch.zeros(2, 1)).sample((COUNT,))
    exact = -mixed(logits, mean, torch.zeros(2, 1)).log_prob(sample).mean()
    assert exact.item() == pytest.approx(bound.item() + math.log(2), abs=0.05)


# --- modes ----------------------------------------------------------------------------------------


def test_modes() -> None:
    mean = torch.tensor([[0.5, -2.0]])
    spread = torch.zeros(1, 2)
    assert Deterministic(mean).mode.equal(mean)
    assert DiagonalNormal(mean, spread).mode.equal(mean)
    assert Laplace(mean, spread).mode.equal(mean)
    assert TanhNormal(mean, spread).mode.equal(torch.tanh(mean))
    assert Categorical(torch.tensor([[0.0, 2.0, 1.0]])).mode.tolist() == [1]
    centres = torch.tensor([[[1.0], [2.0], [3.0]]])
    mixture = Mixture(torch.tensor([[0.0, 1.0, 0.5]]), centres, torch.zeros(1, 3, 1))
    assert mixture.mode.tolist() == [[2.0]]


# --- samples --------------------------------------------------------------------------------------


def spread_over(*values: float) -> Tensor:
    return torch.tensor(values).expand(COUNT, len(values))


def test_normal_sample_moments() -> None:
    """Mean and standard deviation within four standard errors, dimensions uncorrelated."""
    mean, std = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.5, 2.0, 1.0])
    sample = DiagonalNormal(spread_over(1, -2, 0), spread_over(*std.log().tolist())).sample(draws())
    assert sample.shape == (COUNT, 3)
    error = 4 / math.sqrt(COUNT)
    assert ((sample.mean(0) - mean).abs() < error * std).all()
    assert ((sample.std(0) / std - 1).abs() < error).all()
    assert (torch.corrcoef(sample.T) - torch.eye(3)).abs().max() < error


def test_laplace_sample_moments() -> None:
    """Mean absolute deviation b about the median, each half of the draws on its side of it."""
    centre, scale = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])
    sample = Laplace(spread_over(1, -2), spread_over(*scale.log().tolist())).sample(draws())
    error = 4 / math.sqrt(COUNT)
    assert (((sample - centre).abs().mean(0) / scale - 1).abs() < error).all()
    assert (((sample > centre).float().mean(0) - 0.5).abs() < error).all()
    assert torch.corrcoef(sample.T)[0, 1].abs() < error


@pytest.mark.parametrize("number", [0.0, 1.0 - 2.0**-24])
def test_laplace_samples_are_finite(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest and the largest number that can be drawn."""
    monkeypatch.setattr(distributions, "uniforms", lambda _, width: torch.full((6, width), number))
    sample = Laplace(torch.zeros(6, 2), torch.zeros(6, 2)).sample(draws(6))
    expected = math.log(2.0**-24) * (1 if number == 0 else -1)
    torch.testing.assert_close(sample, torch.full((6, 2), expected))


def test_tanh_normal_samples_are_squashed_normal_samples() -> None:
    mean, log_std = spread_over(0.3, -1.0), spread_over(-0.5, 0.4)
    sample = TanhNormal(mean, log_std).sample(draws())
    assert sample.equal(torch.tanh(DiagonalNormal(mean, log_std).sample(draws())))


def test_tanh_normal_scores_the_action_that_noise_makes() -> None:
    """Density and its gradients are those of torch at the same action, also through the action."""
    noise = random(2, 5, 3, seed=7)
    (mean, log_std), same = parameters([(3,), (3,)]), parameters([(3,), (3,)])
    action, log_prob = TanhNormal(mean, log_std).act_on(noise)
    expected = torch.tanh(same[0] + same[1].exp() * noise)
    reference = squashed(*same).log_prob(expected)
    torch.testing.assert_close(action, expected)
    torch.testing.assert_close(log_prob, reference)
    (action.sum() + log_prob.sum()).backward()
    (expected.sum() + reference.sum()).backward()
    torch.testing.assert_close(mean.grad, same[0].grad)
    torch.testing.assert_close(log_std.grad, same[1].grad)


def test_tanh_normal_scores_actions_on_the_bound() -> None:
    """At u = 20 the action is 1 in float32, where its inverse is lost; the density is not.

    Density of u: -log sqrt(2 pi) at its mean; slope: 2 (log 2 - 20).
    """
    mean = torch.full((1, 1), 20.0, requires_grad=True)
    action, log_prob = TanhNormal(mean, torch.zeros(1, 1)).act_on(torch.zeros(1, 1))
    log_prob.backward()
    assert action.item() == 1.0
    expected = -0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 20)
    assert log_prob.item() == pytest.approx(expected)
    assert mean.grad is not None and mean.grad.item() == pytest.approx(2.0)


def test_mixture_sample_moments() -> None:
    """Weights .25, .75 at -4 and 4, spreads .5 and 1: shares by sign, moments of each half."""
    logits = spread_over(math.log(0.25), math.log(0.75))
    mean = torch.tensor([[-4.0], [4.0]]).expand(COUNT, 2, 1)
    log_std = torch.tensor([[0.5], [1.0]]).log().expand(COUNT, 2, 1)
    sample = Mixture(logits, mean, log_std).sample(draws())[:, 0]
    low, high = sample[sample < 0], sample[sample > 0]
    assert abs(len(high) / COUNT - 0.75) < 4 * math.sqrt(0.75 * 0.25 / COUNT)
    for half, centre, std in ((low, -4.0, 0.5), (high, 4.0, 1.0)):
        error = 4 / math.sqrt(len(half))
        assert abs(half.mean().item() - centre) < error * std
        assert abs(half.std().item() / std - 1) < error


def test_categorical_frequencies() -> None:
    """Chi-square with 2 degrees of freedom at 1 - 1e-4; an action of probability 0 never comes."""
    share = [0.2, 0.5, 0.0, 0.3]
    logits = torch.tensor(share).log().expand(COUNT, 4)
    counts = torch.bincount(Categorical(logits).sample(draws()), minlength=4).tolist()
    assert counts[2] == 0
    terms = [(n - COUNT * p) ** 2 / (COUNT * p) for n, p in zip(counts, share, strict=True) if p]
    assert sum(terms) < 18.42


@pytest.mark.parametrize("best", [0, 2])
def test_certain_action_is_always_sampled(best: int) -> None:
    """Rounding of the cumulative sum never leads past the last action."""
    logits = torch.full((COUNT, 3), -100.0)
    logits[:, best] = 100.0
    assert (Categorical(logits).sample(draws()) == best).all()


# Batch shape [2, 3], as a chunk has.
EVERY = [
    Deterministic(random(2, 3, 4)),
    Deterministic(random(2, 3, 4), 0.1),
    DiagonalNormal(random(2, 3, 4), torch.zeros(2, 3, 4)),
    Laplace(random(2, 3, 4), torch.zeros(2, 3, 4)),
    TanhNormal(random(2, 3, 4), torch.zeros(2, 3, 4)),
    Mixture(random(2, 3, 5), random(2, 3, 5, 4), torch.zeros(2, 3, 5, 4)),
    Categorical(random(2, 3, 5)),
]
every = pytest.mark.parametrize("distribution", EVERY, ids=[type(d).__name__ for d in EVERY])


def at(distribution: Distribution, place: Any) -> Distribution:
    """Return the distribution of some rows."""
    parts = (part[place] if isinstance(part, Tensor) else part for part in distribution)
    return type(distribution)(*parts)


@every
def test_samples_depend_on_their_counters_alone(distribution: Distribution) -> None:
    drawn = draws(6).view(2, 3, 3)
    first = distribution.sample(drawn)
    assert first.shape == distribution.mode.shape and first.dtype == distribution.mode.dtype
    assert first.equal(distribution.sample(drawn))
    picked = at(distribution, (slice(1, None), slice(2)))
    assert picked.sample(drawn[1:, :2]).equal(first[1:, :2])
    if not (isinstance(distribution, Deterministic) and distribution.exploration == 0):
        assert not first.equal(distribution.sample(draws(6, seed=2).view(2, 3, 3)))


@every
def test_rows_are_apart(distribution: Distribution) -> None:
    """One row alone gives what it gives among others: density, entropy and mode."""
    action = distribution.sample(draws(6).view(2, 3, 3))
    log_prob, entropy = distribution.log_prob(action), distribution.entropy()
    assert log_prob.shape == entropy.shape == (2, 3)
    for place in ((0, 0), (0, 2), (1, 1)):
        alone = at(distribution, place)
        torch.testing.assert_close(alone.log_prob(action[place]), log_prob[place])
        torch.testing.assert_close(alone.entropy(), entropy[place])
        assert alone.mode.equal(distribution.mode[place])


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_noise_of_a_draw_makes_the_draw(dimensions: int) -> None:
    """To the bit, and the same as what training makes of the noise."""
    mean, spread = (random(COUNT, dimensions, seed=s).float() for s in (1, 2))
    several = [random(COUNT, 3, dimensions, seed=s).float() for s in (4, 5)]
    for found in (
        Deterministic(mean, 0.3),
        DiagonalNormal(mean, spread),
        Laplace(mean, spread),
        TanhNormal(mean, spread),
        Mixture(random(COUNT, 3).float(), *several),
        Categorical(random(COUNT, 4).float()),
    ):
        assert isinstance(found, FromNoise)
        draw = normals if found.noise.distribution == "normal" else uniforms
        noise = draw(draws(), found.noise.width)
        made = found.made_of(noise)
        assert torch.equal(made, found.sample(draws()))
        assert torch.equal(made, found.from_noise(noise)[0])
        if found.noise.distribution == "normal":
            assert torch.equal(made, found.act_on(noise)[0])
    assert torch.equal(Deterministic(mean).made_of(mean), mean)
