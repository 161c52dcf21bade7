"""Images of a replay: the frames of whole episodes, of which the oldest go and new ones come."""

import torch
from torch import Tensor


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
