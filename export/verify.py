"""The export gate: an exported graph answers the probe rows as the learner did.

The same check runs inside ``export_policy``, before a file gets its name, and in
``hindsight export --verify FILE``, from the file alone. It needs numpy and onnxruntime only, so it
runs on the machine that will play the policy.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hindsight_rl.export.contract import MAX_TOLERANCE, Contract, ContractError, bounds
from hindsight_rl.export.modelfile import read_model, read_policy
from hindsight_rl.export.probe import Probe, probe_of
from hindsight_rl.export.providers import CPU, Provider
from hindsight_rl.export.read_signature import signature_of
from hindsight_rl.export.session import open_session
from hindsight_rl.export.signature import Signature
from hindsight_rl.export.stated import likelihood_of

BATCHES = (1, 2, 7)
"""Batch sizes at which the probe rows are played: exporters like to freeze the first dimension."""
MARGIN = 1e-4
"""Two scores closer than this may swap: the argmax of such a row is not compared."""
NATS = 1000.0
"""Nats by which log-probabilities may differ, for a difference of actions of their whole range.

At the tolerance of 1e-5 they may differ by 0.01: that of a spread of a thousandth of the range.
"""
WIDEST = 1000.0
"""Bounds wider than this many times the spread of the answers do not measure a difference.

Environments state bounds of 1e38 for "none", by which any two answers would be equal.
"""


def verify_file(path: str | Path, *, providers: Sequence[Provider] | None = None) -> dict[str, Any]:
    """Return a report on a policy file that passed the gate.

    Checks that graph and weights are byte for byte those exported, and that onnxruntime on this
    machine answers the probe rows as the learner did, within the tolerance the contract states.

    Args:
        path: The policy file.
        providers: Of onnxruntime, in the order in which they are tried; the CPU if ``None``.

    Returns:
        ``path``, ``bytes``, ``model_hash``, ``opset``, ``learner``, ``onnxruntime`` (its release
        here), ``providers`` (those of them that run the graph), ``noise``, ``sampler`` and
        ``distribution`` as the contract has them, and ``parity``, as :func:`measure_parity` gives
        it.

    Raises:
        ContractError: The file is not as exported, or answers differently here.
        ValueError: A provider is not installed.
    """
    return verify_bytes(read_model(path), path, providers)


def verify_bytes(
    data: bytes, path: str | Path, providers: Sequence[Provider] | None = None
) -> dict[str, Any]:
    """Return the report of :func:`verify_file` for bytes already read; ``path`` names them."""
    contract, graph = read_policy(data, path)
    session = open_session(graph, contract, path, providers=providers)
    measured = prove(session, contract, path)
    return {
        "path": str(path),
        "bytes": len(data),
        "model_hash": contract["model_hash"],
        "opset": contract["opset"],
        "learner": contract["learner"]["name"],
        "onnxruntime": onnxruntime.__version__,
        "providers": session.get_providers(),
        "noise": contract.get("noise"),
        "sampler": contract.get("sampler"),
        "distribution": contract.get("distribution"),
        "parity": measured,
    }


def prove(
    session: onnxruntime.InferenceSession, contract: Contract, path: str | Path
) -> dict[str, Any]:
    """Return the measured parity of a session that passes the gate.

    Args:
        session: The graph, with whatever runs it.
        contract: Its contract.
        path: The file, for messages.

    Returns:
        As :func:`measure_parity`.

    Raises:
        ContractError: It does not pass.
    """
    measured = measure_parity(session, contract)
    try:
        check_parity(measured, path)
    except ContractError as error:
        used = session.get_providers()
        if used == [CPU]:
            raise
        raise ContractError(
            f"{error}. It ran with {', '.join(used)}: an engine that computes in fewer bits (fp16, "
            "bf16, TF32) often fails, and its options turn that off"
        ) from error
    return measured


def measure_parity(session: onnxruntime.InferenceSession, contract: Contract) -> dict[str, Any]:
    """Return how far a session's answers to the probe rows lie from the learner's.

    A policy with a state plays whole episodes: the graph is given the state that it answered itself
    at the step before, and the initial one where an episode begins, whatever the other rows of the
    batch are at.

    Args:
        session: The graph.
        contract: Its contract; ``parity`` states tolerance, margin and batch sizes, ``probe`` the
            rows and the learner's answers.

    Returns:
        ``tolerance``, ``margin``, ``batches``, ``rows``; with layers in fewer bits ``precision``
        and ``budget``.

        Where answers are an argmax: ``close``, rows whose best score leads by no more than the
        margin, whose answers are not compared, and ``max_score_difference``.

        Discrete: ``disagreements``, answers over all batch sizes that differ and are not close.

        Continuous: ``max_difference``, a share of the action's range (where a state is carried,
        divided by a tenth of the steps since it began, if that is more than 1: rounding adds up);
        ``max_absolute``, in units of the action; and ``outside``, the first answer outside the
        bounds the contract states, in words, or ``None``.

        Where the distribution is stated that actions are drawn from: ``max_log_prob_difference``,
        of the log-probabilities of the learner's answers, nats.
    """
    signature = signature_of(contract)
    probe, stated = probe_of(contract, signature), contract["parity"]
    named = ("tolerance", "margin", "batches", "precision", "budget")
    report = {name: stated[name] for name in named if stated.get(name) is not None}
    report["rows"] = len(probe.starts)
    passes = [_play(session, signature, probe, size) for size in stated["batches"]]
    clear = np.ones(len(probe.starts), dtype=np.bool_)
    if probe.scores is not None:
        clear = lead(probe.scores) > stated["margin"]
        report["close"] = int((~clear).sum())
        report["max_score_difference"] = float(
            max(np.abs(answer["scores"] - probe.scores).max() for answer in passes)
        )
    if probe.log_prob is not None:
        stated_here = [_log_prob(contract, signature, answer, probe) for answer in passes]
        report["max_log_prob_difference"] = float(np.abs(stated_here - probe.log_prob).max())
    answers = np.stack([answer["action"] for answer in passes])
    if signature.action.discrete:
        wrong = (answers != probe.action).reshape(*answers.shape[:2], -1).any(axis=-1)
        return report | {"disagreements": int((wrong & clear).sum())}
    difference = np.abs(answers - probe.action)[:, clear]
    allowed = np.maximum(1.0, probe.steps()[clear] / 10.0) if signature.state else 1.0
    share = difference.max(axis=0, initial=0.0) / action_range(contract)
    share = share.max(axis=tuple(range(1, share.ndim))) / allowed
    return report | {
        "max_difference": float(share.max(initial=0.0)),
        "max_absolute": float(difference.max(initial=0.0)),
        "outside": _outside(contract, answers.reshape(*answers.shape[:2], -1, answers.shape[-1])),
    }


def check_parity(measured: dict[str, Any], path: str | Path) -> None:
    """Check a measured parity against its own tolerance.

    Args:
        measured: What :func:`measure_parity` returned.
        path: The file, for messages.

    Raises:
        ContractError: The answers differ by more, or one lies outside the contract's bounds.
    """
    apart = measured.get("max_log_prob_difference", 0.0)
    if not apart <= NATS * measured["tolerance"]:  # written so that NaN fails
        raise ContractError(
            f"{path}: onnxruntime and the learner differ by {apart:.3g} nats in how likely an "
            f"action is, and by at most {NATS * measured['tolerance']:g} they may"
        )
    budget = measured.get("budget")
    if "disagreements" in measured:
        answers = measured["rows"] * len(measured["batches"])
        if measured["disagreements"] > (budget or 0.0) * answers:
            raise ContractError(
                f"{path}: onnxruntime chose another action than the learner in "
                f"{measured['disagreements']} of {answers} answers whose margin exceeds "
                f"{measured['margin']:g}{_over(measured)}"
            )
    elif measured.get("close", 0) == measured["rows"]:
        raise ContractError(
            f"{path}: every probe row is a tie (its best score leads by less than "
            f"{measured['margin']:g}), so that agreement on them would show nothing. Fit the "
            "learner first."
        )
    # Written so that NaN fails.
    elif not measured["max_difference"] <= (budget or measured["tolerance"]):
        advice = _over(measured)
        if budget is None and measured["max_difference"] <= MAX_TOLERANCE:
            advice = ". If that is little for the robot, export with a larger --tolerance"
        raise ContractError(
            f"{path}: onnxruntime and the learner differ by {measured['max_difference']:.3g} of "
            f"the action range ({measured['max_absolute']:.3g} in its units), and the tolerance is "
            f"{budget or measured['tolerance']:g}{advice}"
        )
    elif measured["outside"] is not None:
        raise ContractError(
            f"{path}: {measured['outside']}, and the contract promises its bounds. Clip in the "
            "learner's forward (ActionScale.to_environment does), or correct low and high."
        )


def _over(measured: dict[str, Any]) -> str:
    """Return what to do where fewer bits cost more than their budget."""
    if "budget" not in measured:
        return ""
    return (
        f". {measured['precision']} costs more than its budget ({measured['budget']:g}): export "
        "with a larger --budget, or in float32"
    )


def _play(
    session: onnxruntime.InferenceSession, signature: Signature, probe: Probe, size: int
) -> dict[str, NDArray[Any]]:
    """Return the outputs for all probe rows, played in batches of one size.

    Each place of the batch plays one episode after the other. Where none is left, it plays some
    again, so that every batch has the size.
    """
    segments = probe.segments()
    names = [*signature.outputs()]
    answers: dict[str, NDArray[Any]] = {}
    waiting, left = itertools.cycle(range(len(segments))), len(probe.starts)
    done = np.zeros(left, dtype=np.bool_)
    places = [iter(segments[next(waiting)]) for _ in range(size)]
    state = {kept.name: np.stack([kept.initial] * size) for kept in signature.state}
    while left:
        rows = np.empty(size, dtype=np.int64)
        for place in range(size):
            row = next(places[place], None)
            if row is None:
                places[place] = iter(segments[next(waiting)])
                row = next(places[place])
                for kept in signature.state:
                    state[kept.name][place] = kept.initial
            rows[place] = row
        feed = {name: values[rows] for name, values in probe.inputs.items()}
        feed |= {f"state.{name}": value for name, value in state.items()}
        found = dict(zip(names, session.run(names, feed), strict=True))
        state = {name: found.pop(f"next_state.{name}") for name in state}
        for name, value in found.items():
            table = answers.setdefault(name, np.zeros((len(done), *value.shape[1:]), value.dtype))
            table[rows] = value
        left -= int((~done[np.unique(rows)]).sum())
        done[rows] = True
    return answers


def _log_prob(
    contract: Contract, signature: Signature, outputs: dict[str, NDArray[Any]], probe: Probe
) -> NDArray[np.float64]:
    """Return how likely the learner's answers ``[R]`` are by what the graph states."""
    likelihood = likelihood_of(contract, signature, outputs)
    if likelihood is None:
        raise ValueError("the file states no distribution")
    # JSON has a float32 as a decimal that is read back as it: near a bound the rest would count.
    action = probe.action.astype(signature.action.dtype)
    return likelihood(action, likelihood.low, likelihood.high)


def lead(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``[R]``, by how much the best of scores ``[R, M]`` leads."""
    ordered = np.sort(scores, axis=1)
    if scores.shape[1] == 1:
        return np.full(len(scores), np.inf)
    lead: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return lead


def _outside(contract: Contract, answers: NDArray[np.float32]) -> str | None:
    """Return the first of answers ``[passes, rows, C, A]`` outside the bounds, in words."""
    low, high = bounds(contract)
    found = np.argwhere((answers < low) | (answers > high))
    if not len(found):
        return None
    number, row, ahead, place = (int(i) for i in found[0])
    later = f" {ahead} steps ahead" if ahead else ""
    return (
        f"action[{place}] is {answers[number, row, ahead, place]} on probe row {row}{later}, "
        f"outside its bounds [{low[place]}, {high[place]}]"
    )


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
