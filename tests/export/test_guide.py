"""The loops of docs/export.md run as they are printed."""

import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import learner_of
from specs import changed
from stand_ins import StandIn, spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.export.onnx import export_policy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
GYM, BENCH, GUARDED, DRAWN = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


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
    exec(BENCH, robot)
    assert len(robot["sent"]) == 20
    # 20 steps of 5 ms; a busy machine may take longer, a loop without a clock would not.
    assert 0.099 <= time.monotonic() - start


@pytest.mark.parametrize("guarded", [False, True])
def test_a_late_step_is_followed_by_no_burst(
    guarded: bool, robot: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 5 takes 11.5 periods of 5 ms; all steps after it start a period apart."""
    starts: list[float] = []
    clock = SimpleNamespace(now=100.0)

    def read() -> np.ndarray:
        starts.append(clock.now)
        clock.now += 0.0575 if len(starts) == 5 else 0.001
        return np.zeros(4)

    def sleep(seconds: float) -> None:
        assert seconds >= 0.0
        clock.now += seconds

    watch = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
    monkeypatch.setitem(sys.modules, "time", watch)
    robot["read_sensors"] = read
    if guarded:
        exec(BENCH.split("while")[0] + GUARDED, robot)
        assert robot["control"](robot["policy"]) == "done"
    else:
        exec(BENCH, robot)
    expected = np.full(19, 0.005)
    expected[4] = 0.0575
    np.testing.assert_allclose(np.diff(starts), expected, atol=1e-9)


def test_guarded_loop_ends_when_told(robot: dict[str, Any]) -> None:
    exec(BENCH.split("while")[0] + GUARDED, robot)
    # A busy machine may delay a step: only three in a row end the loop.
    assert robot["control"](robot["policy"], missed_limit=1000) == "done"
    assert len(robot["sent"]) == 20


def test_guarded_loop_stops_at_missed_deadlines(robot: dict[str, Any]) -> None:
    exec(BENCH.split("while")[0] + GUARDED, robot)
    robot["read_sensors"] = lambda: time.sleep(0.012) or np.zeros(4)
    assert robot["control"](robot["policy"]) == "deadline missed"
    assert len(robot["sent"]) == 3


def test_guarded_loop_stops_at_a_broken_sensor(robot: dict[str, Any]) -> None:
    exec(BENCH.split("while")[0] + GUARDED, robot)
    robot["read_sensors"] = lambda: np.array([0.0, np.nan, 0.0, 0.0])
    told = robot["control"](robot["policy"])
    assert told.startswith("observation[1] ('cart_velocity') is nan") and robot["sent"] == []
