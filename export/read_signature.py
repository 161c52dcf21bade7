"""Reads a contract's statements about inputs and outputs, of all versions, and checks them."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from hindsight_rl import densities
from hindsight_rl.densities import KINDS
from hindsight_rl.export.checks import entry, fail, floats, optional, sizes, words
from hindsight_rl.export.signature import (
    DTYPES,
    Action,
    Chunk,
    Distribution,
    DrawnFrom,
    Dtype,
    Input,
    Kind,
    Noise,
    Signature,
    State,
)
from hindsight_rl.windows import COMMITTED, COMMITTED_COUNT

MAX_CHUNK = 4096
"""Most actions in one chunk."""
MAX_COMPONENTS = 65_536
"""Most components of a mixture."""


def signature_of(contract: Mapping[str, Any]) -> Signature:
    """Return the signature a contract states, checked.

    Args:
        contract: Of version 1, 2 or 3.

    Returns:
        The signature.

    Raises:
        ContractError: Naming the first entry at fault.
    """
    second = contract["version"] >= 2
    observation = entry(contract, "observation", dict)
    nested = second and "entries" in observation
    parts = _entries(observation) if nested else (_input(observation, "observation"),)
    task = None
    if entry(contract, "task", (dict, type(None))) is not None:
        task = _input(contract["task"], "task")
    action = _action(entry(contract, "action", dict))
    state = _state(contract, action) if second else ()
    noise = _noise(contract) if second else None
    chunk = _chunk(contract, action, state) if second else None
    distribution = None
    if contract["version"] >= 3:
        distribution = _distribution(contract, action, drawn=noise is not None, chunk=chunk)
    return Signature(
        observation=parts,
        entries=nested,
        task=task,
        action=action,
        scores=_scores(contract, action, second, chosen=distribution is None),
        state=state,
        noise=noise,
        chunk=chunk,
        distribution=distribution,
    )


def _entries(observation: Mapping[str, Any]) -> tuple[Input, ...]:
    """Return the entries of an observation that is a dictionary."""
    parts = entry(observation, "entries", dict, "observation")
    if not parts:
        fail("observation.entries", "is empty")
    return tuple(
        _input(entry(parts, name, dict, "observation.entries"), f"observation.{name}", name)
        for name in parts
    )


def _input(described: Mapping[str, Any], place: str, label: str | None = None) -> Input:
    """Return one input: shape, dtype, and what describes each dimension."""
    kind = described.get("kind", "vector")
    if kind not in DTYPES or (kind != "vector" and place == "task"):
        fail(f"{place}.kind", f"is {kind!r}, and must be one of {', '.join(DTYPES)}")
    shape = sizes(described, "shape", place, empty=kind == "discrete")
    dtype = DTYPES[kind]
    if described.get("dtype") != dtype:
        fail(f"{place}.dtype", f"is {described.get('dtype')!r}, and must be '{dtype}'")
    for column in ("names", "units"):
        if kind == "vector" or described.get(column) is not None:
            words(described, column, place, shape)
    found = {
        column: floats(described, column, place, shape)
        for column in ("mean", "std", "offset", "default")
        if kind == "vector"
    }
    n = entry(described, "n", int, place) if kind == "discrete" else None
    if n is not None and n < 1:
        fail(f"{place}.n", f"is {n}, and must be positive")
    names, default = described.get("names"), found.get("default")
    relative = found.get("offset") is not None
    return Input(
        name=place,
        label=label or place,
        kind=cast(Kind, kind),
        shape=shape,
        dtype=dtype,
        names=None if names is None else tuple(names),
        offset=found.get("offset"),
        n=n,
        # A caller's own numbers: an offset is subtracted from them in float64.
        default=default if default is None or relative else default.astype(np.float32),
    )


def _action(action: Mapping[str, Any]) -> Action:
    """Return the action: its kind, shape and what describes each dimension."""
    kind = action.get("kind")
    if kind == "discrete":
        n = entry(action, "n", int, "action")
        if n < 1 or action.get("shape") != [] or action.get("dtype") != "int64":
            fail("action", "is discrete: n must be positive, shape [] and dtype 'int64'")
        start = entry(action, "start", int, "action") if "start" in action else 0
        # One name is that of the column the choice was logged in.
        named = action.get("names")
        one = isinstance(named, list) and len(named) == 1
        words(action, "names", "action", [1 if one else n])
        return Action(True, (), "int64", n, start)
    if kind != "continuous":
        fail("action.kind", f"is {kind!r}, and must be 'continuous' or 'discrete'")
    shape = sizes(action, "shape", "action", empty=True)
    if len(shape) != 1:
        fail("action.shape", f"is {list(shape)}, and must be one positive size")
    if action.get("dtype") != "float32":
        fail("action.dtype", f"is {action.get('dtype')!r}, and must be 'float32'")
    for column in ("names", "units"):
        words(action, column, "action", shape)
    low, high, limit = (
        floats(action, column, "action", shape, open_ends=True)
        for column in ("low", "high", "rate_limit")
    )
    # An open end is NaN, above and below which nothing lies.
    if low is not None and high is not None and bool((low > high).any()):
        fail("action.low", "is above action.high in one dimension or more")
    if limit is not None and bool((limit <= 0.0).any()):
        fail(
            "action.rate_limit", f"is {action['rate_limit']}, and every limit is positive, or null"
        )
    return Action(False, shape, "float32")


def _scores(
    contract: Mapping[str, Any], action: Action, second: bool, *, chosen: bool
) -> int | None:
    """Return the length of the scores; where choices are drawn, they are not those of choices."""
    if not second:
        return action.n if action.discrete else None
    described = optional(contract, "scores", dict)
    if described is None:
        if action.discrete:
            fail("scores", "is missing, and discrete actions are an argmax")
        return None
    shape = sizes(described, "shape", "scores", empty=False)
    if len(shape) != 1 or (action.discrete and chosen and shape[0] != action.n):
        fail("scores.shape", f"is {list(shape)}, and must be one size, that of the choices")
    return shape[0]


def _state(contract: Mapping[str, Any], action: Action) -> tuple[State, ...]:
    """Return what is kept from step to step."""
    found: list[State] = []
    for number, described in enumerate(optional(contract, "state", list) or []):
        place = f"state[{number}]"
        if not isinstance(described, dict):
            fail(place, "must be an object")
        name = entry(described, "name", str, place)
        if not name or name in [kept.name for kept in found]:
            fail(f"{place}.name", f"is {name!r}, and must be a name of its own")
        shape = sizes(described, "shape", place, empty=True)
        dtype = described.get("dtype")
        if dtype not in ("float32", "int64"):
            fail(f"{place}.dtype", f"is {dtype!r}, and must be 'float32' or 'int64'")
        initial = floats(described, "initial", place, shape)
        value = np.zeros(shape, dtype) if initial is None else initial.astype(dtype)
        actions = bool(optional(described, "actions", bool, place))
        if actions and (dtype != action.dtype or not shape or shape[1:] != action.shape):
            fail(f"{place}.actions", "is true: shape must be [P, ...] of actions, dtype theirs")
        found.append(State(name, shape, cast(Dtype, dtype), value, actions))
    return tuple(found)


def _noise(contract: Mapping[str, Any]) -> Noise | None:
    """Return the random numbers of a step."""
    described = optional(contract, "noise", dict)
    if described is None:
        return None
    distribution = described.get("distribution")
    if distribution not in ("normal", "uniform"):
        fail("noise.distribution", f"is {distribution!r}, and must be 'normal' or 'uniform'")
    zero = optional(described, "zero", bool, "noise")
    return Noise(
        sizes(described, "shape", "noise", empty=False),
        cast(Distribution, distribution),
        bool(zero),
    )


def _distribution(
    contract: Mapping[str, Any], action: Action, *, drawn: bool, chunk: Chunk | None
) -> DrawnFrom | None:
    """Return the distribution that actions are drawn from."""
    described = optional(contract, "distribution", dict)
    if described is None:
        return None
    kind = described.get("kind")
    fitting = [each for each in KINDS if (each == "categorical") == action.discrete]
    if kind not in fitting:
        fail("distribution.kind", f"is {kind!r}, and must be one of {', '.join(fitting)}")
    if not drawn:
        fail("distribution", "is stated, and noise is not, of which actions are drawn")
    if chunk is not None:
        fail("distribution", "is stated, and chunk too: the density of a chunk is not of a step")
    components = 0
    if kind == "mixture":
        components = entry(described, "components", int, "distribution")
        if not 0 < components <= MAX_COMPONENTS:
            fail("distribution.components", f"is {components}, and 1 to {MAX_COMPONENTS} are read")
    bounded = (_whole(contract["action"], side) for side in ("low", "high"))
    if kind == "tanh_normal" and not all(bounded):
        fail("distribution.kind", "is 'tanh_normal', and action.low and high have an open end")
    return DrawnFrom(cast(densities.Kind, kind), components)


def _whole(action: Mapping[str, Any], side: str) -> bool:
    """Return whether every dimension has a bound on a side."""
    ends = action.get(side)
    return ends is not None and None not in ends


def _chunk(contract: Mapping[str, Any], action: Action, state: tuple[State, ...]) -> Chunk | None:
    """Return how many actions an answer holds, and how they are executed."""
    described = optional(contract, "chunk", dict)
    if described is None:
        return None
    length = entry(described, "length", int, "chunk")
    if not 0 < length <= MAX_CHUNK:
        fail("chunk.length", f"is {length}, and must be in 1 to {MAX_CHUNK}")
    execute = entry(described, "execute", int, "chunk")
    if not 0 < execute <= length:
        fail("chunk.execute", f"is {execute}, and must be in 1 to chunk.length, {length}")
    ensemble = optional(described, "ensemble", (int, float), "chunk")
    if ensemble is not None and (action.discrete or execute != 1 or abs(ensemble) > 10.0):
        fail(
            "chunk.ensemble",
            f"is {ensemble}: only real actions are averaged, with chunk.execute 1 and a decay in "
            "-10 to 10",
        )
    committed = optional(described, "committed", int, "chunk") or 0
    most = 0 if ensemble is not None else min(execute, length - execute)
    if not 0 <= committed <= most:
        fail(
            "chunk.committed",
            f"is {committed}, and must be in 0 to {most}: no more than chunk.execute and the "
            "actions after them, and 0 with an ensemble",
        )
    if committed:
        _check_committed(committed, action, state)
    return Chunk(length, execute, None if ensemble is None else float(ensemble), committed)


def _check_committed(committed: int, action: Action, state: tuple[State, ...]) -> None:
    """Check that the state holds the actions that are committed, and how many they are."""
    kept = {part.name: (part.dtype, part.shape) for part in state}
    wanted = {
        COMMITTED: (action.dtype, (committed, *action.shape)),
        COMMITTED_COUNT: ("int64", ()),
    }
    for name, (dtype, shape) in wanted.items():
        if kept.get(name) != (dtype, shape):
            fail(
                "chunk.committed",
                f"is {committed}, and the state must have '{name}', {dtype} of shape {list(shape)}",
            )
