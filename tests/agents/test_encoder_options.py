"""Encoders of a learner: what moves and how fast, in every way of updating, and in its files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from entry_logs import CAMERA, STATE, entry_data
from lightning import Trainer
from small_fits import equal, fit, learner_of, weights
from torch import Tensor, nn

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.maths.draws import fork
from hindsight_rl.maths.shift import shift_images, shift_offsets
from hindsight_rl.nets.encoders.encoder import Encoder
from hindsight_rl.nets.network import Network
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner


class Slim(nn.Module):
    """A camera's mean colours through one layer."""

    def __init__(self, shape: list[int], width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.layer = nn.Linear(shape[0], width)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.tanh(self.layer(pixels.mean(dim=(-2, -1))))


SLIM = f"{__name__}.Slim"


def network(**options: Any) -> Network:
    return Network(hidden=(8,), encoders={"front": Encoder(**options)})


def made(kind: type[Learner], spec: Any, net: Network, **options: Any) -> Learner:
    return learner_of(kind, spec, **{"network": net, "compile": "off", "threads": 1} | options)


def moved(kind: type[Learner], net: Network, folder: Path, **options: Any) -> tuple[Any, Any, Any]:
    """Return a learner that was fitted for 8 updates, and its weights before and after."""
    module = entry_data()
    learner = made(kind, module.spec, net, **options)
    before = weights(learner)
    fit(learner, module, folder, 8)
    return learner, before, weights(learner)


@pytest.mark.parametrize("kind", [BC, IQL])
@pytest.mark.parametrize("module", [SLIM, None])
def test_frozen_encoders_stay_as_they_are(kind: Any, module: Any, tmp_path: Path) -> None:
    """Those of actor, critics, value and targets; everything else moves, the optimiser's alone."""
    net = network(module=module, frozen=True)
    learner, before, after = moved(kind, net, tmp_path)
    names = [name for name, parameter in learner.named_parameters()]
    inside = {name for name in names if ".encoders." in name}
    assert inside and all(torch.equal(before[name], after[name]) for name in inside)
    assert all(not torch.equal(before[name], after[name]) for name in set(names) - inside)
    held = {p for group in learner.optimizers().param_groups for p in group["params"]}
    named = dict(learner.named_parameters())
    assert held == {named[n] for n in set(names) - inside if not n.startswith("target_")}


def test_encoders_have_rates_of_their_own(tmp_path: Path) -> None:
    """Adam's first step is the rate for every weight: a hundredth of that of the others."""
    module = entry_data()
    learner = made(BC, module.spec, network(module=SLIM, rate=3e-6), clip_norm=1.0)
    before = weights(learner)
    fit(learner, module, tmp_path, 1)
    steps = {n: float((v - before[n]).abs().max()) for n, v in weights(learner).items()}
    assert steps["actor.inputs.encoders.1.module.layer.bias"] == pytest.approx(3e-6, rel=0.05)
    assert steps["actor.net.0.bias"] == pytest.approx(3e-4, rel=0.05)
    groups = learner.optimizers().param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("actor", 3e-4), ("actor", 3e-6)]


@pytest.mark.parametrize("options", [{"frozen": True}, {"rate": 1e-4}], ids=["frozen", "slow"])
def test_all_ways_of_updating_agree(options: Any, tmp_path: Path) -> None:
    """One by one; as one function (eager, of two seeds, the first of which is a run's own)."""
    net = network(module=SLIM, shift=1, **options)
    alone, _, one = moved(IQL, net, tmp_path / "one", clip_norm=1.0)
    several, _, two = moved(IQL, net, tmp_path / "two", clip_norm=1.0, seeds=2)
    assert several.seed_states is not None and several.seed_states.count == 2
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-6, msg=name)


def test_images_are_shifted_in_training_alone(tmp_path: Path) -> None:
    """What the losses see is the picture of the log, moved by the counters' offsets."""
    module = entry_data()
    learner = made(BC, module.spec, network(module=SLIM, shift=2))
    seen: list[Any] = []
    losses = learner.losses
    learner.losses = lambda batch: seen.append(batch.clone()) or losses(batch)  # type: ignore
    fit(learner, module, tmp_path, 4)
    chunk = module._sampler().chunk(0, 4)
    stream = fork(fork(fork(chunk["draws"], "shift"), "front"), "now")
    wanted = shift_images(chunk[CAMERA], shift_offsets(stream, 2), 2)
    assert len(seen) == 4
    for update, batch in enumerate(seen):
        assert torch.equal(batch[CAMERA], wanted[update])
        assert torch.equal(batch[STATE], chunk[update][STATE])
    assert not torch.equal(wanted, chunk[CAMERA])
    seen.clear()
    held_out = entry_data(validation=0.5)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False,
                      enable_progress_bar=False)  # fmt: skip
    trainer.validate(learner, held_out, verbose=False)
    rows = held_out._held_out
    assert torch.equal(seen[0][CAMERA], held_out.log.gather(rows)[CAMERA])


@pytest.mark.parametrize("kind", [BC, IQL])
def test_files_of_policies_with_encoders(kind: Any, tmp_path: Path) -> None:
    """A checkpoint needs no file of weights; the exported graph equals the policy."""
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "front.safetensors"
    source = Slim([3, 8, 8], 5)
    safetensors.save_file(source.state_dict(), path)
    net = network(module=SLIM, arguments={"width": 5}, weights=str(path), frozen=True)
    module = entry_data()
    learner = made(kind, module.spec, net)
    trainer = fit(learner, module, tmp_path, 2)
    for part in learner.networks().values():
        assert torch.equal(part.inputs.encoders[1].module.layer.weight, source.layer.weight)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    path.unlink()
    again = load_learner(tmp_path / "last.ckpt")
    assert equal(weights(again), weights(learner))
    report = export_policy(again.eval(), tmp_path / "policy.onnx")
    assert report["parity"]["max_difference"] <= 1e-5
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    seen = {name: rows[:5] for name, rows in module.spec.probe.observation.items()}
    assert seen["front"].dtype == np.uint8
    np.testing.assert_allclose(policy.act(seen), again.act_numpy(seen), rtol=0, atol=1e-5)


def test_fine_tuning_starts_from_a_checkpoint_without_the_file(tmp_path: Path) -> None:
    """Frozen before, loose now; the file of weights is gone."""
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "front.safetensors"
    safetensors.save_file(Slim([3, 8, 8]).state_dict(), path)
    module = entry_data()
    learner = made(BC, module.spec, network(module=SLIM, weights=str(path), frozen=True))
    trainer = fit(learner, module, tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    path.unlink()
    start = str(tmp_path / "last.ckpt")
    later = made(BC, module.spec, network(module=SLIM, rate=1e-4), weights_from=start)
    fit(later, module, tmp_path, 1)
    one, two = weights(learner), weights(later)
    name = "actor.inputs.encoders.1.module.layer.weight"
    assert float((one[name] - two[name]).abs().max()) == pytest.approx(1e-4, rel=0.05)
