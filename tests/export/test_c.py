"""Policy files as C: what a control loop calls, against the same files in onnxruntime."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from c_policies import CC, CPolicy, needs_compiler, run_self_test, self_test
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

from hindsight_rl.export.c.compiler import write_source
from hindsight_rl.export.c.graph import CodeError
from hindsight_rl.export.c.source import c_source
from hindsight_rl.export.contract import ContractError
from hindsight_rl.export.runtime import OnnxPolicy

pytestmark = needs_compiler
OBSERVATION, TASK, ANSWER = 1, 2, 3


def seen(count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


def same(policy: OnnxPolicy, c: CPolicy, rows: np.ndarray, atol: float = 0.0) -> None:
    """Check that both answer alike, step after step."""
    action = np.zeros(2, np.float32)
    for row in rows:
        assert c.act(action, row) == 0
        np.testing.assert_allclose(action, policy.act(row), rtol=0, atol=atol)


# ------------------------------------------------------------------------------ the self test


def test_the_self_test_counts_and_measures(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    code, said = self_test(path, tmp_path)
    assert (code, said) == (
        0,
        "policy: largest difference 0 of the range (tolerance 1e-05) in 5 rows, "
        "0 ties not compared: passed\n",
    )


def test_the_self_test_fails_where_a_weight_moved(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    self_test(path, tmp_path)
    text = (tmp_path / "policy.c").read_text()
    assert text.count("y = 0.5f;") == 1
    (tmp_path / "policy.c").write_text(text.replace("y = 0.5f;", "y = 0.501f;"))
    code, said = run_self_test(tmp_path)
    # At step 0 the state (1, -1) counts 0.001 more; the actions span (0.5..3.5, -0.5..2.125).
    assert code == 1 and said.endswith("FAILED\n")


def test_ties_are_not_compared(tmp_path: Path) -> None:
    path = components(tmp_path / "policy.onnx", [[0.5, 0.5], [0.0, 1.0], [3.0, 2.0]])
    probe = OnnxPolicy(path).contract["probe"]
    edit(path, probe=probe | {"action": [[-1.0, -1.0], *probe["action"][1:]]})
    code, said = self_test(path, tmp_path)
    assert code == 0 and "in 3 rows, 1 ties not compared: passed" in said
    edit(path, probe=probe | {"action": [probe["action"][0], [1.0, 1.0], probe["action"][2]]})
    code, said = self_test(path, tmp_path)
    # The answers are all 1 now, and a spread below 1 counts as 1.
    assert code == 1 and said.startswith("policy: largest difference 2 of the range")


def test_of_many_numbers_the_first_rows_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    monkeypatch.setattr("hindsight_rl.export.c.self_test.MOST", 8)  # four rows of two
    monkeypatch.setattr("hindsight_rl.export.c.self_test._FEWEST", 3)
    assert "in 4 rows, 0 ties" in self_test(path, tmp_path)[1]
    monkeypatch.setattr("hindsight_rl.export.c.self_test.MOST", 1)
    assert "in 3 rows, 0 ties" in self_test(path, tmp_path)[1]


def test_a_compiler_that_assumes_finite_numbers_is_refused(tmp_path: Path) -> None:
    """It would drop the checks of what sensors give."""
    source = c_source(leaky_sum(tmp_path / "policy.onnx").read_bytes(), "", "policy")
    write_source(source, tmp_path)
    words = [str(CC), "-std=c99", "-ffast-math", "-c", "policy.c"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "compile policy.c without -ffast-math" in done.stderr


# -------------------------------------------------------------------------- what is carried


def test_a_state_is_carried_and_begun_anew(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    policy, c = OnnxPolicy(path), CPolicy(path, tmp_path)
    for _ in range(2):
        c.reset()
        policy.reset()
        same(policy, c, seen())


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("seed", [0, 3, 2**32 + 5, -1])
def test_noise_is_that_of_seed_episode_and_step(
    distribution: str, seed: int, tmp_path: Path
) -> None:
    path = noisy(tmp_path / "policy.onnx", distribution)
    policy, c = OnnxPolicy(path, seed=seed), CPolicy(path, tmp_path)
    for episode in (0, 7):
        c.reset(seed % 2**64, episode)
        policy.reset(episode=episode)
        same(policy, c, seen(), atol=1e-6)


def test_without_noise_where_it_was_compiled_so(tmp_path: Path) -> None:
    path = noisy(tmp_path / "policy.onnx")
    c = CPolicy(path, tmp_path, "POLICY_DETERMINISTIC")
    c.reset(0, 0)
    same(OnnxPolicy(path, deterministic=True), c, seen())
    text = c_source(noisy(path, zero=False).read_bytes(), "", "policy").code
    assert "DETERMINISTIC" not in text


@pytest.mark.parametrize(
    ("length", "execute", "ensemble"),
    [(4, 2, None), (3, 3, None), (1, 1, None), (3, 1, 0.1), (3, 1, -0.1), (4, 1, 0.0)],
)
def test_chunks_are_executed_as_the_contract_says(
    length: int, execute: int, ensemble: float | None, tmp_path: Path
) -> None:
    path = chunked(tmp_path / "policy.onnx", length, execute, ensemble)
    policy, c = OnnxPolicy(path), CPolicy(path, tmp_path)
    for rows in (seen(7), seen()):
        c.reset()
        policy.reset()
        same(policy, c, rows, atol=1e-5)


@pytest.mark.parametrize("chunk", [None, {"length": 2, "execute": 2, "ensemble": None}])
def test_a_past_holds_what_was_executed(chunk: dict[str, object] | None, tmp_path: Path) -> None:
    path = past(tmp_path / "policy.onnx", chunk)
    policy, c = OnnxPolicy(path), CPolicy(path, tmp_path)
    c.reset()
    action = np.zeros(2, np.float32)
    c.executed(action + 9.0)  # before an answer it means nothing
    for step, row in enumerate(seen()):
        assert c.act(action, row) == 0
        np.testing.assert_array_equal(action, policy.act(row))
        if step % 3 != 1:
            sent = np.clip(action, -0.25, 0.25)
            c.executed(sent)
            policy.executed(sent)


# ----------------------------------------------------------------------------- what is given


def test_entries_and_what_does_not_fit(tmp_path: Path) -> None:
    path = entries(tmp_path / "policy.onnx")
    policy, c = OnnxPolicy(path), CPolicy(path, tmp_path)
    c.reset()
    camera = np.random.default_rng(1).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    action = np.zeros(2, np.float32)
    assert c.act(action, camera, np.float32([0.5]), np.int64([2])) == 0
    expected = policy.act({"camera": camera, "arm": np.float32([0.5]), "mode": 2})
    np.testing.assert_allclose(action, expected, rtol=1e-6)
    kept = action.copy()
    for arm, mode in ((np.nan, 2), (np.inf, 2), (-np.inf, 2), (0.5, 3), (0.5, -1)):
        assert c.act(action, camera, np.float32([arm]), np.int64([mode])) == OBSERVATION
    np.testing.assert_array_equal(action, kept)
    assert c.texts("policy_observation_arm_names", 1) == ["elbow"]


def test_an_offset_is_subtracted_before_float32(tmp_path: Path) -> None:
    stated = contract(observation=VECTOR | {"offset": [1.7e9, 0.0]})
    path = write(tmp_path / "policy.onnx", stated, [node("Identity", "observation", "action")])
    c = CPolicy(path, tmp_path)
    c.reset()
    action = np.zeros(2, np.float32)
    assert c.act(action, np.array([1.7e9 + 0.25, 3.0])) == 0
    assert action.tolist() == [0.25, 3.0]


@pytest.mark.parametrize("default", [None, [4.0, 5.0]])
def test_a_task_and_its_default(default: list[float] | None, tmp_path: Path) -> None:
    rows, tasks = [[0.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [0.0, 2.0]]
    stated = contract(
        task=VECTOR | {"family": "goal", "default": default},
        probe={
            "observation": rows,
            "task": tasks,
            "action": (np.array(rows) + np.array(tasks)).tolist(),
        },
    )
    path = write(tmp_path / "policy.onnx", stated, [node("Add", "observation task", "action")])
    c, action = CPolicy(path, tmp_path), np.zeros(2, np.float32)
    c.reset()
    row = np.float32([1.0, 2.0])
    assert c.act(action, row, np.float32([10.0, 20.0])) == 0
    assert action.tolist() == [11.0, 22.0]
    assert c.act(action, row, np.float32([10.0, np.nan])) == TASK
    if default is None:
        assert c.act(action, row, None) == TASK
    else:
        assert c.act(action, row, None) == 0
        assert action.tolist() == [5.0, 7.0]


def test_an_answer_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    nodes = [node("Div", "one observation", "action")]
    probe = {"observation": [[1.0, 2.0], [4.0, 1.0]], "action": [[1.0, 0.5], [0.25, 1.0]]}
    path = write(path, contract(probe=probe), nodes, {"one": np.float32(1.0)})
    c, action = CPolicy(path, tmp_path), np.float32([7.0, 7.0])
    c.reset()
    assert c.act(action, np.float32([0.0, 1.0])) == ANSWER
    assert action.tolist() == [7.0, 7.0]


# ---------------------------------------------------------------------------------- the files


def test_the_header_has_the_contracts_facts(tmp_path: Path) -> None:
    action = {
        "kind": "continuous", "shape": [2], "dtype": "float32", "low": [-1.0, None], "high": None,
        "rate_limit": [2.0, None], "names": ['a"b', "größe??/"],
    }  # fmt: skip
    robot = {
        "joints": ["hip", "knee"],
        "command": "position",
        "stiffness": [20.0, 30.5],
        "damping": [0.5, None],
        "default_pose": None,
        "rate_limit": None,
    }
    stated = contract(action=action, robot=robot, control_rate_hz=50.0)
    path = write(tmp_path / "policy.onnx", stated, [node("Identity", "observation", "action")])
    c = CPolicy(path, tmp_path)
    assert c.numbers("policy_low", 2).tolist() == [-1.0, -np.inf]
    assert c.numbers("policy_rate_limit", 2).tolist() == [2.0, np.inf]
    assert c.texts("policy_action_names", 2) == ['a"b', "größe??/"]
    assert c.texts("policy_observation_names", 2) == ["x", "y"]
    assert c.texts("policy_joints", 2) == ["hip", "knee"]
    assert c.texts("policy_command", 1) == ["position"]
    assert c.numbers("policy_joint_stiffness", 2).tolist() == [20.0, 30.5]
    np.testing.assert_array_equal(c.numbers("policy_joint_damping", 2), np.float32([0.5, np.nan]))
    header = c.source.header
    assert "#define POLICY_CONTROL_RATE_HZ 50.0\n" in header
    assert f'#define POLICY_MODEL_HASH "{OnnxPolicy(path).contract["model_hash"]}"\n' in header
    assert "POLICY_OBSERVATION_SIZE = 2, POLICY_ACTION_SIZE = 2" in header


def test_header_and_code_of_two_exports_do_not_compile(tmp_path: Path) -> None:
    one, two = chunked(tmp_path / "1.onnx", 2, 2), chunked(tmp_path / "2.onnx", 3, 3)
    self_test(two, tmp_path)
    header = c_source(one.read_bytes(), "", "policy").header
    (tmp_path / "policy.h").write_text(header)
    with pytest.raises(AssertionError, match=r"policy.h is not the header of this policy.c"):
        run_self_test(tmp_path)


def test_an_operator_without_c_is_named(tmp_path: Path) -> None:
    rows = [[0.0, 1.0], [2.0, 3.0]]
    stated = contract(probe={"observation": rows, "action": rows})
    nodes = [onnx.helper.make_node("Hardmax", ["observation"], ["action"], name="the_node")]
    path = write(tmp_path / "policy.onnx", stated, nodes)
    with pytest.raises(
        CodeError, match=r"p.onnx \(ByHand\): operator Hardmax \(node 'the_node'\) has no form in C"
    ):
        c_source(path.read_bytes(), "p.onnx", "policy")


def test_a_branch_that_is_observed_is_named(tmp_path: Path) -> None:
    def branch(kind: str) -> onnx.GraphProto:
        value = onnx.helper.make_tensor_value_info("chosen", 1, None)
        return onnx.helper.make_graph([node(kind, "observation", "chosen")], kind, [], [value])

    nodes = [
        node("ReduceMax", "observation", "most", keepdims=0),
        node("Greater", "most zero", "positive"),
        onnx.helper.make_node(
            "If", ["positive"], ["action"], then_branch=branch("Identity"),
            else_branch=branch("Neg"), name="fork",
        ),
    ]  # fmt: skip
    path = write(tmp_path / "policy.onnx", contract(), nodes, {"zero": np.float32(0.0)})
    with pytest.raises(CodeError, match=r"operator If \(node 'fork'\) chooses by what is observed"):
        c_source(path.read_bytes(), "p.onnx", "policy")


@pytest.mark.parametrize("name", ["my-policy", "2nd", "for", "a b", ""])
def test_a_name_that_c_does_not_take(name: str, tmp_path: Path) -> None:
    path = chunked(tmp_path / "policy.onnx", 2, 2)
    with pytest.raises(CodeError, match="is no name of C. Name the output file by letters"):
        c_source(path.read_bytes(), "p.onnx", name)


def test_a_file_that_was_changed_is_not_written(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    model = onnx.load(path)
    model.graph.node[0].op_type = "Add"
    with pytest.raises(ContractError, match="graph or weights changed after the export"):
        c_source(model.SerializeToString(), "p.onnx", "policy")


def test_what_a_file_says_of_itself_stays_a_comment(tmp_path: Path) -> None:
    """A file may come from anybody, and its self test is compiled and run here."""
    path = leaky_sum(tmp_path / "policy.onnx")
    learner = OnnxPolicy(path).contract["learner"]
    for name in ("x *\\\n/ int evil;", "x */ int evil;", "x *??/\n/ int evil;", "x *\n/ int evil;"):
        edit(path, learner=learner | {"name": name})
        code, said = self_test(path, tmp_path)
        assert code == 0 and said.endswith("passed\n")
        text = (tmp_path / "policy.c").read_text()
        comment, _, rest = text.partition("*/")
        assert "evil" in comment and "evil" not in rest and "??/" not in comment
