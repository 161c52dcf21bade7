"""An encoder of images: a small residual network with group norm, read out by where things are."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_GROUPS, _TOGETHER = 8, 4


def _norm(channels: int) -> nn.GroupNorm:
    """Return group norm of at least four channels a group.

    A channel alone would be divided by its spread over the image, which is rounding noise where the
    image has one colour: a camera that is covered would give other numbers on every machine.
    """
    return nn.GroupNorm(min(_GROUPS, channels // _TOGETHER), channels)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; halves the sides.

    Args:
        before: Channels in, a multiple of 8.
        after: Channels out, likewise.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1),
            _norm(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
            _norm(after),
        )
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features ``[N, C', H / 2, W / 2]``, rounded up, of ``[N, C, H, W]``."""
        # Pooling takes every second pixel. A convolution of 1 x 1 with that stride would give the
        # same, but on processors with AVX-512 its gradient for 8 channels writes past its memory.
        halved = functional.avg_pool2d(features, 1, stride=2)
        return torch.relu(self.path(features) + self.shortcut(halved))


class SpatialSoftmax(nn.Module):
    """Where each channel is large: the mean position under a softmax over the pixels.

    Args:
        height: H.
        width: W.

    Reference:
        Levine, Finn, Darrell and Abbeel 2016, arXiv 1504.00702, section 5.1.
    """

    positions: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        grid = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        self.register_buffer("positions", torch.stack([part.flatten() for part in grid], dim=-1))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``[N, 2 C]``, rows and columns in [-1, 1], of features ``[N, C, H, W]``."""
        share = features.flatten(2).softmax(-1)
        return (share @ self.positions.to(share.dtype)).flatten(1)


class Pixels(nn.Module):
    """Images of bytes as networks of images take them.

    Args:
        shape: ``[H, W, C]``, or ``[S, H, W, C]`` where S frames are stacked.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        height, width, colours = shape[-3:]
        self.given = (colours * math.prod(shape[:-3]), height, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``[..., S C, H, W]`` float32 in [0, 1] of images ``[..., *shape]`` uint8."""
        outer = image.shape[: image.ndim - len(self.shape)]
        frames = image.reshape(-1, math.prod(self.shape[:-3]), *self.shape[-3:])
        pixels = frames.float() / 255.0
        return pixels.permute(0, 1, 4, 2, 3).reshape(*outer, *self.given)


class ImageEncoder(nn.Module):
    """Numbers of an image of bytes, which are scaled to [0, 1] where the network runs.

    Group norm knows no batch statistics: a row is encoded alike alone and among others, in training
    and on the robot.

    Args:
        shape: ``[H, W, C]``, or ``[S, H, W, C]`` where S frames are stacked; sides of at least 8.
        width: Numbers that an image becomes, D.
        channels: Of each block, each of which halves the sides; multiples of 8.

    Raises:
        ValueError: The shape is that of no image.
    """

    def __init__(
        self, shape: Sequence[int], width: int = 64, channels: Sequence[int] = (32, 64, 64)
    ) -> None:
        super().__init__()
        if len(shape) not in (3, 4) or min(shape[-3:-1]) < 8:
            raise ValueError(
                f"an image has shape {list(shape)}, and this network takes [H, W, C] or "
                "[S, H, W, C] with sides of at least 8"
            )
        self.width = width
        self.pixels = Pixels(shape)
        inputs, height, across = self.pixels.given
        first = channels[0]
        stem = nn.Conv2d(inputs, first, 3, padding=1)
        blocks = [Residual(*pair) for pair in zip((first, *channels[:-1]), channels, strict=True)]
        self.blocks = nn.Sequential(stem, _norm(first), nn.ReLU(), *blocks)
        for _ in blocks:
            height, across = -(-height // 2), -(-across // 2)
        self.places = SpatialSoftmax(height, across)
        self.last = nn.Linear(2 * channels[-1], width)

    def forward(self, image: Tensor) -> Tensor:
        """Return ``[..., D]`` of images ``[..., *shape]`` uint8."""
        pixels = self.pixels(image).to(self.last.weight.dtype)
        found = self.last(self.places(self.blocks(pixels.reshape(-1, *self.pixels.given))))
        return torch.relu(found).reshape(*pixels.shape[:-3], self.width)
