"""The runtime: what it answers, what it refuses and how it says so, what it costs."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from specs import changed
from stand_ins import StandIn

from hindsight_rl.export.contract import KEY, ContractError, dump, parse
from hindsight_rl.export.modelfile import model_hash
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy

ROOT = Path(__file__).resolve().parents[2]
ROW = np.array([0.1, -0.2, 0.3, 0.4], dtype=np.float32)

Damage = Callable[[Callable[[onnx.ModelProto], object]], Path]


def test_one_row_equals_its_row_in_a_batch(exported: tuple[StandIn, Path]) -> None:
    learner, path = exported
    draw = np.random.default_rng(0)
    observation = draw.normal(size=(20, 4)).astype(np.float32)
    task = draw.normal(100, 50, size=(20, 2)).astype(np.float32) if learner.spec.task else None
    policy = OnnxPolicy(path)
    together = policy.act(observation, task)
    for i in range(20):
        alone = policy.act(observation[i], None if task is None else task[i])
        np.testing.assert_allclose(alone, together[i], rtol=0, atol=1e-6)


def test_kinds_of_answers(exported: tuple[StandIn, Path]) -> None:
    learner, path = exported
    policy = OnnxPolicy(path)
    alone, together = policy.act(ROW), policy.act(np.stack([ROW, ROW]))
    if learner.spec.action.discrete:
        assert type(alone) is int and (together.shape, together.dtype) == ((2,), np.int64)
    else:
        assert (alone.shape, alone.dtype) == ((3,), np.float32)
        assert (together.shape, together.dtype) == ((2, 3), np.float32)


def test_an_answer_is_an_array_of_its_own(continuous: Path) -> None:
    policy = OnnxPolicy(continuous)
    first = policy.act(ROW)
    kept = first.copy()
    second = policy.act(-ROW)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_inputs_are_not_changed(continuous: Path) -> None:
    given = ROW.copy()
    OnnxPolicy(continuous).act(given)
    np.testing.assert_array_equal(given, ROW)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble])
def test_real_numbers_of_any_width_are_cast(dtype: type, continuous: Path) -> None:
    policy = OnnxPolicy(continuous)
    wide = ROW.astype(dtype)
    expected = policy.act(wide.astype(np.float32))
    np.testing.assert_array_equal(policy.act(wide), expected)
    np.testing.assert_allclose(policy.act(wide[None])[0], expected, atol=1e-6)
    np.testing.assert_array_equal(policy.act(wide.tolist()), expected)


def test_rows_that_do_not_lie_in_one_piece(continuous: Path) -> None:
    policy = OnnxPolicy(continuous)
    spread = np.stack([ROW, -ROW], axis=1)[:, 0]
    assert not spread.flags.c_contiguous
    np.testing.assert_array_equal(policy.act(spread), policy.act(ROW))


def test_threads_do_not_change_the_answer(continuous: Path) -> None:
    two = OnnxPolicy(continuous, threads=2)
    np.testing.assert_allclose(two.act(ROW), OnnxPolicy(continuous).act(ROW), atol=1e-6)


def test_reset_changes_nothing(continuous: Path) -> None:
    policy = OnnxPolicy(continuous)
    before = policy.act(ROW)
    policy.reset()
    np.testing.assert_array_equal(policy.act(ROW), before)


def test_the_rate_of_change_is_limited(tmp_path: Path) -> None:
    # At 50 Hz a limit of 5 per second is 0.1 per step.
    path = tmp_path / "policy.onnx"
    export_policy(StandIn(), path, opset=17, rate_limit=[5.0, 50.0, 5.0])
    policy = OnnxPolicy(path)
    wanted = np.float32([1.0, -0.9, 0.05])
    np.testing.assert_array_equal(policy.rate_limited(wanted, None), wanted)
    np.testing.assert_allclose(policy.rate_limited(wanted, [0, 0, 0]), [0.1, -0.9, 0.05])
    np.testing.assert_allclose(policy.rate_limited([wanted], [[2, 0.5, 0]]), [[1.9, -0.5, 0.05]])
    later = policy.rate_limited(wanted, [0, 0, 0], seconds=0.1)
    np.testing.assert_allclose(later, [0.5, -0.9, 0.05])
    with pytest.raises(ValueError, match="seconds is 0, and must be positive"):
        policy.rate_limited(wanted, [0, 0, 0], seconds=0)
    policy.contract["control_rate_hz"] = None
    with pytest.raises(ValueError, match="states no control rate: give the seconds"):
        policy.rate_limited(wanted, [0, 0, 0])


def test_without_a_limit_actions_may_jump(exported: tuple[StandIn, Path]) -> None:
    policy, learner = OnnxPolicy(exported[1]), exported[0]
    if learner.spec.action.discrete:
        assert policy.rate_limited(2, 0) == 2
    else:
        far = np.float32([2.0, 3.0, 0.5])
        np.testing.assert_array_equal(policy.rate_limited(far, [-2.0, -1.0, 0.0]), far)


# -------------------------------------------------------------------------------------- the task


def test_default_task(with_task: Path) -> None:
    policy = OnnxPolicy(with_task)
    default = policy.contract["task"]["default"]
    other = [50.0, 3.0]
    np.testing.assert_array_equal(policy.act(ROW), policy.act(ROW, default))
    assert not np.allclose(policy.act(ROW, other), policy.act(ROW))
    rows = np.stack([ROW, ROW])
    np.testing.assert_array_equal(policy.act(rows), policy.act(rows, [default, default]))
    np.testing.assert_array_equal(policy.act(rows, other), policy.act(rows, [other, other]))


def test_a_task_without_default_must_be_given(tmp_path: Path) -> None:
    learner = StandIn(task=True)
    learner.spec = changed(learner.spec, task={"default": None})
    export_policy(learner, tmp_path / "policy.onnx", opset=17)
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    for observation in (ROW, ROW[None]):
        with pytest.raises(ValueError, match=r"takes a task \[2\] and has no default: give one"):
            policy.act(observation)


@pytest.mark.parametrize("observation", [ROW, ROW[None]], ids=["row", "batch"])
def test_a_task_for_a_policy_without_one(observation: np.ndarray, continuous: Path) -> None:
    with pytest.raises(ValueError, match="this policy takes no task, and one was given"):
        OnnxPolicy(continuous).act(observation, [1.0, 2.0])


def test_tasks_of_the_wrong_shape(with_task: Path) -> None:
    policy = OnnxPolicy(with_task)
    with pytest.raises(ValueError, match=r"task has shape \[3\], and this policy takes \[2\]"):
        policy.act(ROW, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"task has shape \[2, 2\], .* takes \[2\] or \[3, 2\]"):
        policy.act(np.stack([ROW] * 3), np.ones((2, 2)))
    with pytest.raises(ValueError, match="task has dtype int64"):
        policy.act(ROW, [1, 2])


# ---------------------------------------------------------------------------- refused observations


@pytest.mark.parametrize(
    ("observation", "told"),
    [
        (ROW[:3], r"observation has shape \[3\], and this policy takes \[4\] or \[N, 4\]"),
        (np.ones((2, 5)), r"observation has shape \[2, 5\]"),
        (np.ones((1, 2, 4)), r"observation has shape \[1, 2, 4\]"),
        (np.ones((0, 4)), r"observation has shape \[0, 4\]"),
        (1.0, r"observation has shape \[\]"),
        ([1, 2, 3, 4], r"observation has dtype int64, and this policy takes float32\. .*astype"),
        (np.zeros((2, 4), np.uint8), r"observation has dtype uint8"),
        (np.zeros(4, bool), r"observation has dtype bool"),
        (np.zeros(4, complex), r"observation has dtype complex128"),
        (np.array([None] * 4), r"observation has dtype object"),
    ],
)
def test_wrong_shape_or_type(observation: object, told: str, continuous: Path) -> None:
    with pytest.raises(ValueError, match=told):
        OnnxPolicy(continuous).act(observation)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_sensor_is_named(place: int, value: float, continuous: Path) -> None:
    policy = OnnxPolicy(continuous)
    name = policy.contract["observation"]["names"][place]
    broken = ROW.copy()
    broken[place] = value
    with pytest.raises(ValueError, match=rf"observation\[{place}\] \('{name}'\) is {value}"):
        policy.act(broken)
    with pytest.raises(ValueError, match=rf"observation\[1\]\[{place}\] \('{name}'\) is {value}"):
        policy.act(np.stack([ROW, broken]))
    assert np.isfinite(policy.act(ROW)).all()


def test_large_numbers_are_no_broken_sensor(continuous: Path) -> None:
    # The check must not overflow where the network does not.
    huge = np.array([3e38, 3e38, -3e38, 3e38])
    assert np.isfinite(OnnxPolicy(continuous).act(huge / 1e30)).all()
    with pytest.raises(ValueError, match="the policy answered nan: the observation is finite"):
        OnnxPolicy(continuous).act(huge)
    with pytest.raises(ValueError, match="the policy answered nan"):
        OnnxPolicy(continuous).act(huge[None])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_numbers_beyond_float32_are_refused(continuous: Path) -> None:
    with pytest.raises(ValueError, match=r"observation\[2\].* is inf"):
        OnnxPolicy(continuous).act(np.array([0.0, 0.0, 1e300, 0.0]))


@pytest.mark.parametrize("share", [1.0, 0.01], ids=["all", "a few"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_damaged_weights_raise(
    value: float, share: float, exported: tuple[StandIn, Path], tmp_path: Path
) -> None:
    # Whoever edits a file can renew its hash, and an argmax over NaN is choice 0.
    learner, path = exported
    model = onnx.load(path)
    tensor = next(entry for entry in model.graph.initializer if entry.name.endswith("2.weight"))
    weight = numpy_helper.to_array(tensor).copy()
    weight.reshape(-1)[: max(1, int(share * weight.size))] = value
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    forge(model)
    (tmp_path / "damaged.onnx").write_bytes(model.SerializeToString())
    policy = OnnxPolicy(tmp_path / "damaged.onnx")
    task = [100.0, 0.0] if learner.spec.task else None
    if np.isinf(value) and learner.spec.action.kind == "continuous":
        return  # tanh of infinity is 1: a finite action within its bounds
    for observation in (ROW, np.stack([ROW, -ROW])):
        with pytest.raises(ValueError, match=r"policy answered (scores )?(nan|-?inf).*--verify"):
            policy.act(observation, task)


def test_threads_out_of_range(continuous: Path) -> None:
    with pytest.raises(ValueError, match="threads is 0, and must be at least 1"):
        OnnxPolicy(continuous, threads=0)


# ----------------------------------------------------------------------------------- refused files


def forge(model: onnx.ModelProto) -> None:
    """Let the contract state the hash of the changed graph."""
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    contract = parse(entry.value)
    contract["model_hash"] = model_hash(model.SerializeToString())
    entry.value = dump(contract)


def test_a_file_with_external_data_is_refused(damaged: Damage) -> None:
    def place_outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        forge(model)

    with pytest.raises(ContractError, match=r"keeps tensors outside .*weights\.bin.*is an error"):
        OnnxPolicy(damaged(place_outside))


def test_a_changed_file_is_refused(damaged: Damage) -> None:
    with pytest.raises(ContractError, match="graph or weights changed after the export"):
        OnnxPolicy(damaged(lambda model: model.graph.node[0].ClearField("name")))


def test_a_large_file_is_refused(continuous: Path) -> None:
    with pytest.raises(ContractError, match="larger than the limit of 100 bytes"):
        OnnxPolicy(continuous, max_bytes=100)


def test_a_graph_onnxruntime_cannot_run_is_refused(damaged: Damage) -> None:
    def break_graph(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "NoSuchOperator"
        forge(model)

    with pytest.raises(ContractError, match=r"damaged\.onnx: onnxruntime .* does not open it"):
        OnnxPolicy(damaged(break_graph))


def test_a_graph_with_another_input_is_refused(damaged: Damage) -> None:
    def widen(model: onnx.ModelProto) -> None:
        model.graph.input.append(
            helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, ["batch", 2])
        )
        forge(model)

    with pytest.raises(ContractError, match="the graph has .*noise.* and the contract says"):
        OnnxPolicy(damaged(widen))


def test_a_graph_with_a_fixed_batch_is_refused(damaged: Damage) -> None:
    def freeze(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        forge(model)

    with pytest.raises(ContractError, match="each after a free batch dimension"):
        OnnxPolicy(damaged(freeze))


# ------------------------------------------------------------------------------ without PyTorch


def test_runs_where_torch_cannot_be_imported(with_task: Path) -> None:
    script = f"""
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"torch", "lightning", "tensordict", "onnx", "onnxscript"}}:
            raise ImportError(f"{{name}} is not on this robot")

sys.meta_path.insert(0, Refuse())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch was importable, so this test shows nothing")
import numpy as np
from hindsight_rl.cli import export, run
from hindsight_rl.export.runtime import OnnxPolicy

path = {str(with_task)!r}
print(OnnxPolicy(path).act(np.float32({ROW.tolist()})).tolist())
assert export.main(["--verify", path]) == 0
assert run.main([path, "--env", "CartPole-v1"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == str(OnnxPolicy(with_task).act(ROW).tolist())
    assert others[0].startswith("verified")
    # The command got as far as meeting the environment.
    assert done.stderr.startswith("error: CartPole-v1: takes one of 2 choices")


def test_act_costs_no_more_than_half_again_the_bare_session(tmp_path: Path) -> None:
    place = importlib.util.spec_from_file_location("act", ROOT / "benchmarks" / "act.py")
    assert place is not None and place.loader is not None
    benchmark = importlib.util.module_from_spec(place)
    place.loader.exec_module(benchmark)
    torch.manual_seed(0)
    path = benchmark.exported(tmp_path / "policy.onnx")
    # The best of three: another process on the machine is no fault of the runtime's.
    ratios = [benchmark.measure(path)["ratio"] for _ in range(3)]
    assert min(ratios) <= 1.5, ratios
