"""Flow cloning: the loss by hand, chunks cut by an episode's end, and two answers kept apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from torch import Tensor

from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import Network

CHUNK = {"chunk": 3}


def made(**options: Any) -> tuple[FlowBC, Any]:
    data = data_for(FlowBC, episode_log(**options), CHUNK)
    learner = learner_of(FlowBC, data.spec, **CHUNK)
    data.serve(learner)
    return learner, whole_log(learner, data)


@pytest.mark.parametrize("task", [False, True])
def test_loss_is_that_of_a_plain_loop(task: bool) -> None:
    learner, batch = made(task=task)
    total, entries = torch.zeros(()), 0
    for row in range(len(batch)):
        data = learner.actor.scale.to_policy(batch["chunk", "action"][row]).flatten()
        noise = batch["noise", "flow"][row]
        time = 0.5 * (1 + torch.erf(batch["noise", "time"][row, 0] / 2**0.5))
        point = (1 - time) * noise + time * data
        asked = batch["task"][row][None] if task else None
        velocity = learner.actor(point[None], time[None], batch["observation"][row][None], asked)[0]
        error = (velocity - (data - noise)).square().view(3, 2)
        for place in range(3):
            if batch["chunk", "valid"][row, place]:
                total, entries = total + error[place].mean(), entries + 1
    torch.testing.assert_close(learner.losses(batch).terms["actor"], total / entries)


def test_what_lies_behind_the_end_moves_nothing_but_the_input() -> None:
    """Errors of entries that are not there do not count: their target may be anything."""
    learner, batch = made()
    loss = learner.losses(batch).terms["actor"]
    loss.backward()
    last = learner.actor.net[-1]
    ends = batch[batch["episode_end"] == batch["index"]]
    learner.zero_grad()
    learner.losses(ends).terms["actor"].backward()
    # On last rows only the first action of three is there: the others' outputs get no gradient.
    assert last.bias.grad[:2].abs().min() > 0
    assert not last.bias.grad[2:].any()


def test_answers_are_chunks_within_the_bounds_and_functions_of_the_noise() -> None:
    learner, batch = made()
    seen = batch["observation"]
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(seen)))[0]
    noise = normals(draws, learner.acting_noise)
    with torch.no_grad():
        found = learner.decide(seen, None, {}, noise).action
        again = learner.decide(seen, None, {}, noise).action
        other = learner.decide(seen, None, {}, -noise).action
    assert found.shape == (len(seen), 3, 2)
    assert (found >= torch.tensor(LOW)).all() and (found <= torch.tensor(HIGH)).all()
    assert found.equal(again) and not found.equal(other)


def test_the_average_of_the_network_acts() -> None:
    learner, batch = made()
    with torch.no_grad():
        before = learner(batch["observation"])
        for parameter in learner.actor.parameters():
            parameter.zero_()
        assert learner(batch["observation"]).equal(before)


def two_answers(rows: int = 512) -> Log:
    """Return episodes of one step in one situation, with the actions -1 and 1 in halves."""
    sign = torch.where(torch.arange(rows) % 2 == 0, -1.0, 1.0)
    columns: dict[Any, Tensor] = {
        "observation": torch.randn(rows, 2, generator=torch.Generator().manual_seed(0)),
        "action": torch.stack([sign, sign], dim=-1),
        "episode": torch.arange(rows),
        ("next", "observation"): torch.zeros(rows, 2),
        ("next", "reward"): torch.zeros(rows),
        ("next", "terminated"): torch.ones(rows, dtype=torch.bool),
        ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"action": {"low": [-2.0, -2.0], "high": [2.0, 2.0]}})


def test_two_good_answers_stay_two(tmp_path: Path) -> None:
    log = two_answers()
    torch.manual_seed(0)
    learner = FlowBC(
        OfflineDataModule(log).spec,
        network=Network(hidden=(64, 64)),
        chunk=1,
        tau=0.05,
        optimizer=lambda params: torch.optim.Adam(params, lr=3e-3),
    )
    fit(learner, OfflineDataModule(log, batch_size=256, updates_per_step=50), tmp_path, 600)
    draws = counters(1, torch.zeros(1, dtype=torch.int64), torch.arange(200))[0]
    with torch.no_grad():
        action = learner.act(log.column("observation")[:200], draws=draws)
    # Both numbers of an answer agree in sign, each answer is near -1 or 1, and both are given.
    assert (action[:, 0].sign() == action[:, 1].sign()).float().mean() > 0.95
    assert (action.abs() - 1).abs().mean() < 0.2
    assert 0.3 < (action[:, 0] > 0).float().mean() < 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 0}, "chunk 0 must be at least 1"),
        ({"chunk": 2, "execute": 3}, r"execute 3 in \[1, 2\]"),
        ({"steps": 0}, "steps 0 must be at least 1"),
        ({"tau": 0.0}, "tau 0.0 in"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowBC(OfflineDataModule(episode_log()).spec, **arguments)
