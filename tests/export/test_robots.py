"""The robot section: written by an export, compared with the driver, carried to C."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_schema import errors
from stand_ins import StandIn

from hindsight_rl.export.c.source import c_source
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.torch_graph import ExportError

ARM = {
    "joints": ["shoulder", "elbow", "wrist"],
    "command": "position",
    "stiffness": [80, 40.5, 10.0],
    "damping": [2.0, 1.0, None],
    "default_pose": [0.0, -0.5, 0.25],
    "rate_limit": [1.0, 1.0, 2.0],
    "low": [-1.5, None, -0.5],
    "high": [1.5, 2.0, 0.5],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a policy for an arm."""
    path = tmp_path_factory.mktemp("arm") / "policy.onnx"
    export_policy(StandIn(), path, opset=17, robot=ARM)
    return path


def test_it_is_in_the_contract_and_fits_the_schema(path: Path) -> None:
    stated = OnnxPolicy(path).contract
    assert stated["robot"] == ARM
    schema = json.loads(files("hindsight_rl.export").joinpath("contract.schema.json").read_text())
    assert errors(stated, schema, schema) == []
    known = schema["properties"]["robot"]["anyOf"][1]["properties"]
    assert set(known) == set(ARM)


def test_it_is_in_c(path: Path) -> None:
    header = c_source(path.read_bytes(), "", "arm").header
    assert "extern const char *const arm_joints[3]; /* in the driver's order */\n" in header
    assert "extern const float arm_joint_high[3]; /* NaN: not known */\n" in header


def test_what_is_left_out_is_not_known(tmp_path: Path) -> None:
    robot = {"joints": ["a", "b", "c"], "command": "velocity"}
    export_policy(StandIn(), tmp_path / "policy.onnx", opset=17, robot=robot)
    found = OnnxPolicy(tmp_path / "policy.onnx").contract["robot"]
    assert found == dict.fromkeys(ARM) | robot


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"joints": ["a", "b"], "command": "torque", "rate_limit": None},
         "robot names 2 joints, and an action has 3 numbers: a command 'torque' is one of each"),
        ({"damping": [1.0, 2.0]}, r"robot.damping has shape \[2\]"),
        ({"stiffness": 3.0}, "robot stiffness is 3.0, and is a list with a number per joint"),
        ({"kp": [1.0]}, "robot has kp, and a robot has joints, command, stiffness, damping"),
        ({"command": "magic"}, "robot.command is 'magic', and must be one of position"),
        ({"joints": ["a", "a", "b"]}, "robot.joints names a joint twice"),
        ({"rate_limit": [1.0, -1.0, None]}, r"robot.rate_limit is \[1.0, -1.0, None\], and every"),
        ({"low": [0.0, 3.0, 0.0]}, "robot low of 'elbow' is 3.0, above its high, 2.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_not_written(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    short = {name: None for name in ARM if len(change.get("joints", [0] * 3)) != 3}
    with pytest.raises(ExportError, match=told):
        export_policy(StandIn(), tmp_path / "policy.onnx", opset=17, robot=ARM | short | change)
    assert not list(tmp_path.iterdir())


def test_entries_that_are_missing(tmp_path: Path) -> None:
    for given, told in (({"joints": ["a"]}, "no command"), ({}, "no joints and no command")):
        with pytest.raises(ExportError, match=f"robot has {told}"):
            export_policy(StandIn(), tmp_path / "policy.onnx", robot=given)
    with pytest.raises(ExportError, match="robot is no mapping with 'joints' and 'command'"):
        export_policy(StandIn(), tmp_path / "policy.onnx", robot=[1])  # type: ignore[arg-type]


def test_other_commands_have_other_sizes(tmp_path: Path) -> None:
    robot = {"joints": ["a", "b"], "command": "delta_pose"}
    export_policy(StandIn(), tmp_path / "policy.onnx", opset=17, robot=robot)
    with pytest.raises(ExportError, match="names 2 joints, and an action has 0 numbers"):
        export_policy(
            StandIn(discrete=True), tmp_path / "p.onnx", robot=robot | {"command": "torque"}
        )


# ------------------------------------------------------------------------------- at the start


def test_a_driver_with_these_joints_passes(path: Path) -> None:
    policy = OnnxPolicy(path)
    np.testing.assert_array_equal(policy.check_robot(["shoulder", "elbow", "wrist"]), [0, 1, 2])
    names = ["wrist", "gripper", "shoulder", "elbow"]
    np.testing.assert_array_equal(policy.check_robot(names, reorder=True), [2, 3, 0])


@pytest.mark.parametrize(
    ("names", "reorder", "told"),
    [
        (["elbow", "shoulder", "wrist"], False,
         "joints are elbow, shoulder, wrist, and the policy was fitted to shoulder, elbow, wrist"),
        (["shoulder", "elbow", "wrist", "gripper"], False, "gripper, and the policy was fitted"),
        (["shoulder", "wrist"], True, "the driver lacks elbow, and has shoulder, wrist"),
        (["shoulder", "elbow", "wrist", "elbow"], True, "the driver names elbow more than once"),
    ],
)  # fmt: skip
def test_another_driver_does_not(path: Path, names: list[str], reorder: bool, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OnnxPolicy(path).check_robot(names, reorder=reorder)


def test_a_contract_without_a_robot(tmp_path: Path) -> None:
    export_policy(StandIn(), tmp_path / "policy.onnx", opset=17)
    with pytest.raises(ValueError, match="no robot section.* export with --robot robot.yaml"):
        OnnxPolicy(tmp_path / "policy.onnx").check_robot(["a"])


def test_own_loops_hold_the_limits_of_joints(tmp_path: Path) -> None:
    """1 and 2 units a second, in half a second; the third joint has none."""
    robot = ARM | {"command": "position", "rate_limit": [1.0, 2.0, None]}
    export_policy(StandIn(), tmp_path / "policy.onnx", opset=17, robot=robot)
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    found = policy.rate_limited([5.0, -5.0, 5.0], [0.0, 0.0, 0.0], seconds=0.5)
    np.testing.assert_array_equal(found, [0.5, -1.0, 5.0])
