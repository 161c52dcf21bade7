"""The loops of docs/export.md run as they are printed."""

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from small_fits import learner_of
from specs import changed
from stand_ins import StandIn, spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
GYM, BENCH, GUARDED, DRAWN, PROVIDERS = BLOCKS


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the loops find around them: a policy file, sensors, motors, a switch."""
    monkeypatch.chdir(tmp_path)
    learner = StandIn(discrete=True)
    learner.spec = changed(learner.spec, action={"n": 3})
    learner.spec = changed(learner.spec, control_rate_hz=200.0)
    export_policy(learner, "policy.onnx", opset=17)
    sent: list[int] = []
    return {
        "sent": sent,
        "send": sent.append,
        "running": lambda: len(sent) < 20,
        "read_sensors": lambda: np.zeros(4),
        "stop": lambda why: why,
    }


def test_gym_loop(robot: dict[str, Any]) -> None:
    class Two(StandIn):
        def scores(self, observation, task=None):
            return super().scores(observation, task)[:, :2]

    learner = Two(discrete=True)
    learner.spec = changed(learner.spec, action={"n": 2, "names": None})
    export_policy(learner, "policy.onnx", opset=17)
    exec(GYM, robot)
    assert robot["over"] and robot["terminated"]


def test_a_file_that_draws_says_how_likely_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    learner = learner_of(BC, spec_of(), head="gaussian").eval()
    export_policy(learner, "drawn.onnx", opset=17, drawn=True)
    logged: dict[str, Any] = {}

    def log(observation: Any, action: Any, action_log_prob: float) -> None:
        logged.update(action=action, log_prob=action_log_prob)

    seen = np.zeros(4, np.float32)
    exec(DRAWN, {"observation": seen, "log": log})
    action = torch.from_numpy(logged["action"][None])
    expected = learner.actor.executed_log_prob(torch.from_numpy(seen[None]), action)
    assert logged["log_prob"] == pytest.approx(expected.item(), abs=1e-4)


def test_bench_loop_keeps_the_rate(robot: dict[str, Any]) -> None:
    start = time.monotonic()
    # A busy machine may miss three deadlines in a row, which is not what is tested.
    exec(BENCH.replace("send, real", "send, missed_limit=None, real"), robot)
    assert len(robot["sent"]) == 20 and not robot["report"].fault
    # 20 steps of 5 ms, the first at once; a loop without a clock would take less.
    assert 0.094 <= time.monotonic() - start


def test_guarded_loop_records_what_it_did(robot: dict[str, Any]) -> None:
    exec(
        BENCH.split("loop =")[0] + GUARDED.replace("recorder=", "missed_limit=None, recorder="),
        robot,
    )
    assert len(robot["sent"]) == 20 and robot["report"].reason == "stopped"
    assert Path("run.mcap").stat().st_size > 20 * 100


def test_guarded_loop_stops_at_a_broken_sensor(robot: dict[str, Any]) -> None:
    robot["read_sensors"] = lambda: np.array([0.0, np.nan, 0.0, 0.0])
    said = list[str]()
    robot["stop"] = said.append
    exec(BENCH.split("loop =")[0] + GUARDED, robot)
    assert robot["sent"] == []
    assert said == [
        "4 bad readings in a row, the last: observation[1] ('cart_velocity') is not finite"
    ]


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there"
)
def test_providers_that_are_not_installed_are_named(robot: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="CUDAExecutionProvider. is not part of the onnxruntime"):
        exec(PROVIDERS, robot | {"OnnxPolicy": OnnxPolicy})
