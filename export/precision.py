"""Graphs whose products are computed in fewer bits: in float16, or of int8 numbers.

Products with weights (``Gemm``, ``MatMul``, ``Conv``) change, and nothing else: normalisation,
activations, scales and bounds stay in float32, because float16 ends at 65,504 and has three digits.

- float16: what goes in is rounded to float16, the weights are float16, what comes out is float32.
- int8: each column of the weights has a scale of its own, ``max |w| / 127``; what goes in gets one
  for all of it, at every step (``DynamicQuantizeLinear``). So the rows of a batch share a scale.

onnxruntime's converters do the same to whole graphs, but cast inputs to float16 before they are
normalised, repeat names, and confuse weights that are used in several places.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Precision = Literal["float16", "int8"]
_PRODUCTS = ("Gemm", "MatMul", "Conv")


def in_precision(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """Return a graph whose products are computed in fewer bits.

    Args:
        model: In float32; it is not changed.
        precision: ``float16`` or ``int8``.

    Returns:
        The graph; inputs and outputs stay as they were.

    Raises:
        ValueError: It has no products with weights.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    # What the exporter noted of types inside no longer holds.
    del changed.graph.value_info[:]
    rewriter = _Rewriter(changed.graph)
    rewriter.rewrite(rewriter.float16 if precision == "float16" else rewriter.int8)
    if not rewriter.changed:
        raise ValueError(f"the graph has no product with weights to compute in {precision}")
    rewriter.drop_unused()
    return changed


class _Rewriter:
    """Rewrites the products of a graph one by one."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._added: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []
        self.changed = 0

    def rewrite(self, one: Callable[[onnx.NodeProto], None]) -> None:
        """Rewrite every product with weights, and leave the other nodes as they are."""
        for node in self._graph.node:
            if self._is_product(node):
                one(node)
                self.changed += 1
            else:
                self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def drop_unused(self) -> None:
        """Remove the weights in float32 that nothing reads any more."""
        used = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def float16(self, node: onnx.NodeProto) -> None:
        """Compute a product in float16."""
        given = [self._cast(node.input[0], TensorProto.FLOAT16, node.output[0])]
        for name in node.input[1:]:
            given.append(self._constant(f"{name}.float16", self._array(name).astype(np.float16)))
        product = onnx.NodeProto()
        product.CopyFrom(node)
        few = f"{node.output[0]}.float16"
        del product.input[:], product.output[:]
        product.input.extend(given)
        product.output.append(few)
        self._nodes.append(product)
        self._add("Cast", [few], [node.output[0]], to=TensorProto.FLOAT)

    def int8(self, node: onnx.NodeProto) -> None:
        """Compute a product of int8 numbers."""
        out, (data, weights, *bias) = node.output[0], node.input
        weight = self._array(weights)
        attributes = {given.name: helper.get_attribute_value(given) for given in node.attribute}
        transposed = bool(attributes.get("transB"))
        if transposed:
            weight = weight.T
        convolution = node.op_type == "Conv"
        # A convolution's channels come first, a product's last; both come out at one axis.
        along = tuple(range(1, weight.ndim)) if convolution else (0,)
        scale = np.abs(weight).max(axis=along, keepdims=True) / 127.0
        scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
        few = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        rank = weight.ndim - 2
        shape = [1, -1, *[1] * rank] if convolution else [1, -1]
        name = f"{weights}.int8{'.t' if transposed else ''}"
        outputs = [f"{out}.{part}" for part in ("rounded", "scale", "zero")]
        self._add("DynamicQuantizeLinear", [data], outputs)
        rounded, size, zero = outputs
        kind = "ConvInteger" if convolution else "MatMulInteger"
        kept = attributes if convolution else {}
        whole = f"{out}.whole"
        self._add(kind, [rounded, self._constant(name, few), zero], [whole], **kept)
        each = self._constant(f"{name}.scale", scale.reshape(shape))
        self._add("Cast", [whole], [f"{out}.real"], to=TensorProto.FLOAT)
        self._add("Mul", [size, each], [f"{out}.unit"])
        scaled = f"{out}.scaled" if bias else out
        self._add("Mul", [f"{out}.real", f"{out}.unit"], [scaled])
        if bias:
            offset = self._constant(f"{bias[0]}.row", self._array(bias[0]).reshape(shape))
            self._add("Add", [scaled, offset], [out])

    def _is_product(self, node: onnx.NodeProto) -> bool:
        """Return whether a node multiplies something that comes in with weights in float32."""
        if node.op_type not in _PRODUCTS or node.input[0] in self._weights:
            return False
        constant = [self._weights.get(name) for name in node.input[1:]]
        if not all(t is not None and t.data_type == TensorProto.FLOAT for t in constant):
            return False
        plain = {"transA": 0, "alpha": 1.0, "beta": 1.0}
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        two = node.op_type != "MatMul" or self._array(node.input[1]).ndim == 2
        return two and all(given.get(name, value) == value for name, value in plain.items())

    def _array(self, name: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = numpy_helper.to_array(self._weights[name])
        return found

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add numbers to the graph, once however many nodes read them."""
        if name not in self._added:
            self._added.add(name)
            contiguous = np.ascontiguousarray(values)
            self._graph.initializer.append(numpy_helper.from_array(contiguous, name))
        return name

    def _cast(self, name: str, kind: int, place: str) -> str:
        self._add("Cast", [name], [f"{place}.given"], to=kind)
        return f"{place}.given"

    def _add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        node = helper.make_node(kind, inputs, outputs, name=f"{outputs[0]}.{kind}", **attributes)
        self._nodes.append(node)
