"""Steps from noise to action, chosen at the export: what the file holds, and what is lost."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from two_answers import fitted as two_fitted

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.diffusion_bc import DiffusionBC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.idql import IDQL
from hindsight_rl.export.draws import counters, normals
from hindsight_rl.export.onnx import ExportError, export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.nets.network import NoiseNetwork
from hindsight_rl.training.learner import Learner

CHUNK = {"chunk": 2, "execute": 1}


def fitted(kind: type[Learner], folder: Path, **arguments: Any) -> Learner:
    data = data_for(kind, episode_log(), arguments)
    learner = learner_of(kind, data.spec, **arguments)
    fit(learner, data, folder, 20)
    return learner.eval()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(FlowBC, {}), (FlowBC, {"solver": "heun"}), (DiffusionBC, {"predict": "sample"})],
)
def test_a_file_of_five_steps_takes_five(
    kind: type[Learner], arguments: dict[str, Any], tmp_path: Path
) -> None:
    """It answers as the learner with five steps does, not as with its ten, and says so."""
    learner, path = fitted(kind, tmp_path, **CHUNK, **arguments), tmp_path / "policy.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = export_policy(learner, path, opset=17, steps=5)
    policy = OnnxPolicy(path)
    assert policy.contract["sampler"]["steps"] == report["sampler"]["steps"] == 5
    assert policy.contract["learner"]["hparams"]["steps"] == 5
    assert learner.sampler.steps == 10  # its own are not touched
    seen = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    noise = normals(counters(0, np.arange(4), 0), 4)
    with torch.no_grad():
        expected = {}
        for steps in (5, 10):
            learner.sampler.choose(steps)
            decided = learner.decide(torch.from_numpy(seen), None, {}, torch.from_numpy(noise))
            expected[steps] = decided.action[:, 0].numpy()
    found = policy.act(seen)
    np.testing.assert_allclose(found, expected[5], atol=1e-5)
    assert np.abs(found - expected[10]).max() > 1e-4


@pytest.mark.parametrize(("opset", "steps"), [(17, 10), (18, 4)])
@pytest.mark.parametrize("residual", [False, True])
def test_a_diffusion_that_predicts_noise_equals_its_file(
    opset: int, steps: int, residual: bool, tmp_path: Path
) -> None:
    """Its first step divides by sqrt(abar) = 5e-4: in float32 files would differ by 1e-4 and more.

    The answers lie within the bounds, where agreement shows something.
    """
    small = NoiseNetwork(hidden=(32, 32), residual=residual)
    learner = two_fitted(DiffusionBC, tmp_path, 200, network=small, chunk=1, tau=0.05)
    path = tmp_path / "policy.onnx"
    report = export_policy(learner, path, opset=opset, steps=steps)
    assert report["parity"]["max_difference"] < 5e-6
    action = np.array(OnnxPolicy(path).contract["probe"]["action"])
    assert (np.abs(action) < 2).mean() > 0.8


def test_the_best_of_some_equals_its_file_from_the_newer_exporter(tmp_path: Path) -> None:
    learner = fitted(IDQL, tmp_path, samples=3, extraction="implicit")
    report = export_policy(learner, tmp_path / "policy.onnx", opset=18, steps=4)
    assert report["parity"]["max_difference"] < 1e-5 and report["parity"]["close"] < 8
    assert report["noise"]["shape"] == [3 * 2 + 2 * 3]


@pytest.mark.parametrize(
    ("kind", "arguments", "steps", "lost"),
    [
        (FlowBC, {}, 1, "FlowBC: one Euler step is exactly the conditional mean"),
        (FlowBC, {}, 3, r"FlowBC: with 3 steps \(euler\) a flow averages modes: take 4 or more"),
        (FlowBC, {"solver": "heun"}, 1, r"with 1 step \(heun\) a flow averages modes"),
        (DiffusionBC, {}, 1, "one DDIM step is the mean of the data"),
        (DiffusionBC, {"predict": "noise"}, 1, "one DDIM step magnifies the network's error"),
        (DiffusionBC, {"predict": "sample"}, 1, "one DDIM step is the mean of the data"),
    ],
)
def test_too_few_steps_are_a_warning(
    kind: type[Learner], arguments: dict[str, Any], steps: int, lost: str, tmp_path: Path
) -> None:
    learner = fitted(kind, tmp_path, **CHUNK, **arguments)
    with pytest.warns(UserWarning, match=lost):
        export_policy(learner, tmp_path / "policy.onnx", opset=17, steps=steps)


@pytest.mark.parametrize(
    ("kind", "steps", "told"),
    [
        (FlowBC, 0, "FlowBC: steps is 0, it must be at least 1"),
        (DiffusionBC, 0, "DiffusionBC: 0 steps of a diffusion of 100: give 1 to 100"),
        (DiffusionBC, 101, "DiffusionBC: 101 steps of a diffusion of 100: give 1 to 100"),
        (BC, 4, "steps is 4, and BC does not act step by step from noise: leave it out"),
    ],
)
def test_steps_that_cannot_be(kind: type[Learner], steps: int, told: str, tmp_path: Path) -> None:
    learner = learner_of(kind, data_for(kind).spec)
    with pytest.raises(ExportError, match=told):
        export_policy(learner, tmp_path / "policy.onnx", steps=steps)
    assert not (tmp_path / "policy.onnx").exists()


def test_zero_noise_is_no_policy(tmp_path: Path) -> None:
    """The two-point flow of T45 stays at its average: a deterministic run is an error."""
    learner, path = fitted(FlowBC, tmp_path, **CHUNK), tmp_path / "policy.onnx"
    report = export_policy(learner, path, opset=17)
    assert report["noise"] == {"shape": [4], "distribution": "normal", "zero": False}
    with pytest.raises(ValueError, match="zeros lead to their average"):
        OnnxPolicy(path, deterministic=True)


def test_velocity_of_a_fitted_mean_at_one_step(tmp_path: Path) -> None:
    """One Euler step is x + v(x, 0): of a fitted flow the mean, whatever the noise."""
    log = episode_log()
    data = data_for(FlowBC, log, CHUNK)
    learner = learner_of(FlowBC, data.spec, **CHUNK)
    batch = whole_log(learner, data)
    learner.sampler.choose(1)
    noise = torch.randn(len(batch), 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = batch["observation"], batch.get("task")
        velocity = learner.actor_ema(noise, torch.zeros(len(batch)), *features)
        expected = learner.actor.scale.to_environment((noise + velocity).unflatten(-1, (2, 2)))
        found = learner.decide(*features, {}, noise).action
    torch.testing.assert_close(found, expected)
