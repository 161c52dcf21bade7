"""Images of a log: uint8 frames, each kept once; the next one and stacks are found by number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hindsight_rl.keys import ACTION, REWARD, TERMINATED, TRUNCATED, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.packed import next_key as next_key
from hindsight_rl.logs.rows import StackedRows

MOST_COPIED = 1 << 30
"""Bytes of the frames of a camera that are copied together, where several logs are joined."""

# Numbers and flags, whatever their dtype.
_NO_IMAGES = (ACTION, REWARD, TERMINATED, TRUNCATED)


@dataclass(frozen=True)
class Frames:
    """The frames of one image column.

    Args:
        pixels: ``[N, ...]`` uint8, one frame for every row; or ``[N + E, ...]`` of whole episodes:
            behind the frames of an episode's rows lies what its last step led to.
        whole: Which of the two. Whole episodes give the next frame too.
    """

    pixels: Tensor | StackedRows
    whole: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return tuple(self.pixels.shape[1:])

    def take(self, row: Tensor, episode: Tensor, *, after: bool = False) -> Tensor:
        """Return the frames of rows.

        Args:
            row: ``[...]`` int64 row numbers.
            episode: ``[...]`` int64, the episode of each.
            after: Take the frame that the step led to; of whole episodes only.

        Returns:
            ``[..., *shape]`` uint8.
        """
        number = row + episode + after if self.whole else row
        found = self.pixels.index_select(0, number.reshape(-1))
        return found.view((*number.shape, *self.shape))

    def stack(self, row: Tensor, step: Tensor, episode: Tensor, depth: int) -> list[Tensor]:
        """Return the last frames of rows, and of whole episodes those one step later too.

        Args:
            row: ``[...]`` int64 row numbers.
            step: ``[...]`` int64, time in the episode: the first frame stands in for those before.
            episode: ``[...]`` int64.
            depth: Frames in a stack; 1 gives frames.

        Returns:
            One or two tensors ``[..., depth, *shape]`` uint8, oldest first; ``[..., *shape]`` where
            the depth is 1.
        """
        if depth == 1:
            both = (False, True) if self.whole else (False,)
            return [self.take(row, episode, after=after) for after in both]
        back = torch.arange(depth - 1, -1, -1)
        row, step, episode = (x.unsqueeze(-1) for x in (row, step, episode))
        now = row - torch.minimum(back, step)
        if not self.whole:
            return [self.take(now, episode)]
        later = row - torch.minimum(back, step + 1)
        return [self.take(now, episode), self.take(later, episode, after=True)]


def pixels_of(images: Mapping[Key, Frames]) -> dict[Key, Tensor | StackedRows]:
    """Return the frames of images by key, ``[N or N + E, ...]`` uint8."""
    return {key: frames.pixels for key, frames in images.items()}


def joined(images: Sequence[Mapping[Key, Frames]], *, mapped: bool) -> dict[Key, Frames]:
    """Return the images of several logs with the same columns, one log after another.

    Frames that would be too many for memory are never copied: they may lie in files, as those of
    videos do.

    Args:
        images: Those of each log.
        mapped: Read them where they are instead of copying them together.

    Returns:
        Images by key.
    """
    result: dict[Key, Frames] = {}
    for key, first in images[0].items():
        pixels = [held[key].pixels for held in images]
        if mapped or sum(math.prod(part.shape) for part in pixels) > MOST_COPIED:
            result[key] = Frames(StackedRows(pixels, [{}] * len(pixels)), first.whole)
        else:
            result[key] = Frames(torch.cat([part[:] for part in pixels]), first.whole)
    return result


def split_images(
    columns: dict[Key, Tensor], rows: int, episodes: int
) -> tuple[dict[Key, Tensor], dict[Key, Frames]]:
    """Return the columns that are packed, and the images.

    Args:
        columns: Columns by key; those of uint8 are images, but for actions, rewards and flags.
        rows: N.
        episodes: E.

    Returns:
        Two dictionaries.

    Raises:
        LogError: An image column has neither N nor N + E frames, or says twice what follows.
    """
    packed = {
        key: value
        for key, value in columns.items()
        if value.dtype != torch.uint8 or key in _NO_IMAGES
    }
    images: dict[Key, Frames] = {}
    for key in columns.keys() - packed.keys():
        pixels, name = columns[key], key_name(key)
        if len(pixels) not in (rows, rows + episodes):
            raise LogError(
                f"{len(pixels)} frames for {rows} rows in {episodes} episodes",
                f"Give {rows}, or {rows + episodes}: with the last frame of every episode.",
                column=name,
            )
        images[key] = Frames(pixels, len(pixels) != rows)
        if images[key].whole and next_key(key) in columns:
            raise LogError(
                f"the frames of whole episodes say what '{key_name(next_key(key))}' is",
                "Leave that column out.",
                column=name,
            )
    return packed, {key: images[key] for key in columns if key in images}


def check_stackable(images: Mapping[Key, Frames], depth: int, name: str) -> None:
    """Check that so many frames of every image can be gathered for a row.

    Args:
        images: Those of a log.
        depth: Frames in a stack.
        name: Of the log.

    Raises:
        LogError: There is nothing to stack, or what follows the last frame is not known.
    """
    if depth < 1 or not images:
        problem = "the log has no images" if depth > 1 else "it must be at least 1"
        raise LogError(
            f"frame_stack is {depth}: {problem}", "Leave it out, or map image columns.", path=name
        )
    for key in images:
        if next_key(key) in images:
            raise LogError(
                f"frame_stack is {depth}, and the next frames are a column of their own",
                "Give the frames of whole episodes, one more than steps: the next ones follow.",
                path=name,
                column=key_name(key),
            )
