"""onnxruntime sessions whose inputs and outputs are those that a contract states."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from hindsight_rl.export.checks import ContractError
from hindsight_rl.export.contract import Contract
from hindsight_rl.export.providers import CPU, Provider, check_used, installed
from hindsight_rl.export.read_signature import signature_of
from hindsight_rl.export.signature import Signature

_ONNX_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)", "uint8": "tensor(uint8)"}


def open_session(
    data: bytes,
    contract: Contract,
    path: str | Path,
    *,
    threads: int = 1,
    providers: Sequence[Provider] | None = None,
) -> onnxruntime.InferenceSession:
    """Return a session whose inputs and outputs are those of the contract.

    Args:
        data: The file's bytes.
        contract: Its contract.
        path: Where the bytes came from, for messages.
        threads: Threads inside one operator.
        providers: Of onnxruntime, in the order in which they are tried; the CPU if ``None``.

    Returns:
        The session. It was not proven on the probe rows.

    Raises:
        ContractError: onnxruntime does not load the graph, or not with these providers, or the
            graph differs from the contract.
        ValueError: ``threads`` is below 1, or a provider is not installed.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}, and must be at least 1")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    chosen = [CPU] if providers is None else installed(providers)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=chosen)
    except Exception as error:  # onnxruntime's own exceptions share no base class but this one.
        raise ContractError(
            f"{path}: onnxruntime {onnxruntime.__version__} does not open it ({error}). "
            "If it names the opset, export with a lower --opset or install a newer onnxruntime."
        ) from error
    if providers is not None:
        check_used(session, chosen, path)
    _check_signature(session, signature_of(contract), path)
    return session


def _check_signature(
    session: onnxruntime.InferenceSession, signature: Signature, path: str | Path
) -> None:
    """Check names, types and row shapes of a session against a contract's signature."""
    sides = (
        (session.get_inputs(), signature.inputs()),
        (session.get_outputs(), signature.outputs()),
    )
    for side, entries in sides:
        found = {node.name: (node.type, list(node.shape[1:])) for node in side}
        expected = {
            name: (_ONNX_TYPES[dtype], list(shape)) for name, (dtype, shape) in entries.items()
        }
        batched = all(node.shape and not isinstance(node.shape[0], int) for node in side)
        if found != expected or not batched:
            raise ContractError(
                f"{path}: the graph has {found}, and the contract says {expected}, each after a "
                "free batch dimension. The file was changed, or the learner leaves the graph "
                "on its way (numpy, lists, numbers in the place of tensors)."
            )
