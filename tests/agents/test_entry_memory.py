"""Memory of several entries, a camera among them: acting step by step is what was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from entry_logs import CAMERA, EPISODES, STATE, STEPS, entry_data
from small_fits import fit, learner_of, weights

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.decision_transformer import DecisionTransformer
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.windows import Windows
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.errors import LogError
from hindsight_rl.nets.encoders.encoder import Encoder
from hindsight_rl.nets.network import Attention, History, Network
from hindsight_rl.training.learner import Learner
from hindsight_rl.windows import Window

NETWORK = Network(hidden=(8,), encoders={"front": Encoder(width=5, channels=(8,))})
KINDS: dict[str, tuple[type[Learner], dict[str, Any]]] = {
    "stack": (BC, {"history": History(steps=2)}),
    "stack without actions": (BC, {"history": History(steps=2, actions=False)}),
    "attention": (BC, {"history": History(steps=2, attention=Attention(width=8, heads=2))}),
    "gru": (RecurrentBC, {"segment": STEPS, "burn_in": 0, "units": 6}),
    "lstm": (RecurrentBC, {"segment": STEPS, "burn_in": 0, "units": 6, "cell": "lstm"}),
    "returns": (
        DecisionTransformer,
        {"context": 3, "max_step": 4, "attention": Attention(width=8, heads=2, layers=1)},
    ),
}


def data_of(learner: type[Learner] | Learner) -> OfflineDataModule:
    """Return the log, with returns to go as tasks for a learner that is asked for one."""
    return entry_data(returns=learner.commanded)


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def learner(request: pytest.FixtureRequest, tmp_path: Path) -> Learner:
    """Return a learner after two updates."""
    kind, options = request.param
    module = data_of(kind)
    options = {"network": NETWORK, "head": "deterministic", "compile": "off"} | options
    made = learner_of(kind, module.spec, threads=1, **options)
    before = weights(made)
    fit(made, module, tmp_path, 2)
    stem = "actor.inputs.now.encoders.1.blocks.0.weight"
    assert not torch.equal(before[stem], weights(made)[stem]), "the camera is learned from"
    return made.eval()


def played(learner: Learner) -> list[np.ndarray]:
    """Return the actions of the log's first episode, decided step by step."""
    rows = data_of(learner).log.gather(torch.arange(STEPS))
    state, actions = learner.initial_state(1), []
    with torch.no_grad():
        for step in range(STEPS):
            seen = {key[1]: rows[key][step : step + 1] for key in (STATE, CAMERA)}
            task = rows["task"][step : step + 1] if learner.commanded else None
            decision = learner.decide(seen, task, state)
            state = decision.state
            if learner.action_state:  # the log's action is executed
                state[learner.action_state][:, -1] = rows["action"][step : step + 1]
            actions.append(decision.action.numpy())
    return actions


def test_acting_step_by_step_equals_training(learner: Learner) -> None:
    """The state holds what a window of frames is encoded to, or what a segment carries."""
    module = data_of(learner).serve(learner)
    batch = module._sampler().gather(torch.arange(STEPS)[None], torch.zeros(1, STEPS, 3).long())
    with torch.no_grad():
        if isinstance(learner, RecurrentBC):
            segment = batch["chunk"][0, 0]["observation"]
            features = learner.memory.segment(segment)
            wanted = learner.actor.distribution(features, segment).mode
        else:
            rows = batch[0]
            past = {name: rows["history", name] for name in rows["history"].keys()}
            past |= {"step": rows["step"]} if learner.commanded else {}
            wanted = learner.actor(rows["observation"], rows.get("task"), past).mode
        wanted = learner.actor.scale.to_environment(wanted)
    torch.testing.assert_close(torch.from_numpy(np.concatenate(played(learner))), wanted)


def test_the_state_holds_features_not_frames(learner: Learner) -> None:
    """5 of the camera and 2 of the state for each of the last steps, a few bytes."""
    state = {name: tuple(value.shape) for name, value in learner.initial_state(3).items()}
    if isinstance(learner, RecurrentBC):
        assert state == {"hidden": (3, 12 if "lstm" in str(learner.hparams["cell"]) else 6)}
    else:
        if learner.commanded:
            assert state.pop("step") == (3,) and state.pop("return_to_go") == (3, 2)
        assert state.pop("action", (3, 2, 1)) == (3, 2, 1)
        assert state == {"features": (3, 2, 7), "valid": (3, 2)}


def test_the_file_remembers_too(learner: Learner, tmp_path: Path) -> None:
    """It takes frames as bytes, one at a time, and answers as the learner does."""
    report = export_policy(learner, tmp_path / "policy.onnx")
    assert report["parity"]["max_difference"] <= 1e-5
    policy, rows = (
        OnnxPolicy(tmp_path / "policy.onnx"),
        data_of(learner).log.gather(torch.arange(STEPS)),
    )
    policy.reset()
    for step, wanted in enumerate(played(learner)):
        seen = {key[1]: rows[key][step].numpy() for key in (STATE, CAMERA)}
        task = [rows["task"][step].numpy()] if learner.commanded else []
        found = policy.act(seen, *task)
        np.testing.assert_allclose(found, wanted[0], rtol=0, atol=1e-5)
        if learner.action_state:
            policy.executed(rows["action"][step].numpy())


def test_windows_hold_every_entry_of_the_observation() -> None:
    """Frames are found by number, the first one stands in for those before the episode."""
    log = entry_data().log
    keys = (("history", "observation"), ("history", "valid"))
    row = torch.tensor([STEPS + 1])
    batch = Windows(log, Window(history=3), keys).attach(log.gather(row))
    frames = log.take(CAMERA, torch.tensor([STEPS, STEPS, STEPS]))
    assert torch.equal(batch["history", *CAMERA][0], frames)
    assert batch["history", "valid"].tolist() == [[False, False, True]]
    assert torch.equal(batch["history", *STATE][0, 2], log.column(STATE)[STEPS])
    assert log.episodes == EPISODES
    with pytest.raises(LogError, match="history of 'observation.front', and frame_stack is 2"):
        Windows(log.with_frame_stack(2), Window(history=3), keys)
