"""Actions in environment units: scaled, checked against their bounds, or numbers of a choice."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hindsight_rl.logs import checks
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.table import Table


@dataclass(frozen=True)
class Actions:
    """Actions ``[N, A]`` float32 or ``[N]`` int64, and what the log's facts say of them.

    ``log_scale`` is the log of the volume that one logged unit of volume has in environment units.
    """

    values: Array
    info: dict[str, Any]
    log_scale: float = 0.0


def scaled(table: Table, findings: Problems) -> Actions:
    """Return the actions of a table.

    Args:
        table: Columns of the source.
        findings: Where it came from.

    Returns:
        Actions in environment units and the facts ``action`` (bounds), ``discrete_actions``,
        ``clipped_actions``.

    Raises:
        LogError: The log is empty, or an action is not finite, out of bounds or no whole number.
    """
    named = table.columns.action
    names = named if isinstance(named, list) else [str(named)]
    parts = [checks.numeric(table.values[name], name, findings) for name in names]
    for name, part in zip(names, parts, strict=True):
        checks.same_length(part, [len(parts[0])], name, findings)
    if not len(parts[0]):
        raise findings.error("the log is empty", "Give at least one transition.", names[0])
    if _are_choices(table, parts):
        return _discrete(table, parts[0], names[0], findings)
    return _continuous(table, names, parts, findings)


def _are_choices(table: Table, parts: list[Array]) -> bool:
    given = table.columns.discrete_actions
    if given is not None:
        return given
    said = "action_count" in table.facts or table.columns.action_count is not None
    single = len(parts) == 1 and parts[0].size == len(parts[0])
    return single and (said or parts[0].dtype.kind in "iu")


def _discrete(table: Table, values: Array, name: str, findings: Problems) -> Actions:
    if len(table.columns.given().keys() & {"action_scale", "action_offset", "clip"}):
        raise findings.error(
            "discrete actions are neither scaled nor clipped",
            "Remove action_scale, action_offset and clip, or set `discrete_actions: false`.",
            name,
        )
    count = table.columns.action_count or table.facts.get("action_count")
    checks.as_float32(values, name, findings)
    whole = checks.choices(checks.as_scalars(values, name, findings), count, name, findings)
    return Actions(whole, {"discrete_actions": count or int(whole.max()) + 1})


def _continuous(table: Table, names: list[str], parts: list[Array], findings: Problems) -> Actions:
    single = [
        checks.as_float32(part, name, findings) for name, part in zip(names, parts, strict=True)
    ]
    action = np.concatenate([part.reshape(len(part), -1) for part in single], axis=1)
    width = action.shape[1]
    given = table.columns
    scale = _spread("action_scale", given.action_scale, width, findings)
    offset = _spread("action_offset", given.action_offset, width, findings)
    action = action * scale + offset
    low = _bound(table, "low", width, findings)
    high = _bound(table, "high", width, findings)
    info: dict[str, Any] = {"action": {"low": _listed(low), "high": _listed(high)}}
    if given.clip:
        if low is None and high is None:
            raise findings.error(
                "clip is set without bounds", "Give action_low and action_high.", names[0]
            )
        clipped = np.clip(action, low, high)
        info["clipped_actions"] = int((clipped != action).sum())
        action = clipped
    checks.within_bounds(action, low, high, ", ".join(names), findings)
    with np.errstate(divide="ignore"):  # a factor of 0 is told where a density is read
        log_scale = float(np.log(np.abs(scale.astype(np.float64))).sum())
    return Actions(action, info, log_scale)


def _bound(table: Table, side: str, width: int, findings: Problems) -> Array | None:
    value = getattr(table.columns, f"action_{side}")
    value = table.facts.get(side) if value is None else value
    return None if value is None else _spread(f"action_{side}", value, width, findings)


def _spread(name: str, value: Any, width: int, findings: Problems) -> Array:
    """Return a number or one per dimension as ``[A]`` float32."""
    numbers = np.asarray(value, np.float32).reshape(-1)
    if len(numbers) not in (1, width):
        raise findings.error(
            f"{name} has {len(numbers)} numbers for {width} action dimensions",
            "Give one number, or one per dimension.",
        )
    if not np.isfinite(numbers).all():
        raise findings.error(f"{name} is not finite", "Leave it out where there is no bound.")
    return np.broadcast_to(numbers, (width,))


def _listed(bound: Array | None) -> list[float] | None:
    return None if bound is None else [float(number) for number in bound]
