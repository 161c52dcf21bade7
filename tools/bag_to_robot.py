"""From a bag to the robot, in one script (``make robot``): every step of the way, and its proof.

    python tools/bag_to_robot.py [--fast] [--folder build/robot]

A simulated arm of two joints is steered by an operator, and its topics are recorded to an MCAP bag
that loses its last chunk, as a robot without power does. Then: inspect, fit a clone, judge it,
export it as ONNX and as C, compile the C and run its self test, steer the arm with the file at 1
kHz in real time, record that, and read the recording back as a log. Needs the extra ``ros``.
"""

import argparse
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl import ControlLoop, OnnxPolicy, RealTime, Recorder, read_log

RATE = 1000.0
_MS = 1_000_000
_START = 1_760_000_000 * 10**9
_FAR = np.array([0.8, -0.6])
COLUMNS: dict[str, Any] = {
    "observation": ["/joint_states.position", "/joint_states.velocity"],
    "action": "/commands.data",
    "reward": "/reward.data",
    "row_at": "/commands",
    "episode_marker": "/recording.data",
    "action_low": -4.0,
    "action_high": 4.0,
    "control_rate_hz": RATE,
}


class Arm:
    """Two joints with inertia and friction, in steps of 1 ms.

    Args:
        position: ``[2]`` at the start, rad.
    """

    def __init__(self, position: NDArray[np.float64]) -> None:
        self.position, self.velocity = position.copy(), np.zeros(2)

    def observed(self) -> NDArray[np.float64]:
        """Return position and velocity ``[4]``."""
        return np.concatenate([self.position, self.velocity])

    def move(self, torque: NDArray[Any]) -> None:
        """Take a step under a torque ``[2]``, Nm."""
        self.velocity += (np.asarray(torque, np.float64) - 2.0 * self.velocity) / RATE
        self.position += self.velocity / RATE


def wanted(arm: Arm) -> NDArray[np.float64]:
    """Return the torque that leads towards 0 ``[2]``, Nm."""
    return np.clip(-12.0 * arm.position - 4.0 * arm.velocity, -4.0, 4.0)


def operator(arm: Arm, draw: np.random.Generator) -> NDArray[np.float64]:
    """Return what a person commands: towards 0, with a hand that shakes."""
    return np.clip(wanted(arm) + draw.normal(scale=0.1, size=2), -4.0, 4.0)


def record(bag: Path, episodes: int, steps: int) -> None:
    """Write a bag of some episodes, and cut its end off."""
    from mcap.writer import Writer
    from rosbags.typesys import Stores, get_typestore

    store, draw = get_typestore(Stores.ROS2_JAZZY), np.random.default_rng(0)
    types = store.types
    with bag.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 16)
        writer.start()
        channels: dict[str, int] = {}

        def put(topic: str, stamp: int, kind: str, **fields: Any) -> None:
            if topic not in channels:
                text = store.generate_msgdef(kind, ros_version=2)[0].encode()
                schema = writer.register_schema(kind, "ros2msg", text)
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            data = bytes(store.serialize_cdr(types[kind](**fields), kind))
            writer.add_message(channels[topic], stamp, data, stamp)

        at = _START
        for _ in range(episodes):
            arm = Arm(draw.uniform(-1.0, 1.0, 2))
            put("/recording", at, "std_msgs/msg/Bool", data=True)
            for _ in range(steps):
                at += _MS
                time = types["builtin_interfaces/msg/Time"](sec=at // 10**9, nanosec=at % 10**9)
                header = types["std_msgs/msg/Header"](stamp=time, frame_id="")
                state = {"position": arm.position.copy(), "velocity": arm.velocity.copy()}
                joints = {"header": header, "name": ["shoulder", "elbow"], "effort": np.zeros(0)}
                put("/joint_states", at + _MS // 5, "sensor_msgs/msg/JointState", **joints, **state)
                torque = operator(arm, draw)
                earned = -float(arm.position @ arm.position)
                put("/reward", at + _MS // 4, "std_msgs/msg/Float64", data=earned)
                layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
                command = {"layout": layout, "data": torque}
                put("/commands", at + _MS // 3, "std_msgs/msg/Float64MultiArray", **command)
                arm.move(torque)
            put("/recording", at + _MS // 2, "std_msgs/msg/Bool", data=False)
            at += 100 * _MS  # the arm is put back
        writer.finish()
    # The index lies at the end; what is cut off besides is a part of the last chunk of messages.
    data = bag.read_bytes()
    bag.write_bytes(data[: int(0.93 * len(data))])


def hindsight(*words: object) -> str:
    """Run one command, show it and what it prints, and return that.

    Args:
        *words: Words after ``hindsight``.

    Returns:
        Its standard output.

    Raises:
        SystemExit: It failed.
    """
    from hindsight_rl.cli.main import main

    given = [str(word) for word in words]
    sys.stdout.write(f"\n$ hindsight {' '.join(given)}\n")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(given)
    sys.stdout.write(said.getvalue())
    if code:
        raise SystemExit(code)
    return said.getvalue()


def compiled(source: Path) -> str | None:
    """Return what the self test of a policy in C says, ``None`` where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = source.with_suffix("")
    flag = f"-D{re.sub(r'[^A-Za-z0-9]', '_', source.stem).upper()}_SELF_TEST"
    words = [compiler, "-std=c99", "-O2", flag, str(source), "-lm", "-o", str(program)]
    subprocess.run(words, check=True)
    return subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.strip()


def steer(policy: OnnxPolicy, seconds: float, recording: Path) -> tuple[Any, Arm]:
    """Steer the arm with the file at 1 kHz, in real time; return the report and the arm."""
    arm = Arm(_FAR)
    with Recorder(recording, policy.contract) as recorder:
        loop = ControlLoop(
            policy,
            arm.observed,
            arm.move,
            missed_limit=None,
            real_time=RealTime(),
            recorder=recorder,
        )
        return loop.run(seconds=seconds), arm


def by_hand(steps: int) -> Arm:
    """Return the arm after as many steps of an operator whose hand is calm."""
    arm = Arm(_FAR)
    for _ in range(steps):
        arm.move(wanted(arm))
    return arm


def main(argv: list[str] | None = None) -> int:
    """Go the whole way.

    Args:
        argv: Words of the command; ``None`` takes those of the process.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="a smaller bag, fewer updates, 2 s")
    parser.add_argument("--folder", type=Path, default=Path("build/robot"))
    given = parser.parse_args(argv)
    episodes, updates, seconds = (4, 800, 2.0) if given.fast else (20, 4000, 20.0)
    folder = given.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bag, run = folder / "arm.mcap", folder / "run"
    record(bag, episodes, 1000)
    columns = folder / "arm.yaml"
    columns.write_text(json.dumps(COLUMNS))
    log = ("--data.source", bag, "--data.columns", columns)
    small = ("--model.network.hidden", "[64,64]", "--trainer.max_steps", updates)
    hindsight("inspect", bag, "--columns", columns)
    hindsight("fit", "--config", "bc", *log, *small, "--run", run)
    fast = ("--updates", 200, "--hidden", 32, "--members", 2, "--no_check")
    hindsight("judge", run / "checkpoints/last.ckpt", *log, "--methods", "fqe", *fast)
    hindsight("export", "--run", run, "--output", folder / "policy.onnx")
    hindsight("export", folder / "policy.onnx", "--target", "c", "--output", folder / "policy.c")
    said = compiled(folder / "policy.c")
    sys.stdout.write(f"\nC, compiled: {said or 'no compiler here'}\n")
    report, arm = steer(OnnxPolicy(folder / "policy.onnx"), seconds, folder / "played.mcap")
    sys.stdout.write(f"\n{report}\n")
    played = read_log(folder / "played.mcap")
    hindsight("inspect", folder / "played.mcap")
    found = {
        "rows": len(read_log(bag, COLUMNS)),
        "lost": read_log(bag, COLUMNS).info["recording"]["lost"],
        "self_test": said,
        "reason": report.reason,
        "late_us": [report.pace.late.p50, report.pace.late.p99, report.pace.late.max],
        "overran": report.pace.overran,
        "skipped": report.pace.skipped,
        "steps": report.pace.steps,
        "recorded": len(played),
        "distance": float(np.abs(arm.position).max()),
        "operators_distance": float(np.abs(by_hand(report.pace.steps).position).max()),
    }
    (folder / "found.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"\nthe arm ended {found['distance']:.3f} rad from its goal\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
