"""ColumnWeight: the exponential of a standardised column."""

import math

import pytest
import torch
from episode_logs import bind, episode_log

from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.column_weight import ColumnWeight
from hindsight_rl.relabel.return_task import ReturnTask


def test_weight_by_hand() -> None:
    """Rewards 0 and 4 have mean 2 and standard deviation 2: exp(-1 / 2), exp(1 / 2)."""
    log = episode_log([1, 1], reward=[0.0, 4.0])
    found = bind(log, ColumnWeight("next.reward", temperature=2.0))[0].column("weight")
    expected = torch.tensor([math.exp(-0.5), math.exp(0.5)])
    torch.testing.assert_close(found, expected)


def test_low_numbers_weigh_more_where_they_are_preferred() -> None:
    """As above, with the sign of z turned round."""
    log = episode_log([1, 1], reward=[0.0, 4.0])
    relabel = ColumnWeight("next.reward", temperature=2.0, prefer="low")
    found = bind(log, relabel)[0].column("weight")
    torch.testing.assert_close(found, torch.tensor([math.exp(0.5), math.exp(-0.5)]))


def test_weight_is_cut() -> None:
    """99 zeros and a 1: z of the last is 9.95, and exp(9.95) is far above 20."""
    log = episode_log([1] * 100, reward=[0.0] * 99 + [1.0])
    found = bind(log, ColumnWeight("next.reward"))[0].column("weight")
    assert found[-1] == 20.0 and found[0].item() == pytest.approx(math.exp(-1 / math.sqrt(99)))


def test_the_return_that_became_the_task_weighs() -> None:
    """Returns to go 3, 2 and 7 of the two episodes; the rows of held-out ones do not count."""
    log = episode_log([2, 1, 1], reward=[1.0, 2.0, 7.0, 99.0]).with_rows(torch.arange(3))
    found = bind(log, Compose([ReturnTask(), ColumnWeight()]))[0].column("weight")
    value = torch.tensor([3.0, 2.0, 7.0, 99.0]).double()
    score = (value - value[:3].mean()) / value[:3].std(correction=0)
    torch.testing.assert_close(found, score.exp().clamp(max=20.0).float())


def test_equal_values_weigh_one() -> None:
    log = episode_log([2, 2], reward=[5.0] * 4)
    assert bind(log, ColumnWeight("next.reward"))[0].column("weight").tolist() == [1.0] * 4


def test_wrong_columns_are_named() -> None:
    log = episode_log()
    with pytest.raises(ValueError, match=r"no column 'return_to_go' to weight by: put ReturnTask"):
        ColumnWeight().prepare(log)
    with pytest.raises(ValueError, match=r"'next.observation' has shape \[3\], not one number per"):
        ColumnWeight("next.observation").prepare(log)


@pytest.mark.parametrize("arguments", [{"temperature": 0.0}, {"max_weight": 0.0}])
def test_wrong_arguments_are_named(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"temperature .* and max_weight .* must be above 0"):
        ColumnWeight(**arguments)
