"""A temperature that leaves items so many tasks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hindsight_rl.maths.posterior import mean_perplexity, task_posterior, temperature_for

scores_of = arrays(
    "float64", st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-30, 30)
)


def test_temperature_of_two_tasks_has_its_closed_form() -> None:
    """Sigmoid(4 / T) is 0.8 where T = 4 / log 4; log Z of the mirrored items is the same."""
    scores = torch.tensor([[4.0, 0], [0, 4]]).double()
    wanted = math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    for partition in (True, False):
        found = temperature_for(wanted, scores, partition=partition)
        assert found == pytest.approx(4 / math.log(4), rel=1e-5)
        posterior = task_posterior(scores, partition=partition, temperature=found)
        assert posterior[0].tolist() == pytest.approx([0.8, 0.2], rel=1e-5)


@given(scores_of, st.floats(-2, 6), st.floats(0.01, 5))
def test_hotter_posteriors_have_more_tasks_per_item(
    scores: object, log_temperature: float, more: float
) -> None:
    table = torch.as_tensor(scores)

    def tasks(log: float) -> float:
        found = task_posterior(table, partition=False, temperature=math.exp(log))
        return float(mean_perplexity(found))

    assert tasks(log_temperature) <= tasks(log_temperature + more) + 1e-9


@pytest.mark.parametrize("partition", [True, False])
@pytest.mark.parametrize("wanted", [1.5, 4.0, 9.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_temperature_that_is_found_leaves_as_many_tasks(
    partition: bool, wanted: float, scale: float
) -> None:
    """Impossible pairs, an item without tasks and a prior included; the unit does not matter."""
    generator = torch.Generator().manual_seed(1)
    scores = scale * torch.randn(50, 12, generator=generator).double() * torch.arange(1, 13)
    scores[3, :5] = scores[7] = -math.inf
    prior = torch.linspace(-1, 1, 12).double()
    found = temperature_for(wanted, scores, prior, partition=partition)
    posterior = task_posterior(scores, prior, partition=partition, temperature=found)
    kept = torch.arange(50) != 7
    assert float(mean_perplexity(posterior[kept])) == pytest.approx(wanted, rel=1e-4)


def test_numbers_of_tasks_out_of_reach_get_what_is_nearest() -> None:
    """Items are possible under two tasks of four: flatter than even between those is nothing."""
    scores = torch.full((4, 4), -math.inf)
    for item in range(4):
        scores[item, item], scores[item, (item + 1) % 4] = 0.0, -3.0
    hot = task_posterior(scores, partition=False, temperature=temperature_for(3.5, scores))
    assert float(mean_perplexity(hot)) == pytest.approx(2.0, abs=1e-4)
    assert temperature_for(2.0, torch.zeros(3, 4)) == 1.0
    assert temperature_for(2.0, torch.full((3, 4), -math.inf)) == 1.0
