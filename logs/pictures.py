"""Single pictures, PNG and JPEG: their pixels, and smaller ones."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.limits import UNQUESTIONED

Pixels = NDArray[np.uint8]
"""``[H, W, C]``: grey, red green and blue, or these with opacity."""

LARGEST = 1 << 14
"""Pixels of a side at most."""

CHANNELS = (1, 3, 4)
"""Channels of a picture."""

_FORMATS = ("PNG", "JPEG")
_MODES = {"L": 1, "RGB": 3, "RGBA": 4}


class PictureError(Exception):
    """A picture that cannot be read; the message says why."""


def pixels_of(data: bytes) -> Pixels:
    """Return the pixels of a picture.

    Args:
        data: PNG or JPEG.

    Returns:
        ``[H, W, C]`` uint8.

    Raises:
        PictureError: It is of another format or kind of colours, damaged or too large.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            mode, (width, height) = picture.mode, picture.size
            if mode not in _MODES:
                raise PictureError(f"its pixels are of the kind '{mode}', and not of 8 bits each")
            if max(width, height) > LARGEST or width * height * _MODES[mode] > UNQUESTIONED:
                raise PictureError(f"it is of {height} x {width} pixels")
            return np.array(picture, np.uint8).reshape(height, width, _MODES[mode])
    except PictureError:
        raise
    except Exception as error:  # bytes may be damaged in any way
        raise PictureError(f"it is no PNG or JPEG that can be read ({str(error)[:100]})") from error


def png_of(pixels: Pixels) -> bytes:
    """Return a picture as PNG, which loses nothing.

    Args:
        pixels: ``[H, W]`` or ``[H, W, C]`` uint8 of 1, 3 or 4 channels.

    Returns:
        The file.
    """
    from PIL import Image

    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    out = io.BytesIO()
    Image.fromarray(flat).save(out, "PNG", compress_level=1)
    return out.getvalue()


def smaller(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return a picture of another size, each pixel the mean of those that fall together.

    Args:
        pixels: ``[H, W, C]`` uint8.
        size: Height and width.

    Returns:
        ``[*size, C]`` uint8; the same where it has that size.
    """
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    height, width = size
    flat: Any = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    made = Image.fromarray(flat).resize((width, height), Image.Resampling.BOX)
    return np.array(made, np.uint8).reshape(height, width, pixels.shape[-1])
