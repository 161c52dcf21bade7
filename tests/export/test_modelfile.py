"""The file as bytes, read without the onnx package and compared with what that package says."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hindsight_rl.export.contract import KEY, ContractError
from hindsight_rl.export.modelfile import (
    external_data,
    metadata,
    model_hash,
    opset,
    read_contract,
    read_model,
)

Damage = Callable[[Callable[[onnx.ModelProto], object]], Path]


def outside(name: str = "w") -> TensorProto:
    """Return a tensor that lies in another file."""
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    return tensor


def in_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(outside())


def in_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside()))


def in_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [], initializer=[outside()])
    model.graph.node.append(
        helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch)
    )


def in_function(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="f")
    function.node.append(helper.make_node("Constant", [], ["c"], value=outside()))


def in_sparse_initializer(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside())


def in_training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(outside())


PLACES = [in_initializer, in_constant, in_branch, in_function, in_sparse_initializer, in_training]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_external_data_is_found_wherever_it_is(place: Callable, damaged: Damage) -> None:
    path = damaged(place)
    assert "location=../secret.bin" in external_data(path.read_bytes())
    with pytest.raises(ContractError, match=r"keeps tensors outside.*\.\./secret\.bin"):
        read_contract(path.read_bytes(), path)


def test_an_honest_file_has_no_external_data(continuous: Path) -> None:
    assert external_data(continuous.read_bytes()) == []


def test_nesting_has_an_end(damaged: Damage) -> None:
    def nest(model: onnx.ModelProto) -> None:
        graph = helper.make_graph([], "inner", [], [])
        for _ in range(30):
            node = helper.make_node("If", ["c"], ["d"], then_branch=graph)
            graph = helper.make_graph([node], "outer", [], [])
        model.graph.node.extend(graph.node)

    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        external_data(damaged(nest).read_bytes())


def test_facts_agree_with_the_onnx_package(continuous: Path) -> None:
    data = continuous.read_bytes()
    model = onnx.load_from_string(data)
    assert opset(data) == 17 == model.opset_import[0].version
    assert metadata(data) == [(entry.key, entry.value) for entry in model.metadata_props]


def test_hash_ignores_metadata_and_nothing_else(damaged: Damage, continuous: Path) -> None:
    before = model_hash(continuous.read_bytes())
    noted = damaged(lambda model: model.metadata_props.add(key="site", value="hall 2"))
    assert model_hash(noted.read_bytes()) == before
    assert read_contract(noted.read_bytes(), noted)["model_hash"] == before
    renamed = damaged(lambda model: setattr(model, "producer_name", "someone"))
    assert model_hash(renamed.read_bytes()) != before


def test_hash_survives_a_rewrite_by_the_onnx_package(damaged: Damage, continuous: Path) -> None:
    rewritten = damaged(lambda model: None).read_bytes()
    assert model_hash(rewritten) == model_hash(continuous.read_bytes())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"none\.onnx: no such file"):
        read_model(tmp_path / "none.onnx")


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="cannot be read"):
        read_model(tmp_path)


def test_size_limit(continuous: Path) -> None:
    size = continuous.stat().st_size
    assert len(read_model(continuous, max_bytes=size)) == size
    with pytest.raises(ContractError, match=f"larger than the limit of {size - 1} bytes"):
        read_model(continuous, max_bytes=size - 1)


def test_a_file_without_contract_is_refused(damaged: Damage) -> None:
    path = damaged(lambda model: model.ClearField("metadata_props"))
    with pytest.raises(
        ContractError, match=r"damaged\.onnx: holds 0 entries 'hindsight\.contract'"
    ):
        read_contract(path.read_bytes(), path)


def test_a_file_with_two_contracts_is_refused(damaged: Damage) -> None:
    path = damaged(lambda model: model.metadata_props.add(key=KEY, value="{}"))
    with pytest.raises(ContractError, match="holds 2 entries"):
        read_contract(path.read_bytes(), path)


def test_a_broken_contract_names_the_file(damaged: Damage) -> None:
    path = damaged(lambda model: setattr(model.metadata_props[0], "value", '{"version": 9}'))
    with pytest.raises(ContractError, match=r"damaged\.onnx: .*version 9"):
        read_contract(path.read_bytes(), path)


def test_a_changed_operator_set_is_refused(damaged: Damage) -> None:
    path = damaged(lambda model: setattr(model.opset_import[0], "version", 16))
    with pytest.raises(ContractError, match="graph or weights changed after the export"):
        read_contract(path.read_bytes(), path)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"log\.npz: not an ONNX file"):
        read_contract(b"PK\x03\x04 not a message", "log.npz")


@given(data=st.data())
def test_a_cut_or_damaged_file_is_refused_and_never_crashes(
    data: st.DataObject, continuous: Path
) -> None:
    original = continuous.read_bytes()
    if data.draw(st.booleans(), label="cut"):
        damaged = original[: data.draw(st.integers(0, len(original) - 1))]
    else:
        place = data.draw(st.integers(0, len(original) - 1))
        flipped = original[place] ^ data.draw(st.integers(1, 255))
        damaged = original[:place] + bytes([flipped]) + original[place + 1 :]
    try:
        read_contract(damaged, "policy.onnx")
    except ContractError:
        return
    # Whatever is accepted computes the same: only the text of the contract may have changed.
    assert model_hash(damaged) == model_hash(original)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ContractError):
        read_contract(noise, "policy.onnx")
