"""The published JSON Schema: what is written fits it, and what is refused does not."""

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from json_schema import errors
from policy_files import chunked, components, contract, entries, leaky_sum, noisy
from small_fits import data_for, learner_of
from stand_ins import Chunked, Remembering, Seeing, StandIn

from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.export.checks import ContractError
from hindsight_rl.export.contract import COMMANDS, MAX_BATCH, MAX_TOLERANCE, validate
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.read_signature import MAX_CHUNK
from hindsight_rl.export.runtime import OnnxPolicy

SCHEMA: dict[str, Any] = json.loads(
    files("hindsight_rl.export").joinpath("contract.schema.json").read_text()
)
LEARNERS = {
    "plain": StandIn,
    "discrete with task": lambda: StandIn(discrete=True, task=True),
    "state": Remembering,
    "chunk and noise": Chunked,
    "entries": Seeing,
    "committed": lambda: learner_of(FlowBC, data_for(FlowBC).spec, chunk=4, committed=2),
}
BY_HAND = {
    "state": leaky_sum,
    "noise": noisy,
    "chunk": lambda path: chunked(path, 3, 1, 0.1),
    "entries": entries,
    "scores": lambda path: components(path, [[0.0, 1.0]]),
}


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS.keys())
def test_what_is_exported_fits_the_schema(learner: Any, tmp_path: Path) -> None:
    export_policy(learner(), tmp_path / "policy.onnx", opset=17)
    written = OnnxPolicy(tmp_path / "policy.onnx").contract
    assert written["version"] == 2
    assert errors(written, SCHEMA, SCHEMA) == []
    # Every entry that is written is described.
    assert set(written) <= set(SCHEMA["properties"])


@pytest.mark.parametrize("write", BY_HAND.values(), ids=BY_HAND.keys())
def test_files_made_by_hand_fit_the_schema(write: Any, tmp_path: Path) -> None:
    assert errors(OnnxPolicy(write(tmp_path / "policy.onnx")).contract, SCHEMA, SCHEMA) == []


DAMAGE = [
    ("version", 4),
    ("observation", {}),
    ("observation.dtype", "uint8"),
    ("observation.names", "x"),
    ("action.kind", "joint"),
    ("action.shape", [1, 1]),
    ("action.rate_limit", "fast"),
    ("scores", {"shape": []}),
    ("state", [{"name": "h"}]),
    ("state", [{"name": "", "shape": [2], "dtype": "float32"}]),
    ("noise", {"shape": [2], "distribution": "cauchy"}),
    ("chunk", {"length": 0, "execute": 1}),
    ("chunk", {"length": 2, "execute": 1, "committed": -1}),
    ("chunk", {"length": 2, "execute": 1, "committed": 0.5}),
    ("robot", {"joints": ["hip"], "command": "magic"}),
    ("control_rate_hz", 0),
    ("control_rate_hz", 1e9),
    ("opset", "17"),
    ("model_hash", "md5:1"),
    ("parity.tolerance", 1e300),
    ("parity.batches", [300_000_000]),
    ("parity.batches", [1] * 20_000),
    ("probe.action", None),
]


@pytest.mark.parametrize(("place", "value"), DAMAGE)
def test_what_is_refused_breaks_the_schema(place: str, value: Any) -> None:
    broken = copy.deepcopy(contract())
    validate(broken)
    assert errors(broken, SCHEMA, SCHEMA) == []
    *outer, last = place.split(".")
    within = broken
    for name in outer:
        within = within[name]
    within[last] = value
    assert errors(broken, SCHEMA, SCHEMA)
    with pytest.raises(ContractError):
        validate(broken)


def test_limits_are_those_of_the_code() -> None:
    entries_ = SCHEMA["properties"]
    assert entries_["parity"]["properties"]["tolerance"]["maximum"] == MAX_TOLERANCE
    assert entries_["parity"]["properties"]["batches"]["items"]["maximum"] == MAX_BATCH
    assert entries_["chunk"]["anyOf"][1]["properties"]["length"]["maximum"] == MAX_CHUNK
    assert entries_["robot"]["anyOf"][1]["properties"]["command"]["enum"] == list(COMMANDS)
