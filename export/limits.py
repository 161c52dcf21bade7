"""How fast an action may change: held by the loop that sends commands."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.contract import Contract


def step_limit(contract: Contract) -> NDArray[np.float64] | None:
    """Return how fast each number of an action may change, in its units per second.

    Args:
        contract: Of the file: its action's ``rate_limit``, and that of its robot's joints where
            the action is a position of each. Of two limits the lower one holds.

    Returns:
        ``[A]``, infinite where nothing limits; ``None`` where nothing limits anything.
    """
    action, robot = contract["action"], contract.get("robot") or {}
    if action["kind"] != "continuous":
        return None
    found = np.full(action["shape"], np.inf)
    joints = robot.get("rate_limit") if robot.get("command") == "position" else None
    for limits in (action.get("rate_limit"), joints):
        if limits is not None and len(limits) == len(found):
            stated = [np.inf if limit is None else limit for limit in limits]
            found = np.minimum(found, stated)
    return found if np.isfinite(found).any() else None


def rate_limited(
    contract: Contract, action: ArrayLike, last: ArrayLike | None, seconds: float | None
) -> Any:
    """Return an action as near to the wanted one as the limits of :func:`step_limit` allow.

    Args:
        contract: Of the file; see :meth:`hindsight_rl.export.runtime.OnnxPolicy.rate_limited`.
        action: ``[..., A]``, wanted.
        last: ``[..., A]``, the command sent before; ``None`` at an episode's first step.
        seconds: Time since then; a step at the contract's control rate if ``None``.

    Returns:
        ``[..., A]`` float32; the action itself where nothing limits it.

    Raises:
        ValueError: Neither a control rate nor ``seconds`` is known, or ``seconds`` is not positive.
    """
    limit = step_limit(contract)
    if limit is None or last is None:
        return action
    rate = contract["control_rate_hz"]
    wanted = np.asarray(action, dtype=np.float32)
    if seconds is None and rate is None:
        raise ValueError("the contract states no control rate: give the seconds of a step")
    seconds = 1.0 / rate if seconds is None else seconds
    if not seconds > 0.0:
        raise ValueError(f"seconds is {seconds}, and must be positive")
    step = limit * seconds
    before = np.asarray(last, dtype=np.float64)
    allowed = np.clip(wanted, before - step, before + step)
    return allowed.astype(np.float32)
