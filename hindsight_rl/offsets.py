"""What an environment shows, as networks take it: less the offsets of the spec, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.spec import Spec
from hindsight_rl.spec_parts import Entry, Vector

Array = NDArray[Any]


def has_offset(entry: Entry | None) -> bool:
    """Return whether something is subtracted from an entry before it becomes float32."""
    return isinstance(entry, Vector) and entry.offset is not None


def less_offset(value: Array, entry: Entry | None, name: str) -> Array:
    """Return numbers less the offset of their entry.

    Args:
        value: ``[n, ...]``, as the environment shows it.
        entry: The entry or the task of a spec; ``None`` where it says nothing.
        name: What it is called, for messages.

    Returns:
        ``[n, ...]`` float32; ``value`` itself where there is no offset.

    Raises:
        ValueError: The numbers are float32 or less already, which has lost what the offset is for.
    """
    if not isinstance(entry, Vector) or entry.offset is None:
        return value
    check_wide(value.dtype, name)
    relative: Array = (value.astype(np.float64) - np.asarray(entry.offset)).astype(np.float32)
    return relative


def check_wide(dtype: np.dtype[Any], name: str) -> None:
    """Check that numbers from which an offset is subtracted are float64.

    Args:
        dtype: Of the numbers.
        name: What they are called, for messages.

    Raises:
        ValueError: They are not.
    """
    if dtype.kind == "f" and dtype.itemsize < 8:
        raise ValueError(
            f"{name} has dtype {dtype}, and this policy subtracts an offset from it in float64: "
            "give float64, as the sensor reads it. In float32 its digits are lost already."
        )


def relative_inputs(
    spec: Spec, observation: Array | Mapping[str, Array], task: Array | None
) -> tuple[Array | dict[str, Array], Array | None]:
    """Return what a policy is shown, less the offsets of its spec.

    Args:
        spec: Of the policy.
        observation: ``[n, O]``, or ``[n, ...]`` by entry.
        task: ``[n, Z]`` where there is one.

    Returns:
        The same, float32 where an offset was subtracted.

    Raises:
        ValueError: Numbers with an offset are float32 already.
    """
    goal = None if task is None else less_offset(task, spec.task, "task")
    if not isinstance(observation, Mapping):
        return less_offset(observation, spec.whole, "observation"), goal
    entries = spec.observation
    seen = {n: less_offset(v, entries.get(n), f"observation.{n}") for n, v in observation.items()}
    return seen, goal
