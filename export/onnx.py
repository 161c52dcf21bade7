"""The exporter: a learner becomes one ONNX file with a contract, or no file at all.

The graph is normalise -> network -> mode -> unscale and clip (or argmax), from plain tensors to
plain tensors, with a free batch dimension. A file appears under its name only after onnxruntime has
answered the learner's probe rows as the learner did.
"""

import contextlib
import copy
import logging
import math
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import torch
from torch import Tensor, nn

from hindsight_rl.export.contract import (
    KEY,
    MAX_TOLERANCE,
    Contract,
    ContractError,
    dump,
    numbers,
)
from hindsight_rl.export.modelfile import model_hash, read_model
from hindsight_rl.export.session import open_session
from hindsight_rl.export.verify import BATCHES, MARGIN, check_parity, measure_parity, verify_bytes
from hindsight_rl.files import write_whole

OPSETS = range(13, 24)
"""Operator set versions offered; the tests export at both ends."""
_FIRST_DYNAMO_OPSET = 18
_LARGEST = float(torch.finfo(torch.float32).max)
_LIBRARIES = ("hindsight-rl", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


class ExportError(ValueError):
    """A learner that cannot be exported as it stands; no file was written."""


def export_policy(
    learner: nn.Module,
    path: str | Path,
    *,
    opset: int = 18,
    tolerance: float = 1e-5,
    rate_limit: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Write a learner's policy to one ONNX file and return the report of its check.

    Args:
        learner: Module with ``forward(observation, task=None) -> action``, with ``scores`` if its
            actions are discrete, and with ``spec`` (and ``hparams`` where there are any). It is
            copied, not changed.
        path: File to write. An older one of this name stays until the new one has passed.
        opset: Version of the ONNX operator set, in 13 to 23.
        tolerance: Largest difference to the learner, as a share of the action range, up to 1e-3.
        rate_limit: How fast each action may change, in its units per second: one number, or one per
            dimension. It is written into the contract; the loop that sends commands holds it
            (:meth:`hindsight_rl.export.runtime.OnnxPolicy.rate_limited`).

    Returns:
        The report of :func:`hindsight_rl.export.verify.verify_file`.

    Raises:
        ExportError: The options, the learner or its spec are at fault, or the exporter is.
        ContractError: onnxruntime answers differently from the learner.
    """
    path = Path(path)
    if path.is_dir():
        raise ExportError(f"{path}: is a folder. Name a file, such as {path / 'policy.onnx'}.")
    if opset not in OPSETS:
        raise ExportError(f"opset is {opset}, and must be in {OPSETS[0]} to {OPSETS[-1]}")
    if not 0.0 < tolerance <= MAX_TOLERANCE:
        raise ExportError(
            f"tolerance is {tolerance}, and must be positive, at most {MAX_TOLERANCE:g}"
        )
    learner = copy.deepcopy(learner).cpu().eval().requires_grad_(False)
    inputs = _probe_inputs(learner)
    contract = _contract(learner, inputs, opset, tolerance)
    if rate_limit is not None:
        contract["action"]["rate_limit"] = _rate_limit(rate_limit, contract["action"])
    model = _convert(_Flat(learner), inputs, list(contract["probe"]), opset)
    contract["model_hash"] = model_hash(model.SerializeToString())
    try:
        data = _with_contract(model, contract)
    except ContractError as error:
        raise ExportError(f"the learner's spec makes no valid contract: {error}") from error
    contract["parity"] = measure_parity(open_session(data, contract, path), contract)
    check_parity(contract["parity"], path)
    return _write(_with_contract(model, contract), path)


class _Flat(nn.Module):
    """The policy as plain tensors in a fixed order, in and out."""

    def __init__(self, learner: Any) -> None:
        super().__init__()
        self.learner = learner
        self._discrete = learner.spec["action"]["kind"] == "discrete"
        self._start = learner.spec["action"].get("start", 0)

    def forward(self, observation: Tensor, task: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the action, and the scores it is the argmax of if it is discrete."""
        if not self._discrete:
            return (self.learner(observation, task),)
        scores = self.learner.scores(observation, task)
        action = scores.argmax(dim=-1)
        # In the graph, so that every runtime answers in the environment's numbers.
        return action + self._start if self._start else action, scores


def _probe_inputs(learner: nn.Module) -> dict[str, Tensor]:
    """Return the learner's probe rows, observation and, where there is one, task."""
    spec = getattr(learner, "spec", None)
    if not isinstance(spec, dict) or not isinstance(spec.get("probe"), dict):
        raise ExportError(
            f"{type(learner).__name__} has no spec with probe rows. Fit it on a datamodule, or "
            "give its constructor the spec of one."
        )
    inputs = {}
    for name in ["observation"] if spec.get("task") is None else ["observation", "task"]:
        values = spec["probe"].get(name)
        if values is None or len(values) == 0:
            raise ExportError(f"the learner's spec has no probe rows for {name}")
        inputs[name] = torch.as_tensor(values, dtype=torch.float32)
    rows = inputs["observation"]
    if bool((rows == rows[:1]).all()) or not bool(torch.isfinite(rows).all()):
        raise ExportError(
            "the learner's probe observations are all alike or not finite, so that agreement on "
            "them would show nothing. Check the log it was fitted to."
        )
    return inputs


def _contract(learner: Any, inputs: dict[str, Tensor], opset: int, tolerance: float) -> Contract:
    """Return the contract of a learner; its hash and measured parity are not known yet."""
    spec: dict[str, Any] = learner.spec
    hparams = {
        name: value for name, value in dict(getattr(learner, "hparams", {})).items()
        if name != "spec"
    }  # fmt: skip
    return {
        "version": 1,
        "observation": spec["observation"],
        "task": spec.get("task"),
        "action": {
            name: _ends(value) if name in ("low", "high") else value
            for name, value in spec["action"].items()
        },
        "control_rate_hz": spec.get("control_rate_hz"),
        "learner": {"name": type(learner).__name__, "hparams": _plain(hparams)},
        "dataset": _without_folders(spec.get("dataset") or {}),
        "versions": {name: version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
        "opset": opset,
        "model_hash": "sha256:",
        "parity": {"tolerance": tolerance, "margin": MARGIN, "batches": list(BATCHES)},
        "probe": {
            name: numbers(value.numpy())
            for name, value in (inputs | _answers(learner, inputs)).items()
        },
    }


def _rate_limit(limits: Sequence[float], action: dict[str, Any]) -> list[float]:
    """Return one limit per action dimension."""
    if action["kind"] == "discrete":
        raise ExportError("rate_limit: the actions are discrete, and choices have no rate")
    width = action["shape"][0]
    if len(limits) not in (1, width) or not all(0.0 < limit <= _LARGEST for limit in limits):
        raise ExportError(
            f"rate_limit is {list(limits)}: give one positive number, or {width}, in units of the "
            "action per second"
        )
    return [float(limit) for limit in limits] * (width if len(limits) == 1 else 1)


def _answers(learner: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the learner answers to its probe rows."""
    with torch.no_grad():
        answers = {"action": learner(*inputs.values())}
        if learner.spec["action"]["kind"] == "discrete":
            answers["action"] = answers["action"] + learner.spec["action"].get("start", 0)
            answers["scores"] = learner.scores(*inputs.values())
    for name, answer in answers.items():
        if not bool(torch.isfinite(answer).all()):
            raise ExportError(
                f"the learner's {name} is not finite on its own probe rows: training diverged. "
                "Export an earlier checkpoint."
            )
    return answers


def _convert(
    module: _Flat, inputs: dict[str, Tensor], entries: list[str], opset: int
) -> onnx.ModelProto:
    """Return the graph of a module as PyTorch's exporter writes it, checked."""
    options = {
        "input_names": list(inputs),
        "output_names": [name for name in entries if name not in inputs],
        "opset_version": opset,
        "external_data": False,
        "verbose": False,
    }
    # Two rows: an example of one would freeze the batch dimension at 1.
    examples = tuple(value[:2] for value in inputs.values())
    try:
        with _quiet():
            build = _trace if opset < _FIRST_DYNAMO_OPSET else _export
            model = build(module, examples, options)
    except Exception as error:  # the exporter raises its own classes, and any that tracing meets.
        raise ExportError(
            f"PyTorch {torch.__version__} cannot export {type(module.learner).__name__} at opset "
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
    module: _Flat, examples: tuple[Tensor, ...], options: dict[str, Any]
) -> onnx.ModelProto:
    """Return the graph of a module by ``torch.export``."""
    shapes = ({0: torch.export.Dim("batch")},) * len(examples)
    program = torch.onnx.export(module, examples, dynamo=True, dynamic_shapes=shapes, **options)
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    return program.model_proto


def _trace(module: _Flat, examples: tuple[Tensor, ...], options: dict[str, Any]) -> onnx.ModelProto:
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
    """Hold back what the exporter tells its own developers."""
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


def _with_contract(model: onnx.ModelProto, contract: Contract) -> bytes:
    """Return the bytes of a graph that carries a contract."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    del named.metadata_props[:]
    named.metadata_props.add(key=KEY, value=dump(contract))
    data: bytes = named.SerializeToString()
    return data


def _write(data: bytes, path: Path) -> dict[str, Any]:
    """Write a file that passes the gate read back from the disk, or none; return the report."""
    report: dict[str, Any] = {}

    def write(file: BinaryIO) -> None:
        file.write(data)
        file.flush()
        report.update(verify_bytes(read_model(file.name), path))

    write_whole(path, write)
    return report


def _without_folders(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return where the log came from without the folders of the machine it lay on."""
    sources = [
        Path(source).name if os.path.isabs(source) else source
        for source in dataset.get("source") or []
    ]
    return dataset | {"source": sources}


def _ends(ends: list[float | None] | None) -> list[float | None] | None:
    """Return one end of each action's range with null where float32 holds no such number."""
    if ends is None:
        return None
    return [end if end is not None and abs(end) <= _LARGEST else None for end in ends]


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what has no plain form is named by its type."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", type(value).__name__)
