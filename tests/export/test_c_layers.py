"""Convolutions, layers and products as C, of sizes at which loops are cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_operators import ROW, SIZE, check, whole
from c_policies import needs_compiler
from onnx import helper
from policy_files import node

pytestmark = needs_compiler


@pytest.mark.parametrize(
    ("given", "shape", "weight"),
    [
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, (1, 2, 3, 4), (5, 2, 3, 3)),
        ({"kernel_shape": [2, 3], "strides": [2, 1]}, (1, 2, 3, 4), (3, 2, 2, 3)),
        ({"kernel_shape": [2, 2], "strides": [1, 3], "pads": [0, 2, 1, 0]}, (1, 2, 3, 4),
         (3, 2, 2, 2)),
        ({"kernel_shape": [2, 2], "dilations": [2, 3]}, (1, 2, 3, 4), (3, 2, 2, 2)),
        ({"kernel_shape": [1, 2], "group": 2}, (1, 2, 3, 4), (4, 1, 1, 2)),
        ({"kernel_shape": [3], "pads": [2, 0], "strides": [2]}, (1, 4, 6), (3, 4, 3)),
        ({"kernel_shape": [5], "pads": [4, 4], "dilations": [2]}, (1, 4, 6), (2, 4, 5)),
        # In tiles of pixels: one block and two, with outputs left empty, in groups, on borders.
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, (1, 2, 3, 4), (17, 2, 3, 3)),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, (1, 1, 2, 12), (70, 1, 3, 3)),
        ({"kernel_shape": [3, 3], "pads": [2, 0, 0, 2], "strides": [2, 2]}, (1, 1, 4, 6),
         (9, 1, 3, 3)),
        ({"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [1, 2]}, (1, 1, 4, 6),
         (40, 1, 2, 2)),
        ({"kernel_shape": [1, 1]}, (1, 4, 2, 3), (8, 4, 1, 1)),
        ({"kernel_shape": [1, 1], "strides": [2, 2]}, (1, 2, 3, 4), (8, 2, 1, 1)),
        ({"kernel_shape": [2, 2], "group": 2, "pads": [1, 0, 0, 1]}, (1, 4, 2, 3), (10, 2, 2, 2)),
        ({"kernel_shape": [1, 2], "group": 2}, (1, 2, 3, 4), (34, 1, 1, 2)),
        ({"kernel_shape": [3], "pads": [2, 0], "strides": [2]}, (1, 4, 6), (8, 4, 3)),
        ({"kernel_shape": [2, 3]}, (1, 1, 2, 12), (4, 1, 2, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(
    given: dict[str, Any],
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: bool,
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(2)
    constants = {
        "to": whole(*shape),
        "w": draw.normal(size=weight).astype(np.float32),
        "b": draw.normal(size=weight[:1]).astype(np.float32),
    }
    nodes = [
        node("Reshape", "observation to", "picture"),
        node("Conv", "picture w b" if bias else "picture w", "action", **given),
    ]
    check(nodes, constants, tmp_path)


@pytest.mark.parametrize("outputs", [1, 6, 8, 9, 16, 17, 40])
@pytest.mark.parametrize("inputs", [1, 3, 4, 24])
def test_layers_of_any_size(inputs: int, outputs: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    constants = {
        "to": whole(SIZE // inputs, inputs),
        "w": draw.normal(size=(outputs, inputs)).astype(np.float32),
        "b": draw.normal(size=outputs).astype(np.float32),
    }
    nodes = [
        node("Reshape", "observation to", "rows"),
        node("Gemm", "rows w b", "action", transB=1, alpha=0.5, beta=2.0),
    ]
    check(nodes, constants, tmp_path)


@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_products_of_what_is_computed(turned: tuple[int, int], tmp_path: Path) -> None:
    left, right = ((3, 4) if turned[0] else (4, 3)), ((4, 3) if turned[1] else (3, 4))
    nodes = [
        helper.make_node("Split", ["observation"], ["a", "b"], axis=1),
        node("Reshape", "a to_left", "left"),
        node("Reshape", "b to_right", "right"),
        node("Gemm", "left right c", "action", transA=turned[0], transB=turned[1]),
    ]
    constants = {"to_left": whole(*left), "to_right": whole(*right), "c": ROW[:4]}
    check(nodes, constants, tmp_path)
