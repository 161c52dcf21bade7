"""Quantiles of logged actions in the spec: where bounds are missing, and of training rows only."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from hindsight_rl.datamodules import make_spec
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.spec import Spec, SpecError


def log_of(numbers: Tensor, **facts: Any) -> Log:
    count = len(numbers)
    columns: dict[Any, Tensor] = {
        "observation": torch.randn(count, 2, generator=torch.Generator().manual_seed(0)),
        "action": numbers,
        "episode": torch.arange(count),
        ("next", "observation"): torch.zeros(count, 2),
        ("next", "reward"): torch.zeros(count),
        ("next", "terminated"): torch.ones(count, dtype=torch.bool),
        ("next", "truncated"): torch.zeros(count, dtype=torch.bool),
    }
    return Log.from_columns(columns, facts)


def spec_of(numbers: Tensor, **facts: Any) -> Spec:
    return OfflineDataModule(log_of(numbers, **facts)).spec


def shuffled(count: int) -> Tensor:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    return torch.stack([order.float(), -2.0 * order.float()], dim=-1)


def test_quantiles_are_those_of_the_sorted_log() -> None:
    """Numbers 0 to 100 in any order: quantile k is k; of twice the negatives, 2k - 200."""
    found = spec_of(shuffled(101)).action.quantiles
    assert found == (tuple(map(float, range(101))), tuple(2.0 * k - 200 for k in range(101)))


def test_a_very_long_log_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth row of 1010, in parts of 8: row 10 k holds k in both orders."""
    monkeypatch.setattr(make_spec, "_QUANTILE_ROWS", 101)
    action = torch.arange(1010.0).unsqueeze(-1)
    action[torch.arange(1010) % 10 != 0] = 1e6  # rows that are left out
    log = log_of(action)
    monkeypatch.setattr(Log, "drawn", lambda self, key: iter(self.column(key).split(8)))
    quantiles = make_spec._quantiles(log)
    assert quantiles == (tuple(10.0 * k for k in range(101)),)


@pytest.mark.parametrize(
    ("bounds", "present"),
    [
        ({"low": [-300.0, -300.0], "high": [300.0, 300.0]}, False),
        ({"low": [-300.0, -300.0]}, True),
        ({"low": [-300.0, None], "high": [300.0, 300.0]}, True),
        ({"low": [-3e38, -3e38], "high": [3e38, 3e38]}, True),  # wider than float32 holds
    ],
)
def test_quantiles_are_there_where_bounds_are_not(bounds: dict[str, Any], present: bool) -> None:
    spec = spec_of(shuffled(101), action=bounds)
    assert (spec.action.quantiles is not None) == present
    assert ("quantiles" in spec.to_dict()["action"]) == present
    assert Spec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("wrong", [[[0.0, 1.0]], [0.0, 1.0], [[0.0], [1.0]], [["a", 1], [0, 1]]])
def test_quantiles_of_another_shape_are_refused(wrong: Any) -> None:
    facts = spec_of(shuffled(5)).to_dict()
    facts["action"]["quantiles"] = wrong
    with pytest.raises(SpecError, match=r"action.quantiles"):
        Spec.from_dict(facts)


def test_discrete_actions_have_none() -> None:
    spec = spec_of(torch.arange(7) % 3)
    assert spec.action.quantiles is None
    assert "quantiles" not in dataclasses.replace(spec).to_dict()["action"]
