"""Nodes as C against the same in onnxruntime, what tests of operators share.

Imported as ``c_operators`` (``tests`` is on pytest's path).
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from c_policies import CPolicy
from onnx import TensorProto, helper, numpy_helper
from policy_files import contract, node, write

SIZE = 24
ROW = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
Case = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, SIZE)).astype(np.float32)


def answers(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> np.ndarray:
    """Return what onnxruntime answers to each row, one at a time, ``[6, A]``."""
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", SIZE])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = [session.run(["action"], {"observation": row[None]})[0] for row in rows()]
    return np.concatenate([each.reshape(1, -1) for each in found])


def check(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], folder: Path) -> None:
    """Check that C answers as onnxruntime does."""
    expected = answers(nodes, constants)
    width = expected.shape[1]
    stated = contract(
        observation={"kind": "vector", "shape": [SIZE], "dtype": "float32"},
        action={"kind": "continuous", "shape": [width], "dtype": "float32"},
        probe={"observation": rows().tolist(), "action": expected.tolist()},
    )
    flat = {"flat": np.int64([1, -1])}
    last = [*nodes[:-1], onnx.NodeProto.FromString(nodes[-1].SerializeToString())]
    last[-1].output[0] = "shaped"
    path = write(
        folder / "policy.onnx",
        stated,
        [*last, node("Reshape", "shaped flat", "action")],
        constants | flat,
    )
    c, found = CPolicy(path, folder), np.zeros(width, np.float32)
    c.reset()
    for row, wanted in zip(rows(), expected, strict=True):
        assert c.act(found, row) == 0
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
