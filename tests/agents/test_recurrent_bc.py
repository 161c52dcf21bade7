"""Recurrent cloning: the loss against a plain loop, and a cue that must be remembered."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Attention, History, Network

SEGMENT = {"segment": 5, "burn_in": 2}


def made(cell: str = "gru", **options: Any) -> tuple[RecurrentBC, Any]:
    data = data_for(RecurrentBC, episode_log(**options), SEGMENT)
    layers = 1 if cell == "gru" else 2
    learner = learner_of(RecurrentBC, data.spec, units=6, cell=cell, layers=layers, **SEGMENT)
    data.serve(learner)
    return learner, whole_log(learner, data)


@pytest.mark.parametrize("options", [{}, {"task": True}, {"discrete": True}, {"cell": "lstm"}])
def test_loss_is_that_of_a_plain_loop(options: dict[str, Any]) -> None:
    """Every row begins a segment; the first two steps of it warm up unless the episode begins."""
    learner, batch = made(**options)
    total, steps = torch.zeros(()), 0
    for row in range(len(batch)):
        state = learner.initial_state(1)
        for place in range(5):
            if not batch["chunk", "valid"][row, place]:
                continue
            seen = batch["chunk", "observation"][row, place][None]
            task = batch["task"][row][None] if "task" in batch.keys() else None
            policy = learner.actor(seen, task, state)
            state = learner.decide(seen, task, state).state
            if place >= 2 or batch["step"][row] == 0:
                action = learner.actor.scale.to_policy(batch["chunk", "action"][row, place])
                total = total - policy.log_prob(action[None])[0]
                steps += 1
    found = learner.losses(batch).terms["actor"]
    torch.testing.assert_close(found, total / steps)


def test_what_lies_behind_the_end_does_not_count() -> None:
    learner, batch = made()
    before = learner.losses(batch).terms["actor"]
    valid = batch["chunk", "valid"].unsqueeze(-1)
    for name in ("observation", "action"):
        value = batch["chunk", name]
        batch["chunk", name] = torch.where(valid, value, value + 7.0)
    assert not valid.all()
    torch.testing.assert_close(learner.losses(batch).terms["actor"], before)


def test_weights_weigh_segments() -> None:
    learner, batch = made()
    plain = learner.losses(batch).terms["actor"]
    batch["weight"] = torch.full((len(batch),), 3.0)
    torch.testing.assert_close(learner.losses(batch).terms["actor"], 3 * plain)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_carried_state_gives_the_features_of_the_segment(cell: str) -> None:
    learner, batch = made(cell)
    seen = batch["chunk", "observation"]
    state = learner.initial_state(len(seen))
    whole = learner.memory.segment(seen)
    for place in range(5):
        state = learner.decide(seen[:, place], None, state).state
        layer = 0 if cell == "gru" else 12  # the second one's, of h and c of 6 numbers each
        torch.testing.assert_close(state["hidden"][:, layer : layer + 6], whole[:, place])


@pytest.mark.parametrize("segment", [(1, 0), (4, 4), (4, -1)])
def test_segments_out_of_range(segment: tuple[int, int]) -> None:
    spec = OfflineDataModule(episode_log()).spec
    with pytest.raises(ValueError, match="must be at least 2 and burn_in"):
        RecurrentBC(spec, segment=segment[0], burn_in=segment[1])


def cued(episodes: int = 64, steps: int = 5) -> Log:
    """Return episodes whose first observation says, and no later one, what to do at the end."""
    generator = torch.Generator().manual_seed(0)
    cue = torch.where(torch.rand(episodes, generator=generator) < 0.5, -1.0, 1.0)
    observation = torch.zeros(episodes, steps + 1, 2)
    observation[:, 0, 0] = cue
    observation[..., 1] = torch.arange(steps + 1) / steps
    action = torch.zeros(episodes, steps, 2)
    action[:, -1, 0] = cue
    last = torch.zeros(episodes, steps, dtype=torch.bool)
    last[:, -1] = True

    def rows(value: Tensor) -> Tensor:
        return value.flatten(0, 1)

    columns: dict[Any, Tensor] = {
        "observation": rows(observation[:, :-1]),
        "action": rows(action),
        "episode": torch.arange(episodes).repeat_interleave(steps),
        ("next", "observation"): rows(observation[:, 1:]),
        ("next", "reward"): torch.zeros(episodes * steps),
        ("next", "terminated"): rows(last),
        ("next", "truncated"): torch.zeros(episodes * steps, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"action": {"low": LOW, "high": HIGH}})


def error(learner: Any, log: Log) -> float:
    """Return the mean absolute error of the last action's first number, played from the start."""
    seen = log.column("observation").view(64, 5, 2)
    wanted = log.column("action").view(64, 5, 2)[:, -1, 0]
    state = learner.initial_state(64)
    with torch.no_grad():
        for step in range(5):
            found = learner.decide(seen[:, step], None, state)
            state = found.state
    return float((found.action[:, 0] - wanted).abs().mean())


@pytest.mark.parametrize("kind", ["gru", "lstm", "history", "transformer", "plain"])
def test_a_cue_is_remembered(kind: str, tmp_path: Path) -> None:
    """The last action is the first observation's sign: only who remembers it can know."""
    log = cued()
    spec = OfflineDataModule(log).spec
    torch.manual_seed(0)
    rate = {"optimizer": lambda params: torch.optim.Adam(params, lr=3e-3)}
    if kind in ("gru", "lstm"):
        network, segment = Network(hidden=(16,)), {"segment": 5, "burn_in": 0}
        learner: Any = RecurrentBC(spec, units=16, cell=kind, network=network, **segment, **rate)
    else:
        reader = Attention(width=16, heads=2, layers=1) if kind == "transformer" else None
        history = History(0 if kind == "plain" else 4, actions=False, attention=reader)
        learner = BC(spec, network=Network(hidden=(32,)), history=history, **rate)
    fit(learner, OfflineDataModule(log, batch_size=64, updates_per_step=50), tmp_path, 400)
    missed = error(learner, log)
    assert missed > 0.8 if kind == "plain" else missed < 0.1
