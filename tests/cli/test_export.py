"""``hindsight export``: a learner's checkpoint becomes a file; a file is verified."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from lightning import Trainer
from specs import changed
from stand_ins import spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.trajectory_transformer import TrajectoryTransformer
from hindsight_rl.cli.export import main
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.nets.network import Attention, Network
from hindsight_rl.training.checkpoints.load import load_learner


@pytest.fixture(scope="module", params=[False, True], ids=["continuous", "discrete"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a learner with a task, as Lightning saves it."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(
        BC(spec_of(discrete=request.param, task=True), network=Network(hidden=(16,)))
    )
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def policy(checkpoint: Path, tmp_path: Path) -> Path:
    """The exported file of a checkpoint."""
    path = tmp_path / "policy.onnx"
    words = ["--ckpt_path", str(checkpoint), "--output", str(path), "--opset", "17"]
    assert main(words) == 0
    return path


def test_file_answers_as_the_checkpoint(checkpoint: Path, policy: Path) -> None:
    learner = load_learner(checkpoint)
    draw = np.random.default_rng(5)
    observation = draw.normal(size=(40, 4)).astype(np.float32)
    task = draw.normal(100, 50, size=(40, 2)).astype(np.float32)
    with torch.no_grad():
        expected = learner(torch.from_numpy(observation), torch.from_numpy(task)).numpy()
    np.testing.assert_allclose(OnnxPolicy(policy).act(observation, task), expected, atol=1e-5)


def test_report_in_words(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.onnx"
    assert main(["--ckpt_path", str(checkpoint), "--output", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"wrote       {path} (BC, ")
    # 18 is the default: the oldest that PyTorch's current exporter writes.
    assert lines[1].startswith("opset       18, checked with onnxruntime")
    assert lines[3] == "            32 probe rows, batches of 1, 2, 7"


def test_a_file_that_draws_is_told(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.onnx"
    words = ["--ckpt_path", str(checkpoint), "--output", str(path), "--opset", "17", "--drawn"]
    assert main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    kind = OnnxPolicy(path).contract["distribution"]["kind"]
    noise = {"normal": "3 normal numbers an answer; may be left out"}
    noise["categorical"] = "1 uniform numbers an answer; needed"
    assert f"noise       {noise[kind]}" in shown
    drawn = f"drawn       actions are drawn, from a stated distribution ({kind}); log-probabilities"
    assert any(line.startswith(drawn) for line in shown)
    assert main(["--verify", str(path)]) == 0
    assert drawn in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--verify", str(path), "--drawn"])
    assert "leave out --drawn" in capsys.readouterr().err


def test_a_learner_without_a_file_is_named_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one sentence without a traceback, no file; ``--steps`` changes nothing."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(TrajectoryTransformer(spec_of(), attention=Attention(8, 2, 1)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    words = ["--ckpt_path", str(tmp_path / "last.ckpt"), "--output", str(tmp_path / "p.onnx")]
    for more in ([], ["--steps", "4"]):
        assert main(words + more) == 2
        told = capsys.readouterr()
        assert not told.out and "Traceback" not in told.err
        assert "TrajectoryTransformer is not exported: one action takes thousands of" in told.err
        assert "export IQL, or DecisionTransformer, of the same log" in told.err
    assert not (tmp_path / "p.onnx").exists()


def saved(folder: Path, env: str, names: list[str]) -> Path:
    """Write a checkpoint of a learner of four named inputs and an environment."""
    spec = spec_of(task=False)
    spec = changed(spec, observation={"names": names})
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(
        BC(spec, network=Network(hidden=(16,)), evaluation=Evaluation(env=env))
    )
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.mark.parametrize(
    ("env", "names", "told"),
    [
        ("tiny_envs:Tiny/Arms-v0", ["arm/q", "arm-left[0]", "arm-left[1]", "arm-left[2]"], ""),
        (
            "tiny_envs:Tiny/Arms-v0",
            ["arm-left[0]", "arm-left[1]", "arm-left[2]", "arm/q"],
            "its observation shows [arm/q, arm-left[0], arm-left[1], arm-left[2]], and the policy "
            "takes in another order: [arm-left[0], arm-left[1], arm-left[2], arm/q]",
        ),
        ("no_such_simulator:Robot-v0", list("abcd"), "were not compared with the environment's"),
        ("CartPole-v1", list("abcd"), ""),
    ],
)
def test_names_are_compared_with_the_environment(
    env: str, names: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.onnx"
    code = main(["--ckpt_path", str(saved(tmp_path, env, names)), "--output", str(path)])
    refused = "another order" in told
    assert code == (2 if refused else 0) and path.exists() is not refused
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err
    if not told:
        assert "names" not in err


def test_verify(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["--verify", str(policy)]) == 0
    assert capsys.readouterr().out.startswith(f"verified    {policy} (BC, ")
    assert main(["--verify", str(policy), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(policy) and report["parity"]["batches"] == [1, 2, 7]


def test_verify_notices_a_moved_weight(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    model = onnx.load(policy)
    tensor = max(model.graph.initializer, key=lambda entry: len(entry.raw_data))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 1e-3
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    policy.write_bytes(model.SerializeToString())
    assert main(["--verify", str(policy)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert f"error: {policy}: graph or weights changed after the export" in shown.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--ckpt_path", "none.ckpt", "--output", "p.onnx"],
            "error: none.ckpt: no such checkpoint",
        ),
        (["--verify", "none.onnx"], "error: none.onnx: no such file"),
    ],
)
def test_mistakes(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_an_operator_set_out_of_range(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--ckpt_path", str(checkpoint), "--output", str(tmp_path / "p.onnx"), "--opset", "99"]
    assert main(words) == 2
    assert capsys.readouterr().err == "error: opset is 99, and must be in 13 to 23\n"


OWN = """\
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.trajectory_transformer import TrajectoryTransformer


class Mine(BC):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a learner whose module lies in the current folder and is not imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(BC(spec_of(), network=Network(hidden=(16,))))
    trainer.save_checkpoint("own.ckpt")
    name = f"mine_{tmp_path.name}".replace("-", "_")
    saved = torch.load("own.ckpt", weights_only=True)
    saved["hindsight"]["learner"] = f"{name}.Mine"
    torch.save(saved, "own.ckpt")
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, name)
    return tmp_path / f"{name}.py"


def test_a_learner_of_the_current_folder(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--ckpt_path", "own.ckpt", "--output", "own.onnx", "--opset", "17"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert f"learner {own.stem}.Mine is not imported" in told
    assert "Add --import MODULE" in told and not Path("own.onnx").exists()
    assert main([*words, "--import", "json", "--import", own.stem]) == 0
    assert OnnxPolicy("own.onnx").contract["learner"]["name"] == "Mine"


@pytest.mark.parametrize("name", ["no_such_learners", "no_such.learners", "own_learners.py"])
def test_a_module_that_is_not_there(
    name: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.with_name("own_learners.py").write_text("")
    words = ["--ckpt_path", "own.ckpt", "--output", "own.onnx", "--import", name]
    assert main(words) == 2
    assert f"error: --import {name}: no such module, neither in " in capsys.readouterr().err


def test_a_module_that_lacks_something_itself(own: Path) -> None:
    own.write_text("import no_such_package")
    words = ["--ckpt_path", "own.ckpt", "--output", "own.onnx", "--import", own.stem]
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        main(words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--verify", "b", "--opset", "12", "--output", "z"], "only reads: leave out --output, --"),
        (["--verify", "b", "--opset", "18"], "--verify only reads: leave out --opset"),
        (["--verify", "b", "--tolerance", "1"], "--verify only reads: leave out --tolerance"),
        (["--verify", "b", "--import", "json"], "--verify only reads: leave out --import"),
        (["--ckpt_path", "a", "--import", "./a.py"], "not the dotted name of a module: ./a.py"),
        ([], "give either --ckpt_path and --output, or --verify"),
        (["--ckpt_path", "a", "--verify", "b"], "give either --ckpt_path and --output"),
        (["--ckpt_path", "a", "--run", "b"], "or --verify; --run for --ckpt_path"),
        (["--ckpt_path", "a"], "--output is missing: name the file to write"),
    ],
)
def test_words_that_do_not_go_together(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and told in capsys.readouterr().err
