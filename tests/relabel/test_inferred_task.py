"""The task of a few episodes: by hand, as the relabeler has it of one, and sharper with more."""

import math
from typing import Any

import pytest
import torch
from episode_logs import episode_log

from hindsight_rl.keys import NEXT_ACHIEVED
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.inferred_task import inferred_task
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.linear import LinearTasks

TASKS = [[1.0, 0.0], [0.0, 1.0]]


def log_of(*features: tuple[float, float]) -> Log:
    """Return episodes of one row with these features each."""
    log = episode_log([1] * len(features))
    return log.with_columns({NEXT_ACHIEVED: torch.tensor(features)})


def rule(**arguments: Any) -> InverseRL:
    return InverseRL(LinearTasks([-1, -1], [1, 1]), tasks=TASKS, **arguments)


REFERENCE = log_of((0.0, 0.0), (2.0, 0.0))
"""log Z of the first task is log((1 + e^2) / 2), of the second 0."""


def test_posterior_of_two_episodes_by_hand() -> None:
    """Rewards (1, 1) and (2, 1): logits 3 - 2 log((1 + e^2) / 2) and 2."""
    found = inferred_task(rule(), REFERENCE, log_of((1.0, 1.0), (2.0, 1.0)))
    log_z = math.log((1 + math.e**2) / 2)
    first = 1 / (1 + math.exp(2 - 3 + 2 * log_z))
    expected = torch.tensor([first, 1 - first], dtype=torch.float64)
    torch.testing.assert_close(found.probability, expected, rtol=0, atol=1e-6)
    assert found.task.tolist() == [0.0, 1.0]
    entropy = -(first * math.log(first) + (1 - first) * math.log(1 - first))
    assert found.perplexity == pytest.approx(math.exp(entropy), rel=1e-5)
    without = inferred_task(rule(partition=False), REFERENCE, log_of((1.0, 1.0), (2.0, 1.0)))
    assert without.task.tolist() == [1.0, 0.0]
    share = 1 / (1 + math.exp(-1 / 2))
    hot = rule(partition=False, temperature=2.0)
    found = inferred_task(hot, REFERENCE, log_of((1.0, 1.0), (2.0, 1.0)))
    assert float(found.probability[0]) == pytest.approx(share, abs=1e-6)


def test_one_episode_has_the_posterior_that_relabeling_gives_it() -> None:
    log = log_of((0.5, 0.1), (-0.3, 0.8), (1.0, -1.0), (0.2, 0.4))
    relabeled = InverseRL(LinearTasks([-1, -1], [1, 1]), candidates=7).prepare(log).posterior
    for number in range(4):
        given = log_of(*[tuple(log.column(NEXT_ACHIEVED)[number].tolist())])
        found = inferred_task(InverseRL(LinearTasks([-1, -1], [1, 1]), candidates=7), log, given)
        torch.testing.assert_close(found.probability.float(), relabeled[number])
        assert found.task.equal(found.tasks[relabeled[number].argmax()])


def test_more_episodes_leave_fewer_tasks_open() -> None:
    rest = [
        inferred_task(rule(), REFERENCE, log_of(*[(0.2, 0.6)] * count)).perplexity
        for count in (1, 2, 5, 20)
    ]
    assert rest == sorted(rest, reverse=True) and rest[0] > 1.4 and rest[-1] < 1.01


def test_what_it_cannot_say() -> None:
    with pytest.raises(ValueError, match="judges by unit 'rest', and here whole episodes are of"):
        inferred_task(rule(unit="rest"), REFERENCE, REFERENCE)
