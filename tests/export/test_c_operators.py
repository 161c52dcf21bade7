"""Every operator that has a form in C, against onnxruntime: values, broadcasting, edges."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from c_operators import ROW, Case, check, whole
from c_policies import CPolicy, needs_compiler
from onnx import TensorProto, helper
from policy_files import contract, node, write

from hindsight_rl.export.c.graph import CodeError
from hindsight_rl.export.c.operators import EMITTERS

pytestmark = needs_compiler


def joined(kinds: dict[str, dict[str, Any]], source: str) -> list[onnx.NodeProto]:
    """Return nodes that apply each operator to the same and join what they answer."""
    nodes = [node(kind, source, f"of_{kind}", **each) for kind, each in kinds.items()]
    return [*nodes, node("Concat", " ".join(f"of_{kind}" for kind in kinds), "action", axis=1)]


UNARY: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("Relu", "Neg", "Abs", "Sign", "Sigmoid", "Softplus", "Softsign")},
    **{kind: {} for kind in ("Exp", "Erf", "Floor", "Ceil", "Round", "Sin", "Cos", "Tanh")},
    **{kind: {} for kind in ("Sinh", "Atan", "Asinh", "Reciprocal", "HardSwish")},
    "LeakyRelu": {"alpha": 0.3},
    "Elu": {"alpha": 0.7},
    "Celu": {"alpha": 0.7},
    "Selu": {},
}


def test_functions_of_one_number(tmp_path: Path) -> None:
    check(joined(UNARY, "observation"), {}, tmp_path)


def test_functions_of_a_positive_number(tmp_path: Path) -> None:
    kinds = {kind: {} for kind in ("Log", "Sqrt", "Tan", "Asin", "Acos", "Atanh", "Cosh")}
    share = [node("Sigmoid", "observation", "share")]
    acosh = [node("Add", "share one", "over"), node("Acosh", "over", "end")]
    nodes = [*share, *acosh, *joined(kinds, "share")[:-1]]
    names = " ".join(["end", *(f"of_{kind}" for kind in kinds)])
    constants = {"one": np.float32(1.0)}
    check([*nodes, node("Concat", names, "action", axis=1)], constants, tmp_path)


GRID: dict[str, np.ndarray] = {
    "to_grid": np.int64([1, 4, 6]),
    "column": np.float32([[-1.0], [0.5], [2.0], [0.0]]),
    "line": np.linspace(0.5, 3.0, 6, dtype=np.float32),
}


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"])
@pytest.mark.parametrize("other", ["column", "line", "turned"])
def test_functions_of_two_numbers_are_broadcast(kind: str, other: str, tmp_path: Path) -> None:
    if kind == "Div" and other == "column":
        pytest.skip("by zero: no finite answer")
    if kind == "PRelu" and other == "turned":
        pytest.skip("its slope has no dimension of the batch")
    nodes = [
        node("Reshape", "observation to_grid", "grid"),
        node("Tanh", "grid", "turned"),
        node(kind, f"grid {other}", "action"),
    ]
    check(nodes, GRID, tmp_path)


@pytest.mark.parametrize(
    "kind", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"]
)
def test_conditions_and_what_they_choose(kind: str, tmp_path: Path) -> None:
    constants = {"zero": np.float32(0.0), "row": ROW}
    nodes = [node("Round", "observation", "whole"), node("Greater", "observation row", "high")]
    if kind == "Not":
        nodes.append(node("Not", "high", "met"))
    elif kind in ("And", "Or", "Xor"):
        nodes += [node("Less", "whole zero", "low"), node(kind, "high low", "met")]
    else:
        nodes.append(node(kind, "whole zero", "met"))
    check([*nodes, node("Where", "met observation row", "action")], constants, tmp_path)


def test_whole_numbers(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "observation five", "large"),
        node("Cast", "large", "whole", to=TensorProto.INT64),
        node("Mod", "whole three", "rest"),
        node("Mod", "whole minus_three", "other"),
        node("Div", "whole three", "share"),
        node("Mod", "large real_three", "real", fmod=1),
        node("Max", "whole three", "most"),
        *(
            node("Cast", name, f"real_{name}", to=TensorProto.FLOAT)
            for name in ("rest", "other", "share", "most")
        ),
        node("Concat", "real_rest real_other real_share real_most real", "action", axis=1),
    ]
    constants: dict[str, np.ndarray] = {
        "five": np.float32(5.0), "three": np.int64(3), "minus_three": np.int64(-3),
        "real_three": np.float32(3.0),
    }  # fmt: skip
    check(nodes, constants, tmp_path)


@pytest.mark.parametrize("bounds", ["low high", "low", " high"])
def test_clip(bounds: str, tmp_path: Path) -> None:
    given = ["observation", *bounds.split(" ")]
    nodes = [helper.make_node("Clip", given, ["action"])]
    check(nodes, {"low": np.float32(-0.5), "high": np.float32(0.25)}, tmp_path)


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_powers(exponent: float, tmp_path: Path) -> None:
    nodes = [node("Pow", "observation by", "action")]
    check(nodes, {"by": np.float32(exponent)}, tmp_path)


def test_a_power_of_each_and_the_least_of_three(tmp_path: Path) -> None:
    nodes = [
        node("Abs", "observation", "size"),
        node("Pow", "size row", "raised"),
        node("Min", "raised observation row", "least"),
        node("Max", "least row size", "action"),
    ]
    check(nodes, {"row": ROW}, tmp_path)


def grid(kind: str, inputs: str, constants: dict[str, Any], **given: Any) -> Case:
    """Return one node on the observation as ``grid [1, 2, 3, 4]``."""
    shape = {"to_grid": np.int64([1, 2, 3, 4])}
    nodes = [node("Reshape", "observation to_grid", "grid"), node(kind, inputs, "action", **given)]
    return nodes, shape | {name: np.asarray(value) for name, value in constants.items()}


MOVED: dict[str, Case] = {
    "transpose": grid("Transpose", "grid", {}, perm=[0, 3, 1, 2]),
    "transpose all": grid("Transpose", "grid", {}),
    "slice": grid(
        "Slice", "grid a b c d", {"a": whole(1, -1), "b": whole(3, -9), "c": whole(2, -1),
                                  "d": whole(1, -2)}
    ),
    "slice from the front": grid("Slice", "grid a b", {"a": whole(0, 1), "b": whole(1, 2)}),
    "expand": grid("Expand", "grid to", {"to": whole(5, 2, 3, 4)}),
    "tile": grid("Tile", "grid by", {"by": whole(1, 2, 1, 3)}),
    "pad": grid("Pad", "grid by v", {"by": whole(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(0.5)}),
    "gather": grid("Gather", "grid k", {"k": np.int64([[2, 0], [-1, 1]])}, axis=2),
    "gather one": grid("Gather", "grid k", {"k": np.int64(1)}, axis=1),
    "gather elements": grid(
        "GatherElements", "grid k", {"k": np.int64([[[[0, 2, -1, 1]], [[1, 1, 0, 2]]]])}, axis=2
    ),
    "gather by rows": grid("GatherND", "grid k", {"k": np.int64([[0, 1, 2], [0, 0, -1]])}),
    "sum": grid("ReduceSum", "grid k", {"k": whole(1, 3)}, keepdims=0),
    "sum of all": grid("ReduceSum", "grid", {}, keepdims=1),
    "mean": grid("ReduceMean", "grid", {}, axes=[-1, 1]),
    "most": grid("ReduceMax", "grid", {}, axes=[2], keepdims=0),
    "least": grid("ReduceMin", "grid", {}, axes=[1]),
    "product": grid("ReduceProd", "grid", {}, axes=[1]),
    "squares": grid("ReduceSumSquare", "grid", {}, axes=[3]),
    "sizes": grid("ReduceL1", "grid", {}, axes=[3]),
    "length": grid("ReduceL2", "grid", {}, axes=[3, 2]),
    "running sum": grid("CumSum", "grid k", {"k": np.int64(2)}),
    "running sum back": grid("CumSum", "grid k", {"k": np.int64(3)}, reverse=1, exclusive=1),
    "soft-max": grid("Softmax", "grid", {}, axis=2),
    "log-soft-max": grid("LogSoftmax", "grid", {}, axis=-1),
    "layer": grid(
        "LayerNormalization", "grid s b",
        {"s": ROW[:12].reshape(3, 4), "b": ROW[12:].reshape(3, 4)}, axis=2, epsilon=0.1,
    ),
    "layer without bias": grid("LayerNormalization", "grid s", {"s": ROW[:4]}),
    "channels": grid(
        "InstanceNormalization", "grid s b", {"s": np.float32([2.0, -1.0]), "b": ROW[:2]}
    ),
    "max pool": grid("MaxPool", "grid", {}, kernel_shape=[2, 2], strides=[1, 2], pads=[1, 0, 0, 1]),
    "mean pool": grid("AveragePool", "grid", {}, kernel_shape=[2, 3], pads=[1, 1, 1, 1]),
    "mean pool with borders": grid(
        "AveragePool", "grid", {}, kernel_shape=[2, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "mean of a picture": grid("GlobalAveragePool", "grid", {}),
    "dropout": grid("Dropout", "grid", {}),
    "product of many": grid("MatMul", "grid w", {"w": np.stack([ROW[:20].reshape(4, 5)] * 2)}),
    "product with a vector": grid("MatMul", "grid w", {"w": ROW[:4]}),
    "product with a weight": grid("MatMul", "grid w", {"w": ROW.reshape(4, 6)}),
    "weight times": grid("MatMul", "w grid", {"w": ROW[:15].reshape(5, 3)}),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVED.values(), ids=MOVED.keys())
def test_whole_arrays(case: Case, tmp_path: Path) -> None:
    check(*case, tmp_path)


def test_shapes_move_nothing(tmp_path: Path) -> None:
    nodes = [
        node("Unsqueeze", "observation axis", "deep"),
        node("Squeeze", "deep axis", "plain"),
        node("Identity", "plain", "same"),
        node("Reshape", "same to_grid", "grid"),
        node("Flatten", "grid", "flattened", axis=1),
        node("Neg", "flattened", "turned"),  # in place would turn what Add reads
        node("Add", "grid line", "moved"),
        node("Flatten", "moved", "row", axis=1),
        node("Concat", "turned row", "action", axis=1),
    ]
    check(nodes, GRID | {"axis": whole(1)}, tmp_path)


def test_parts(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["observation", "sizes"], ["a", "b", "c"], axis=1),
        node("Concat", "c a", "action", axis=-1),
    ]
    check(nodes, {"sizes": whole(5, 9, 10)}, tmp_path)


@pytest.mark.parametrize("given", [{}, {"select_last_index": 1}], ids=["first", "last"])
@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
def test_the_best_of_equal_ones(kind: str, given: dict[str, int], tmp_path: Path) -> None:
    nodes = [
        node("Round", "observation", "tied"),
        node("Reshape", "tied to_grid", "grid"),
        node(kind, "grid", "chosen", axis=1, keepdims=0, **given),
        node("Cast", "chosen", "action", to=TensorProto.FLOAT),
    ]
    check(nodes, GRID, tmp_path)


@pytest.mark.parametrize("largest", [1, 0])
def test_the_best_in_order(largest: int, tmp_path: Path) -> None:
    nodes = [
        node("Round", "observation", "tied"),
        node("Reshape", "tied to_grid", "grid"),
        helper.make_node("TopK", ["grid", "k"], ["best", "at"], axis=1, largest=largest),
        node("Cast", "at", "place", to=TensorProto.FLOAT),
        node("Concat", "best place", "action", axis=2),
    ]
    check(nodes, GRID | {"k": whole(3)}, tmp_path)


def test_places_that_are_computed(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "observation to_grid", "grid"),
        node("ArgMax", "grid", "best", axis=1, keepdims=1),
        node("GatherElements", "grid best", "most", axis=1),
        node("Reshape", "best line_of_six", "places"),
        node("Gather", "table places", "looked_up", axis=0),
        node("OneHot", "places depth off_on", "hot", axis=1),
        node("Reshape", "most line_of_six", "top"),
        node("Reshape", "hot many", "flags"),
        node("Reshape", "looked_up many", "found"),
        node("Concat", "top flags found", "action", axis=0),
    ]
    constants = GRID | {
        "line_of_six": whole(6), "many": whole(-1), "depth": np.int64(4),
        "off_on": np.float32([-0.5, 2.0]), "table": ROW.reshape(4, 6),
    }  # fmt: skip
    check(nodes, constants, tmp_path)


def test_a_place_out_of_range_reads_no_other_memory(tmp_path: Path) -> None:
    stated = contract(
        observation={"kind": "vector", "shape": [1], "dtype": "float32"},
        action={"kind": "continuous", "shape": [1], "dtype": "float32"},
        probe={"observation": [[0.0], [1.0]], "action": [[5.0], [6.0]]},
    )
    nodes = [
        node("Cast", "observation", "place", to=TensorProto.INT64),
        node("Gather", "table place", "action", axis=0),
    ]
    table = {"table": np.float32([5.0, 6.0, 7.0])}
    c, found = CPolicy(write(tmp_path / "p.onnx", stated, nodes, table), tmp_path), np.zeros(1, "f")
    c.reset()
    for given, wanted in (
        (2.0, 7.0),
        (3.0, 7.0),
        (1e9, 7.0),
        (-1.0, 7.0),
        (-3.0, 5.0),
        (-1e9, 5.0),
    ):
        assert c.act(found, np.float32([given])) == 0 and found[0] == wanted


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("Pad", {"mode": "reflect"}, "operator Pad with mode reflect"),
        ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}, "auto_pad SAME_UPPER"),
        ("GatherND", {"batch_dims": 1}, "operator GatherND with batch_dims"),
    ],
)
def test_forms_without_c_are_named(
    kind: str, given: dict[str, Any], told: str, tmp_path: Path
) -> None:
    second = {"Pad": whole(0, 0, 0, 1, 0, 0, 0, 0), "GatherND": np.int64([[[0, 1]]])}.get(kind)
    inputs = "grid" if second is None else "grid second"
    constants = {} if second is None else {"second": second}
    with pytest.raises(CodeError, match=told):
        check(*grid(kind, inputs, constants, **given), tmp_path)


def test_every_operator_is_tested() -> None:
    names = ("test_c_operators.py", "test_c_layers.py")
    source = "".join(Path(__file__).with_name(name).read_text() for name in names)
    later = {"Gelu", "GroupNormalization"}  # of opsets 20 and 21, which the others do not need
    assert [kind for kind in EMITTERS if f'"{kind}"' not in source and kind not in later] == []
