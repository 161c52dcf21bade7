"""The control loop: readings that fail, commands that are limited, deadlines, and the recording."""

from pathlib import Path
from typing import Any

import numpy as np
import policy_files as files
import pytest

from hindsight_rl.export.loop import ControlLoop, Sensed
from hindsight_rl.export.recorder import Recorder
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.sensors import Sensors

FAST = {"rate": 2000.0, "missed_limit": None}


def identity(path: Path, **changes: Any) -> OnnxPolicy:
    """Return a policy whose action is its observation."""
    stated = files.contract(control_rate_hz=2000.0) | changes
    node = files.node("Identity", "observation", "action")
    return OnnxPolicy(files.write(path / "policy.onnx", stated, [node]))


class Robot:
    """Readings from a list, and the commands that were sent."""

    def __init__(self, readings: list[Any]) -> None:
        self.readings, self.sent = list(readings), list[list[float]]()

    def read(self) -> Any:
        return self.readings.pop(0)

    def write(self, action: Any) -> None:
        self.sent.append(np.asarray(action).tolist())


def every(policy: OnnxPolicy, readings: list[Any], **given: Any) -> tuple[Robot, Any]:
    """Play until the readings are used up, however many ticks are skipped."""
    robot = Robot(readings)
    loop = ControlLoop(policy, robot.read, robot.write, **FAST | given)
    return robot, loop.run(running=lambda: bool(robot.readings))


def test_the_policy_is_asked_at_each_tick(tmp_path: Path) -> None:
    rows = [[float(k), -float(k)] for k in range(20)]
    robot, report = every(identity(tmp_path), [np.array(row) for row in rows])
    assert robot.sent == rows
    assert (report.reason, report.fault, report.held) == ("stopped", False, {})
    assert report.pace.steps == 20 and report.pace.rate == 2000.0
    assert "20 steps" in str(report)


def test_it_ends_after_ticks_or_seconds(tmp_path: Path) -> None:
    policy = identity(tmp_path)
    robot = Robot([np.zeros(2)] * 1000)
    loop = ControlLoop(policy, robot.read, robot.write, **FAST)
    report = loop.run(seconds=0.02)
    assert report.reason == "done"
    assert report.pace.steps + report.pace.skipped >= 40


def test_bad_readings_hold_the_last_command(tmp_path: Path) -> None:
    """Missing, old, NaN and out of bounds, one after the other, with good ones between."""
    good = np.array([1.0, 2.0])
    bad = [None, Sensed(good, 0.5), np.array([np.nan, 0.0]), np.array([0.0, 99.0])]
    readings = [good, bad[0], Sensed(3 * good, 0.0), bad[1], bad[2], 4 * good, bad[3], good]
    sensors = Sensors(oldest=0.1, high=10.0)
    robot, report = every(identity(tmp_path), readings, sensors=sensors)
    assert robot.sent == [[1, 2], [1, 2], [3, 6], [3, 6], [3, 6], [4, 8], [4, 8], [1, 2]]
    assert report.held == {
        "nothing was read": 1,
        "the reading is 0.5 s old": 1,
        "observation[0] ('x') is not finite": 1,
        "observation[1] ('y') is above its bound": 1,
    }
    assert not report.fault and "held        1 x nothing was read" in str(report)


def test_too_many_bad_readings_end_the_loop_without_a_command(tmp_path: Path) -> None:
    readings = [np.ones(2), None, None, None, np.ones(2)]
    robot, report = every(identity(tmp_path), readings, sensors=Sensors(hold=2))
    assert robot.sent == [[1, 1]] * 3 and report.fault
    assert report.reason == "3 bad readings in a row, the last: nothing was read"
    robot, report = every(identity(tmp_path), [None, np.ones(2)])
    assert robot.sent == [[1, 1]]  # nothing to hold before the first command


def test_a_held_step_leaves_state_where_it_is(tmp_path: Path) -> None:
    """Of h / 2 + observation: NaN is not shown, so the next answer follows the one before it."""
    policy = OnnxPolicy(files.leaky_sum(tmp_path / "sum.onnx", control_rate_hz=2000.0))
    one = np.array([1.0, 0.0])
    robot, _ = every(policy, [one, np.full(2, np.nan), one])
    assert robot.sent == [[1.5, -0.5], [1.5, -0.5], [1.75, -0.25]]


def test_commands_change_no_faster_than_the_contract_allows(tmp_path: Path) -> None:
    """250 and 500 a second at 2 kHz: 1/8 and 1/4 a step, the lower of the action's and joints'."""
    action = files.ACTION | {"rate_limit": [250.0, None]}
    robot_of = {"joints": ["a", "b"], "command": "position", "rate_limit": [300.0, 500.0]}
    policy = identity(tmp_path, action=action, robot=robot_of)
    readings = [np.array([0.0, 0.0]), np.array([1.0, -1.0]), np.array([0.1875, 0.0])]
    robot, report = every(policy, readings)
    assert robot.sent == [[0, 0], [0.125, -0.25], [0.1875, 0.0]]
    assert report.limited == 1
    robot, report = every(policy, readings[1:2], start=[0.9375, -1.0])
    assert robot.sent == [[1.0, -1.0]]
    assert report.limited == 0


def test_past_actions_are_those_that_were_sent(tmp_path: Path) -> None:
    calls = []

    class Watched(OnnxPolicy):
        def executed(self, action: Any) -> None:
            calls.append(np.asarray(action).tolist())

    identity(tmp_path, action=files.ACTION | {"rate_limit": [200.0, 200.0]})
    policy = Watched(tmp_path / "policy.onnx")
    every(policy, [np.zeros(2), np.ones(2), np.array([0.1, 0.1])])
    np.testing.assert_allclose(calls, [[0.1, 0.1]], rtol=1e-6)


def test_missed_deadlines_end_it(tmp_path: Path) -> None:
    import time

    policy = identity(tmp_path)
    loop = ControlLoop(policy, lambda: np.zeros(2), lambda _: time.sleep(0.01), rate=2000.0)
    report = loop.run(steps=1000)
    assert report.fault and report.reason.endswith("deadlines in a row were missed")
    assert report.pace.steps == 1 and report.pace.skipped >= 18


def test_an_answer_that_is_wrong_ends_it(tmp_path: Path) -> None:
    robot, report = every(identity(tmp_path), [np.zeros(2), np.zeros(3)])
    assert report.fault and "shape" in report.reason and len(robot.sent) == 1


def test_the_rate_is_the_contracts(tmp_path: Path) -> None:
    policy = identity(tmp_path, control_rate_hz=None)
    with pytest.raises(ValueError, match="states no control rate"):
        ControlLoop(policy, list, list)
    policy = identity(tmp_path, control_rate_hz=50.0)
    with pytest.warns(UserWarning, match="runs at 100 Hz, and the log had 50 Hz"):
        ControlLoop(policy, list, list, rate=100.0)
    with pytest.raises(ValueError, match="missed_limit is 0"):
        ControlLoop(policy, list, list, missed_limit=0)
    with pytest.raises(ValueError, match="hold is -1"):
        Sensors(hold=-1)


def test_a_recording_is_read_back_as_a_log(tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra 'ros'")
    from hindsight_rl.logs.reading import read_log

    observation = files.VECTOR | {"offset": [0.0, 1e9]}
    action = files.ACTION | {"low": [-1.0, None], "high": [1.0, 100.0], "names": ["f", "g"]}
    stated = files.contract(control_rate_hz=500.0, observation=observation, action=action)
    node = files.node("Clip", "observation low high", "action")
    limits = {"low": np.float32(-1.0), "high": np.float32(1.0)}
    policy = OnnxPolicy(files.write(tmp_path / "policy.onnx", stated, [node], limits))
    rows = [np.array([0.1 * k, 1e9 + k / 8]) for k in range(8)]
    readings = [*rows[:5], None, *rows[5:]]
    robot = Robot(readings)
    with Recorder(tmp_path / "run.mcap", policy.contract, 500.0) as recorder:
        loop = ControlLoop(policy, robot.read, robot.write, missed_limit=None, recorder=recorder)
        loop.run(running=lambda: bool(robot.readings))
    log = read_log(tmp_path / "run.mcap")
    assert np.bincount(log.column("episode").numpy()).tolist() == [5, 3]
    expected = np.array(rows) - [0.0, 1e9]
    np.testing.assert_array_equal(log.column("observation").numpy(), np.float32(expected))
    sent = np.array([*robot.sent[:5], *robot.sent[6:]], np.float32)
    np.testing.assert_array_equal(log.column("action").numpy(), sent)
    assert log.info["control_rate_hz"] == 500.0
    assert log.info["names"] == {"observation": ["x", "y"], "action": ["f", "g"]}
    assert log.info["action"] == {"low": [-1.0, None], "high": [1.0, 100.0]}
    with pytest.raises(ValueError, match="is there already"):
        Recorder(tmp_path / "run.mcap", policy.contract, 500.0)
    with pytest.raises(ValueError, match=r"End it in \.mcap"):
        Recorder(tmp_path / "run.npz", policy.contract, 500.0)


def test_mcap_reads_the_recording_and_one_without_an_end(tmp_path: Path) -> None:
    """The library's own strict reader takes it; cut at any byte it is a shorter log."""
    reader = pytest.importorskip("mcap.reader", reason="needs the extra 'ros'")
    from hindsight_rl.logs.reading import read_log

    policy, path = identity(tmp_path), tmp_path / "run.mcap"
    recorder = Recorder(path, policy.contract, 2000.0)
    robot = Robot([np.array([float(k), 0.0]) for k in range(50)])
    loop = ControlLoop(policy, robot.read, robot.write, **FAST, recorder=recorder)
    loop.run(running=lambda: bool(robot.readings))
    recorder.close()
    with path.open("rb") as file:
        topics = [channel.topic for _, channel, _ in reader.make_reader(file).iter_messages()]
    assert topics == ["/episode", *["/step"] * 50, "/episode"]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.warns(UserWarning, match="is cut"):
        log = read_log(path)
    assert 30 < len(log) < 50
    np.testing.assert_array_equal(log.column("observation")[:, 0].numpy(), np.arange(len(log)))


def test_a_later_run_repeats_no_command_of_an_earlier_one(tmp_path: Path) -> None:
    """Its change is limited from the last one all the same: 0.1 a step."""
    policy = identity(tmp_path, action=files.ACTION | {"rate_limit": [200.0, 200.0]})
    robot = Robot([None, np.ones(2)])
    loop = ControlLoop(policy, robot.read, robot.write, **FAST, start=[0.75, 1.0])
    loop.run(running=lambda: bool(robot.readings))
    first = [[0.75, 1.0], pytest.approx([0.85, 1.0])]
    assert robot.sent == first
    robot.readings = [None, None, np.ones(2), None]
    loop.run(running=lambda: bool(robot.readings))
    assert robot.sent == [*first, *[pytest.approx([0.95, 1.0])] * 2]


def test_bounds_of_sensors_are_of_the_contracts_entries(tmp_path: Path) -> None:
    """Bounds that belong to nothing would bound nothing."""
    one = identity(tmp_path)
    (tmp_path / "two").mkdir()
    two = OnnxPolicy(files.entries(tmp_path / "two" / "policy.onnx"))
    arm, *_ = two.contract["observation"]["entries"]
    ControlLoop(two, list, list, sensors=Sensors(low={arm: -1.0}))
    for policy, bound, why in (
        (one, {"": 1.0}, "high: bounds of this observation are given as one number or a list"),
        (two, 1.0, f"high: bounds of this observation are given as by entry: {arm}"),
        (two, {"amr": 1.0}, f"high bounds amr, and the observation has {arm}"),
    ):
        with pytest.raises(ValueError, match=why):
            ControlLoop(policy, list, list, sensors=Sensors(high=bound))
