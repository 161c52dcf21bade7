"""``hindsight export --target c``: C of a checkpoint, and of a file exported before."""

import json
import subprocess
from pathlib import Path

import onnx
import pytest
from c_policies import CC, needs_compiler, run_self_test
from lightning import Trainer
from policy_files import contract, leaky_sum, node, write
from stand_ins import spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.export import main
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.nets.network import Network


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file."""
    return leaky_sum(tmp_path / "arm.onnx")


@needs_compiler
def test_a_file_becomes_c(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(policy), "--target", "c", "--output", str(tmp_path / "policy.c")]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = f"{tmp_path}/policy.c and {tmp_path}/policy.h"
    assert lines[0].startswith(f"wrote       {written} (ByHand, ")
    assert lines[1] == "memory      about 128 bytes of a state, beside weights"
    assert lines[2].startswith("self test   policy: largest difference 0 of the range (tolerance")
    assert lines[2].endswith(f"passed ({CC})")
    assert run_self_test(tmp_path)[0] == 0


@needs_compiler
def test_a_checkpoint_becomes_c(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(BC(spec_of(task=True), network=Network(hidden=(16,))))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    words = ["--ckpt_path", str(tmp_path / "last.ckpt"), "--target", "c", "--opset", "17"]
    words += ["--output", str(tmp_path / "policy.c"), "--json", "--rate_limit", "2.0"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["learner"] == "BC" and report["self_test"].endswith("passed")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["last.ckpt", "policy.c", "policy.h"]
    assert "policy_rate_limit[3]" in (tmp_path / "policy.h").read_text()
    main_c = '#include "policy.h"\nint main() { policy_state s; policy_reset(&s); return 0; }\n'
    (tmp_path / "main.cpp").write_text(main_c)  # C++ takes the header
    words = ["g++", "-fsyntax-only", "-Wall", "-Werror", "-pedantic", str(tmp_path / "main.cpp")]
    assert subprocess.run(words).returncode == 0


def test_without_a_compiler_it_says_so(
    policy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(policy), "--target", "c", "--output", str(tmp_path / "policy.c")]) == 0
    assert "self test   not compiled here: this machine has no C compiler." in (
        capsys.readouterr().out
    )


@needs_compiler
def test_what_fails_its_self_test_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[0.0, 1.0], [2.0, 3.0]]
    stated = contract(probe={"observation": rows, "action": [[0.0, 1.0], [2.0, 3.5]]})
    path = write(tmp_path / "p.onnx", stated, [node("Identity", "observation", "action")])
    assert main([str(path), "--target", "c", "--output", str(tmp_path / "policy.c")]) == 2
    assert "fails its self test (nothing was written): policy: largest" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["p.onnx"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["POLICY", "--target", "c"], "--output is missing: name the file to write, such as polic"),
        (["POLICY", "--output", "x.c"], "is exported already: --target c writes it as C"),
        (["POLICY", "--target", "c", "--output", "x.c", "--opset", "17"], "leave out --opset"),
        (["POLICY", "--target", "c", "--output", "x.c", "--run", "runs/a"], "give either --ckpt"),
        (["--verify", "POLICY", "--target", "c"], "--verify only reads: leave out --target"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[str], told: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(policy) if word == "POLICY" else word for word in words])
    assert left.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("policy.onnx", "policy.onnx: C is written to a file that ends in .c, such as policy.c"),
        ("my-policy.c", "my-policy.c: names in it begin with my-policy, which is no name of C."),
    ],
)
def test_outputs_that_are_no_c(
    output: str, told: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(policy), "--target", "c", "--output", str(tmp_path / output)]) == 2
    assert told in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == [policy.name]


def test_an_operator_without_c_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [onnx.helper.make_node("Hardmax", ["observation"], ["action"], name="top")]
    path = write(tmp_path / "p.onnx", contract(), nodes)
    assert main([str(path), "--target", "c", "--output", str(tmp_path / "policy.c")]) == 2
    told = "error: " + f"{path} (ByHand): operator Hardmax (node 'top') has no form in C. Export"
    assert capsys.readouterr().err.startswith(told)


def test_a_robot_is_read_of_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(BC(spec_of(), network=Network(hidden=(16,))))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    words = ["--ckpt_path", str(tmp_path / "last.ckpt"), "--output", str(tmp_path / "policy.onnx")]
    words += ["--opset", "17", "--robot", str(tmp_path / "robot.yaml")]
    (tmp_path / "robot.yaml").write_text("joints: [a, b, c]\ncommand: position\nhigh: [1, 2, 3]\n")
    assert main(words) == 0
    assert OnnxPolicy(tmp_path / "policy.onnx").contract["robot"]["high"] == [1, 2, 3]
    (tmp_path / "robot.yaml").write_text("joints: [a, b\n")
    assert main(words) == 2
    assert "robot.yaml: not readable as YAML" in capsys.readouterr().err
    (tmp_path / "robot.yaml").write_text("joints: [a, b]\ncommand: position\n")
    assert main(words) == 2
    assert "error: robot names 2 joints, and an action has 3" in capsys.readouterr().err
