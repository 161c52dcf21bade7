"""The contract: what a policy file says about itself, as JSON under ``hindsight.contract``.

A contract is a plain dictionary; lists hold one entry per dimension, ``None`` means not known.

===================  ===============================================================================
``version``          1
``observation``      ``shape [O]``, ``dtype`` "float32", ``names``, ``units``, ``mean``, ``std``
``task``             ``None``, or the same with ``family`` and ``default`` (if no task is given)
``action``           ``kind`` "continuous": ``shape [A]``, ``dtype`` "float32", ``low``, ``high``,
                     ``rate_limit`` (units per second), ``names``, ``units``; an unbounded end of a
                     range is ``None``. ``kind`` "discrete": ``shape []``, ``dtype`` "int64", ``n``,
                     ``start`` (number of the first choice; left out: 0), ``names`` of the n
                     choices, or one for their column
``control_rate_hz``  rate of the log the policy was fitted to
``learner``          ``name``, ``hparams``
``dataset``          ``hash``, ``source``, ``rows``, ``episodes``
``versions``         release of each library that took part
``opset``            version of the ONNX operator set
``model_hash``       sha256 of every field of the file but its metadata: weights and graph
``parity``           measured at export: ``tolerance``, ``margin``, ``batches``, ``rows``, results
``probe``            rows of the log: ``observation``, ``task``, and the learner's ``action`` and
                     (discrete) ``scores``
===================  ===============================================================================

Normalisation, unscaling and clipping are inside the graph: ``mean`` and ``std`` inform only.
Entries not listed here are kept and ignored.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

KEY = "hindsight.contract"
"""Metadata key of an ONNX file under which its contract lies."""
VERSION = 1
MAX_TOLERANCE = 1e-3
"""Largest share of the action range by which a file may say that it differs from its learner."""
MAX_MARGIN = 1e-2
"""Largest lead of a best score that a file may call a tie."""
MAX_BATCH = 1024
"""Largest batch size in which a file may ask for its probe rows to be played."""
MAX_BATCHES = 16
"""Most batch sizes that a file may ask for."""
MAX_RATE = 1e6
"""Fastest control rate, Hz."""
MAX_DIGITS = 20
"""Most digits of a whole number: those of the largest one of 64 bits."""

Contract = dict[str, Any]

_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a number"}
_EXPORT = "Export the checkpoint again with 'hindsight export'."


class ContractError(ValueError):
    """A policy file that must not be run as it stands; the message names the entry and the mend."""


def parse(text: str) -> Contract:
    """Return the contract written in a JSON text, validated.

    Args:
        text: The JSON.

    Returns:
        The contract.

    Raises:
        ContractError: The text is no JSON, or no contract of a version this release reads.
    """
    try:
        contract = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_whole, parse_float=_real
        )
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{KEY}: not readable as JSON ({error}). {_EXPORT}") from error
    validate(contract)
    return dict(contract)


def dump(contract: Mapping[str, Any]) -> str:
    """Return the JSON text of a contract.

    Args:
        contract: The contract.

    Returns:
        The JSON, without spaces.

    Raises:
        ContractError: The contract is not valid, or holds something JSON cannot.
    """
    validate(contract)
    try:
        text = json.dumps(contract, allow_nan=False, separators=(",", ":"))
        json.loads(text, parse_int=_whole)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{KEY}: cannot be written as JSON ({error})") from error
    return text


def numbers(values: Any) -> Any:
    """Return an array as nested lists, a float32 as the shortest decimal that reads back as it."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        flat = [float(str(value)) for value in array.astype(np.float32).ravel()]
        return np.array(flat, dtype=np.float64).reshape(array.shape).tolist()
    return array.tolist()


def bounds(contract: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest action ``[A]`` of a continuous contract, infinite if open."""
    action = contract["action"]
    size = action["shape"][0]
    low = [-math.inf if end is None else end for end in action.get("low") or [None] * size]
    high = [math.inf if end is None else end for end in action.get("high") or [None] * size]
    return np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)


def validate(contract: Any) -> None:
    """Check that a contract is complete and agrees with itself.

    Args:
        contract: What was read or is to be written.

    Raises:
        ContractError: Naming the first entry at fault.
    """
    if not isinstance(contract, Mapping):
        raise ContractError(f"{KEY}: not a JSON object. {_EXPORT}")
    version = contract.get("version")
    if version != VERSION:
        raise ContractError(
            f"{KEY}: version {version!r}, and this release reads version {VERSION}. "
            "Export again with this release, or run the file with the release that wrote it."
        )
    _check_input(contract, "observation")
    if _entry(contract, "task", (dict, type(None))) is not None:
        _check_input(contract, "task")
        _check_floats(contract["task"], "default", "task", contract["task"]["shape"])
    _check_action(_entry(contract, "action", dict))
    rate = _entry(contract, "control_rate_hz", (int, float, type(None)))
    if rate is not None and not 0 < rate <= MAX_RATE:
        _fail("control_rate_hz", f"is {rate:.3g}, and a rate is positive, at most {MAX_RATE:g}")
    _check_origin(contract)
    _check_probe(contract)


def _check_origin(contract: Mapping[str, Any]) -> None:
    """Check where the policy came from and what was measured."""
    learner = _entry(contract, "learner", dict)
    _entry(learner, "name", str, "learner")
    _entry(learner, "hparams", dict, "learner")
    _entry(contract, "dataset", dict)
    _entry(contract, "versions", dict)
    _entry(contract, "opset", int)
    if not _entry(contract, "model_hash", str).startswith("sha256:"):
        _fail("model_hash", "does not start with 'sha256:'")
    parity = _entry(contract, "parity", dict)
    for name, most in (("tolerance", MAX_TOLERANCE), ("margin", MAX_MARGIN)):
        value = _entry(parity, name, (int, float), "parity")
        # The file is judged by these numbers, so it cannot be free to choose them.
        if not 0 < value <= most:
            _fail(f"parity.{name}", f"is {value:.3g}, and must be positive, at most {most:g}")
    batches = _entry(parity, "batches", list, "parity")
    sound = all(type(size) is int and 0 < size <= MAX_BATCH for size in batches[:MAX_BATCHES])
    if not sound or not 0 < len(batches) <= MAX_BATCHES:
        shown = batches if len(batches) < 10 else f"a list of {len(batches)}"
        limits = f"1 to {MAX_BATCHES} of them, each in 1 to {MAX_BATCH}"
        _fail("parity.batches", f"is {str(shown)[:80]}, and must list batch sizes: {limits}")


def _check_input(contract: Mapping[str, Any], name: str) -> None:
    """Check an input of the graph: shape, dtype, and what describes each dimension."""
    entry = _entry(contract, name, dict)
    shape = _entry(entry, "shape", list, name)
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        _fail(f"{name}.shape", f"is {shape}, and must list positive sizes")
    if entry.get("dtype") != "float32":
        _fail(f"{name}.dtype", f"is {entry.get('dtype')!r}, and must be 'float32'")
    for column in ("names", "units"):
        _check_words(entry, column, name, shape)
    for column in ("mean", "std"):
        _check_floats(entry, column, name, shape)


def _check_action(action: Mapping[str, Any]) -> None:
    """Check the output of the graph."""
    kind = action.get("kind")
    if kind == "discrete":
        _check_choice(action)
        return
    if kind != "continuous":
        _fail("action.kind", f"is {kind!r}, and must be 'continuous' or 'discrete'")
    shape = _entry(action, "shape", list, "action")
    if len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 1:
        _fail("action.shape", f"is {shape}, and must be one positive size")
    if action.get("dtype") != "float32":
        _fail("action.dtype", f"is {action.get('dtype')!r}, and must be 'float32'")
    for column in ("names", "units"):
        _check_words(action, column, "action", shape)
    for column in ("low", "high", "rate_limit"):
        _check_floats(action, column, "action", shape, open_ends=True)
    low, high = bounds({"action": action})
    if not (low <= high).all():
        _fail("action.low", "is above action.high in one dimension or more")
    limits = action.get("rate_limit") or []
    if any(limit is not None and limit <= 0 for limit in limits):
        _fail("action.rate_limit", f"is {limits}, and every limit is positive, or null")


def _check_choice(action: Mapping[str, Any]) -> None:
    n = _entry(action, "n", int, "action")
    if n < 1 or action.get("shape") != [] or action.get("dtype") != "int64":
        _fail("action", "is discrete: n must be positive, shape [] and dtype 'int64'")
    if "start" in action:
        _entry(action, "start", int, "action")
    # One name is that of the column the choice was logged in.
    named = action.get("names")
    one = isinstance(named, list) and len(named) == 1
    _check_words(action, "names", "action", [1 if one else n])


def _check_probe(contract: Mapping[str, Any]) -> None:
    """Check that the probe rows agree in number and shape with the inputs and the action."""
    probe = _entry(contract, "probe", dict)
    rows = len(_entry(probe, "observation", list, "probe"))
    if rows < 1:
        _fail("probe.observation", "is empty")
    shapes: dict[str, Sequence[int]] = {"observation": contract["observation"]["shape"]}
    if contract["task"] is not None:
        shapes["task"] = contract["task"]["shape"]
    shapes["action"] = contract["action"]["shape"]
    if contract["action"]["kind"] == "discrete":
        shapes["scores"] = [contract["action"]["n"]]
    for name, shape in shapes.items():
        table = _entry(probe, name, list, "probe")
        try:
            array = np.array(table, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            _fail(f"probe.{name}", "is not a full table of numbers")
        with np.errstate(over="ignore"):
            finite = np.isfinite(array.astype(np.float32)).all()
        if array.shape != (rows, *shape) or not finite:
            _fail(f"probe.{name}", f"must be finite numbers of shape {[rows, *shape]}")
        if name == "action" and contract["action"]["kind"] == "discrete":
            start, n = contract["action"].get("start", 0), contract["action"]["n"]
            if ((array < start) | (array >= start + n)).any():
                _fail(
                    "probe.action", f"holds a number that is none of the {n} choices from {start}"
                )


def _check_words(entry: Mapping[str, Any], column: str, name: str, shape: Sequence[int]) -> None:
    """Check an optional list of one text per dimension."""
    words = entry.get(column)
    if words is None:
        return
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        _fail(f"{name}.{column}", "must be a list of texts, or null")
    if len(words) != math.prod(shape):
        _fail(f"{name}.{column}", f"has {len(words)} entries, and {name} has {math.prod(shape)}")


def _check_floats(
    entry: Mapping[str, Any],
    column: str,
    name: str,
    shape: Sequence[int],
    *,
    open_ends: bool = False,
) -> None:
    """Check an optional list of one number per dimension; ``open_ends`` allows null inside it."""
    values = entry.get(column)
    if values is None:
        return
    try:
        missing = np.nan if not open_ends else 0.0
        array = np.array(_filled(values, missing), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        _fail(f"{name}.{column}", "must be numbers, or null")
    if array.shape != tuple(shape):
        _fail(f"{name}.{column}", f"has shape {list(array.shape)}, and {name} has {list(shape)}")
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype(np.float32)).all():
            _fail(f"{name}.{column}", "must be finite in float32")


def _filled(values: Any, missing: float) -> Any:
    """Return nested lists with ``missing`` in the place of every null."""
    if isinstance(values, list):
        return [_filled(value, missing) for value in values]
    return missing if values is None else values


def _entry(entries: Mapping[str, Any], name: str, kind: Any, within: str = "") -> Any:
    """Return an entry that must be there and of a kind."""
    place = f"{within}.{name}" if within else name
    if name not in entries:
        _fail(place, "is missing")
    if not isinstance(entries[name], kind) or isinstance(entries[name], bool):
        first = kind[0] if isinstance(kind, tuple) else kind
        _fail(place, f"is of type {type(entries[name]).__name__}, and must be {_KINDS[first]}")
    if isinstance(entries[name], (int, float)):
        try:
            finite = math.isfinite(entries[name])
        except OverflowError:
            finite = False
        if not finite:
            _fail(place, "is not finite, or beyond what a float64 holds")
    return entries[name]


def _fail(place: str, problem: str) -> NoReturn:
    raise ContractError(f"{KEY}: {place} {problem}. {_EXPORT}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _whole(text: str) -> int:
    """Return a whole number of JSON; Python's own are unlimited, and no other reader's are."""
    if len(text) > MAX_DIGITS:
        raise ValueError(
            f"a whole number has {len(text)} digits, and at most {MAX_DIGITS} are read"
        )
    return int(text)


def _real(text: str) -> float:
    """Return a real number of JSON; 1e400 would become infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value
