"""``hindsight export --steps``, and what ``hindsight run --deterministic`` says of noise."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from stand_ins import spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.diffusion_bc import DiffusionBC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.cli.export import main
from hindsight_rl.cli.run import main as run
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner


def checkpoint(folder: Path, kind: type[Learner], **arguments: Any) -> Path:
    """Write a checkpoint of an untrained learner."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(kind(spec_of(), network=Network(hidden=(16,)), **arguments))
    path = folder / "last.ckpt"
    trainer.save_checkpoint(path)
    return path


def export(folder: Path, saved: Path, *words: object) -> tuple[int, Path]:
    """Return the exit code, and the file that was asked for."""
    path = folder / "policy.onnx"
    given = ["--ckpt_path", saved, "--output", path, "--opset", 17, *words]
    return main([str(word) for word in given]), path


def test_the_steps_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = checkpoint(tmp_path, FlowBC, chunk=2)
    code, path = export(tmp_path, saved, "--steps", 4)
    shown = capsys.readouterr()
    assert code == 0 and shown.err == ""
    last = shown.out.splitlines()[4]
    assert last.startswith("noise       ") and last.endswith(
        " normal numbers an answer, 4 steps (flow); needed: zeros would average what is good"
    )
    stated = {"kind": "flow", "solver": "euler", "steps": 4}
    assert OnnxPolicy(path).contract["sampler"] == stated
    assert main(["--verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sampler"] == stated


def test_one_step_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, path = export(tmp_path, checkpoint(tmp_path, FlowBC, chunk=2), "--steps", 1)
    assert code == 0 and path.exists()
    assert capsys.readouterr().err == (
        "warning: FlowBC: one Euler step is exactly the conditional mean of the data: modes are "
        "averaged\n"
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (DiffusionBC, {"chunk": 2}, "error: DiffusionBC: 101 steps of a diffusion of 100: give 1"),
        (BC, {}, "error: steps is 101, and BC does not act step by step from noise"),
    ],
)
def test_steps_that_cannot_be(
    kind: type[Learner],
    arguments: dict[str, Any],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, path = export(tmp_path, checkpoint(tmp_path, kind, **arguments), "--steps", 101)
    assert code == 2 and not path.exists()
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(told) and shown.err.count("\n") == 1


def test_a_file_is_verified_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--verify", "policy.onnx", "--steps", "4"])
    assert "--verify only reads: leave out --steps" in capsys.readouterr().err


def test_noise_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = export(tmp_path, checkpoint(tmp_path, FlowBC, chunk=2))
    capsys.readouterr()
    assert run([str(path), "--env", "Pendulum-v1", "--deterministic"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "noise chooses between several good answers" in told


def test_without_noise_nothing_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that takes none is deterministic; the option is no mistake."""
    _, path = export(tmp_path, checkpoint(tmp_path, BC))
    policy = OnnxPolicy(path, deterministic=True)
    assert policy.signature.noise is None
