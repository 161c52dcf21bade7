"""A PyTorch module becomes an ONNX graph with a free batch dimension, and nothing else."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSETS = range(13, 24)
"""Operator set versions offered; the tests export at both ends."""
_FIRST_DYNAMO_OPSET = 18


class ExportError(ValueError):
    """A learner that cannot be exported as it stands; no file was written."""


def convert(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], opset: int, name: str
) -> onnx.ModelProto:
    """Return the graph of a module as PyTorch's exporter writes it, checked.

    Args:
        module: From tensors in the order of the inputs to a tuple in that of the outputs.
        inputs: ``[N, ...]`` by name, at least one row.
        outputs: Names of what the module returns.
        opset: Version of the ONNX operator set, in 13 to 23.
        name: Of the learner, for messages.

    Returns:
        The model, with a free batch dimension and nothing of the exporter's notes.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    options = {
        "input_names": list(inputs),
        "output_names": list(outputs),
        "opset_version": opset,
        "external_data": False,
        "verbose": False,
    }
    # Two rows: an example of one would freeze the batch dimension at 1.
    examples = tuple(value[[0, -1]] for value in inputs.values())
    try:
        with _quiet():
            build = _trace if opset < _FIRST_DYNAMO_OPSET else _export
            model = build(module, examples, options)
    except Exception as error:  # the exporter raises its own classes, and any that tracing meets.
        raise ExportError(
            f"PyTorch {torch.__version__} cannot export {name} at opset "
            f"{opset}: {type(error).__name__}: {error}"
        ) from error
    found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if found.get("ai.onnx") != opset:
        raise ExportError(
            f"opset {opset} was asked for, and the exporter wrote {found}. Choose another opset."
        )
    _strip(model.graph)
    for function in model.functions:
        function.ClearField("value_info")
    return model


def _export(
    module: nn.Module, examples: tuple[Tensor, ...], options: dict[str, Any]
) -> onnx.ModelProto:
    """Return the graph of a module by ``torch.export``."""
    # One tuple for all: the module takes any number of tensors.
    shapes = (({0: torch.export.Dim("batch")},) * len(examples),)
    program = torch.onnx.export(module, examples, dynamo=True, dynamic_shapes=shapes, **options)
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    return program.model_proto


def _trace(
    module: nn.Module, examples: tuple[Tensor, ...], options: dict[str, Any]
) -> onnx.ModelProto:
    """Return the graph of a module by tracing: the only way to operator sets below 18."""
    axes = {name: {0: "batch"} for name in options["input_names"] + options["output_names"]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traced.onnx"
        torch.onnx.export(module, examples, file, dynamo=False, dynamic_axes=axes, **options)
        return onnx.load_from_string(file.read_bytes())


def _strip(graph: onnx.GraphProto) -> None:
    """Remove what the exporter notes for its developers: it holds paths and source lines.

    With it go the shapes it inferred between the nodes (``value_info``): later passes change nodes
    and leave them behind, and shape inference then stops at the contradiction.
    """
    graph.ClearField("value_info")
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for entry in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            # Reading an absent message field would create it.
            inner = [attribute.g] if attribute.HasField("g") else []
            for subgraph in (*inner, *attribute.graphs):
                _strip(subgraph)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages that the exporter logs for its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
