"""What of a contract of version 2 is refused, and by which words."""

import base64
from pathlib import Path

import numpy as np
import pytest
from policy_files import contract, edit, entries, leaky_sum

from hindsight_rl.export.contract import ContractError, validate
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.verify import verify_file

STATE = {"name": "h", "shape": [2], "dtype": "float32"}
COMMITTED = {"length": 4, "execute": 2, "committed": 2}
ROBOT = {"joints": ["hip", "knee"], "command": "position", "stiffness": [20.0, 30.0]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": [STATE, STATE]}, r"state\[1\]\.name is 'h', and must be a name of its own"),
        ({"state": ["h"]}, r"state\[0\] must be an object"),
        ({"state": [STATE | {"dtype": "float64"}]}, r"state\[0\]\.dtype is 'float64'"),
        ({"state": [STATE | {"initial": [1.0]}]}, r"state\[0\]\.initial has shape \[1\]"),
        ({"state": [STATE | {"shape": [2**30]}]}, r"more than 16,777,216 numbers in a row"),
        ({"state": [STATE]}, "probe.first is missing, and a policy with a state is probed by"),
        ({"noise": {"shape": [2], "distribution": "cauchy"}}, "noise.distribution is 'cauchy'"),
        ({"noise": {"shape": [], "distribution": "normal"}}, r"noise.shape is \[\]"),
        ({"noise": {"shape": [2], "distribution": "normal"}}, "probe.noise is missing"),
        ({"chunk": {"length": 0, "execute": 1}}, "chunk.length is 0, and must be in 1 to 4096"),
        ({"chunk": {"length": 2, "execute": 3}}, "chunk.execute is 3, and must be in 1 to"),
        ({"chunk": {"length": 2, "execute": 2, "ensemble": 0.1}}, "chunk.ensemble is 0.1: only"),
        (
            {"chunk": {"length": 4, "execute": 1, "committed": 2}},
            "chunk.committed is 2, and must be in 0 to 1: no more than chunk.execute",
        ),
        (
            {"chunk": {"length": 4, "execute": 3, "committed": 2}},
            "chunk.committed is 2, and must be in 0 to 1: no more than chunk.execute",
        ),
        ({"chunk": {"length": 4, "execute": 2, "committed": -1}}, "committed is -1, and must be"),
        (
            {"chunk": {"length": 4, "execute": 1, "ensemble": 0.1, "committed": 1}},
            "chunk.committed is 1, and must be in 0 to 0: .* 0 with an ensemble",
        ),
        ({"chunk": {"length": 4, "execute": 2, "committed": 0.5}}, "committed is of type float"),
        (
            {"chunk": COMMITTED},
            r"committed is 2, and the state must have 'committed', float32 of shape \[2, 2\]",
        ),
        (
            {"chunk": COMMITTED, "state": [STATE | {"name": "committed", "shape": [2, 2]}]},
            r"the state must have 'committed_count', int64 of shape \[\]",
        ),
        ({"chunk": {"length": 2, "execute": 1}}, r"probe.action must be .* shape \[3, 2, 2\]"),
        ({"sampler": {"kind": "flow", "solver": "euler"}}, "sampler.steps is missing"),
        (
            {"sampler": {"kind": "flow", "solver": "euler", "steps": 0}},
            "sampler.steps is 0, and must be at least 1",
        ),
        ({"scores": {"shape": [2]}}, "probe.scores is missing"),
        ({"scores": {"shape": [2, 2]}}, r"scores.shape is \[2, 2\], and must be one size"),
        ({"observation": {"entries": {}}}, "observation.entries is empty"),
        ({"observation": {"entries": {"a": 1}}}, "observation.entries.a is of type int"),
        ({"observation": {"kind": "sound"}}, "observation.kind is 'sound', and must be one of"),
        ({"robot": ROBOT | {"joints": ["hip", "hip"]}}, "robot.joints names a joint twice"),
        ({"robot": ROBOT | {"command": "magic"}}, "robot.command is 'magic', and must be one of"),
        ({"robot": ROBOT | {"stiffness": [1.0]}}, r"robot.stiffness has shape \[1\]"),
        ({"robot": {"joints": ["hip"]}}, "robot.command is missing"),
    ],
)
def test_damage_is_named(changes: dict[str, object], told: str) -> None:
    validate(contract(robot=ROBOT))
    with pytest.raises(ContractError, match=told):
        validate(contract(**changes))


def test_bytes_of_a_probe_may_be_base64(tmp_path: Path) -> None:
    path = entries(tmp_path / "policy.onnx")
    probe = OnnxPolicy(path).contract["probe"]
    camera = np.array(probe["observation"]["camera"], dtype=np.uint8)
    text = base64.b64encode(camera.tobytes()).decode()
    verify_file(edit(path, probe=probe | {"observation": probe["observation"] | {"camera": text}}))
    for broken, told in ((text[:-4], "holds 141 bytes"), ("?" + text[1:], "is not base64")):
        observation = probe["observation"] | {"camera": broken}
        with pytest.raises(ContractError, match=f"probe.observation.camera {told}"):
            verify_file(edit(path, probe=probe | {"observation": observation}))


def test_a_graph_without_the_state_it_states_is_refused(tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "policy.onnx")
    stated = OnnxPolicy(path).contract["state"]
    with pytest.raises(ContractError, match=r"the graph has .* and the contract says .*state\.g"):
        OnnxPolicy(edit(path, state=[stated[0] | {"name": "g"}]))
