"""Actions in environment units: scaled, checked against their bounds, or numbers of a choice."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from hindsight_rl.float32 import inward
from hindsight_rl.logs import checks
from hindsight_rl.logs.action_bounds import stated
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.choice_checks import choices
from hindsight_rl.logs.common_facts import GUESSED
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.logs.rows import SPAN


@dataclass(frozen=True)
class Actions:
    """Actions ``[N, A]`` float32 or ``[N]`` int64, and what the log's facts say of them.

    ``log_scale`` is the log of the volume that one logged unit of volume has in environment units.
    Real numbers are ``scale`` times the logged ones plus ``offset``, ``[A]``, and lie between
    ``low`` and ``high``, ``[A]`` or ``None``.
    """

    values: Array
    info: dict[str, Any]
    log_scale: float = 0.0
    scale: Array | float = 1.0
    offset: Array | float = 0.0
    low: Array | None = None
    high: Array | None = None


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
    actions = _continuous(table, names, parts, findings)
    _warn_of_whole_numbers(table, parts, actions, findings)
    return actions


def _are_choices(table: Table, parts: list[Array]) -> bool:
    given = table.columns.discrete_actions
    if given is not None:
        return given
    said = "action_count" in table.facts or table.columns.action_count is not None
    single = len(parts) == 1 and parts[0].size == len(parts[0])
    return single and (said or parts[0].dtype.kind in "biu")


def _warn_of_whole_numbers(
    table: Table, parts: list[Array], actions: Actions, findings: Problems
) -> None:
    """Warn where real numbers may be choices: whole ones from 0 on, of which nothing is stated.

    A policy of real numbers would answer what lies between the choices.
    """
    given = table.columns
    stated_real = actions.low is not None or actions.high is not None
    scaled_ones = given.given().keys() & {"action_scale", "action_offset"}
    if given.discrete_actions is not None or stated_real or scaled_ones:
        return
    least = min(part.min() for part in parts)
    most = max(part.max() for part in parts)
    if not 0 <= least < most < checks.MOST_CHOICES or any(_has_fractions(part) for part in parts):
        return
    single = len(parts) == 1 and parts[0].size == len(parts[0])
    fix = (
        "set `discrete_actions: true` in the column map"
        if single
        else "give one number per row: that of the choice, or of the combination of choices"
    )
    warnings.warn(
        f"{findings.path}: every action is a whole number, from {least:g} to {most:g}, and they "
        f"are read as real numbers. If they are numbers of a choice: {fix}. If not, set "
        "`discrete_actions: false`",
        stacklevel=2,
    )


def _has_fractions(values: Array) -> bool:
    # Real numbers show it in their first rows, without a copy of all.
    return bool((values[:SPAN] % 1).any() or (values[SPAN:] % 1).any())


def _discrete(table: Table, values: Array, name: str, findings: Problems) -> Actions:
    if len(table.columns.given().keys() & {"action_scale", "action_offset", "clip"}):
        raise findings.error(
            "discrete actions are neither scaled nor clipped",
            "Remove action_scale, action_offset and clip, or set `discrete_actions: false`.",
            name,
        )
    count = table.columns.action_count or table.facts.get("action_count")
    start = table.columns.action_start
    start = table.facts.get("action_start") if start is None else start
    checks.finite(values, name, findings)
    scalars = checks.as_scalars(values, name, findings)
    guess = start is None and not count
    if start is None:
        start = _guessed_start(scalars, name, findings) if guess else 0
    whole = choices(scalars, count, name, findings, start)
    facts = {"discrete_actions": count or int(whole.max()) + 1 - start}
    facts |= {"action_start": start} if start else {}
    return Actions(whole, facts | ({GUESSED: True} if start and guess else {}))


def _guessed_start(values: Array, name: str, findings: Problems) -> int:
    """Return the number of the first choice where nothing states it, and say that it is a guess.

    A choice that no row shows cannot be learned, so nothing is lost where 0 exists and was never
    chosen; counted in where it does not exist, it could be answered.
    """
    least = values.min()
    if not 0 < least < checks.MOST_CHOICES or least != int(least):
        return 0  # what is wrong, if anything, is said where they are checked
    start = int(least)
    warnings.warn(
        f"{findings.path}: column '{name}' holds choices from {start} on, and nothing states the "
        f"first: {start} is taken, a guess. Set action_start in the column map (0 if there is a "
        "choice 0 that the log does not show)",
        stacklevel=2,
    )
    return start


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
    info: dict[str, Any] = {
        "action": {
            side: None if bound is None else stated(bound.tolist())
            for side, bound in (("low", low), ("high", high))
        }
    }
    if given.clip:
        if low is None and high is None:
            raise findings.error(
                "clip is set without bounds", "Give action_low and action_high.", names[0]
            )
        clipped = np.clip(action, low, high)
        info["clipped_actions"] = int((clipped != action).sum())
        action = clipped
    checks.within_bounds(action, low, high, ", ".join(names), findings)
    with np.errstate(divide="ignore"):  # a factor of 0 is reported where a density is read
        log_scale = float(np.log(np.abs(scale.astype(np.float64))).sum())
    return Actions(action, info, log_scale, scale, offset, low, high)


def _bound(table: Table, side: str, width: int, findings: Problems) -> Array | None:
    """Return one side of the bounds ``[A]``, infinite where it is open; ``None`` without any."""
    name = f"action_{side}"
    value = getattr(table.columns, name)
    value = table.facts.get(side) if value is None else value
    if value is None:
        return None
    is_open = -np.inf if side == "low" else np.inf
    ends = value if isinstance(value, (list, tuple)) else np.ravel(value).tolist()
    # A float32 number inside, or a policy that keeps to the bound would break it.
    inside = [is_open if end is None else inward(end, low=side == "low") for end in ends]
    bound = _per_dimension(name, inside, width, findings)
    if (np.isnan(bound) | (bound == -is_open)).any():
        wrong = float(bound[np.isnan(bound) | (bound == -is_open)][0])
        raise findings.error(
            f"{name} is {wrong:g} in one dimension or more",
            f"Write null or {'-' if side == 'low' else ''}.inf where there is no bound.",
        )
    return None if np.isinf(bound).all() else bound


def _spread(name: str, value: Any, width: int, findings: Problems) -> Array:
    """Return a number or one per dimension as finite ``[A]`` float32."""
    numbers = _per_dimension(name, np.ravel(value).tolist(), width, findings)
    if not np.isfinite(numbers).all():
        raise findings.error(f"{name} is not finite", "Give finite numbers.")
    return numbers


def _per_dimension(name: str, numbers: list[float], width: int, findings: Problems) -> Array:
    """Return one number or one per dimension as ``[A]`` float32."""
    if len(numbers) not in (1, width):
        raise findings.error(
            f"{name} has {len(numbers)} numbers for {width} action dimensions",
            "Give one number, or one per dimension.",
        )
    with np.errstate(over="ignore"):  # beyond float32: infinite, and judged as that
        single = np.asarray(numbers, np.float64).astype(np.float32)
    return np.broadcast_to(single, (width,))
