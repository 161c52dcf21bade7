"""An ONNX graph for one row: only nodes that depend on inputs, and every shape known.

The batch dimension of a policy file is free. A controller has one row, and for one row all that
exporters compute of shapes is constant: the graph is run once, and what depends on no input keeps
the value that it had.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]

_OF_SHAPES = frozenset({"Shape", "Size", "EyeLike"})
"""Operators whose output depends on the shape of what they are given alone."""


class CodeError(ValueError):
    """A graph that cannot be written as C; the message names the operator, its node and a fix."""


@dataclass(frozen=True)
class Tensor:
    """A value of the graph, for one row.

    Attributes:
        name: Its name.
        dtype: Of its numbers.
        shape: The batch dimension is 1.
        value: What it is, where it depends on no input.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    value: Array | None = None

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        kind: The ONNX operator.
        name: Of the node, or of its first output.
        inputs: ``None`` where one is left out.
        outputs: ``None`` where nobody reads one.
        attributes: By name; of ONNX's types int, float, bytes, list.
    """

    kind: str
    name: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]
    attributes: Mapping[str, Any]

    def given(self, place: int) -> Tensor:
        """Return an input that must be there."""
        found = self.optional(place)
        if found is None:
            raise self.unsupported(f"without its input {place}")
        return found

    def optional(self, place: int) -> Tensor | None:
        """Return an input, ``None`` where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def constant(self, place: int, what: str) -> Array:
        """Return the value of an input that must depend on nothing."""
        found = self.given(place)
        if found.value is None:
            raise self.unsupported(f"whose {what} depend on what is observed")
        return found.value

    def output(self) -> Tensor:
        """Return the first output."""
        found = self.outputs[0]
        if found is None:
            raise self.unsupported("whose first output is unused")
        return found

    def unsupported(self, why: str = "") -> CodeError:
        """Return the error of a form of the operator that has no C."""
        form = f" {why}" if why else ""
        return CodeError(f"operator {self.kind}{form} (node '{self.name}') has no form in C")


@dataclass(frozen=True)
class Graph:
    """What is computed of inputs.

    Attributes:
        inputs: By name.
        outputs: By name.
        nodes: In an order in which they may run; none is constant.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    nodes: tuple[Node, ...]


def read_graph(data: bytes, feed: Mapping[str, Array]) -> Graph:
    """Return the graph of a model for one row.

    Args:
        data: The ONNX model.
        feed: ``[1, ...]`` of every input: a row with which the graph may be run.

    Returns:
        The graph, folded.

    Raises:
        CodeError: The graph cannot be run, or decides by what it observes which nodes run.
    """
    model = onnx.load_from_string(data)
    if model.functions:
        model = inliner.inline_local_functions(model)
    while True:
        values = _run(model, feed)
        constant = _constants(model)
        if not _inline_chosen(model.graph, values, constant):
            break
    return _folded(model.graph, values, constant, set(feed))


def _run(model: onnx.ModelProto, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Return every value of a graph that is run on one row."""
    try:
        found = ReferenceEvaluator(model).run(None, dict(feed), intermediate=True)
    except Exception as error:  # the evaluator raises its own classes and any of numpy's
        raise CodeError(f"the graph cannot be run ({type(error).__name__}: {error})") from error
    return {name: np.asarray(value) for name, value in dict(found).items()}


def _constants(model: onnx.ModelProto) -> set[str]:
    """Return the names of all values that depend on no input."""
    known = {weight.name for weight in model.graph.initializer} | {""}
    for node in model.graph.node:
        if node.op_type.startswith(("Random", "Multinomial", "Bernoulli")):
            continue
        inner = {name for body in _bodies(node) for each in body.node for name in each.input}
        inner -= {name for body in _bodies(node) for each in body.node for name in each.output}
        inner -= {weight.name for body in _bodies(node) for weight in body.initializer}
        if node.op_type in _OF_SHAPES or known >= {*node.input, *inner}:
            known |= set(node.output)
    return known


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _inline_chosen(graph: onnx.GraphProto, values: dict[str, Array], constant: set[str]) -> bool:
    """Put the branch that is taken in the place of every If; return whether there was one."""
    nodes: list[onnx.NodeProto] = []
    found = False
    for node in graph.node:
        if node.op_type != "If" or constant >= set(node.output):
            nodes.append(node)
            continue
        if node.input[0] not in constant:
            raise CodeError(
                f"operator If (node '{node.name}') chooses by what is observed, and has no form "
                "in C"
            )
        taken = "then_branch" if values[node.input[0]].item() else "else_branch"
        body = next(each.g for each in node.attribute if each.name == taken)
        graph.initializer.extend(body.initializer)
        nodes += body.node
        for inner, outer in zip(body.output, node.output, strict=True):
            nodes.append(onnx.helper.make_node("Identity", [inner.name], [outer]))
        found = True
    if found:
        del graph.node[:]
        graph.node.extend(nodes)
    return found


def _folded(
    graph: onnx.GraphProto, values: dict[str, Array], constant: set[str], inputs: set[str]
) -> Graph:
    """Return the graph without what is constant, or read by nobody."""
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    tensors: dict[str, Tensor] = {}

    def tensor(name: str) -> Tensor:
        if name not in tensors:
            value = weights[name] if name in weights else values[name]
            fixed = value if name in constant and name not in inputs else None
            tensors[name] = Tensor(name, value.dtype, value.shape, fixed)
        return tensors[name]

    read = {output.name for output in graph.output}
    kept: list[Node] = []
    for node in reversed(graph.node):
        if not read & set(node.output) or constant >= set(node.output):
            continue
        read |= set(node.input)
        kept.append(
            Node(
                node.op_type,
                node.name or node.output[0],
                tuple(tensor(name) if name else None for name in node.input),
                tuple(tensor(name) if name in read else None for name in node.output),
                {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
            )
        )
    return Graph(
        {value.name: tensor(value.name) for value in graph.input},
        {value.name: tensor(value.name) for value in graph.output},
        tuple(reversed(kept)),
    )
