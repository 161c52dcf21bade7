"""Bootstrap weights of episodes: Poisson(1), and functions of stream, episode and member alone."""

import math

import pytest
import torch

from hindsight_rl.maths.draws import counters, uniform, uniforms
from hindsight_rl.maths.episode_weights import episode_weights, poisson


def test_inverse_of_the_distribution() -> None:
    """P(0) = P(1) = 1 / e = .3679, P(2) = .1839: the steps lie at .3679, .7358 and .9197."""
    draws = torch.tensor([0.0, 0.3678, 0.3680, 0.7357, 0.7359, 0.9196, 0.9198, 1 - 2**-24])
    assert poisson(draws).tolist() == [0, 0, 1, 1, 2, 2, 3, 9]
    assert poisson(draws.double()).dtype == torch.float64


def test_mean_and_variance_are_one() -> None:
    found = episode_weights(torch.arange(50_000), 4)
    assert found.shape == (4, 50_000) and found.dtype == torch.float32
    # Of 50,000 draws the error is .0045 of the mean, .0077 of the variance.
    torch.testing.assert_close(found.mean(-1), torch.ones(4), rtol=0, atol=0.02)
    torch.testing.assert_close(found.var(-1), torch.ones(4), rtol=0, atol=0.04)
    share = (found == 0).float().mean(-1)
    torch.testing.assert_close(share, torch.full((4,), math.exp(-1)), rtol=0, atol=0.01)
    # Members and episodes are apart.
    one, two = found[0] - 1, found[1] - 1
    assert float((one * two).mean()) == pytest.approx(0.0, abs=0.02)
    assert float((one[1:] * one[:-1]).mean()) == pytest.approx(0.0, abs=0.02)


def test_rows_of_an_episode_share_a_weight_in_every_batch() -> None:
    episode = torch.tensor([[3, 7, 3], [7, 0, 2**40]])
    found = episode_weights(episode, 6)
    assert found.shape == (6, 2, 3)
    assert found[:, 0, 0].equal(found[:, 0, 2]) and found[:, 0, 1].equal(found[:, 1, 0])
    alone = episode_weights(torch.tensor([7, 2**40]), 6)
    assert alone.equal(torch.stack([found[:, 0, 1], found[:, 1, 2]], -1))
    # A larger ensemble begins with the same members; another stream is another bootstrap.
    assert episode_weights(episode, 9)[:6].equal(found)
    assert not episode_weights(torch.arange(20), 6, "b").equal(episode_weights(torch.arange(20), 6))


def test_several_uniform_numbers_are_those_of_each_draw() -> None:
    counter = counters(5, torch.arange(2), torch.arange(3))
    found = uniforms(counter, 4)
    assert found.shape == (2, 3, 4)
    for draw in range(4):
        assert found[..., draw].equal(uniform(counter, draw))
