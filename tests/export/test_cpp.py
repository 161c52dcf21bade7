"""The runner in C++: contract, hash, noise, state and chunks as Python has them, with OpenVINO."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cpp_player import Answer, given, needs_cpp, seen
from policy_files import (
    VECTOR,
    chunked,
    components,
    contract,
    edit,
    entries,
    leaky_sum,
    node,
    noisy,
    past,
    write,
)

from hindsight_rl.export.runtime import OnnxPolicy

pytestmark = needs_cpp


# ------------------------------------------------------------------------------ files at fault


def test_files_that_must_not_be_run(tmp_path: Path, answers: Answer) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    model = onnx.load(path)
    model.graph.node[0].op_type = "Sub"
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    del model.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-5])
    (tmp_path / "text.onnx").write_text("no model")
    names = ("changed", "bare", "cut", "text", "absent")
    found = answers(*({"path": str(tmp_path / f"{n}.onnx"), "verify": True} for n in names))
    assert all(each.startswith(f"ContractError: {tmp_path}/{name}.onnx: ")
               for name, each in zip(names, found, strict=True))  # fmt: skip
    wanted = (
        "graph or weights changed after the export (they hash to sha256:",
        "holds 0 entries 'hindsight.contract', and a policy file holds one. Give the file",
        "not an ONNX file (byte ",
        "not an ONNX file (byte ",
        "no such file, or no regular one",
    )
    for part, each in zip(wanted, found, strict=True):
        assert part in each


def test_weights_outside_the_file(tmp_path: Path, answers: Answer) -> None:
    model = onnx.load(leaky_sum(tmp_path / "policy.onnx"))
    weight = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, location="weights.bin")
    weight.ClearField("raw_data")
    (tmp_path / "policy.onnx").write_bytes(model.SerializeToString())
    (found,) = answers({"path": str(tmp_path / "policy.onnx"), "verify": True})
    assert "keeps tensors outside the file" in found


def test_a_file_that_is_too_large_or_a_folder(tmp_path: Path, answers: Answer) -> None:
    (found,) = answers({"path": str(tmp_path), "verify": True})
    assert "no such file, or no regular one" in found


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "version": ({"version": 9}, "version is 9, and this reader knows versions 1 to 3"),
    "kind": ({"observation": VECTOR | {"kind": "sound"}}, "observation.kind is 'sound'"),
    "shape": ({"observation": VECTOR | {"shape": [-1]}}, "observation.shape must list positive"),
    "action": ({"action": 3}, "action must be an object"),
    "state": ({"state": [{"name": "h"}]}, "state[0].dtype is missing"),
    "noise": ({"noise": {"shape": [2], "distribution": "even"}}, "noise.distribution must be"),
    "chunk": ({"chunk": {"length": 2, "execute": 3}}, "chunk.execute must be in 1 to"),
    "inputs": ({"state": []}, "the graph has 2 inputs, and the contract says 1"),
    "outputs": ({"action": VECTOR | {"kind": "continuous", "shape": [3]}}, "says f32 [1,3]"),
    "parity": ({"parity": {"tolerance": 1, "margin": 1e-4}}, "parity.tolerance is out of range"),
    "probe": ({"probe": {"observation": [[1, 2]], "action": [[1, None]], "first": [True]}},
              "probe.action is not a full table of numbers"),
    "first": ({"probe": {"observation": [[1, 2]], "action": [[1, 2]], "first": [False]}},
              "probe.first must have each row, and begin true"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_contract_at_fault_is_named(fault: str, tmp_path: Path, answers: Answer) -> None:
    changes, said = WRONG[fault]
    path = leaky_sum(tmp_path / "policy.onnx")
    edit(path, **changes)
    (found,) = answers({"path": str(path), "verify": True})
    assert said in found and found.startswith(f"ContractError: {path}: ")


TEXTS = {
    '{"version": 2': "'}' is missing",
    '{"version": 02}': "a number begins with 0",
    '{"version": NaN}': "no value of JSON begins here",
    '{"version": 1e400}': "the number is out of range",
    '{"version": 1, "version": 2}': "'version' is named twice",
    '{"a": "\\ud800"}': "half of a pair of escapes",
    '{"a": "\\u12"}': "an escape of less than four digits",
    '{"a": "\n"}': "a control character in a text",
    "[" * 100: "nested deeper than 64 levels",
    "{} {}": "something follows the value",
    '{"version": 123456789012345678901}': "a whole number is too long",
    "": "no value of JSON begins here",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_contract_that_is_no_json(text: str, tmp_path: Path, answers: Answer) -> None:
    model = onnx.load(leaky_sum(tmp_path / "policy.onnx"))
    model.metadata_props[0].value = text
    (tmp_path / "policy.onnx").write_bytes(model.SerializeToString())
    (found,) = answers({"path": str(tmp_path / "policy.onnx"), "verify": True})
    assert "not readable as JSON (byte " in found and TEXTS[text] in found


# ----------------------------------------------------------------------------------- the probe


def test_the_probe_finds_another_answer(tmp_path: Path, answers: Answer) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    probe = OnnxPolicy(path).contract["probe"]
    action = np.array(probe["action"])
    (found,) = answers({"path": str(path), "verify": True})
    assert found == {"rows": 5, "close": 0, "wrong": 0, "difference": 0}
    action[4, 1] += 0.001  # of a spread of 2.375
    edit(path, probe=probe | {"action": action.tolist()})
    (found,) = answers({"path": str(path), "verify": True})
    assert "the graph and the learner differ by 0.000421053 " in found
    assert "of the action range (0.001 in its units), and the tolerance is 1e-05" in found


def test_an_answer_outside_the_bounds(tmp_path: Path, answers: Answer) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    bounded = OnnxPolicy(path).contract["action"] | {"high": [2.0, None]}
    edit(path, action=bounded)
    (found,) = answers({"path": str(path), "verify": True})
    assert "action[0] is 3.25" in found and "on probe row 4, outside the bounds" in found


def test_ties_are_not_compared(tmp_path: Path, answers: Answer) -> None:
    path = components(tmp_path / "policy.onnx", [[0.5, 0.5], [0.0, 1.0], [3.0, 2.0]])
    probe = OnnxPolicy(path).contract["probe"]
    edit(path, probe=probe | {"action": [[-1.0, -1.0], *probe["action"][1:]]})
    (found,) = answers({"path": str(path), "verify": True})
    assert found == {"rows": 3, "close": 1, "wrong": 0, "difference": 0}


def test_the_program_verifies_files(tmp_path: Path, programs: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    words = [str(programs / "hindsight" / "hindsight_verify"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{path}: 5 rows, 0 of them ties; largest difference 0 of the range, 0 wrong choices "
        "(tolerance 1e-05): passed\n"
    )
    path.write_bytes(path.read_bytes()[:-5])
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and f"hindsight_verify: {path}: not an ONNX file" in done.stderr


# ------------------------------------------------------------------------------------ the loop

LOOPS: dict[str, Callable[[Path], Path]] = {
    "state": leaky_sum,
    "normal": noisy,
    "uniform": lambda path: noisy(path, "uniform"),
    "queue": lambda path: chunked(path, 4, 3),
    "single": lambda path: chunked(path, 1, 1),
    "ensemble": lambda path: chunked(path, 3, 1, 0.1),
    "old first": lambda path: chunked(path, 3, 1, -0.1),
}


@pytest.mark.parametrize("seed", [3, 2**40 + 1, 2**64 - 1])
@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_is_that_of_python(kind: str, seed: int, tmp_path: Path, answers: Answer) -> None:
    path = LOOPS[kind](tmp_path / "policy.onnx")
    case = {"path": str(path), "rows": given(seen()), "resets": [7, 15], "seed": str(seed)}
    one, two = answers(case, case | {"verify_between": True})
    assert one == two  # the probe leaves the episode alone
    policy = OnnxPolicy(path, seed=seed)
    for step, (row, answer) in enumerate(zip(seen(), one, strict=True)):
        if step in (7, 15):
            policy.reset()
        np.testing.assert_allclose(answer, policy.act(row), rtol=1e-6, atol=2e-6)


def test_without_noise_where_it_means_something(tmp_path: Path, answers: Answer) -> None:
    one, two = noisy(tmp_path / "one.onnx"), noisy(tmp_path / "two.onnx", zero=False)
    cases = [{"path": str(path), "rows": given(seen()), "deterministic": True}
             for path in (one, two)]  # fmt: skip
    found, refused = answers(*cases)
    np.testing.assert_array_equal(np.float32(found), seen())
    assert refused.startswith(f"{two}: deterministic puts zeros in the place of noise")


@pytest.mark.parametrize("kind", ["float", "double"])
def test_a_past_holds_what_was_executed(kind: str, tmp_path: Path, answers: Answer) -> None:
    path = past(tmp_path / "policy.onnx")
    sent = [0.25, -0.5]
    (found,) = answers({"path": str(path), "rows": given(seen()), "sent": {kind: sent}})
    policy = OnnxPolicy(path)
    for row, answer in zip(seen(), found, strict=True):
        np.testing.assert_allclose(answer, policy.act(row), rtol=1e-6, atol=1e-6)
        policy.executed(np.float32(sent))
    (found,) = answers({"path": str(path), "rows": given(seen()), "sent": {"float": [1.0]}})
    assert found.startswith("executed has 1 numbers or another type, and an action has 2")


# ------------------------------------------------------------------------------- what is given


def test_entries_and_what_does_not_fit(tmp_path: Path, answers: Answer) -> None:
    path = entries(tmp_path / "policy.onnx")
    camera = np.random.default_rng(1).integers(0, 256, 48)
    right = {"camera": {"uint8": camera.tolist()}, "arm": {"float": [0.5]}, "mode": {"int64": [2]}}

    def case(**changes: Any) -> dict[str, Any]:
        return {"path": str(path), "rows": [{"entries": right | changes}]}

    found = answers(
        case(),
        case(arm={"double": [0.5]}),
        case(camera={"float": [0.5] * 48}),
        case(mode={"int64": [3]}),
        case(arm={"float": ["nan"]}),
        case(arm={"double": [1e39]}),
        case(arm={"float": [1.0, 2.0]}),
        case(leg={"float": [1.0]}),
        {"path": str(path), "rows": [{"float": [1.0]}]},
    )
    policy = OnnxPolicy(path)
    image = camera.astype(np.uint8).reshape(4, 4, 3)
    expected = policy.act({"camera": image, "arm": np.float32([0.5]), "mode": 2})
    for each in found[:2]:
        np.testing.assert_allclose(each[0], expected, rtol=1e-6)
    wanted = (
        "observation.camera is of float, and this policy takes uint8",
        "observation.mode is 3, and is one of 3 choices from 0",
        "observation.arm[0] ('elbow') is nan, and a policy takes finite numbers. Repair",
        "observation.arm[0] ('elbow') is inf, and a policy takes finite numbers. Repair",
        "observation.arm has 2 numbers, and this policy takes [1]",
        "the observation has 4 entries, and this policy takes 3",
        "observation.camera is missing",
    )
    for part, each in zip(wanted, found[2:], strict=True):
        assert each.startswith(part)


def test_an_offset_is_subtracted_in_double(tmp_path: Path, answers: Answer) -> None:
    stated = contract(observation=VECTOR | {"offset": [1.7e9, 0.0]})
    path = write(tmp_path / "policy.onnx", stated, [node("Identity", "observation", "action")])
    row = np.array([[1.7e9 + 0.25, 3.0]])
    one, two = answers(
        {"path": str(path), "rows": given(row, "double")}, {"path": str(path), "rows": given(row)}
    )
    assert one == [[0.25, 3.0]]
    assert two.startswith("observation is of float, and this policy subtracts an offset")


@pytest.mark.parametrize("default", [None, [4.0, 5.0]])
def test_a_task_and_its_default(
    default: list[float] | None, tmp_path: Path, answers: Answer
) -> None:
    rows, tasks = [[0.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [0.0, 2.0]]
    stated = contract(
        task=VECTOR | {"family": "goal", "default": default},
        probe={"observation": rows, "task": tasks,
               "action": (np.array(rows) + np.array(tasks)).tolist()},
    )  # fmt: skip
    path = write(tmp_path / "policy.onnx", stated, [node("Add", "observation task", "action")])
    case = {"path": str(path), "rows": given(seen(2))}
    one, two, three = answers(
        case, case | {"task": {"float": [1.0, 2.0]}}, {"path": str(path), "verify": True}
    )
    np.testing.assert_allclose(two, seen(2) + [1.0, 2.0], rtol=1e-6)
    assert three["difference"] == 0
    if default is None:
        assert one.startswith("this policy takes a task [2] and has no default: give one")
    else:
        np.testing.assert_allclose(one, seen(2) + default, rtol=1e-6)
    plain = leaky_sum(tmp_path / "plain.onnx")
    (found,) = answers({"path": str(plain), "rows": given(seen(1)), "task": {"float": [1.0]}})
    assert found == "this policy takes no task, and one was given"


def test_an_answer_that_is_not_finite_changes_nothing(tmp_path: Path, answers: Answer) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    rows = given(np.array([[1.0, 1.0], [3e38, 0.0], [3e38, 0.0]]))
    (found,) = answers({"path": str(path), "rows": rows})
    assert found.startswith("the policy answered") and "the network overflows" in found


def test_joints_of_the_driver(tmp_path: Path, answers: Answer) -> None:
    robot = {"joints": ["hip", "knee"], "command": "torque"}
    path = leaky_sum(tmp_path / "policy.onnx", robot=robot)
    case = {"path": str(path)}
    found = answers(
        case | {"joints": ["hip", "knee"]},
        case | {"joints": ["knee", "tail", "hip"], "reorder": True},
        case | {"joints": ["knee", "hip"]},
        case | {"joints": ["hip", "tail"]},
        case | {"joints": ["hip", "knee", "hip"], "reorder": True},
        {"path": str(leaky_sum(tmp_path / "plain.onnx")), "joints": ["hip"]},
    )
    assert found[:2] == [[0, 1], [2, 0]]
    assert found[2].startswith("the driver's joints are knee, hip, and the policy was fitted to")
    assert found[3] == "the driver lacks knee, and has hip, tail"
    assert found[4] == "the driver names hip more than once"
    assert found[5].startswith("the contract has no robot section")
