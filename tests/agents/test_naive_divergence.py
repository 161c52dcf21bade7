"""Naive Q-learning on a log with few of the actions diverges, Watch says so; its remedies do not.

The log is the wandering point of ``benchmarks/triad.py``: what is done there changes nothing, and
no return exceeds 1 / (1 - discount).
"""

import re
from typing import Any

import pytest
from benchmark_scripts import triad

from hindsight_rl.agents.ddpg import DDPG
from hindsight_rl.agents.discrete_bcq import DiscreteBCQ
from hindsight_rl.agents.discrete_cql import DiscreteCQL
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.td3_bc import TD3BC

UPDATES = 200


@pytest.mark.parametrize(
    ("kind", "arguments", "bound"),
    [
        (DQN, triad.DISCRETE | {"huber": None}, 10.0),
        (DQN, triad.DISCRETE | {"huber": None, "double": True}, 10.0),
        (DDPG, triad.CONTINUOUS, 20.0),
    ],
    ids=["DQN", "double DQN", "DDPG"],
)
def test_naive_values_pass_every_possible_return_and_watch_says_so(
    kind: Any, arguments: dict[str, Any], bound: float
) -> None:
    found = triad.watched(kind, UPDATES, **arguments)
    assert found.bound == pytest.approx(bound)
    assert max(found.q) > 2 * bound
    # At the first look beyond the bound, once.
    first = 10 * (1 + next(number for number, q in enumerate(found.q) if q > bound))
    (text,) = found.said
    assert re.match(
        rf"watch/critic/q_max, update {first}: \|Q\| reaches [\d.]+, but no return of this log can "
        rf"exceed {bound:g}: the critic is diverging",
        text,
    )


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (DiscreteBCQ, triad.DISCRETE | triad.CLONED_FIRST | {"huber": None}),
        (DiscreteCQL, triad.DISCRETE | {"huber": None}),
        (TD3BC, triad.CONTINUOUS),
    ],
    ids=["DiscreteBCQ", "DiscreteCQL", "TD3BC"],
)
def test_constrained_and_conservative_values_stay_below(
    kind: Any, arguments: dict[str, Any]
) -> None:
    """The same networks, rates and updates."""
    found = triad.watched(kind, UPDATES, **arguments)
    assert max(found.q) < 0.75 * found.bound
    assert found.said == []
