"""Counter-based random numbers: every draw of the data step is a function of where it is used.

A draw depends on (seed, stream, update, row, draw) and on nothing else, so it is the same on CPU
and CUDA, under ``torch.compile``, for any number of ranks, loader workers or updates per chunk, and
after a resume. The generator is Philox2x32-10 in torch integer arithmetic; its outputs equal the
published test vectors bit for bit.

*Counters* are an int64 tensor ``[..., 3]`` with the words (key, update, row); batches carry them
under the key ``"draws"``.

Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIER = 0xD256D193
WEYL = 0x9E3779B9
ROUNDS = 10

Word = TypeVar("Word", Tensor, int)


def philox(low: Tensor, high: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two 32-bit output words of Philox2x32-10.

    Args:
        low: int64, first counter word, in [0, 2**32).
        high: int64, second counter word, in [0, 2**32), broadcast against ``low``.
        key: int64, in [0, 2**32), broadcast in the same way.

    Returns:
        Two int64 tensors of the broadcast shape, values in [0, 2**32).
    """
    for _ in range(ROUNDS):
        # A 32 x 32 bit product does not fit a signed 64-bit word: multiply by 2**32 less, a
        # number of 30 bits, and add what is missing, ``low * 2**32``, to the upper half.
        product = low * (MULTIPLIER - (1 << 32))
        low, high = ((product >> 32) + low) ^ key ^ high, product & MASK
        key = (key + WEYL) & MASK
    return low, high


def _mix(word: Word) -> Word:
    """Scatter a 32-bit word over all 32 bits (a bijection; both constants stay below 2**31)."""
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) & MASK
    word = ((word ^ (word >> 15)) * 0x735A2D97) & MASK
    return word ^ (word >> 15)


def counters(seed: int, updates: Tensor, rows: Tensor) -> Tensor:
    """Return the counters of a chunk.

    Args:
        seed: Seed of the run, any integer; taken modulo 2**64.
        updates: ``[K]`` int64, number of each update since the start of the run.
        rows: ``[B]`` int64, global row number within the update (a rank passes its own slice).

    Returns:
        ``[K, B, 3]`` int64.
    """
    shape = (len(updates), len(rows))
    words = torch.empty((3, *shape), dtype=torch.int64, device=updates.device)
    words[0], words[1], words[2] = seed_key(seed), updates[:, None], rows
    return words.movedim(0, -1)  # each word lies together: every draw reads them one by one


def seed_key(seed: int) -> int:
    """Return the 32-bit key of a seed."""
    low, high = seed & MASK, (seed >> 32) & MASK
    # The high word is scattered on its own: plain, seed 2**32 would be seed 1 again.
    return _mix(_mix(low) ^ _mix((high + WEYL) & MASK)) if high else _mix(low)


def fork_key(key: Word, stream: str | int) -> Word:
    """Return the key of an independent stream."""
    number = _stream_number(stream) if isinstance(stream, str) else stream
    return _mix((key + ((WEYL * (number + 1)) & MASK)) & MASK)


def draw_key(key: Word, draw: Word | int) -> Word:
    """Return the key under which Philox makes one draw of a counter."""
    return _mix((key + draw * WEYL) & MASK)


def _stream_number(name: str) -> int:
    """Return the 32-bit FNV-1a hash of a name, in plain Python: the compiler cannot trace zlib."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = ((number ^ byte) * 0x01000193) & MASK
    return number


def fork(counter: Tensor, stream: str | int) -> Tensor:
    """Return counters of an independent stream.

    Args:
        counter: ``[..., 3]`` int64.
        stream: Name or number of the stream; equal names give equal streams.

    Returns:
        ``[..., 3]`` int64.
    """
    key = fork_key(counter[..., 0], stream)
    return torch.stack([key, counter[..., 1], counter[..., 2]]).movedim(0, -1)


def _words(counter: Tensor, draw: Tensor | int) -> tuple[Tensor, Tensor]:
    key = draw_key(counter[..., 0], draw)
    return philox(counter[..., 2] & MASK, counter[..., 1] & MASK, key)


def uniform(counter: Tensor, draw: int = 0) -> Tensor:
    """Return one number per counter, uniform on [0, 1).

    Args:
        counter: ``[..., 3]`` int64.
        draw: Which draw of this counter.

    Returns:
        ``[...]`` float32, a multiple of 2**-24.
    """
    word, _ = _words(counter, draw)
    return (word >> 8).to(torch.float32) * 2.0**-24


def fine_uniform(counter: Tensor, draw: int = 0) -> Tensor:
    """Return one number per counter, uniform on [0, 1), fine enough to find one row of many.

    Args:
        counter: ``[..., 3]`` int64.
        draw: Which draw of this counter.

    Returns:
        ``[...]`` float64, a multiple of 2**-53.
    """
    first, second = _words(counter, draw)
    return ((first << 21) + (second >> 11)).double() * 2.0**-53


def uniforms(counter: Tensor, width: int) -> Tensor:
    """Return numbers uniform on [0, 1), the draws 0 to ``width`` of each counter.

    Args:
        counter: ``[..., 3]`` int64.
        width: How many of each counter.

    Returns:
        ``[..., width]`` float32, multiples of 2**-24.
    """
    word, _ = _words(counter.unsqueeze(-2), torch.arange(width, device=counter.device))
    return (word >> 8).to(torch.float32) * 2.0**-24


def integers(counter: Tensor, high: Tensor | int, draw: Tensor | int = 0) -> Tensor:
    """Return one integer per counter, uniform on [0, high).

    Args:
        counter: ``[..., 3]`` int64.
        high: Exclusive upper end, in [1, 2**31), a number or int64 broadcast against the counters.
        draw: Which draw of this counter; several are broadcast against the counters.

    Returns:
        ``[...]`` int64. All 64 output bits are used, so the bias is below ``high / 2**64``.
    """
    first, second = _words(counter, draw)
    return (first * high + ((second * high) >> 32)) >> 32


def normal(counter: Tensor, draw: int = 0) -> Tensor:
    """Return one number per counter from the standard normal distribution (Box-Muller).

    Args:
        counter: ``[..., 3]`` int64.
        draw: Which draw of this counter.

    Returns:
        ``[...]`` float32.
    """
    return _box_muller(*_words(counter, draw))


def _box_muller(first: Tensor, second: Tensor) -> Tensor:
    # Half a step away from zero keeps the logarithm finite.
    radius = torch.sqrt(-2.0 * torch.log(((first >> 8).to(torch.float32) + 0.5) * 2.0**-24))
    return radius * torch.cos((second >> 8).to(torch.float32) * (2.0 * math.pi * 2.0**-24))


def normals(counter: Tensor, width: int) -> Tensor:
    """Return standard normal numbers, the draws 0 to ``width`` of each counter.

    Args:
        counter: ``[..., 3]`` int64.
        width: How many of each counter.

    Returns:
        ``[..., width]`` float32.
    """
    return _box_muller(*_words(counter.unsqueeze(-2), torch.arange(width, device=counter.device)))
