"""A policy as a node of ROS 2, with a stand-in for rclpy's calls."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import policy_files as files
import pytest
from command_fits import hindsight, refused

from hindsight_rl.export.ros import PolicyNode
from hindsight_rl.export.ros_topics import Entry, Inputs, columns_of, entries_of, fill
from hindsight_rl.export.runtime import OnnxPolicy


class Message:
    """A message as rclpy has it: fields are slots with types."""

    FIELDS: dict[str, Any] = {}

    def __init__(self, **values: Any) -> None:
        for name, default in self.FIELDS.items():
            setattr(self, name, values.get(name, default() if callable(default) else default))

    def get_fields_and_field_types(self) -> dict[str, str]:
        return {name: "" for name in self.FIELDS}


class Time(Message):
    FIELDS = {"sec": 0, "nanosec": 0}


class Header(Message):
    FIELDS = {"stamp": Time, "frame_id": ""}


class JointState(Message):
    FIELDS = {"header": Header, "name": list, "position": list, "velocity": list}


class Floats(Message):
    FIELDS = {"data": list}


class Text(Message):
    FIELDS = {"data": ""}


class Point(Message):
    FIELDS = {"positions": list, "time_from_start": Time}


class Trajectory(Message):
    FIELDS = {"header": Header, "joint_names": list, "points": list}


KINDS = {
    "sensor_msgs/msg/JointState": JointState,
    "std_msgs/msg/Float64MultiArray": Floats,
    "std_msgs/msg/String": Text,
    "trajectory_msgs/msg/JointTrajectory": Trajectory,
    "trajectory_msgs/msg/JointTrajectoryPoint": Point,
}


def joints(names: Sequence[str], positions: Sequence[float], nanosec: int = 0) -> JointState:
    header = Header(stamp=Time(sec=5, nanosec=nanosec))
    return JointState(header=header, name=list(names), position=list(positions))


class Publisher:
    """Keeps what is published."""

    def __init__(self, after: Callable[[Any], None]) -> None:
        self.sent: list[Any] = []
        self._after = after

    def publish(self, message: Any) -> None:
        self.sent.append(message)
        self._after(message)


class Parameter:
    """A parameter with a value."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Node:
    """What is called of a node of rclpy, and of rclpy; topics send when they are subscribed to."""

    def __init__(self, topics: dict[str, Any], replies: Sequence[Any] = (), **given: Any) -> None:
        # A busy machine misses deadlines, and is late to read: here neither counts.
        self.given = {"missed_limit": 0, "oldest": 1000.0} | given
        self.topics, self.replies = topics, list(replies)
        self.publishers: dict[str, Publisher] = {}
        self.timers: list[Callable[[], None]] = []
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self.spun = False

    def declare_parameter(self, name: str, default: Any) -> Parameter:
        return Parameter(self.given.get(name, default))

    def create_publisher(self, kind: type[Any], topic: str, depth: int) -> Publisher:
        assert depth == 1
        answer = self._answer if topic == "/commands" else lambda message: None
        self.publishers[topic] = Publisher(answer)
        return self.publishers[topic]

    def create_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)

    def create_subscription(
        self, kind: type[Any], topic: str, callback: Callable[[Any], None], qos: Any
    ) -> None:
        assert isinstance(self.topics[topic], kind) and qos == "sensors"
        self.callbacks[topic] = callback
        callback(self.topics[topic])

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        names = {kind: name for name, kind in KINDS.items()}
        return [(f"/arm{topic}", [names[type(m)]]) for topic, m in self.topics.items()]

    def resolve_topic_name(self, topic: str) -> str:
        return f"/arm{topic}"

    def message(self, kind: str) -> type[Any]:
        if kind not in KINDS:
            raise ValueError(f"messages of the type {kind} are not installed here")
        return KINDS[kind]

    def spin(self, node: Any) -> None:
        self.spun = node is self

    def ok(self) -> bool:
        return bool(self.replies)

    def sensor_qos(self) -> str:
        return "sensors"

    def _answer(self, command: Any) -> None:
        reply = self.replies.pop(0)
        if reply is not None:
            self.callbacks["/joint_states"](reply)


def policy(folder: Path, **changes: Any) -> OnnxPolicy:
    """Return a policy of the joints a and b whose action is its observation."""
    names = {"names": ["position[a]", "position[b]"]}
    stated = files.contract(control_rate_hz=500.0)
    stated["observation"] = stated["observation"] | names
    node = files.node("Identity", "observation", "action")
    return OnnxPolicy(files.write(folder / "policy.onnx", stated | changes, [node]))


OBSERVATION = {"observation": ["/joint_states.position"], "action": "/commands.data"}


def test_topics_become_the_observation_and_the_action_a_message(tmp_path: Path) -> None:
    """Joints come in another order than the contract's, and are put into it."""
    first = joints(["b", "a"], [2.0, 1.0])
    replies = [joints(["b", "a"], [k + 0.5, float(k)]) for k in range(3)]
    node = Node({"/joint_states": first}, replies, **OBSERVATION)
    report = PolicyNode(policy(tmp_path), node, node).run()
    sent = [message.data for message in node.publishers["/commands"].sent]
    assert sent == [[1.0, 2.0], [0.0, 0.5], [1.0, 1.5]]
    assert node.spun and (report.reason, report.fault) == ("stopped", False)
    node.timers[0]()
    (status,) = node.publishers["~/status"].sent
    assert json.loads(status.data) == {"commands": 3, "missing": []}


class Clock:
    """A clock that goes on by 10 ms whenever it is looked at."""

    nanoseconds = 5 * 10**9

    def now(self) -> "Clock":
        self.nanoseconds += 10 * 10**6
        return self


def test_a_sensor_that_falls_silent_ends_it_without_a_command(tmp_path: Path) -> None:
    """By the header, 5 s: readings of up to 0.1 s are shown, of the next four three are bridged."""
    given = OBSERVATION | {"oldest": 0.1, "stamps": "header"}
    node = Node({"/joint_states": joints("ab", [1, 2])}, [None] * 1000, **given)
    clock = Clock()
    node.get_clock = lambda: clock  # type: ignore[attr-defined]
    report = PolicyNode(policy(tmp_path), node, node).run()
    assert report.fault and report.reason.endswith("the reading is 0.14 s old")
    assert report.held == {f"the reading is 0.1{k} s old": 1 for k in (1, 2, 3, 4)}
    assert len(node.publishers["/commands"].sent) == report.pace.steps - 1 > 3


def test_trajectories_name_joints_and_when_a_point_is_reached(tmp_path: Path) -> None:
    robot = {"joints": ["shoulder", "elbow"], "command": "position"}
    given = OBSERVATION | {"action": "/commands.points[0].positions"}
    given |= {"action_type": "trajectory_msgs/msg/JointTrajectory"}
    node = Node({"/joint_states": joints("ab", [1, 2])}, [None], **given)
    PolicyNode(policy(tmp_path, robot=robot), node, node).run()
    (message,) = node.publishers["/commands"].sent
    assert message.joint_names == ["shoulder", "elbow"]
    assert message.points[0].positions == [1.0, 2.0]
    assert message.points[0].time_from_start.nanosec == 2_000_000


def test_publishers_of_single_joints_are_joined() -> None:
    columns = columns_of(["/joint_states.position[a]", "/joint_states.position[b]"])
    inputs = Inputs([Entry("", columns, 2, ())])
    inputs.take("/joint_states", joints(["a", "x"], [1.0, 9.0]), 10.0)
    assert inputs.read(11.0) is None and inputs.missing() == ["/joint_states.position[b]"]
    inputs.take("/joint_states", joints(["b"], [2.0]), 10.5)
    found = inputs.read(11.0)
    assert found is not None and found.age == 1.0
    np.testing.assert_array_equal(found.observation, [1.0, 2.0])


def test_entries_have_columns_of_their_own() -> None:
    entries = {"arm": {"shape": [2], "names": None}, "gripper": {"shape": [1]}}
    words = {"arm": ["/joint_states.position"], "gripper": ["/gripper.data"]}
    inputs = Inputs(entries_of({"observation": {"entries": entries}}, words))
    assert inputs.topics == ("/joint_states", "/gripper")
    inputs.take("/joint_states", joints("ab", [1.0, 2.0]), 0.0)
    inputs.take("/gripper", Floats(data=[3.0]), 0.0)
    found = inputs.read(0.0)
    assert found is not None and isinstance(found.observation, dict)
    assert {name: v.tolist() for name, v in found.observation.items()} == {
        "arm": [1.0, 2.0],
        "gripper": [3.0],
    }
    with pytest.raises(ValueError, match="observation.camera is no vector of numbers"):
        entries_of({"observation": {"entries": {"camera": {"shape": [3, 8, 8]}}}}, {})


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            joints("abc", [1, 2, 3]),
            "observation takes 2 numbers, and /joint_states.position have 3",
        ),
        (
            joints("ax", [1, 2]),
            r"observation takes position\[b\], and messages name position\[a\], ",
        ),
        (Floats(data=[1.0]), "/joint_states.position: the message has data there"),
    ],
)
def test_messages_that_do_not_fit_are_named(tmp_path: Path, message: Any, why: str) -> None:
    node = Node({"/joint_states": message}, [None], **OBSERVATION)
    with pytest.raises(ValueError, match=why):
        PolicyNode(policy(tmp_path), node, node).run()
    assert not node.publishers["/commands"].sent


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, r"parameter observation is missing: 2 numbers \(position\[a\], position\[b\]\)"),
        ({"observation": ["joint_states"]}, "'joint_states' is no /TOPIC.field"),
        ({"observation": ["/joint_states.position]"]}, "neither a field nor a place"),
        ({"action": ""}, "the parameter action is missing"),
        ({"action": "/commands.dat"}, "/commands.dat: the message has no field dat"),
        ({"action_type": "my/msg/Command"}, "my/msg/Command are not installed here"),
        ({"stamps": "mine"}, "the parameter stamps is 'mine': receive or header"),
    ],
)
def test_parameters_that_do_not_fit_are_named(
    tmp_path: Path, given: dict[str, Any], why: str
) -> None:
    base = OBSERVATION if given else {"action": "/commands.data"}
    node = Node({}, [], **base | given)
    with pytest.raises(ValueError, match=why):
        PolicyNode(policy(tmp_path), node, node)


def test_topics_that_nobody_publishes_are_named(tmp_path: Path) -> None:
    node = Node({}, [], **OBSERVATION, wait=0.05)
    begun = time.monotonic()
    why = "nothing came for /joint_states.position within 0.05 s; nobody publishes /joint_states"
    with pytest.raises(ValueError, match=why):
        PolicyNode(policy(tmp_path), node, node).run()
    assert time.monotonic() - begun >= 0.05


def _read(words: list[str], stated: list[str], *messages: tuple[str, Any]) -> list[float]:
    """Return what messages of some topics make of an entry with these names."""
    inputs = Inputs([Entry("", columns_of(words), len(stated), tuple(stated))])
    for topic, message in messages:
        inputs.take(topic, message, 0.0)
    found = inputs.read(0.0)
    assert found is not None
    return np.asarray(found.observation).tolist()


def test_joints_are_ordered_beside_columns_without_names() -> None:
    """The names are those of a log of the same columns; joints come in another order."""
    swapped = ("/joints", joints(["b", "a"], [2.0, 1.0]))
    beside = ("/force.data", ["/force.data[0]", "/force.data[1]"], ("/force", Floats(data=[8, 9])))
    stated = ["position[a]", "position[b]", *beside[1]]
    found = _read(["/joints.position", beside[0]], stated, swapped, beside[2])
    assert found == [1.0, 2.0, 8.0, 9.0]
    # Columns in another order than in the log's map.
    found = _read([beside[0], "/joints.position"], stated, swapped, beside[2])
    assert found == [1.0, 2.0, 8.0, 9.0]


def test_two_arms_may_name_their_joints_alike() -> None:
    stated = ["position[a]", "position[b]"] * 2
    left = ("/left", joints(["b", "a"], [2.0, 1.0]))
    right = ("/right", joints(["a", "b"], [3.0, 4.0]))
    words = ["/left.position", "/right.position"]
    assert _read(words, stated, left, right) == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match=r"takes position\[b\], and messages name position\[a\]"):
        _read(words, stated, left, ("/right", joints(["a", "x"], [3.0, 4.0])))


def test_joints_that_a_log_listed_singly_are_known_again() -> None:
    stated = ["/joints.position[a]", "/joints.position[b]"]
    swapped = ("/joints", joints(["b", "a"], [2.0, 1.0]))
    assert _read(["/joints.position"], stated, swapped) == [1.0, 2.0]
    words = ["/joints.position[b]", "/joints.position[a]"]
    assert _read(words, ["position[a]", "position[b]"], swapped) == [1.0, 2.0]


def test_joints_of_another_robot_are_an_error() -> None:
    other = ("/joints", joints(["left_a", "left_b"], [1.0, 2.0]))
    with pytest.raises(ValueError, match=r"messages name position\[left_a\], position\[left_b\]"):
        _read(["/joints.position"], ["position[a]", "position[b]"], other)
    # Where the column map gave names of its own, there is nothing to compare.
    assert _read(["/joints.position"], ["shoulder", "elbow"], other) == [1.0, 2.0]


def test_numbers_keep_their_digits_until_the_offset_is_subtracted() -> None:
    message = ("/clock", Floats(data=[1e9 + 0.125]))
    assert _read(["/clock.data"], ["observation[0]"], message) == [1e9 + 0.125]


def test_a_choice_is_a_number() -> None:
    (column,) = columns_of(["/gear.data"])
    assert fill(Text(), column, 2, (), 0.1).data == 2
    assert fill(Floats(), column, np.array([1.0, 2.0]), (), 0.1).data == [1.0, 2.0]


def test_a_task_is_a_parameter(tmp_path: Path) -> None:
    """The contract has none: the policy says so, and nothing is sent."""
    node = Node({"/joint_states": joints("ab", [1, 2])}, [None], **OBSERVATION, task=[1.0])
    report = PolicyNode(policy(tmp_path), node, node).run()
    assert report.fault and "task" in report.reason and not node.publishers["/commands"].sent
    assert math.isnan(Node({}).declare_parameter("task", [math.nan]).value[0])


def test_without_rclpy_the_command_says_what_to_do(tmp_path: Path) -> None:
    policy(tmp_path)
    ended = hindsight("ros", tmp_path / "policy.onnx", "--ros-args", "-p", "action:=/commands.data")
    assert "rclpy is not there: source /opt/ros/RELEASE/setup.bash" in refused(ended)
