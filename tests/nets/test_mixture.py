"""The mixture head: which answer is taken, the floor of its spread, and its first means."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Mixture
from hindsight_rl.nets.heads.family import family_of
from hindsight_rl.nets.heads.mixture import MixtureHead
from hindsight_rl.nets.network import Head
from hindsight_rl.spec import ActionSpec

T20 = Mixture(
    torch.tensor([0.6, 0.4]).log(),
    torch.tensor([[0.0], [1.0]]),
    torch.tensor([[1.0], [0.1]]).log(),
)


def head(width: int = 1, **options: Any) -> MixtureHead:
    action = ActionSpec("continuous", (width,), (-1.0,) * width, (1.0,) * width)
    made = family_of(Head("mixture", **options), action, ActionScale(action))
    assert isinstance(made, MixtureHead)
    return made


@pytest.mark.parametrize(("acting", "action"), [("mode", 0.0), ("density", 1.0)])
def test_heaviest_and_densest_component_of_t20_differ(acting: Any, action: float) -> None:
    """Scores are what each is the argmax of: log-weights, and log-densities at the means."""
    found = head(acting=acting, components=2).act(T20)
    assert found.action.tolist() == [action]
    scores = [0.6, 0.4] if acting == "mode" else [0.239365, 1.740952]
    assert found.scores is not None
    torch.testing.assert_close(found.scores.exp(), torch.tensor(scores), rtol=0, atol=2e-6)


def test_drawn_component_follows_the_weights() -> None:
    """Phi(noise) below .6 is the first component; scores say how far from .6 it is."""
    made = head(acting="sample_mean", components=2)
    noise = torch.tensor([[-3.0], [0.0], [0.2], [0.3], [2.0]])
    rows = Mixture(*(part.expand(5, *part.shape) for part in T20))
    found = made.act(rows, noise)
    assert found.action.flatten().tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    away = (torch.special.ndtr(noise.flatten()) - 0.6).abs()
    assert found.scores is not None
    torch.testing.assert_close(found.scores, torch.stack([away, torch.zeros(5)], -1))
    assert made.act(rows).action.flatten().tolist() == [0.0] * 5


def test_spread_has_a_floor_that_keeps_its_gradient() -> None:
    """Answers of -20 give sigma = .01 by default, and the spread can still grow."""
    made = head(components=2)
    output = torch.full((1, made.outputs), -20.0, requires_grad=True)
    found: Any = made(output, torch.tanh, None)
    torch.testing.assert_close(found.log_std.exp(), torch.full((1, 2, 1), 0.01))
    # Data three sigma away want a wider component: the loss falls as the answer rises.
    far = torch.tanh(torch.tensor([[-20.0]])) + 0.03
    (-found.log_prob(far)).sum().backward()
    assert output.grad is not None and bool((output.grad[0, -2:] < 0).all())
    wide: Any = head(components=2, floor=0.5)(output, torch.tanh, None)
    torch.testing.assert_close(wide.log_std.exp(), torch.full((1, 2, 1), 0.5))


def test_means_begin_spread_over_the_actions() -> None:
    """The biases of means are uniform in [-1, 1]; those of weights and spreads are left alone."""
    made = head(width=4, components=50)
    last = nn.Linear(8, made.outputs)
    before = last.bias.detach().clone()
    made.start(last)
    means = slice(50, 50 + 200)
    moved = last.bias.detach()
    assert moved[:50].equal(before[:50]) and moved[250:].equal(before[250:])
    assert bool((moved[means].abs() <= 1).all())
    error = 4 / math.sqrt(200)
    assert abs(moved[means].mean().item()) < error / math.sqrt(3)
    assert moved[means].std().item() == pytest.approx(1 / math.sqrt(3), abs=error)


def test_noise_draws_components_and_spreads() -> None:
    """Weights .25 and .75 at -4 and 4: shares by sign, and the density of what was drawn."""
    count = 20_000
    mixture = Mixture(
        torch.tensor([0.25, 0.75]).log().expand(count, 2),
        torch.tensor([[-4.0], [4.0]]).expand(count, 2, 1),
        torch.tensor([[0.5], [1.0]]).log().expand(count, 2, 1),
    )
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    action, log_prob = mixture.act_on(noise)
    torch.testing.assert_close(log_prob, mixture.log_prob(action))
    upper: Tensor = action[action > 0]
    assert abs(len(upper) / count - 0.75) < 4 * math.sqrt(0.75 * 0.25 / count)
    assert upper.mean().item() == pytest.approx(4.0, abs=4 / math.sqrt(len(upper)))


def test_components_in_use_are_watched() -> None:
    used = math.exp(-0.6 * math.log(0.6) - 0.4 * math.log(0.4))
    assert head(components=2).metrics(T20)["components_used"].item() == pytest.approx(used)
    assert set(head(components=2).metrics(T20)) == {"entropy", "components_used"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"floor": 0.0}, "floor is 0.0, it must be above 0"),
        ({"acting": "best"}, "acting is 'best', it must be 'mode'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Head(**{"kind": "mixture"} | arguments)
