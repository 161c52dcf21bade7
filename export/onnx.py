"""The exporter: a learner becomes one ONNX file with a contract, or no file at all.

The graph is normalise -> network -> mode, or draw -> unscale and clip (or argmax), from plain
tensors to plain tensors, with a free batch dimension. A file appears under its name only after
onnxruntime has answered the learner's probe rows as the learner did.
"""

import base64
import copy
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

import onnx
import torch
from torch import Tensor, nn

from hindsight_rl.export.contract import (
    DRAWN_VERSION,
    KEY,
    MAX_BUDGET,
    MAX_TOLERANCE,
    PRECISIONS,
    VERSION,
    Contract,
    ContractError,
    dump,
    numbers,
)
from hindsight_rl.export.exportable import (
    Exportable,
    check_exported,
    exportable_of,
    spec_of,
)
from hindsight_rl.export.modelfile import model_hash, read_model
from hindsight_rl.export.precision import Precision, in_precision
from hindsight_rl.export.robots import robot_section
from hindsight_rl.export.session import open_session
from hindsight_rl.export.steps import choose_steps
from hindsight_rl.export.torch_graph import OPSETS as OPSETS
from hindsight_rl.export.torch_graph import ExportError as ExportError
from hindsight_rl.export.torch_graph import convert
from hindsight_rl.export.verify import BATCHES, MARGIN, check_parity, measure_parity, verify_bytes
from hindsight_rl.files import write_whole
from hindsight_rl.ports import Exported
from hindsight_rl.spec import Image

_LARGEST = float(torch.finfo(torch.float32).max)
_LIBRARIES = ("hindsight-rl", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def export_policy(
    learner: nn.Module,
    path: str | Path,
    *,
    opset: int = 18,
    tolerance: float | None = None,
    rate_limit: Sequence[float] | None = None,
    steps: int | None = None,
    drawn: bool = False,
    robot: Mapping[str, Any] | None = None,
    precision: Precision | None = None,
    budget: float = 0.01,
) -> dict[str, Any]:
    """Write a learner's policy to one ONNX file and return the report of its check.

    Args:
        learner: As :mod:`hindsight_rl.export.exportable` says; its ``hparams`` are written down.
            It is copied, not changed.
        path: File to write. An older one of this name stays until the new one has passed.
        opset: Version of the ONNX operator set, in 13 to 23.
        tolerance: Largest difference to the learner, as a share of the action range, up to 1e-3;
            ``None`` for 1e-5, and 1e-4 with images: the rounding of their convolutions adds up.
        rate_limit: How fast each action may change, in its units per second: one number, or one per
            dimension. It is written into the contract; the loop that sends commands holds it
            (:meth:`hindsight_rl.export.runtime.OnnxPolicy.rate_limited`).
        steps: Steps from noise to action, for learners with a sampler; ``None`` for those that it
            was made with. So few that modes are averaged are a warning.
        drawn: Write a policy that draws its actions and states how likely they are, in the place of
            the one that takes the likeliest.
        robot: The contract's section on the robot: its ``joints`` in the driver's order, the
            ``command`` that an action is, and gains, pose and limits of each joint, see
            :func:`hindsight_rl.export.robots.robot_section`.
        precision: In what layers are computed: ``float16`` or ``int8``; ``None`` for float32.
        budget: Largest difference that fewer bits may cost, as a share of the action range; of
            choices, the largest share of rows with another one. Up to 0.1.

    Returns:
        The report of :func:`hindsight_rl.export.verify.verify_file`.

    Raises:
        ExportError: The options, the learner or its spec are at fault, or the exporter is.
        ContractError: onnxruntime answers differently from the learner.
    """
    check_exported(learner)
    path = Path(path)
    if path.is_dir():
        raise ExportError(f"{path}: is a folder. Name a file, such as {path / 'policy.onnx'}.")
    if opset not in OPSETS:
        raise ExportError(f"opset is {opset}, and must be in {OPSETS[0]} to {OPSETS[-1]}")
    if tolerance is not None and not 0.0 < tolerance <= MAX_TOLERANCE:
        raise ExportError(
            f"tolerance is {tolerance}, and must be positive, at most {MAX_TOLERANCE:g}"
        )
    _check_precision(precision, budget, drawn=drawn)
    learner = copy.deepcopy(learner).cpu().eval().requires_grad_(False)
    choose_steps(learner, steps)
    acting = _drawn_policy(learner) if drawn else learner
    policy = exportable_of(cast(Exported, acting))  # that it has a spec is checked there
    if tolerance is None:
        entries = spec_of(learner).observation.values()
        tolerance = 1e-4 if any(isinstance(each, Image) for each in entries) else 1e-5
    contract = _contract(learner, policy, opset, tolerance)
    if rate_limit is not None:
        contract["action"]["rate_limit"] = _rate_limit(rate_limit, contract["action"])
    if robot is not None:
        try:
            contract["robot"] = robot_section(robot, contract["action"])
        except ValueError as error:
            raise ExportError(f"robot {error}") from error
    name = type(learner).__name__
    model = convert(policy.module, policy.inputs(), policy.outputs, opset, name)
    if precision is not None:
        contract["parity"] |= {"precision": precision, "budget": budget}
        model = _in_precision(model, precision)
    contract["model_hash"] = model_hash(model.SerializeToString())
    try:
        data = _with_contract(model, contract)
    except ContractError as error:
        raise ExportError(f"the learner's spec makes no valid contract: {error}") from error
    contract["parity"] = measure_parity(open_session(data, contract, path), contract)
    check_parity(contract["parity"], path)
    return _write(_with_contract(model, contract), path)


def _check_precision(precision: str | None, budget: float, *, drawn: bool) -> None:
    """Check what is asked of a graph in fewer bits."""
    if precision is None:
        return
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}, and must be one of {', '.join(PRECISIONS)}")
    if not 0.0 < budget <= MAX_BUDGET:
        raise ExportError(f"budget is {budget}, and must be positive, at most {MAX_BUDGET:g}")
    if drawn:
        raise ExportError("precision: a policy that states its density is exported in float32")


def _in_precision(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    try:
        return in_precision(model, precision)
    except ValueError as error:
        raise ExportError(f"precision {precision}: {error}") from error


def _drawn_policy(learner: nn.Module) -> nn.Module:
    """Return the policy of a learner that draws its actions."""
    make = getattr(learner, "drawn_policy", None)
    if make is None:
        raise ExportError(f"drawn: {type(learner).__name__} has no drawn_policy. Leave it out.")
    try:
        made: nn.Module = make()
    except ValueError as error:
        raise ExportError(str(error)) from error
    return made


def _contract(learner: nn.Module, policy: Exportable, opset: int, tolerance: float) -> Contract:
    """Return the contract of a learner; its hash and measured parity are not known yet."""
    spec = spec_of(learner).to_dict()
    hparams = {
        name: value for name, value in dict(getattr(learner, "hparams", {})).items()
        if name != "spec"
    }  # fmt: skip
    action = {
        name: _ends(value) if name in ("low", "high") else value
        for name, value in spec["action"].items()
        if name != "quantiles"
    }
    return {
        "version": DRAWN_VERSION if "distribution" in policy.stated else VERSION,
        **policy.stated,
        "action": action,
        "robot": None,
        "control_rate_hz": spec["control_rate_hz"],
        "learner": {"name": type(learner).__name__, "hparams": _plain(hparams)},
        "dataset": _without_folders(spec["dataset"] or {}),
        "versions": {name: version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
        "opset": opset,
        "model_hash": "sha256:",
        "parity": {"tolerance": tolerance, "margin": MARGIN, "batches": list(BATCHES)},
        "probe": _probe(policy),
    }


def _probe(policy: Exportable) -> dict[str, Any]:
    """Return the probe rows of a contract, with the learner's answers."""
    tables = {name: _table(rows) for name, rows in (policy.given | policy.answers()).items()}
    prefix = "observation."
    entries = {
        name.removeprefix(prefix): table for name, table in tables.items()
        if name.startswith(prefix)
    }  # fmt: skip
    probe = {name: table for name, table in tables.items() if not name.startswith(prefix)}
    if entries:
        probe = {"observation": entries} | probe
    return probe | ({"first": policy.first.tolist()} if policy.state else {})


def _table(rows: Tensor) -> Any:
    """Return rows as JSON holds them: bytes in base64, numbers in lists."""
    if rows.dtype == torch.uint8:
        return base64.b64encode(rows.numpy().tobytes()).decode()
    return numbers(rows.numpy())


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
