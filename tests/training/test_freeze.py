"""Networks that stand still for the first updates of a fit."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import check_resumed, data_for, equal, fit, learner_of

from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.td3 import TD3
from hindsight_rl.training.update.steps import due, moves_before


def test_moves_are_counted_as_they_are_due() -> None:
    for interval in (1, 2, 5):
        for begin in (0, 3, 7):
            flags = [bool(due(number, interval, begin)) for number in range(20)]
            assert [int(moves_before(n, interval, begin)) for n in range(20)] == [
                sum(flags[:n]) for n in range(20)
            ]


@pytest.mark.parametrize(("kind", "every"), [(IQL, 1), (TD3, 2)])
def test_frozen_network_stands_still_and_then_begins_as_anew(
    kind: Any, every: int, tmp_path: Path
) -> None:
    """After the last frozen update its Adam counts from 1: the first step has the rate's size."""
    rate = functools.partial(torch.optim.Adam, lr=1e-3, eps=1e-12)
    options: dict[str, Any] = {"optimizer": rate, "freeze": {"actor": 7}}
    data = data_for(kind, updates_per_step=3)
    first = learner_of(kind, data.spec).actor.state_dict()
    found: dict[int, Any] = {}
    for updates in (7, 8, 9):
        learner = learner_of(kind, data.spec, **options)
        fit(learner, data_for(kind, updates_per_step=3), tmp_path / f"{updates}", updates)
        found[updates] = learner
    assert equal(found[7].actor.state_dict(), first)
    assert not equal(found[7].critic.state_dict(), found[8].critic.state_dict())
    moved = [found[8].actor.state_dict()[name] - value for name, value in first.items()]
    sizes = torch.cat([part.flatten() for part in moved]).abs()
    sizes = sizes[sizes > 0]
    assert len(sizes) > 10
    torch.testing.assert_close(sizes, torch.full_like(sizes, 1e-3), rtol=1e-3, atol=0.0)
    assert equal(found[9].actor.state_dict(), found[8].actor.state_dict()) == (every == 2)


def test_a_fit_goes_on_bit_by_bit_from_within_the_freeze(tmp_path: Path) -> None:
    def begun() -> tuple[Any, Any]:
        data = data_for(IQL, updates_per_step=2)
        return data, learner_of(IQL, data.spec, freeze={"actor": 7})

    check_resumed(begun, tmp_path)
