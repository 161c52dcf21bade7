"""Layers in fewer bits: within a budget that the contract states, or no file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command_fits import cart_log, fit, hindsight
from stand_ins import spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.export.contract import ContractError, validate
from hindsight_rl.export.onnx import ExportError, export_policy
from hindsight_rl.export.precision import in_precision
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.verify import check_parity, verify_file
from hindsight_rl.nets.network import Network

SMALL = Network(hidden=(64, 64))


def types(path: Path) -> set[int]:
    return {initial.data_type for initial in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("kind", [BC, RecurrentBC, FlowBC], ids=lambda kind: kind.__name__)
def test_a_file_in_fewer_bits_answers_within_its_budget(
    kind: Any, precision: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    fewer = {"steps": 4} if kind is FlowBC else {}
    policy, path = kind(spec_of(), network=SMALL, **fewer), tmp_path / "policy.onnx"
    opset = 18 if kind is BC else 17  # each by one of the two exporters, of which 17 is faster
    whole = export_policy(policy, tmp_path / "whole.onnx", opset=opset)
    report = export_policy(policy, path, opset=opset, precision=precision, budget=0.05)
    assert report["parity"]["precision"] == precision and report["parity"]["budget"] == 0.05
    assert whole["parity"]["max_difference"] < 1e-5 < report["parity"]["max_difference"] <= 0.05
    assert verify_file(path) == report
    few = onnx.TensorProto.FLOAT16 if precision == "float16" else onnx.TensorProto.INT8
    assert few in types(path) and few not in types(tmp_path / "whole.onnx")
    assert report["bytes"] < whole["bytes"]


def test_normalisation_stays_in_float32(tmp_path: Path) -> None:
    """float16 ends at 65,504: an observation of a million is normalised before that counts."""
    spec = spec_of()
    told = {"mean": [1e6] * 4, "std": [1e3] * 4}
    raw = spec.to_dict()
    raw["observation"] |= told
    raw["probe"]["observation"] = 1e6 + 1e3 * np.random.default_rng(0).normal(size=(8, 4))
    raw["probe"]["task"] = None
    torch.manual_seed(0)
    policy = BC(raw, network=SMALL)
    report = export_policy(policy, tmp_path / "policy.onnx", precision="float16")
    assert report["parity"]["max_difference"] < 0.01
    far = OnnxPolicy(tmp_path / "policy.onnx").act(np.full(4, 1.001e6, np.float32))
    with torch.no_grad():
        expected = policy(torch.full((1, 4), 1.001e6))[0]
    np.testing.assert_allclose(far, expected, atol=0.01)


def test_nothing_is_written_beyond_the_budget(tmp_path: Path) -> None:
    why = "int8 costs more than its budget .1e-06.: export with a larger --budget, or in float32"
    with pytest.raises(ContractError, match=why):
        options: dict[str, Any] = {"opset": 17, "precision": "int8", "budget": 1e-6}
        export_policy(BC(spec_of(), network=SMALL), tmp_path / "p.onnx", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"precision": "int4"}, "precision is 'int4', and must be one of float16, int8"),
        ({"precision": "int8", "budget": 0.0}, "budget is 0.0, and must be positive, at most 0.1"),
        ({"precision": "int8", "budget": 0.2}, "budget is 0.2, and must be positive, at most 0.1"),
        ({"precision": "int8", "drawn": True}, "is exported in float32"),
    ],
)
def test_what_is_asked_is_checked(given: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=why):
        export_policy(BC(spec_of(), network=SMALL), tmp_path / "policy.onnx", **given)


def test_a_graph_without_layers_is_an_error() -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["observation"], ["action"])],
        "g",
        [onnx.helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, ["N", 2])],
        [onnx.helper.make_tensor_value_info("action", onnx.TensorProto.FLOAT, ["N", 2])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    for precision in ("float16", "int8"):
        with pytest.raises(ValueError, match=f"no product with weights to compute in {precision}"):
            in_precision(onnx.helper.make_model(graph, opset_imports=opset), precision)


def test_a_budget_counts_choices() -> None:
    """20 rows in 3 batches are 60 answers: a budget of 0.05 allows 3 others."""
    measured = {"tolerance": 1e-5, "margin": 1e-4, "batches": [1, 2, 7], "rows": 20, "close": 0}
    measured |= {"precision": "int8", "budget": 0.05, "disagreements": 3}
    check_parity(measured, "policy.onnx")
    with pytest.raises(ContractError, match="another action .* 4 of 60 .* int8 costs more"):
        check_parity(measured | {"disagreements": 4}, "policy.onnx")
    with pytest.raises(ContractError, match="another action"):
        check_parity({k: v for k, v in measured.items() if k != "budget"}, "policy.onnx")


@pytest.mark.parametrize(
    ("parity", "why"),
    [
        ({"precision": "int4", "budget": 0.01}, "parity.precision is 'int4'"),
        ({"precision": "int8"}, "parity.budget is missing"),
        ({"precision": "int8", "budget": 0.5}, "parity.budget is 0.5, and must be positive"),
    ],
)
def test_the_contract_is_checked(
    parity: dict[str, Any], why: str, exported: tuple[Any, Path]
) -> None:
    contract = OnnxPolicy(exported[1]).contract
    with pytest.raises(ContractError, match=why):
        validate(contract | {"parity": contract["parity"] | parity})


def test_the_command_exports_in_fewer_bits(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = fit(
        "--run", "run", "--model.init_args.network.hidden", "[64]", log=cart_log(Path("l.npz"))
    )
    assert done.code == 0, done.err
    words = ("export", "--run", "run", "--output", "few.onnx")
    ended = hindsight(*words, "--precision", "int8", "--budget", 0.1)
    assert ended.code == 0, ended.err
    assert "precision   int8\n" in ended.out and "parity" in ended.out
    assert hindsight("export", "--verify", "few.onnx").code == 0
    alone = hindsight(*words, "--budget", 0.1)
    assert alone.code == 2 and "leave out --budget" in alone.err
    ended = hindsight(*words, "--target", "c", "--precision", "int8")
    assert ended.code == 2 and "C is written in float32" in ended.err


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("precision", "most"), [("float16", 2e-3), ("int8", 0.02)])
def test_convolutions_are_computed_in_fewer_bits(groups: int, precision: Any, most: float) -> None:
    """By onnxruntime, beside the same graph in float32; weights of 4 filters, with a bias."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=groups)
    weight, bias = (value.detach().numpy() for value in (layer.weight, layer.bias))
    node = onnx.helper.make_node(
        "Conv", ["image", "w", "b"], ["out"], strides=[2, 2], pads=[1, 1, 1, 1], group=groups
    )
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 4, 9, 9])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["N", 4, 5, 5])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    few = in_precision(model, precision)
    assert "w" not in {tensor.name for tensor in few.graph.initializer}
    image = torch.randn(3, 4, 9, 9)
    session = onnxruntime.InferenceSession(few.SerializeToString())
    (found,) = session.run(None, {"image": image.numpy()})
    difference = np.abs(found - layer(image).detach().numpy()).max()
    assert 0.0 < difference < most * 2.0
