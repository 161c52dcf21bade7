"""Flow cloning: the loss by hand, chunks cut by an episode's end, and two answers kept apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, learner_of, whole_log
from two_answers import answers, fitted

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import NoiseNetwork

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


@pytest.mark.parametrize("options", [{}, {"time": "beta"}], ids=["uniform", "beta"])
def test_two_good_answers_stay_two(options: dict[str, Any], tmp_path: Path) -> None:
    """Both numbers of an answer agree in sign, each is near -1 or 1, and both are given.

    With four steps and more; one is the mean of both, whatever times were fitted.
    """
    small = NoiseNetwork(hidden=(64, 64))
    learner = fitted(FlowBC, tmp_path, network=small, chunk=1, tau=0.05, **options)
    for steps, solver in ((4, "euler"), (10, "euler"), (4, "heun")):
        learner.sampler.choose(steps)
        learner.sampler.solver = solver
        agree, off, positive = answers(learner)
        assert agree > 0.95 and off < 0.25 and 0.3 < positive < 0.7
    learner.sampler.solver = "euler"
    learner.sampler.choose(1)
    assert answers(learner).off > 0.6


def test_the_mean_of_two_answers_is_neither(tmp_path: Path) -> None:
    """What they are compared with: the squared error, whose policy stays between them."""
    learner = fitted(BC, tmp_path, head="deterministic", updates=200)
    assert answers(learner).off > 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 0}, "chunk 0 must be at least 1"),
        ({"chunk": 2, "execute": 3}, r"execute 3 in \[1, 2\]"),
        ({"steps": 0}, "steps is 0, it must be at least 1"),
        ({"tau": 0.0}, "tau is 0.0, it must lie in"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowBC(OfflineDataModule(episode_log()).spec, **arguments)
