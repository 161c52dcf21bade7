"""The gate, from the file alone: every changed weight is noticed, honest files pass."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from specs import changed
from stand_ins import StandIn

from hindsight_rl.export.contract import KEY, MAX_TOLERANCE, ContractError, dump, parse
from hindsight_rl.export.modelfile import model_hash
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.verify import action_range, verify_file

Damage = Callable[[Callable[[onnx.ModelProto], object]], Path]


def move(model: onnx.ModelProto, name: str, place: int, by: float = 1e-3) -> None:
    """Add a number to one weight."""
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[place] += by
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def weights(path: Path) -> list[tuple[str, int]]:
    """Return name and size of every float tensor of a file."""
    model = onnx.load(path)
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    return [(name, array.size) for name, array in arrays.items() if array.dtype == np.float32]


def forge(model: onnx.ModelProto) -> None:
    """Let the contract state the hash of the changed graph."""
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    contract = parse(entry.value)
    contract["model_hash"] = model_hash(model.SerializeToString())
    entry.value = dump(contract)


def test_an_exported_file_passes(exported: tuple[StandIn, Path]) -> None:
    learner, path = exported
    report = verify_file(path)
    assert report["parity"]["rows"] == 32 and report["bytes"] == path.stat().st_size
    if learner.spec.action.discrete:
        assert report["parity"]["disagreements"] == 0
        assert report["parity"]["max_score_difference"] <= 1e-6
    else:
        assert report["parity"]["max_difference"] <= 1e-6


def test_a_copied_file_passes(continuous: Path, tmp_path: Path) -> None:
    shutil.copy(continuous, tmp_path / "other name.onnx")
    assert verify_file(tmp_path / "other name.onnx")["path"].endswith("other name.onnx")


def test_any_moved_weight_is_noticed(damaged: Damage, continuous: Path) -> None:
    found = weights(continuous)
    assert len(found) >= 6
    for name, size in found:
        for place in {0, size // 2, size - 1}:
            path = damaged(lambda model, name=name, place=place: move(model, name, place))
            with pytest.raises(ContractError, match="graph or weights changed after the export"):
                verify_file(path)


def test_parity_alone_notices_every_moved_weight(damaged: Damage, continuous: Path) -> None:
    # The hash can be forged by whoever edits a file; the answers cannot. The bounds are left out:
    # no answer to the probe rows touches them.
    found = [(name, size) for name, size in weights(continuous) if name[-3:] not in ("low", "igh")]
    assert len(found) >= 6
    for name, size in found:

        def change(model: onnx.ModelProto, name: str = name, place: int = size // 2) -> None:
            move(model, name, place)
            forge(model)

        with pytest.raises(ContractError, match=r"differ by .* of the action range"):
            verify_file(damaged(change))


def test_a_discrete_policy_that_chooses_otherwise_is_noticed(tmp_path: Path) -> None:
    export_policy(StandIn(discrete=True), tmp_path / "policy.onnx", opset=17)
    model = onnx.load(tmp_path / "policy.onnx")
    move(model, "learner.net.2.bias", 0, by=1.0)
    forge(model)
    (tmp_path / "policy.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ContractError, match="chose another action than the learner in"):
        verify_file(tmp_path / "policy.onnx")


def test_range_is_the_width_of_the_bounds_or_the_spread() -> None:
    contract = {
        "action": {"shape": [4], "low": [-2.0, None, None, 3], "high": [2.0, 1.0, None, 3]},
        "probe": {"action": [[0.0, 0.0, -7.0, 3.0], [1.0, 0.5, 9.0, 3.0]]},
    }
    np.testing.assert_array_equal(action_range(copy.deepcopy(contract)), [4.0, 1.0, 16.0, 1.0])


def state(model: onnx.ModelProto, **entries: object) -> None:
    """Let the contract say something else under ``parity``, without its own checks."""
    place = next(entry for entry in model.metadata_props if entry.key == KEY)
    contract = json.loads(place.value)
    contract["parity"] |= entries
    place.value = json.dumps(contract)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (
            {"tolerance": 1e300},
            r"parity\.tolerance is 1e\+300, and must be positive, at most 0\.001",
        ),
        ({"tolerance": MAX_TOLERANCE * 1.01}, r"parity\.tolerance is 0\.00101, and must be"),
        ({"tolerance": 10**400}, "a whole number has 401 digits"),
        ({"margin": 1e9}, r"parity\.margin is 1e\+09, and must be positive, at most 0\.01"),
        (
            {"batches": [300_000_000]},
            r"parity\.batches is \[300000000\], and must list batch sizes",
        ),
        ({"batches": [3e8]}, r"parity\.batches is \[300000000\.0\], and must list batch sizes"),
        ({"batches": [1] * 20_000}, r"parity\.batches is a list of 20000, and must list"),
        ({"batches": [True]}, r"parity\.batches is \[True\], and must list"),
    ],
)
def test_a_file_does_not_choose_how_it_is_judged(
    entries: dict[str, object], told: str, damaged: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("onnxruntime was asked before the contract was checked")

    monkeypatch.setattr("hindsight_rl.export.verify.open_session", never)
    with pytest.raises(ContractError, match=told):
        verify_file(damaged(lambda model: state(model, **entries)))


def test_bounds_that_say_nothing_do_not_measure(tmp_path: Path) -> None:
    # Environments state the largest float32 for "no bound": every difference is small beside it.
    contract = {
        "action": {"shape": [3], "low": [-3.4e38, -600.0, -400.0], "high": [3.4e38, 600.0, 400.0]},
        "probe": {"action": [[0.0, 0.0, 0.0], [5.0, 1.0, 1.0]]},
    }
    np.testing.assert_array_equal(action_range(contract), [5.0, 1.0, 800.0])

    class Wide(StandIn):
        def forward(self, observation, task=None):
            return self.scores(observation, task)

    learner = Wide()
    learner.spec = changed(learner.spec, action={"low": [-3e38] * 3, "high": [3e38] * 3})
    export_policy(learner, tmp_path / "policy.onnx", opset=17)
    model = onnx.load(tmp_path / "policy.onnx")
    move(model, "learner.net.2.bias", 0)
    forge(model)
    (tmp_path / "policy.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ContractError, match=r"differ by .* of the action range"):
        verify_file(tmp_path / "policy.onnx")
