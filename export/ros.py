"""A node of ROS 2 that runs an exported policy: ``hindsight ros policy.onnx --ros-args ...``.

The node's parameters say which fields of which topics are the observation and the action, as a
column map does; the contract says names, sizes and rate. The robot's install and rclpy are all that
it needs.
"""

import json
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from hindsight_rl.export.loop import ControlLoop, LoopReport, RealTime, rate_of
from hindsight_rl.export.ros_topics import Inputs, columns_of, entries_of, fill
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.sensors import Sensed, Sensors
from hindsight_rl.message_fields import stamp_of

_SECOND_NS = 1_000_000_000
_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


class Ros(Protocol):
    """What is used of ROS, so that a test has a stand-in."""

    def message(self, kind: str) -> type[Any]:
        """Return the class of a type of messages, such as ``sensor_msgs/msg/JointState``."""

    def spin(self, node: Any) -> None:
        """Begin to serve the node's callbacks, in a thread of its own."""

    def ok(self) -> bool:
        """Return whether ROS has not been asked to end."""

    def sensor_qos(self) -> Any:
        """Return the quality of service of sensors: the newest message counts."""


class Rclpy(NamedTuple):
    """ROS by rclpy."""

    rclpy: Any

    def message(self, kind: str) -> type[Any]:
        """Return the class of a type of messages."""
        from rosidl_runtime_py.utilities import get_message

        try:
            found: type[Any] = get_message(kind)
        except (AttributeError, ModuleNotFoundError, ValueError) as error:
            raise ValueError(f"messages of the type {kind} are not installed here") from error
        return found

    def spin(self, node: Any) -> None:
        """Begin to serve the node's callbacks, in a thread of its own."""
        threading.Thread(target=self.rclpy.spin, args=(node,), daemon=True).start()

    def ok(self) -> bool:
        """Return whether ROS has not been asked to end."""
        return bool(self.rclpy.ok())

    def sensor_qos(self) -> Any:
        """Return the quality of service of sensors."""
        from rclpy.qos import qos_profile_sensor_data

        return qos_profile_sensor_data


@dataclass(frozen=True)
class Settings:
    """The parameters of the node.

    Attributes:
        observation: Columns by entry of the contract, under "" those of a single vector.
        action: The field that takes the action, ``/commands.data``.
        action_type: Type of that topic's messages.
        rate: Steps a second; 0: the contract's.
        oldest: Seconds that a part of the observation may be old.
        hold: Bad readings in a row for which the last command is sent again.
        missed_limit: Deadlines in a row after which it ends; 0: they are only counted.
        stamps: ``receive`` or ``header``: the time by which a message is old.
        task: Numbers of the task; NaN: none.
        wait: Seconds in which every topic must have come.
        real_time: Whether real-time options are asked for.
    """

    observation: dict[str, list[str]]
    action: str
    action_type: str
    rate: float
    oldest: float
    hold: int
    missed_limit: int
    stamps: str
    task: list[float]
    wait: float
    real_time: bool


def settings_of(node: Any, policy: OnnxPolicy) -> Settings:
    """Declare the node's parameters and return what they are.

    Args:
        node: Of rclpy.
        policy: The policy, whose entries have a parameter each.

    Returns:
        The settings.

    Raises:
        ValueError: ``action`` is missing, or ``stamps`` is neither of its words.
    """

    def parameter(name: str, default: Any) -> Any:
        return node.declare_parameter(name, default).value

    entries = policy.contract["observation"].get("entries") or {"": None}
    columns = {
        name: [w for w in parameter(f"observation.{name}" if name else "observation", [""]) if w]
        for name in entries
    }
    found = Settings(
        observation=columns,
        action=parameter("action", ""),
        action_type=parameter("action_type", "std_msgs/msg/Float64MultiArray"),
        rate=parameter("rate", 0.0),
        oldest=parameter("oldest", 0.1),
        hold=parameter("hold", 3),
        missed_limit=parameter("missed_limit", 3),
        stamps=parameter("stamps", "receive"),
        task=list(parameter("task", [math.nan])),
        wait=parameter("wait", 10.0),
        real_time=parameter("real_time", False),
    )
    if not found.action:
        names = ", ".join(policy.contract["action"].get("names") or ())
        raise ValueError(
            f"the parameter action is missing: which field takes the action ({names}), such as "
            "/commands.data"
        )
    if found.stamps not in ("receive", "header"):
        raise ValueError(f"the parameter stamps is '{found.stamps}': receive or header")
    return found


class PolicyNode:
    """Runs a policy between topics until ROS ends or something is wrong.

    Topics: those of the parameters, and ``~/status`` (``std_msgs/msg/String``, JSON, once a
    second).

    Args:
        policy: The policy.
        node: A node of rclpy.
        ros: What is used of ROS beside.

    Raises:
        ValueError: Parameters do not fit the contract, or a type of messages is not installed.
    """

    def __init__(self, policy: OnnxPolicy, node: Any, ros: Ros) -> None:
        self._policy, self._node, self._ros = policy, node, ros
        self._settings = settings_of(node, policy)
        self._inputs = Inputs(entries_of(policy.contract, self._settings.observation))
        (self._column,) = columns_of([self._settings.action])
        self._rate = rate_of(policy.contract, self._settings.rate or None)
        robot = policy.contract.get("robot") or {}
        self._joints: list[str] = list(robot.get("joints") or ())
        self._kind = ros.message(self._settings.action_type)
        self._sent = 0
        # Before anything moves: whether the message has the field.
        action = policy.contract["action"]
        self._command(np.zeros(action["shape"]) if action["kind"] == "continuous" else 0)
        self._publisher = node.create_publisher(self._kind, self._column.topic, 1)
        text = ros.message("std_msgs/msg/String")
        self._status = node.create_publisher(text, "~/status", 1)
        node.create_timer(1.0, lambda: self._status.publish(text(data=self._as_json())))

    def run(self) -> LoopReport:
        """Wait for every topic, then run the loop.

        Returns:
            How it went.

        Raises:
            ValueError: A topic did not come in time, or its messages do not fit the contract.
        """
        self._ros.spin(self._node)
        self._subscribe()
        settings, task = self._settings, self._settings.task
        loop = ControlLoop(
            self._policy,
            self._read,
            self._write,
            rate=self._rate,
            task=None if any(math.isnan(number) for number in task) else task,
            sensors=Sensors(oldest=settings.oldest, hold=settings.hold),
            missed_limit=settings.missed_limit or None,
            real_time=RealTime() if settings.real_time else None,
        )
        return loop.run(running=self._ros.ok)

    def _subscribe(self) -> None:
        """Subscribe to every topic once its type is known, and wait for a message of each."""
        left, end = list(self._inputs.topics), time.monotonic() + self._settings.wait
        while left or self._inputs.missing():
            kinds = dict(self._node.get_topic_names_and_types())
            for topic in tuple(left):
                if known := kinds.get(self._node.resolve_topic_name(topic)):
                    left.remove(topic)
                    self._node.create_subscription(
                        self._ros.message(known[0]),
                        topic,
                        lambda message, topic=topic: self._take(topic, message),
                        self._ros.sensor_qos(),
                    )
            self._read()  # raises where messages do not fit
            if time.monotonic() > end:
                where = "; nobody publishes " + ", ".join(left) if left else ""
                raise ValueError(
                    f"nothing came for {', '.join(self._inputs.missing())} within "
                    f"{self._settings.wait:g} s{where}"
                )
            time.sleep(0.01)

    def _now(self) -> float:
        if self._settings.stamps == "receive":
            return time.monotonic()
        return float(self._node.get_clock().now().nanoseconds) / _SECOND_NS

    def _take(self, topic: str, message: Any) -> None:
        stamped = self._settings.stamps == "header" and stamp_of(message)
        self._inputs.take(topic, message, stamped / _SECOND_NS if stamped else self._now())

    def _read(self) -> Sensed | None:
        return self._inputs.read(self._now())

    def _write(self, action: Any) -> None:
        self._publisher.publish(self._command(action))
        self._sent += 1

    def _command(self, action: Any) -> Any:
        message = self._kind()
        if self._settings.action_type == _TRAJECTORY:
            message.points = [self._ros.message("trajectory_msgs/msg/JointTrajectoryPoint")()]
        return fill(message, self._column, action, self._joints, 1.0 / self._rate)

    def _as_json(self) -> str:
        return json.dumps({"commands": self._sent, "missing": self._inputs.missing()})


def run_node(path: str, arguments: Sequence[str]) -> LoopReport:
    """Run a policy as a node until ROS ends.

    Args:
        path: Of the exported file.
        arguments: For ROS, from ``--ros-args`` on.

    Returns:
        How the loop went.

    Raises:
        ValueError: rclpy is not installed, or see :class:`PolicyNode`.
    """
    policy = OnnxPolicy(path)
    try:
        import rclpy
    except ImportError as error:
        raise ValueError(
            "rclpy is not there: source /opt/ros/RELEASE/setup.bash, and use the Python of that "
            "release"
        ) from error
    rclpy.init(args=list(arguments))
    node = rclpy.create_node("hindsight")
    try:
        return PolicyNode(policy, node, Rclpy(rclpy)).run()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
