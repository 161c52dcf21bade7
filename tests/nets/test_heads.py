"""What every head promises, found by walking the words that name them."""

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from episode_logs import episode_log
from torch import Tensor, nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Distribution
from hindsight_rl.nets.heads.family import Family, family_of
from hindsight_rl.nets.network import Acting, Head, HeadKind
from hindsight_rl.spec import ActionSpec

KINDS = get_args(HeadKind)
kinds = pytest.mark.parametrize("kind", KINDS)


def family(kind: Any, width: int = 3, **options: Any) -> Family:
    action = ActionSpec("continuous", (width,), (-1.0,) * width, (1.0,) * width)
    return family_of(Head(kind, **options), action, ActionScale(action))


def answer(made: Family, *shape: int, seed: int = 0) -> Distribution:
    """Return a distribution of random answers of a network."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(*shape, made.outputs, generator=generator)
    log_std = torch.full((made.width,), -0.5) if made.shared_spread else None
    return made(output, torch.tanh, log_std)


def draws(*shape: int) -> Tensor:
    count = int(torch.tensor(shape).prod())
    return counters(1, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0].view(*shape, 3)


def test_every_word_has_its_file_and_every_file_its_word() -> None:
    files = {path.stem for path in Path(inspect.getfile(family_of)).parent.glob("*.py")}
    assert files - {"__init__", "family", "categorical"} == set(KINDS)


@kinds
def test_density_integrates_to_1_where_it_is_exact(kind: Any) -> None:
    """Over a grid of one action dimension, far beyond what is likely; others say that it is not."""
    made = family(kind, width=1)
    if made.density != "exact":
        assert kind == "deterministic"
        return
    distribution, draw = answer(made, 1), answer(made, 4000).sample(draws(4000))
    # Some have no actions beyond the bounds, and none is asked for.
    ends, count = (1.0 if draw.abs().max() <= 1 else 60.0), 480_001
    step = 2 * ends / count
    grid = -ends + step * (torch.arange(count, dtype=torch.float64) + 0.5)
    total = 0.0
    for part in grid.float().split(40_000):
        total += distribution.log_prob(part.view(-1, 1)).double().exp().sum().item() * step
    assert total == pytest.approx(1.0, abs=2e-3)


@kinds
def test_rows_are_apart_and_samples_are_functions_of_their_counters(kind: Any) -> None:
    made = family(kind, width=2)
    generator = torch.Generator().manual_seed(3)
    output = torch.randn(2, 4, made.outputs, generator=generator)
    log_std = torch.zeros(2) if made.shared_spread else None
    whole, alone = made(output, torch.tanh, log_std), made(output[1, 2], torch.tanh, log_std)
    drawn = draws(2, 4)
    sample = whole.sample(drawn)
    assert sample.shape == (2, 4, 2)
    torch.testing.assert_close(alone.sample(drawn[1, 2]), sample[1, 2])
    for found, expected in (
        (alone.log_prob(sample[1, 2]), whole.log_prob(sample)[1, 2]),
        (alone.entropy(), whole.entropy()[1, 2]),
        (alone.mode, whole.mode[1, 2]),
    ):
        torch.testing.assert_close(found, expected)


@kinds
def test_noise_makes_actions_with_their_density(kind: Any) -> None:
    """Dimensions before those of the states mean several actions per state."""
    made = family(kind)
    distribution: Any = answer(made, 5)
    noise = torch.randn(4, 5, made.noise_width, generator=torch.Generator().manual_seed(2))
    action, log_prob = distribution.act_on(noise)
    assert action.shape == (4, 5, 3) and log_prob.shape == (4, 5)
    torch.testing.assert_close(log_prob, distribution.log_prob(action), rtol=1e-3, atol=1e-3)
    assert len(action[:, 0, 0].unique()) == (1 if made.density == "none" else 4)


@kinds
@pytest.mark.parametrize("acting", get_args(Acting))
def test_action_is_one_of_the_answers(kind: Any, acting: Any) -> None:
    """Without noise it is the mode wherever acting has one; its scores lead where it is clear."""
    try:
        made = family(kind, acting=acting)
    except ValueError as error:
        assert acting != "mode" and f"acting is '{acting}', and head '{kind}' takes" in str(error)
        return
    distribution = answer(made, 6)
    found = made.act(distribution)
    if acting != "density":
        torch.testing.assert_close(found.action, distribution.mode)
    assert (made.acting_noise > 0) == (acting == "sample_mean")
    if made.acting_noise:
        noise = torch.randn(6, made.acting_noise, generator=torch.Generator().manual_seed(4))
        found = made.act(distribution, noise)
        assert not found.action.equal(distribution.mode)
        assert found.action.equal(made.act(distribution, noise).action)
    if found.scores is not None:
        assert found.scores.shape[0] == 6 and found.scores.shape[1] > 1
    for value in made.metrics(distribution).values():
        assert value.shape == () and not value.requires_grad


@kinds
def test_discrete_actions_are_categorical_whatever_the_head(kind: Any) -> None:
    action = OfflineDataModule(episode_log(discrete=True)).spec.action
    made = family_of(Head(kind), action, ActionScale(action))
    assert made.outputs == 3 and made.density == "exact"
    found = made.act(made(torch.tensor([[0.0, 2.0, 1.0]]), torch.tanh, None))
    assert found.action.tolist() == [1] and found.scores is not None


@kinds
def test_first_weights_are_a_function_of_the_seed(kind: Any) -> None:
    made, last = family(kind), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        layer = nn.Linear(4, made.outputs)
        made.start(layer)
        last.append(layer.bias.detach())
    assert last[0].equal(last[1]) and not last[0].equal(last[2])
