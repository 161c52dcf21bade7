"""Which critics of an ensemble count: all, or those that a row drew; by hand."""

import pytest
import torch

from hindsight_rl.policies.critic_ensembles import check_ensemble, climbed_value, target_value

# Three critics, two actions, one row.
VALUE = torch.tensor([[[1.0], [6.0]], [[3.0], [4.0]], [[5.0], [5.0]]])


def test_target_takes_the_least_of_all_or_of_those_drawn() -> None:
    """The lots draw critics 2 and 3: 3 and 5, 4 and 5."""
    assert target_value(VALUE, None, subset=None).flatten().tolist() == [1.0, 4.0]
    lots = torch.tensor([[0.0, 1.0, 2.0]])
    assert target_value(VALUE, lots, subset=2).flatten().tolist() == [3.0, 4.0]
    assert target_value(VALUE, lots, subset=1).flatten().tolist() == [5.0, 5.0]


def test_policy_climbs_the_least_or_with_a_subset_the_mean() -> None:
    assert climbed_value(VALUE, None).flatten().tolist() == [1.0, 4.0]
    assert climbed_value(VALUE, 2).flatten().tolist() == [3.0, 5.0]


def test_a_subset_without_lots_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a subset of critics is drawn: pass lots \[B, E\]"):
        target_value(VALUE, None, subset=2)


def test_options_are_checked() -> None:
    check_ensemble(3, subset=3, diversity=1.0)
    check_ensemble(1, subset=None, diversity=0.0)
    with pytest.raises(ValueError, match=r"subset is 4, it must lie in \[1, 3\]"):
        check_ensemble(3, subset=4, diversity=0.0)
    with pytest.raises(ValueError, match="diversity is nan: it must be at least 0"):
        check_ensemble(3, subset=None, diversity=float("nan"))
