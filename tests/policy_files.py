"""Policy files of contract version 2 made by hand, small enough to know every answer.

Imported as ``policy_files`` (``tests`` is on pytest's path).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hindsight_rl.export.contract import KEY, dump
from hindsight_rl.export.modelfile import model_hash
from hindsight_rl.export.read_signature import signature_of

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}
VECTOR = {"kind": "vector", "shape": [2], "dtype": "float32", "names": ["x", "y"]}
ACTION = {"kind": "continuous", "shape": [2], "dtype": "float32", "low": None, "high": None}


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node; the inputs are one text."""
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def contract(**changes: Any) -> dict[str, Any]:
    """Return a contract of version 2, with entries replaced; its probe is that of ``identity``."""
    rows = [[0.0, 1.0], [2.0, 3.0], [4.0, -5.0]]
    return {
        "version": 2,
        "observation": VECTOR,
        "task": None,
        "action": ACTION,
        "scores": None,
        "state": [],
        "noise": None,
        "chunk": None,
        "robot": None,
        "control_rate_hz": 10.0,
        "learner": {"name": "ByHand", "hparams": {}},
        "dataset": {},
        "versions": {},
        "opset": 17,
        "model_hash": "sha256:",
        "parity": {"tolerance": 1e-5, "margin": 1e-4, "batches": [1, 2, 7]},
        "probe": {"observation": rows, "action": rows},
    } | changes


def write(
    path: Path,
    stated: dict[str, Any],
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a graph with the inputs and outputs that a contract states; return the path."""
    signature = signature_of(stated)

    def values(entries: dict[str, tuple[str, tuple[int, ...]]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, _TYPES[dtype], ["batch", *shape])
            for name, (dtype, shape) in entries.items()
        ]

    weights = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        nodes, "policy", values(signature.inputs()), values(signature.outputs()), weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    stated = stated | {"model_hash": model_hash(model.SerializeToString())}
    model.metadata_props.add(key=KEY, value=dump(stated))
    path.write_bytes(model.SerializeToString())
    return path


def leaky_sum(path: Path, **changes: Any) -> Path:
    """Write a policy that answers h' = h / 2 + observation, with h = (1, -1) at the start."""
    observation = np.float32([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [0.0, 0.0], [3.0, 1.0]])
    first = [True, False, False, True, False]
    action, kept = [], np.float32([1.0, -1.0])
    for row, begins in zip(observation, first, strict=True):
        kept = (np.float32([1.0, -1.0]) if begins else kept) / 2 + row
        action.append(kept)
    stated = contract(
        state=[{"name": "h", "shape": [2], "dtype": "float32", "initial": [1.0, -1.0]}],
        probe={
            "observation": observation.tolist(),
            "action": np.stack(action).tolist(),
            "first": first,
        },
    )
    nodes = [
        node("Mul", "state.h half", "faded"),
        node("Add", "faded observation", "next_state.h"),
        node("Identity", "next_state.h", "action"),
    ]
    return write(path, stated | changes, nodes, {"half": np.float32(0.5)})


def noisy(path: Path, distribution: str = "normal", *, zero: bool = True) -> Path:
    """Write a policy that answers with its observation plus its noise."""
    rows, noise = [[0.0, 1.0], [2.0, 3.0]], [[0.5, 0.25], [-1.0, 0.0]]
    stated = contract(
        noise={"shape": [2], "distribution": distribution, "zero": zero},
        probe={
            "observation": rows,
            "noise": noise,
            "action": (np.array(rows) + np.array(noise)).tolist(),
        },
    )
    return write(path, stated, [node("Add", "observation noise", "action")])


def chunked(path: Path, length: int, execute: int, ensemble: float | None = None) -> Path:
    """Write a policy whose k-th action is the observation plus 100 k."""
    rows = np.float32([[0.0, 1.0], [2.0, 3.0]])
    ahead = (100.0 * np.arange(length, dtype=np.float32))[:, None]
    stated = contract(
        chunk={"length": length, "execute": execute, "ensemble": ensemble},
        probe={"observation": rows.tolist(), "action": (rows[:, None] + ahead).tolist()},
    )
    nodes = [
        node("Unsqueeze", "observation axis", "single"),
        node("Add", "single ahead", "action"),
    ]
    return write(path, stated, nodes, {"axis": np.int64([1]), "ahead": ahead})


def entries(path: Path) -> Path:
    """Write a policy that answers (brightness of a camera in [0, 1] + arm, mode)."""
    draw = np.random.default_rng(0)
    camera = draw.integers(0, 256, size=(3, 4, 4, 3)).astype(np.uint8)
    arm, mode = np.float32([[0.5], [-1.0], [2.0]]), np.array([0, 2, 1])
    bright = camera.reshape(3, -1).mean(axis=1, dtype=np.float64) / 255.0
    observation = {
        "camera": {"kind": "image", "shape": [4, 4, 3], "dtype": "uint8"},
        "arm": {"kind": "vector", "shape": [1], "dtype": "float32", "names": ["elbow"]},
        "mode": {"kind": "discrete", "shape": [], "dtype": "int64", "n": 3},
    }
    stated = contract(
        observation={"entries": observation},
        probe={
            "observation": {
                "camera": camera.tolist(),
                "arm": arm.tolist(),
                "mode": mode.tolist(),
            },
            "action": np.stack([bright + arm[:, 0], mode], axis=1).tolist(),
        },
    )
    nodes = [
        node("Cast", "observation.camera", "pixels", to=TensorProto.FLOAT),
        node("ReduceMean", "pixels", "mean", axes=[1, 2, 3], keepdims=0),
        node("Div", "mean full", "share"),
        node("Unsqueeze", "share axis", "bright"),
        node("Add", "bright observation.arm", "lifted"),
        node("Cast", "observation.mode", "choice", to=TensorProto.FLOAT),
        node("Unsqueeze", "choice axis", "chosen"),
        node("Concat", "lifted chosen", "action", axis=1),
    ]
    return write(path, stated, nodes, {"axis": np.int64([1]), "full": np.float32(255.0)})


def components(path: Path, scores: list[list[float]], **changes: Any) -> Path:
    """Write a policy that answers (1, 1) or (-1, -1), whichever of its two inputs is larger.

    ``scores`` are what the learner found on the probe rows, whose inputs they are too.
    """
    action = [[1.0, 1.0] if first >= second else [-1.0, -1.0] for first, second in scores]
    stated = contract(
        scores={"shape": [2]}, probe={"observation": scores, "scores": scores, "action": action}
    )
    nodes = [
        node("Identity", "observation", "scores"),
        node("ArgMax", "scores", "index", axis=1, keepdims=0),
        node("Gather", "means index", "action", axis=0),
    ]
    return write(path, stated | changes, nodes, {"means": np.float32([[1, 1], [-1, -1]])})


def edit(path: Path, **entries_: object) -> Path:
    """Change entries of a file's contract, unchecked."""
    model = onnx.load(path)
    place = next(each for each in model.metadata_props if each.key == KEY)
    place.value = json.dumps(json.loads(place.value) | entries_)
    path.write_bytes(model.SerializeToString())
    return path


def past(path: Path, chunk: dict[str, object] | None = None) -> Path:
    """Write a policy that answers its last action / 2 + observation, and keeps two actions."""
    rows = np.float32([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
    actions = [rows[0]]
    for row in rows[1:]:
        actions.append(actions[-1] / 2 + row)
    answers = np.stack(actions)
    state = {"name": "past", "shape": [2, 2], "dtype": "float32", "initial": None, "actions": True}
    nodes = [
        node("Gather", "state.past last", "before", axis=1),
        node("Mul", "before half", "faded"),
        node("Add", "faded observation", "answer"),
        node("Unsqueeze", "before axis", "old"),
        node("Unsqueeze", "answer axis", "new"),
        node("Concat", "old new", "next_state.past", axis=1),
        node("Concat", "new new", "action", axis=1)
        if chunk
        else node("Identity", "answer", "action"),
    ]
    stated = contract(
        state=[state],
        chunk=chunk,
        probe={
            "observation": rows.tolist(),
            "action": (np.stack([answers, answers], 1) if chunk else answers).tolist(),
            "first": [True, False, False],
        },
    )
    constants = {"last": np.int64(1), "half": np.float32(0.5), "axis": np.int64([1])}
    return write(path, stated, nodes, constants)
