"""The reader in JavaScript: contract, hash, noise, state and chunks as Python has them.

Node alone suffices for most; onnxruntime-node is installed by npm for the rest.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from javascript import NODE, READER, needs_node, ort_node
from policy_files import chunked, components, entries, leaky_sum, noisy, past
from small_fits import data_for, learner_of

from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.export.draws import counters, normals, uniforms
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy

pytestmark = needs_node


def played(*cases: dict[str, Any], ort: Path | None = None) -> list[Any]:
    """Return what JavaScript answers to each case, or the text of its error."""
    given = {"runners": str(READER), "ort": str(ort), "cases": cases}
    script = Path(__file__).with_name("play.mjs")
    done = subprocess.run(
        [str(NODE), str(script)], input=json.dumps(given), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [each.get("value", each.get("error")) for each in json.loads(done.stdout)]


def seen(count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


def test_the_contract_is_the_one_that_was_written(tmp_path: Path) -> None:
    path = entries(tmp_path / "policy.onnx")
    (found,) = played({"path": str(path), "contract": True})
    assert found == OnnxPolicy(path).contract


def test_files_that_must_not_be_run(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    model = onnx.load(path)
    model.graph.node[0].op_type = "Sub"
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    del model.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-5])
    (tmp_path / "text.onnx").write_text("no model")
    names = ("changed", "bare", "cut", "text")
    found = played(*({"path": str(tmp_path / f"{n}.onnx"), "contract": True} for n in names))
    assert found[0].startswith("ContractError: graph or weights changed after the export")
    assert found[1] == (
        "ContractError: the file holds 0 entries 'hindsight.contract', and a policy has one"
    )
    assert all(each.startswith("ContractError: byte ") for each in found[2:])


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_noise_has_the_numbers_of_every_runner(distribution: str) -> None:
    cases = [(seed, episode, step) for seed in (0, 3, 2**40 + 1, -1) for episode, step in
             ((0, 0), (7, 123_456))]  # fmt: skip
    found = played(
        *(
            {"noise": {"shape": [3, 5], "distribution": distribution}, "seed": str(seed),
             "episode": episode, "step": step}
            for seed, episode, step in cases
        )
    )  # fmt: skip
    draw = normals if distribution == "normal" else uniforms
    for (seed, episode, step), numbers in zip(cases, found, strict=True):
        expected = draw(counters(seed, np.array([episode]), step), 15)[0]
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=1e-6)


LOOPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "state": (leaky_sum, {"graph": "leaky_sum"}),
    "noise": (noisy, {"graph": "noisy"}),
    "queue": (lambda path: chunked(path, 4, 3), {"graph": "chunked", "length": 4}),
    "ensemble": (lambda path: chunked(path, 3, 1, 0.1), {"graph": "chunked", "length": 3}),
}


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_is_that_of_python(kind: str, tmp_path: Path) -> None:
    make, stand_in = LOOPS[kind]
    path = make(tmp_path / "policy.onnx")
    case = {"path": str(path), "rows": seen().tolist(), "resets": [7, 15], "seed": "3"}
    (found,) = played(case | stand_in)
    policy = OnnxPolicy(path, seed=3)
    for step, (row, answer) in enumerate(zip(seen(), found, strict=True)):
        if step in (7, 15):
            policy.reset()
        np.testing.assert_allclose(answer, policy.act(row), rtol=1e-6, atol=2e-6)


def test_a_past_holds_what_was_executed(tmp_path: Path) -> None:
    path = past(tmp_path / "policy.onnx")
    sent = [0.25, -0.5]
    (found,) = played({"path": str(path), "rows": seen().tolist(), "sent": sent, "graph": "past"})
    policy = OnnxPolicy(path)
    for row, answer in zip(seen(), found, strict=True):
        np.testing.assert_allclose(answer, policy.act(row), rtol=1e-6, atol=1e-6)
        policy.executed(np.float32(sent))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = str(leaky_sum(tmp_path / "policy.onnx"))
    one = {"path": path, "graph": "leaky_sum"}
    seeing = {"path": str(entries(tmp_path / "entries.onnx")), "graph": "leaky_sum"}
    observed = {"camera": np.zeros((4, 4, 3)).tolist(), "arm": [0.5], "mode": 2}
    wrong = ({"camera": [300] * 48}, {"camera": [0.5] * 48}, {"mode": 0.5}, {"arm": ["1"]})
    for answer in played(*(seeing | {"rows": [observed | each]} for each in wrong)):
        assert "holds what is no number, or none of" in answer
    found = played(
        one | {"rows": [[1.0, None]]},
        one | {"rows": [[1.0]]},
        one | {"rows": [[1.0, 2.0]], "task": [1.0]},
        one | {"rows": [None]},
        one | {"rows": [[3e38, 1e39]]},
    )
    # null would be 0 in JavaScript, and 300 would be 44 as a byte.
    assert found[0] == "RangeError: observation holds what is no number, or none of float32"
    assert found[1] == "RangeError: observation has 1 numbers, and this policy takes 2"
    assert found[2] == "RangeError: this policy takes no task"
    assert found[3] == "RangeError: observation is missing, and has no default"
    assert found[4].startswith("RangeError: observation is not finite")


# ------------------------------------------------------------------------ with onnxruntime-node


@pytest.mark.parametrize("learner", [RecurrentBC, FlowBC])
def test_learners_in_node(learner: Any, tmp_path: Path) -> None:
    made = learner_of(learner, data_for(learner).spec).eval()
    path = tmp_path / "policy.onnx"
    export_policy(made, path, opset=17)
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    case = {"path": str(path), "seed": "3"}
    cases = (case | {"verify": True}, case | {"rows": rows.tolist(), "resets": [5]})
    proof, found = played(*cases, ort=ort_node())
    assert proof["rows"] == 256 and proof["difference"] < 1e-5 and proof["passed"]
    policy = OnnxPolicy(path, seed=3)
    for step, row in enumerate(rows):
        if step == 5:
            policy.reset()
        np.testing.assert_allclose(found[step], policy.act(row), rtol=0, atol=2e-5)


def test_entries_and_ties_in_node(tmp_path: Path) -> None:
    one = entries(tmp_path / "entries.onnx")
    two = components(tmp_path / "two.onnx", [[0.5, 0.5], [0.0, 1.0], [3.0, 2.0]])
    camera = np.full((4, 4, 3), 51).tolist()
    given = {"camera": camera, "arm": [0.5], "mode": 2}
    found = played(
        {"path": str(one), "verify": True},
        {"path": str(two), "verify": True},
        {"path": str(one), "rows": [given]},
        {"path": str(one), "rows": [given | {"mode": 3}]},
        ort=ort_node(),
    )
    assert found[0]["difference"] < 1e-6 and found[0]["close"] == 0
    nothing = {"difference": 0, "share": 0, "outside": 0, "wrong": 0}
    assert found[1] == nothing | {"rows": 3, "close": 1, "passed": True}
    np.testing.assert_allclose(found[2], [[0.7, 2.0]], rtol=1e-6)
    assert found[3] == "RangeError: observation.mode is 3, and is one of 3 choices from 0"
