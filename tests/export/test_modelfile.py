"""The file as bytes, read without the onnx package and compared with what that package says."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hindsight_rl.export import modelfile
from hindsight_rl.export.contract import KEY, ContractError
from hindsight_rl.export.modelfile import (
    _CHILDREN,
    external_data,
    metadata,
    model_hash,
    opset,
    read_model,
    read_policy,
)
from hindsight_rl.export.protobuf import KNOWN, MAX_FIELDS, Budget

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
        read_policy(path.read_bytes(), path)[0]


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
    assert read_policy(noted.read_bytes(), noted)[0]["model_hash"] == before
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
        read_policy(path.read_bytes(), path)[0]


def test_a_file_with_two_contracts_is_refused(damaged: Damage) -> None:
    path = damaged(lambda model: model.metadata_props.add(key=KEY, value="{}"))
    with pytest.raises(ContractError, match="holds 2 entries"):
        read_policy(path.read_bytes(), path)[0]


def test_a_broken_contract_names_the_file(damaged: Damage) -> None:
    path = damaged(lambda model: setattr(model.metadata_props[0], "value", '{"version": 9}'))
    with pytest.raises(ContractError, match=r"damaged\.onnx: .*version 9"):
        read_policy(path.read_bytes(), path)[0]


def test_a_changed_operator_set_is_refused(damaged: Damage) -> None:
    path = damaged(lambda model: setattr(model.opset_import[0], "version", 16))
    with pytest.raises(ContractError, match="graph or weights changed after the export"):
        read_policy(path.read_bytes(), path)[0]


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"log\.npz: not an ONNX file"):
        read_policy(b"PK\x03\x04 not a message", "log.npz")[0]


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
        read_policy(damaged, "policy.onnx")[0]
    except ContractError:
        return
    # Whatever is accepted computes the same: only the text of the contract may have changed.
    assert model_hash(damaged) == model_hash(original)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ContractError):
        read_policy(noise, "policy.onnx")[0]


# ---------------------------------------------------------- what two readers understand differently


def varint(value: int, extra: int = 0) -> bytes:
    """Return a number in protobuf's encoding, in more bytes than needed if ``extra`` says so."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * extra
    return bytes([group | 0x80 for group in groups[:-1]] + [groups[-1]])


def framed(number: int, content: bytes, *, tag: int = 0, length: int = 0, high: int = 0) -> bytes:
    """Return a length-delimited field; the options pad its tag and length or set high bits."""
    key = (number << 3 | 2) | high << 32
    return varint(key, tag) + varint(len(content), length) + content


def hidden(path: Path, **encoding: int) -> bytes:
    """Return a file whose first weight lies outside, by a field 13 in an unusual encoding."""
    model = onnx.load_from_string(path.read_bytes())
    tensor = model.graph.initializer.pop(0)
    tensor.ClearField("raw_data")
    entry = framed(1, b"location") + framed(2, b"../x/weights.bin")
    tensor_bytes = tensor.SerializeToString() + framed(13, entry, **encoding) + b"\x70\x01"
    graph = model.graph.SerializeToString() + framed(5, tensor_bytes)
    model.ClearField("graph")
    return model.SerializeToString() + framed(7, graph)


@pytest.mark.parametrize("encoding", [{"tag": 1}, {"tag": 4}, {"length": 1}, {"high": 1}])
def test_no_encoding_hides_external_data(encoding: dict[str, int], continuous: Path) -> None:
    plain = onnx.load_from_string(hidden(continuous))
    assert plain.graph.initializer[-1].external_data[0].value == "../x/weights.bin"
    with pytest.raises(ContractError, match=r"policy\.onnx: not an ONNX file \("):
        read_policy(hidden(continuous, **encoding), "policy.onnx")
    with pytest.raises(ContractError, match="keeps tensors outside"):
        read_policy(hidden(continuous), "policy.onnx")


@pytest.mark.parametrize("location", [1, 2, 2**32 + 1])
def test_a_tensor_that_only_says_it_lies_outside(location: int, continuous: Path) -> None:
    tensor = framed(8, b"w") + varint(14 << 3) + varint(location)
    data = continuous.read_bytes() + framed(7, framed(5, tensor))
    assert external_data(data) == [f"data_location={location}"]


@pytest.mark.parametrize("place", ["model", "graph", "tensor"])
def test_fields_that_onnx_does_not_know_are_refused(place: str, continuous: Path) -> None:
    field = framed(999, b"x")
    if place != "model":
        field = framed(7, framed(5, field) if place == "tensor" else field)
    with pytest.raises(ContractError, match=f"starts field 999, which {place} has not"):
        read_policy(continuous.read_bytes() + field, "policy.onnx")


def test_known_fields_are_those_of_the_onnx_package() -> None:
    messages = {
        "model": onnx.ModelProto,
        "training": onnx.TrainingInfoProto,
        "graph": onnx.GraphProto,
        "function": onnx.FunctionProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "sparse": onnx.SparseTensorProto,
        "tensor": onnx.TensorProto,
    }
    holds = {message.DESCRIPTOR.name: kind for kind, message in messages.items()}
    assert set(messages) == set(KNOWN)
    for kind, message in messages.items():
        fields = message.DESCRIPTOR.fields
        assert KNOWN[kind] >= {field.number for field in fields}
        # Whatever may hold a tensor is searched.
        for field in fields:
            inner = holds.get(field.message_type.name) if field.message_type else None
            assert _CHILDREN[kind].get(field.number) == inner or kind == "tensor"


@pytest.mark.parametrize(
    "filler",
    [varint(999 << 3) + b"\x00", varint(14 << 3 | 2) + b"\x00", varint(8 << 3 | 2) + b"\x00"],
    ids=["unknown", "metadata", "opsets"],
)
def test_reading_ends_among_many_small_fields(
    filler: bytes, continuous: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = continuous.read_bytes() + filler * (6 * 2**20 // len(filler))
    budgets: list[Budget] = []

    class Kept(Budget):
        def __init__(self) -> None:
            super().__init__()
            budgets.append(self)

    monkeypatch.setattr(modelfile, "Budget", Kept)
    with pytest.raises(ContractError, match=r"field 999|more than 262,144 fields"):
        read_policy(data, "policy.onnx")
    # The filler holds a million fields and more; one budget ends the reading of all of them.
    assert sum(MAX_FIELDS - budget.left for budget in budgets) <= MAX_FIELDS + 1


def test_what_is_run_is_what_was_hashed(continuous: Path) -> None:
    contract, graph = read_policy(continuous.read_bytes(), continuous)
    model = onnx.load_from_string(graph)
    assert not model.metadata_props and len(model.graph.node) > 3
    assert f"sha256:{hashlib.sha256(graph).hexdigest()}" == contract["model_hash"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "policy.onnx")
    with pytest.raises(ContractError, match="a pipe or a device"):
        read_model(tmp_path / "policy.onnx")
