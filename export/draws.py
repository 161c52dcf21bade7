"""Counter-based random numbers in numpy: the twin of ``hindsight_rl.maths.draws``.

An exported policy draws its noise from (seed, episode, step), and gets the numbers that the learner
drew in PyTorch for the same three: the same bits, and normal numbers that differ by rounding.
*Counters* are an int64 array ``[..., 3]`` with the words (key, episode, step).
"""

import functools
import math
import sys

import numpy as np
from numpy.typing import NDArray

MASK = 0xFFFFFFFF
MULTIPLIER = np.uint64(0xD256D193)
WEYL = 0x9E3779B9
ROUNDS = 10
# Draws ahead: a refill is rarer than one step in a hundred, and takes as long as about two.
STEPS_AHEAD, WORDS_AHEAD = 128, 1024
# Which half of a 64-bit word has its low bits.
LOW = 0 if sys.byteorder == "little" else 1

Words = NDArray[np.uint32]


@functools.lru_cache(maxsize=256)
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
    episodes, steps = np.asarray(episodes), np.asarray(steps)
    found = np.empty((*np.broadcast_shapes(episodes.shape, steps.shape), 3), dtype=np.int64)
    found[..., 0], found[..., 1], found[..., 2] = seed_key(seed), episodes, steps
    return found


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
    share = ((first >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    radius = np.sqrt(np.float32(-2.0) * np.log(share))
    turn = (second >> np.uint32(8)).astype(np.float32) * np.float32(2.0 * math.pi * 2.0**-24)
    found: NDArray[np.float32] = radius * np.cos(turn)
    return found


class Ahead:
    """Draws of the steps to come, made many at a time.

    One step alone costs as much as a hundred: the calls into numpy cost more than their numbers.
    A step that was not foreseen (another episode, other rows) begins anew.

    Args:
        width: Draws of a counter.
        distribution: ``"normal"`` or ``"uniform"``.
    """

    def __init__(self, width: int, distribution: str) -> None:
        self._width = width
        self._draw = normals if distribution == "normal" else uniforms
        # One value, so that threads which share a policy never see halves of two.
        self._made: tuple[list[list[int]], NDArray[np.float32]]
        self._made = [], np.zeros((0, 0, width), dtype=np.float32)

    def of(self, counter: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the draws ``[n, width]`` of counters ``[n, 3]``, an array of its own."""
        if 2 * len(counter) * self._width > WORDS_AHEAD:  # so many rows pay for their calls
            return self._draw(counter, self._width)
        asked = counter.tolist()
        first, drawn = self._made
        ahead = asked[0][2] - first[0][2] if asked and first else 0
        foreseen = [[key, episode, step + ahead] for key, episode, step in first]
        if not 0 <= ahead < len(drawn) or foreseen != asked:
            self._made, ahead = (asked, drawn := self._from(counter)), 0
        found: NDArray[np.float32] = drawn[ahead].copy()
        return found

    def _from(self, counter: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the draws of these counters and of the steps after them ``[T, n, width]``."""
        many = max(1, min(STEPS_AHEAD, WORDS_AHEAD // max(1, len(counter) * self._width)))
        later = np.repeat(counter[None], many, axis=0)
        later[..., 2] += np.arange(many)[:, None]
        return self._draw(later, self._width)


def _words(counter: NDArray[np.int64], width: int) -> tuple[Words, Words]:
    """Return two 32-bit words ``[..., width]`` of each counter (Philox2x32-10)."""
    key = counter[..., 0]
    one = int(key.flat[0]) if key.size else 0
    keys = _round_keys(one, width) if (key == one).all() else _mixed_keys(key[..., None], width)
    high, low = (counter[..., i, None].astype(np.uint32) for i in (1, 2))
    for round_key in keys:
        halves = (low * MULTIPLIER).view(np.uint32)
        low, high = halves[..., 1 - LOW :: 2] ^ round_key ^ high, halves[..., LOW::2]
    return low, high


@functools.lru_cache(maxsize=64)
def _round_keys(key: int, width: int) -> Words:
    """Return the keys of every round ``[ROUNDS, width]``: those of a control loop never change."""
    return _mixed_keys(np.array([key]), width)


def _mixed_keys(key: NDArray[np.int64], width: int) -> Words:
    """Return the keys of every round ``[ROUNDS, ..., width]`` of keys ``[..., 1]``."""
    first = _mix(key.astype(np.uint32) + np.arange(width, dtype=np.uint32) * np.uint32(WEYL))
    rounds = np.arange(ROUNDS, dtype=np.uint32) * np.uint32(WEYL)
    return first + rounds.reshape(-1, *[1] * first.ndim)


def _share(word: Words) -> NDArray[np.float32]:
    share: NDArray[np.float32] = (word >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return share


def _mix(word: Words) -> Words:
    """Scatter 32-bit words over all 32 bits."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    word = (word ^ (word >> np.uint32(15))) * np.uint32(0x735A2D97)
    return word ^ (word >> np.uint32(15))


def _mix_word(word: int) -> int:
    return int(_mix(np.array([word], dtype=np.uint32))[0])
