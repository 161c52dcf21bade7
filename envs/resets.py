"""What environments of many at once make of seeds, masks and the mode of resetting."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray


class Reset(NamedTuple):
    """What a call of ``reset`` asks for.

    Attributes:
        seeds: One per environment; ``None`` goes on with its generator.
        chosen: Numbers of the environments to reset.
        options: The other options.
    """

    seeds: list[int | None]
    chosen: list[int]
    options: dict[str, Any]


def read_reset(
    count: int, seed: int | Sequence[int | None] | None, options: Mapping[str, Any] | None
) -> Reset:
    """Return what a call of ``reset`` asks for.

    Args:
        count: Number of environments.
        seed: One for all (environment i gets ``seed + i``), or one per environment, or ``None``.
        options: Of the single environment, and ``reset_mask`` ``[count]`` bool.

    Returns:
        Seeds, environments, options.

    Raises:
        ValueError: There are not as many seeds, or flags, as environments.
    """
    options = dict(options or {})
    chosen = np.asarray(options.pop("reset_mask", np.ones(count)), np.bool_)
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else seed
    seeds = [None] * count if seeds is None else list(seeds)
    if len(seeds) != count or chosen.shape != (count,):
        raise ValueError(
            f"{len(seeds)} seeds and a reset_mask of shape {list(chosen.shape)} for "
            f"{count} environments: give one of each per environment"
        )
    return Reset(seeds, [int(i) for i in np.flatnonzero(chosen)], options)


def read_mode(count: int, mode: AutoresetMode | str) -> AutoresetMode:
    """Return the mode of resetting.

    Args:
        count: Number of environments.
        mode: The mode, or its name.

    Returns:
        ``NEXT_STEP`` or ``DISABLED``.

    Raises:
        ValueError: There is no environment, or the mode is another one.
    """
    mode = AutoresetMode(mode)
    if count < 1 or mode is AutoresetMode.SAME_STEP:
        raise ValueError(
            f"num_envs is {count} and autoreset_mode {mode.value!r}: there must be at least "
            "one environment, and the mode be 'NextStep' or 'Disabled'"
        )
    return mode


def check_episodes(over: NDArray[np.bool_], mode: AutoresetMode) -> None:
    """Check that every environment has an episode to step, where nothing else resets it.

    Args:
        over: ``[n]``, whether its episode is over.
        mode: The mode of resetting.

    Raises:
        ValueError: One has none.
    """
    if over.any() and mode is AutoresetMode.DISABLED:
        raise ValueError(
            f"environment {int(over.argmax())} has no episode to step: reset it first, with "
            "options={'reset_mask': ...} for those whose episodes are over"
        )
