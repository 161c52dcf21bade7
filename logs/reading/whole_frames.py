"""Frames of whole episodes, made of those of the rows and of what each last step led to."""

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.rows import mapped

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int64]


def whole_frames(frames: Pixels, last: Pixels, at: Numbers, ends: Numbers) -> Pixels:
    """Return frames with one behind those of each episode: what its last step led to.

    Args:
        frames: ``[N, ...]`` uint8 of the rows.
        last: ``[M, ...]`` uint8.
        at: ``[E]``, which of ``last`` belongs to each episode.
        ends: ``[E]``, the last row of each episode.

    Returns:
        ``[N + E, ...]``, mapped from a nameless temporary file.

    Raises:
        LogError: They are of different sizes.
    """
    if last.shape[1:] != frames.shape[1:]:
        raise LogError(
            f"what last steps led to is frames of {list(last.shape[1:])}, and all others are of "
            f"{list(frames.shape[1:])}",
            "Write the dataset again.",
        )
    whole, start = mapped((len(frames) + len(ends), *frames.shape[1:]), np.uint8), 0
    for number, (end, place) in enumerate(zip(ends.tolist(), at.tolist(), strict=True)):
        whole[start + number : end + number + 1] = frames[start : end + 1]
        whole[end + number + 1] = last[place]
        start = end + 1
    return whole
