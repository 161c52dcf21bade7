"""Images of a replay: the frames of whole episodes, of which the oldest go and new ones come."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hindsight_rl.keys import Key
from hindsight_rl.logs.errors import LogError


class FrameWindow:
    """Frames in memory, in the order of their episodes; one more than steps for each episode.

    The memory grows with what is held: a capacity of a million rows is never asked for at once.

    Args:
        shape: Of a frame.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._pixels = torch.empty((0, *shape), dtype=torch.uint8)
        self._start = self._stop = 0

    def frames(self) -> Tensor:
        """Return what is held, ``[N + E, ...]`` uint8; valid until the next change."""
        return self._pixels[self._start : self._stop]

    def drop(self, count: int) -> None:
        """Let go of the oldest frames."""
        self._start += count
        if self._start == self._stop:
            self._start = self._stop = 0

    def append(self, frames: Tensor) -> None:
        """Add frames ``[M, ...]`` uint8."""
        if self._stop + len(frames) > len(self._pixels):
            held = self.frames()
            # Twice what is needed: a frame is copied once or twice on average while it is held.
            size = 2 * (len(held) + len(frames))
            pixels = torch.empty((size, *self.shape), dtype=torch.uint8)
            pixels[: len(held)] = held
            self._pixels, self._start, self._stop = pixels, 0, len(held)
        self._pixels[self._stop : self._stop + len(frames)] = frames
        self._stop += len(frames)


def check_frames(held: Mapping[Key, FrameWindow], given: Mapping[Key, tuple[int, ...]]) -> None:
    """Raise where episodes have other images than those before.

    Args:
        held: Frames by key.
        given: Shape of a frame by key.

    Raises:
        LogError: Keys or shapes differ.
    """
    shapes = {key: window.shape for key, window in held.items()}
    if shapes != given:
        raise LogError(
            f"the replay holds the images {shapes}, and those given are {dict(given)}",
            "Let every episode give the same observations.",
        )
