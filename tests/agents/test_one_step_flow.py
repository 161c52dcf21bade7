"""One-step flow: what the second network is fitted to, and that it keeps two answers apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from two_answers import answers, fitted

from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.one_step_flow import OneStepFlow
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import NoiseNetwork

CHUNK = {"chunk": 3}


def made(**arguments: Any) -> tuple[OneStepFlow, Any]:
    data = data_for(OneStepFlow, episode_log(), CHUNK)
    learner = learner_of(OneStepFlow, data.spec, **CHUNK, **arguments)
    assert isinstance(learner, OneStepFlow)
    data.serve(learner)
    return learner, whole_log(learner, data)


def test_the_network_follows_the_walk_of_the_average_flow() -> None:
    """Two Euler steps by hand, from the same noise; the flow online does not matter."""
    learner, batch = made(flow_steps=2)
    with torch.no_grad():
        for parameter in learner.flow.parameters():
            parameter.add_(1.0)
    noise, seen = batch["noise", "actor"], batch["observation"]
    point = noise
    for time in (0.0, 0.5):
        point = point + learner.flow_ema(point, torch.full((len(batch),), time), seen) / 2
    answer = learner.actor(noise, torch.zeros(len(batch)), seen)
    expected = (answer - point).square().mean()
    torch.testing.assert_close(learner.losses(batch).terms["actor"], expected)


def test_the_flow_is_fitted_as_flow_cloning_fits_it() -> None:
    learner, batch = made()
    twin = learner_of(FlowBC, learner.spec, **CHUNK)
    assert isinstance(twin, FlowBC)
    twin.actor.load_state_dict(learner.flow.state_dict())
    expected = twin.losses(batch).terms["actor"]
    torch.testing.assert_close(learner.losses(batch).terms["flow"], expected)


def test_one_step_keeps_two_answers_apart(tmp_path: Path) -> None:
    """Where one step of the flow that it follows is the mean."""
    small = NoiseNetwork(hidden=(64, 64))
    sizes = {"network": small, "chunk": 1, "flow_steps": 5, "tau": 0.05}
    learner = fitted(OneStepFlow, tmp_path, 600, **sizes)
    agree, off, positive = answers(learner)
    assert agree > 0.9 and off < 0.3 and 0.3 < positive < 0.7
    learner.actor_ema.load_state_dict(learner.flow_ema.state_dict())  # a velocity is no answer
    assert answers(learner).off > 0.6


def test_steps_out_of_range() -> None:
    with pytest.raises(ValueError, match="flow_steps 0 must be at least 1"):
        OneStepFlow(OfflineDataModule(episode_log()).spec, flow_steps=0)
