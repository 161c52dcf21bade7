"""Counter-based random numbers in numpy: the twin of ``hindsight_rl.maths.draws``.

An exported policy draws its noise from (seed, episode, step), and gets the numbers that the learner
drew in PyTorch for the same three: the same bits, and normal numbers that differ by rounding.
*Counters* are an int64 array ``[..., 3]`` with the words (key, episode, step).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MASK = 0xFFFFFFFF
MULTIPLIER = 0xD256D193
WEYL = 0x9E3779B9
ROUNDS = 10

Words = NDArray[np.uint64]


def seed_key(seed: int) -> int:
    """Return the 32-bit key of a seed, any integer, taken modulo 2**64."""
    low, high = seed & MASK, (seed >> 32) & MASK
    return _mix_word(_mix_word(low) ^ _mix_word((high + WEYL) & MASK)) if high else _mix_word(low)


def counters(
    seed: int, episodes: NDArray[np.int64] | int, steps: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """Return the counters of one step in each of some episodes.

    Args:
        seed: Seed of the whole, any integer.
        episodes: ``[n]``, number of each episode.
        steps: ``[n]``, or one for all, step in it.

    Returns:
        ``[n, 3]`` int64.
    """
    episode, step = np.broadcast_arrays(np.asarray(episodes), np.asarray(steps))
    key = np.full(episode.shape, seed_key(seed))
    return np.stack([key, episode, step], axis=-1).astype(np.int64)


def uniforms(counter: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Return the uniform draws 0 to ``width`` of each counter.

    Args:
        counter: ``[..., 3]`` int64.
        width: How many of each.

    Returns:
        ``[..., width]`` float32 on [0, 1), multiples of 2**-24.
    """
    first, _ = _words(counter, width)
    return _share(first)


def normals(counter: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Return the standard normal draws 0 to ``width`` of each counter (Box-Muller).

    Args:
        counter: ``[..., 3]`` int64.
        width: How many of each.

    Returns:
        ``[..., width]`` float32.
    """
    first, second = _words(counter, width)
    # Half a step away from zero keeps the logarithm finite.
    share = ((first >> np.uint64(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    radius = np.sqrt(np.float32(-2.0) * np.log(share))
    turn = (second >> np.uint64(8)).astype(np.float32) * np.float32(2.0 * math.pi * 2.0**-24)
    found: NDArray[np.float32] = radius * np.cos(turn)
    return found


def _words(counter: NDArray[np.int64], width: int) -> tuple[Words, Words]:
    """Return two 32-bit words ``[..., width]`` of each counter (Philox2x32-10)."""
    mask = np.uint64(MASK)
    key, high, low = (counter[..., None, i].astype(np.uint64) & mask for i in range(3))
    key = _mix((key + np.arange(width, dtype=np.uint64) * np.uint64(WEYL)) & mask)
    for _ in range(ROUNDS):
        product = low * np.uint64(MULTIPLIER)
        low, high = (product >> np.uint64(32)) ^ key ^ high, product & mask
        key = (key + np.uint64(WEYL)) & mask
    return low, high


def _share(word: Words) -> NDArray[np.float32]:
    share: NDArray[np.float32] = (word >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    return share


def _mix(word: Words) -> Words:
    """Scatter 32-bit words over all 32 bits."""
    mask = np.uint64(MASK)
    word = ((word ^ (word >> np.uint64(16))) * np.uint64(0x21F0AAAD)) & mask
    word = ((word ^ (word >> np.uint64(15))) * np.uint64(0x735A2D97)) & mask
    return word ^ (word >> np.uint64(15))


def _mix_word(word: int) -> int:
    mixed: Any = _mix(np.array(word, dtype=np.uint64))
    return int(mixed)
