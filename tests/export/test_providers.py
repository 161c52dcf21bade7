"""Execution providers: named, installed, used, and proven on the probe rows."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from policy_files import edit, leaky_sum, noisy

from hindsight_rl.cli import export, run
from hindsight_rl.export.contract import ContractError
from hindsight_rl.export.providers import from_words
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.verify import verify_file

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
ROWS = np.float32([[1.0, 2.0], [0.5, -3.0]])


def falsified(path: Path) -> Path:
    """Write a policy that answers otherwise than its contract says."""
    probe = OnnxPolicy(leaky_sum(path)).contract["probe"]
    return edit(path, probe=probe | {"action": (np.array(probe["action"]) + 0.5).tolist()})


@pytest.mark.parametrize("providers", [[CPU], [(CPU, {"use_arena": "0"})]])
def test_a_provider_answers_alike(providers: list[str], tmp_path: Path) -> None:
    path = noisy(tmp_path / "policy.onnx")
    one, two = OnnxPolicy(path, seed=3), OnnxPolicy(path, seed=3, providers=providers)
    for row in ROWS:
        np.testing.assert_array_equal(one.act(row), two.act(row))
    assert verify_file(path, providers=providers)["providers"] == [CPU]


def test_what_was_proven_is_the_state_of_no_episode(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    np.testing.assert_array_equal(
        OnnxPolicy(path, providers=[CPU]).act(ROWS[0]), OnnxPolicy(path).act(ROWS[0])
    )


def test_a_provider_that_answers_otherwise_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = falsified(tmp_path / "policy.onnx")
    OnnxPolicy(path)  # the processor is proven by --verify alone
    with pytest.raises(ContractError, match="onnxruntime and the learner differ by") as refused:
        OnnxPolicy(path, providers=[CPU])
    assert "It ran with" not in str(refused.value)
    other = next((name for name in onnxruntime.get_available_providers() if name != CPU), None)
    if other is not None:
        with pytest.raises(ContractError, match=f"It ran with {other}, {CPU}: an engine that"):
            OnnxPolicy(path, providers=[other, CPU])


def test_a_provider_that_is_not_installed(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    has = ", ".join(onnxruntime.get_available_providers())
    said = f"provider 'QuantumProvider' is not part of the onnxruntime .*, which has {has}$"
    with pytest.raises(ValueError, match=said):
        OnnxPolicy(path, providers=["QuantumProvider", CPU])
    with pytest.raises(ValueError, match="providers is empty"):
        OnnxPolicy(path, providers=[])
    with pytest.raises(ValueError, match="providers names one twice"):
        verify_file(path, providers=[CPU, CPU])


@pytest.mark.skipif(
    CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_provider_that_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its libraries do not load, onnxruntime goes on without a provider."""
    path = leaky_sum(tmp_path / "policy.onnx")
    with pytest.raises(ValueError, match="It comes with onnxruntime-gpu$"):
        OnnxPolicy(path, providers=[CUDA])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(ContractError, match=f"dropped {CUDA}, and would run the policy with {CPU}"),
    ):
        OnnxPolicy(path, providers=[CUDA, CPU])


def test_several_providers_are_reported_in_their_order(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    names = onnxruntime.get_available_providers()
    assert verify_file(path, providers=names)["providers"] == names


def test_words_of_the_command_line() -> None:
    words = ["TensorrtExecutionProvider:trt_fp16_enable=1,device_id=0", CPU]
    assert from_words(words) == [
        ("TensorrtExecutionProvider", {"trt_fp16_enable": "1", "device_id": "0"}),
        CPU,
    ]
    for wrong in ("A:b", "A:", "A:=1", "A:b="):
        with pytest.raises(ValueError, match="options are written as A:KEY=VALUE"):
            from_words([wrong])


def test_the_commands_take_providers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(leaky_sum(tmp_path / "policy.onnx"))
    assert export.main(["--verify", path, "--providers", CPU, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["providers"] == [CPU]
    assert export.main(["--verify", path, "--providers", "NoProvider"]) == 2
    assert "error: provider 'NoProvider' is not part of" in capsys.readouterr().err
    assert run.main([path, "--env", "Pendulum-v1", "--providers", "NoProvider"]) == 2
    assert "error: provider 'NoProvider' is not part of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main([path, "--target", "c", "--output", "p.c", "--providers", CPU])
    assert "is checked on the processor: leave out --providers" in capsys.readouterr().err
