"""The autoregressive head: causality to the bit, greedy against best (T26), draws, and its bins."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.bins import bin_of, even_edges
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.heads.autoregressive import UNITS, Autoregressive, Conditionals
from hindsight_rl.nets.heads.family import Family, family_of
from hindsight_rl.nets.network import Head
from hindsight_rl.spec import ActionSpec

BOUNDS = {"low": (-1.0, 0.0), "high": (1.0, 8.0)}
COUNT = 20_000


def head(action: ActionSpec | None = None, **options: Any) -> Family:
    action = action or ActionSpec("continuous", (2,), **BOUNDS)
    return family_of(Head("autoregressive", **options), action, ActionScale(action))


def unit_edges(width: int, bins: int) -> Tensor:
    return even_edges(-torch.ones(width), torch.ones(width), bins=bins)


def random(width: int, bins: int, *shape: int) -> Autoregressive:
    context = torch.randn(*shape, width * UNITS, generator=torch.Generator().manual_seed(0))
    return Autoregressive(context, unit_edges(width, bins), Conditionals(width, bins))


def t26() -> Autoregressive:
    """Return p(k1) = (.6, .4), p(k2 | 0) = (.5, .5), p(k2 | 1) = (.9, .1), by weights.

    The first unit of the second dimension is k1, and moves its logits to those of 1.
    """
    net = Conditionals(2, 2)
    assert net.earlier is not None
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.logits.bias.copy_(torch.tensor([0.6, 0.4, 0.5, 0.5]).log())
        net.earlier.weight[UNITS, 1] = 1.0
        net.logits.weight[2:, UNITS] = torch.tensor([0.9 / 0.5, 0.1 / 0.5]).log()
    return Autoregressive(torch.zeros(2 * UNITS), unit_edges(2, 2), net)


def test_greedy_bins_are_not_the_likeliest_answer_of_t26() -> None:
    """Greedy finds (0, 0) with .3, and (1, 0) has .36; each bin has a width of 1 here."""
    found = t26()
    mass = {
        pair: found.log_prob(found.decoded(torch.tensor(pair), 0.5)).exp().item()
        for pair in itertools.product((0, 1), repeat=2)
    }
    expected = {(0, 0): 0.3, (0, 1): 0.3, (1, 0): 0.36, (1, 1): 0.04}
    assert mass == pytest.approx(expected, abs=1e-6)
    action, least, _ = found.greedy()
    assert bin_of(action, found.edges).tolist() == [0, 0]
    assert least.item() == pytest.approx(0.0, abs=1e-6)  # .5 and .5: the scores say that it is one


def test_draws_follow_the_conditionals_of_t26() -> None:
    """Frequencies of the four answers within four standard errors; uniform within a bin."""
    one = t26()
    many = one._replace(context=one.context.expand(COUNT, -1))
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(1))
    action, log_prob = many.act_on(noise)
    torch.testing.assert_close(log_prob, many.log_prob(action))
    bins = bin_of(action, one.edges)
    for pair, share in {(0, 0): 0.3, (0, 1): 0.3, (1, 0): 0.36, (1, 1): 0.04}.items():
        found = (bins == torch.tensor(pair)).all(-1).float().mean().item()
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / COUNT), pair
    inside = (action + 1) - bins
    assert bool(((inside >= 0) & (inside <= 1)).all())
    assert inside.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=4 / math.sqrt(12 * COUNT))


@pytest.mark.parametrize("place", range(4))
def test_logits_see_earlier_bins_alone(place: int) -> None:
    """Changing the bins from a dimension on leaves its logits, and those before, to the bit."""
    found = random(4, 5, 7)
    taken = torch.randint(5, (7, 4), generator=torch.Generator().manual_seed(2))
    other = taken.clone()
    other[:, place:] = (taken[:, place:] + 1) % 5
    before, after = (found.conditionals(found.context, bins) for bins in (taken, other))
    assert before[:, : place + 1].equal(after[:, : place + 1])
    assert not place + 1 < 4 or not before[:, place + 1 :].equal(after[:, place + 1 :])


@pytest.mark.parametrize("width", [1, 2, 5])
def test_one_pass_and_step_by_step_agree(width: int) -> None:
    """Greedy steps take the argmax of what one pass says of the bins that they took."""
    found = random(width, 6, 9)
    action, least, entropy = found.greedy()
    bins = bin_of(action, found.edges)
    logits = found.conditionals(found.context, bins)
    assert logits.argmax(-1).equal(bins)
    best = logits.topk(2, -1).values
    torch.testing.assert_close(least, (best[..., 0] - best[..., 1]).amin(-1))
    parts = torch.distributions.Categorical(logits=logits).entropy() + math.log(2 / 6)
    torch.testing.assert_close(entropy, parts.sum(-1))
    assert found.entropy().equal(entropy) and found.mode.equal(action)


def test_density_and_its_gradient_are_those_of_categoricals() -> None:
    found = random(3, 5, 4)
    action = torch.rand(4, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    bins = bin_of(action, found.edges)
    plain = torch.distributions.Categorical(logits=found.conditionals(found.context, bins))
    expected = (plain.log_prob(bins) - math.log(2 / 5)).sum(-1)
    torch.testing.assert_close(found.log_prob(action), expected)
    parameters = list(found.conditionals.parameters())
    mine = torch.autograd.grad(found.log_prob(action).sum(), parameters)
    theirs = torch.autograd.grad(expected.sum(), parameters)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)
    # Masked weights have no gradient: they are not there.
    assert not mine[0][:UNITS].any() and not mine[0][UNITS : 2 * UNITS, 5:].any()


def test_bins_of_bounded_actions_are_even_in_environment_units() -> None:
    """Four bins of [0, 8] are 2 wide: an action of 5 is answered by 5, one of 4.5 too."""
    action = ActionSpec("continuous", (2,), **BOUNDS)
    scale, made = ActionScale(action), head(bins=4)
    found: Any = made(torch.zeros(1, made.outputs), torch.tanh, None)
    bins = bin_of(scale.to_policy(torch.tensor([[0.1, 4.5]])), found.edges)
    torch.testing.assert_close(
        scale.to_environment(found.decoded(bins, 0.5)), torch.tensor([[0.25, 5.0]])
    )
    # Uniform logits are the uniform density, 1/2 by 1/8 in environment units.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    density = found.log_prob(scale.to_policy(torch.tensor([[0.1, 4.5]])))
    in_units = density - scale.scale.log().sum()
    torch.testing.assert_close(in_units.exp(), torch.tensor([1 / 16]))


def test_bins_of_unbounded_actions_are_quantiles_of_the_log() -> None:
    quantiles = tuple(float(k) ** 2 for k in range(5))
    action = ActionSpec("continuous", (1,), mean=(4.0,), std=(2.0,), quantiles=(quantiles,))
    made = head(action, bins=4)
    edges: Any = made.edges
    torch.testing.assert_close(edges, (torch.tensor([quantiles]) - 4.0) / 2.0)


def test_unbounded_actions_without_quantiles_are_refused() -> None:
    action = ActionSpec("continuous", (1,), mean=(4.0,), std=(2.0,))
    with pytest.raises(ValueError, match="neither their bounds nor their quantiles: give action_l"):
        head(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, "bins is 1.* at least 2"),
        ({"acting": "density"}, "'density', and head 'autoregressive' takes 'mode' or 'sa"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(**options)
