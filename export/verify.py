"""The export gate: an exported graph answers the probe rows as the learner did.

The same check runs inside ``export_policy``, before a file gets its name, and in
``hindsight export --verify FILE``, from the file alone. It needs numpy and onnxruntime only, so it
runs on the machine that will play the policy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hindsight_rl.export.contract import Contract, ContractError, bounds
from hindsight_rl.export.modelfile import read_model, read_policy
from hindsight_rl.export.runtime import open_session

BATCHES = (1, 2, 7)
"""Batch sizes at which the probe rows are played: exporters like to freeze the first dimension."""
MARGIN = 1e-4
"""Two scores closer than this may swap: the argmax of such a row is not compared."""
WIDEST = 1000.0
"""Bounds wider than this many times the spread of the answers do not measure a difference.

Environments state bounds of 1e38 for "none", by which any two answers would be equal.
"""


def verify_file(path: str | Path) -> dict[str, Any]:
    """Return a report on a policy file that passed the gate.

    Checks that graph and weights are byte for byte those exported, and that onnxruntime on this
    machine answers the probe rows as the learner did, within the tolerance the contract states.

    Args:
        path: The policy file.

    Returns:
        ``path``, ``bytes``, ``model_hash``, ``opset``, ``learner``, ``onnxruntime`` (its release
        here) and ``parity``, as :func:`measure_parity` gives it.

    Raises:
        ContractError: The file is not as exported, or answers differently here.
    """
    return verify_bytes(read_model(path), path)


def verify_bytes(data: bytes, path: str | Path) -> dict[str, Any]:
    """Return the report of :func:`verify_file` for bytes already read; ``path`` names them."""
    contract, graph = read_policy(data, path)
    session = open_session(graph, contract, path)
    measured = measure_parity(session, contract)
    check_parity(measured, path)
    return {
        "path": str(path),
        "bytes": len(data),
        "model_hash": contract["model_hash"],
        "opset": contract["opset"],
        "learner": contract["learner"]["name"],
        "onnxruntime": onnxruntime.__version__,
        "parity": measured,
    }


def measure_parity(session: onnxruntime.InferenceSession, contract: Contract) -> dict[str, Any]:
    """Return how far a session's answers to the probe rows lie from the learner's.

    Args:
        session: The graph.
        contract: Its contract; ``parity`` states tolerance, margin and batch sizes, ``probe`` the
            rows and the learner's answers.

    Returns:
        ``tolerance``, ``margin``, ``batches``, ``rows``, and for continuous actions
        ``max_difference`` (share of the action's range), ``max_absolute`` (units of the action) and
        ``outside`` (the first answer outside the bounds the contract states, in words, or
        ``None``); for discrete ones ``disagreements`` (answers, over all batch sizes, that differ
        although the learner's best score leads by more than the margin), ``close`` (rows whose best
        score does not) and ``max_score_difference``.
    """
    probe, stated = contract["probe"], contract["parity"]
    names = ["observation"] if contract["task"] is None else ["observation", "task"]
    inputs = {name: np.array(probe[name], dtype=np.float32) for name in names}
    report = {name: stated[name] for name in ("tolerance", "margin", "batches")}
    report["rows"] = len(inputs["observation"])
    discrete = contract["action"]["kind"] == "discrete"
    outputs = ["action", "scores"] if discrete else ["action"]
    passes = [_play(session, inputs, outputs, size) for size in stated["batches"]]
    if discrete:
        return report | _compare_discrete(contract, passes)
    return report | _compare_continuous(contract, passes)


def check_parity(measured: dict[str, Any], path: str | Path) -> None:
    """Check a measured parity against its own tolerance.

    Args:
        measured: What :func:`measure_parity` returned.
        path: The file, for messages.

    Raises:
        ContractError: The answers differ by more, or one lies outside the contract's bounds.
    """
    if "disagreements" in measured:
        if measured["disagreements"]:
            raise ContractError(
                f"{path}: onnxruntime chose another action than the learner in "
                f"{measured['disagreements']} of {measured['rows'] * len(measured['batches'])} "
                f"answers whose margin exceeds {measured['margin']:g}"
            )
    # Written so that NaN fails.
    elif not measured["max_difference"] <= measured["tolerance"]:
        raise ContractError(
            f"{path}: onnxruntime and the learner differ by {measured['max_difference']:.3g} of "
            f"the action range ({measured['max_absolute']:.3g} in its units), and the tolerance is "
            f"{measured['tolerance']:g}"
        )
    elif measured["outside"] is not None:
        raise ContractError(
            f"{path}: {measured['outside']}, and the contract promises its bounds. Clip in the "
            "learner's forward (ActionScale.to_environment does), or correct low and high."
        )


def _play(
    session: onnxruntime.InferenceSession,
    inputs: dict[str, NDArray[np.float32]],
    outputs: list[str],
    size: int,
) -> list[NDArray[Any]]:
    """Return the outputs for all probe rows, played in batches of one size.

    The last batch is filled up with rows from the start, so that every batch has the size.
    """
    rows = len(inputs["observation"])
    chunks = np.arange(-(-rows // size) * size).reshape(-1, size) % rows
    answers = [
        session.run(outputs, {name: values[chunk] for name, values in inputs.items()})
        for chunk in chunks
    ]
    return [np.concatenate(parts)[:rows] for parts in zip(*answers, strict=True)]


def _compare_continuous(contract: Contract, passes: list[list[NDArray[Any]]]) -> dict[str, Any]:
    expected = np.array(contract["probe"]["action"], dtype=np.float64)
    difference = np.max([np.abs(answer[0] - expected) for answer in passes], axis=0)
    return {
        "max_difference": float((difference / action_range(contract)).max()),
        "max_absolute": float(difference.max()),
        "outside": _outside(contract, np.stack([answer[0] for answer in passes])),
    }


def _outside(contract: Contract, answers: NDArray[np.float32]) -> str | None:
    """Return the first of answers ``[passes, rows, A]`` outside the bounds, in words, or none."""
    low, high = bounds(contract)
    found = np.argwhere((answers < low) | (answers > high))
    if not len(found):
        return None
    number, row, place = (int(i) for i in found[0])
    return (
        f"action[{place}] is {answers[number, row, place]} on probe row {row}, outside its bounds "
        f"[{low[place]}, {high[place]}]"
    )


def _compare_discrete(contract: Contract, passes: list[list[NDArray[Any]]]) -> dict[str, Any]:
    expected = np.array(contract["probe"]["action"])
    scores = np.array(contract["probe"]["scores"], dtype=np.float64)
    ordered = np.sort(scores, axis=1)
    lead = ordered[:, -1] - ordered[:, -2] if scores.shape[1] > 1 else np.full(len(scores), np.inf)
    clear = lead > contract["parity"]["margin"]
    return {
        "disagreements": int(sum(((answer[0] != expected) & clear).sum() for answer in passes)),
        "close": int((~clear).sum()),
        "max_score_difference": float(max(np.abs(answer[1] - scores).max() for answer in passes)),
    }


def action_range(contract: Contract) -> NDArray[np.float64]:
    """Return the range ``[A]`` of each action, by which differences are measured.

    It is the width of the bounds. Where an action is unbounded, its bounds are equal, or they are
    so wide that they say nothing (over a thousand times the spread), it is the spread of the
    learner's answers to the probe rows, and at least 1.
    """
    low, high = (bound.astype(np.float64) for bound in bounds(contract))
    spread = np.maximum(
        np.ptp(np.array(contract["probe"]["action"], dtype=np.float64), axis=0), 1.0
    )
    width = high - low
    usable = (width > 0.0) & (width <= WIDEST * spread)
    scale: NDArray[np.float64] = np.where(usable, width, spread)
    return scale
