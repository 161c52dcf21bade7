"""Numbers as float32 holds them: what logs store and policies answer."""

import math
import struct

_NEAREST, _BITS = struct.Struct("<f"), struct.Struct("<i")


def inward(bound: float, *, low: bool) -> float:
    """Return the float32 number nearest to a bound that does not lie outside it.

    Args:
        bound: A number of any size, exact where it is whole.
        low: Whether it is a lower bound, an upper one otherwise.

    Returns:
        The number; infinite where ``bound`` is, or lies beyond all float32 numbers; NaN for NaN.
    """
    try:
        near: float = _NEAREST.unpack(_NEAREST.pack(bound))[0]
    except OverflowError:
        return math.inf if bound > 0 else -math.inf
    if not math.isfinite(near) or not (near < bound if low else near > bound):
        return near
    if near == 0:
        return _neighbour(1, negative=not low)
    # The bits of a float32 without its sign are in the order of its size.
    size = _BITS.unpack(_NEAREST.pack(abs(near)))[0]
    return _neighbour(size + (1 if (near > 0) == low else -1), negative=near < 0)


def _neighbour(size: int, *, negative: bool) -> float:
    found: float = _NEAREST.unpack(_BITS.pack(size))[0]
    return -found if negative else found
