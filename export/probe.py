"""The probe rows of a contract as arrays: what the learner was given, and what it answered."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.checks import entry, fail, optional
from hindsight_rl.export.signature import Signature

MAX_ROWS = 4096
"""Most probe rows that are played."""


@dataclass(frozen=True)
class Probe:
    """Rows in order of time.

    Attributes:
        inputs: ``[R, ...]`` by input of the graph, noise included.
        action: ``[R, ...]``, the learner's answers; whole chunks where there are any.
        scores: ``[R, M]``, where the answer is an argmax.
        starts: ``[R]`` bool, where an episode begins, and with it the state.
        log_prob: ``[R]``, how likely the learner's answers are, nats; where that is stated.
    """

    inputs: dict[str, NDArray[Any]]
    action: NDArray[Any]
    scores: NDArray[np.float64] | None
    starts: NDArray[np.bool_]
    log_prob: NDArray[np.float64] | None = None

    def segments(self) -> list[NDArray[np.int64]]:
        """Return the row numbers of each episode."""
        rows = np.arange(len(self.starts))
        return np.split(rows, np.flatnonzero(self.starts)[1:])

    def steps(self) -> NDArray[np.int64]:
        """Return ``[R]``, how many rows of its episode lie before each row."""
        return np.concatenate([np.arange(len(segment)) for segment in self.segments()])


def probe_of(contract: Mapping[str, Any], signature: Signature) -> Probe:
    """Return the probe rows of a contract, checked.

    Args:
        contract: The contract.
        signature: Its signature.

    Returns:
        The rows.

    Raises:
        ContractError: They disagree in number or shape with the inputs or the action, or are not
            finite.
    """
    probe = entry(contract, "probe", dict)
    if signature.entries:
        tables = entry(probe, "observation", dict, "probe")
        if set(tables) != {given.label for given in signature.observation}:
            fail("probe.observation", f"has {sorted(tables)}, and needs a table of each entry")
    else:
        tables = {"observation": entry(probe, "observation", (list, str), "probe")}
        if not tables["observation"]:
            fail("probe.observation", "is empty")
    rows = _rows(probe, tables)
    inputs = _inputs(probe, tables, rows, signature)
    action = _table(
        _listed(probe, "action"), "probe.action", (rows, *signature.answer_shape), "float64"
    )
    if signature.action.discrete:
        _check_choices(action, "probe.action", signature.action.start, signature.action.n)
    stated: dict[str, NDArray[np.float64] | None] = {"scores": None, "log_prob": None}
    for name in stated:
        if (width := _width(name, signature)) is not None:
            stated[name] = _table(_listed(probe, name), f"probe.{name}", (rows, *width), "float64")
    starts = _starts(probe, rows, signature)
    return Probe(inputs, action, stated["scores"], starts, stated["log_prob"])


def _inputs(
    probe: Mapping[str, Any], tables: Mapping[str, Any], rows: int, signature: Signature
) -> dict[str, NDArray[Any]]:
    """Return the rows of every input that is given, and of the noise."""
    inputs: dict[str, NDArray[Any]] = {}
    for given in signature.observation:
        place = f"probe.{given.name}"
        inputs[given.name] = _table(tables[given.label], place, (rows, *given.shape), given.dtype)
        if given.n is not None:
            _check_choices(inputs[given.name], place, 0, given.n)
    if signature.task is not None:
        shape = (rows, *signature.task.shape)
        inputs["task"] = _table(_listed(probe, "task"), "probe.task", shape, "float32")
    if signature.noise is not None:
        shape = (rows, *signature.noise.shape)
        inputs["noise"] = _table(_listed(probe, "noise"), "probe.noise", shape, "float32")
    return inputs


def _width(name: str, signature: Signature) -> tuple[int, ...] | None:
    """Return the shape of a row of scores or log-probabilities; ``None`` where there are none."""
    if name == "scores":
        return None if signature.scores is None else (signature.scores,)
    return None if signature.distribution is None else ()


def _rows(probe: Mapping[str, Any], tables: Mapping[str, Any]) -> int:
    """Return the number of rows: those of the first table that is not a text."""
    rows = [len(table) for table in tables.values() if isinstance(table, list)]
    count = rows[0] if rows else len(_listed(probe, "action"))
    if not 0 < count <= MAX_ROWS:
        fail("probe", f"has {count} rows, and must have 1 to {MAX_ROWS}")
    return count


def _listed(probe: Mapping[str, Any], name: str) -> list[Any]:
    table: list[Any] = entry(probe, name, list, "probe")
    return table


def _table(values: Any, place: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return nested lists, or for bytes a text in base64, as an array of a shape."""
    if dtype == "uint8" and isinstance(values, str):
        return _bytes(values, place, shape)
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        fail(place, "is not a full table of numbers")
    limit = {"uint8": 255.0, "int64": 2.0**53}.get(dtype, float(np.finfo(np.float32).max))
    low = 0.0 if dtype == "uint8" else -limit
    if array.shape != shape or not ((array >= low) & (array <= limit)).all():
        fail(place, f"must be finite numbers of shape {list(shape)}")
    if dtype in ("uint8", "int64") and (array != np.floor(array)).any():
        fail(place, "must be whole numbers")
    return array.astype(dtype)


def _bytes(text: str, place: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return bytes written in base64, row after row."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        fail(place, "is not base64")
    if len(data) != int(np.prod(shape)):
        fail(place, f"holds {len(data)} bytes, and must have shape {list(shape)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _check_choices(values: NDArray[Any], place: str, start: int, n: int) -> None:
    """Check that whole numbers lie in ``[start, start + n)``."""
    if ((values < start) | (values >= start + n) | (values != np.floor(values))).any():
        fail(place, f"holds a number that is none of the {n} choices from {start}")


def _starts(probe: Mapping[str, Any], rows: int, signature: Signature) -> NDArray[np.bool_]:
    """Return where episodes begin; without a state every row stands alone."""
    if not signature.state:
        return np.ones(rows, dtype=np.bool_)
    first = optional(probe, "first", list, "probe")
    if first is None:
        fail("probe.first", "is missing, and a policy with a state is probed by whole episodes")
    if len(first) != rows or not all(isinstance(flag, bool) for flag in first) or not first[0]:
        fail("probe.first", f"must be {rows} times true or false, the first of them true")
    return np.array(first, dtype=np.bool_)
