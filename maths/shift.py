"""Random shifts of images (DrQ): pad by repeating the border, crop at a drawn place.

    out[y, x] = image[clip(y + dy - p, 0, H - 1), clip(x + dx - p, 0, W - 1)],   dy, dx in {0 .. 2p}

Nothing is padded: the rows and columns to read are computed, and gathered once. Bytes stay bytes.

Reference: Kostrikov, Yarats and Fergus 2020, "Image augmentation is all you need", arXiv
2004.13649, section 3.1 (p = 4, replicated border).
"""

import torch
from torch import Tensor

from hindsight_rl.maths.draws import integers


def shift_offsets(counter: Tensor, pad: int) -> Tensor:
    """Return where crops begin in images padded by ``pad`` pixels on each side.

    Args:
        counter: ``[..., 3]`` int64.
        pad: p, at least 0.

    Returns:
        ``[..., 2]`` int64, down and across, uniform on 0 to 2p; p, p leaves an image as it is.
    """
    return torch.stack([integers(counter, 2 * pad + 1, draw=draw) for draw in (0, 1)], dim=-1)


def shift_images(images: Tensor, offset: Tensor, pad: int) -> Tensor:
    """Return images shifted by whole pixels; the border is repeated where nothing is left.

    Args:
        images: ``[..., *S, H, W, C]`` of any type; S are dimensions that share an offset, such as
            the frames of a stack or of a window.
        offset: ``[..., 2]`` int64 in [0, 2 pad], of :func:`shift_offsets`.
        pad: p, at least 0.

    Returns:
        Images of the same shape and type.
    """
    height, width, colours = images.shape[-3:]
    leading = offset.shape[:-1]
    flat = images.reshape(leading.numel(), -1, height, width, colours)
    down, across = offset.reshape(-1, 2).unbind(-1)
    rows = _places(down, height, pad)[:, None, :, None]
    columns = _places(across, width, pad)[:, None, None, :]
    number, frame = (torch.arange(n, device=images.device) for n in flat.shape[:2])
    shifted = flat[number[:, None, None, None], frame[None, :, None, None], rows, columns]
    return shifted.reshape(images.shape)


def _places(offset: Tensor, size: int, pad: int) -> Tensor:
    """Return the rows or columns to read, ``[N, size]``, of offsets ``[N]``."""
    wanted = torch.arange(size, device=offset.device) + offset.unsqueeze(-1) - pad
    return wanted.clamp(0, size - 1)
