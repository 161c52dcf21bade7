"""Philox and the numbers made of it: published vectors, an oracle in Python integers, statistics.

The oracle recomputes every draw without torch, from the description in `maths/draws.py`. It pins
the numbers themselves: changing them would change every run that is resumed or repeated.
"""

import inspect
import math
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import unsigned_words
from torch import Tensor

from hindsight_rl.maths import draws

MASK = 2**32 - 1
WEYL = 0x9E3779B9
BIG = 2**31 - 1


def philox_by_hand(low: int, high: int, key: int) -> tuple[int, int]:
    for _ in range(10):
        product = low * 0xD256D193
        low, high = (product >> 32) ^ key ^ high, product & MASK
        key = (key + WEYL) & MASK
    return low, high


def mix_by_hand(word: int) -> int:
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) & MASK
    word = ((word ^ (word >> 15)) * 0x735A2D97) & MASK
    return word ^ (word >> 15)


def name_by_hand(name: str) -> int:
    """FNV-1a with 32 bits: offset basis 2166136261, prime 16777619."""
    number = 2166136261
    for byte in name.encode():
        number = (number ^ byte) * 16777619 % 2**32
    return number


def key_by_hand(seed: int) -> int:
    high, low = divmod(seed % 2**64, 2**32)
    key = mix_by_hand(low)
    return mix_by_hand(key ^ mix_by_hand((high + WEYL) & MASK)) if high else key


def words_by_hand(key: int, update: int, row: int, draw: int = 0) -> tuple[int, int]:
    return philox_by_hand(row, update, mix_by_hand((key + draw * WEYL) & MASK))


def counter(seed: int = 0, updates: int = 1, rows: int = 1) -> Tensor:
    return draws.counters(seed, torch.arange(updates), torch.arange(rows))


# --- the generator --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "key", "expected"),
    [
        (0, 0, 0, (0xFF1DAE59, 0x6CD10DF2)),
        (MASK, MASK, MASK, (0x2C3F628B, 0xAB4FD7AD)),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_philox_gives_the_published_vectors(
    low: int, high: int, key: int, expected: tuple[int, int]
) -> None:
    """Known answers of Random123 (kat_vectors, philox2x32-10): counter words 0 and 1, then key."""
    words = draws.philox(*(torch.tensor(word) for word in (low, high, key)))
    assert (int(words[0]), int(words[1])) == expected
    assert philox_by_hand(low, high, key) == expected


def test_philox_broadcasts_and_leaves_its_input_alone() -> None:
    low, high, key = torch.arange(3)[:, None], torch.arange(4), torch.tensor(7)
    first, second = draws.philox(low, high, key)
    assert first.shape == second.shape == (3, 4) and first.dtype == second.dtype == torch.int64
    assert (int(first[2, 3]), int(second[2, 3])) == philox_by_hand(2, 3, 7)
    assert torch.equal(low, torch.arange(3)[:, None]) and torch.equal(high, torch.arange(4))


def test_one_flipped_input_bit_flips_half_of_the_output_bits() -> None:
    """Avalanche: of 64 output bits, 32 flip on average (sd 4; over 96 * 64 cases the mean is .05).

    Flipped are each bit of both counter words and of the key.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(2**32, (64, 3), generator=generator)
    flips = torch.stack([2 ** torch.arange(32)] * 3)
    base = torch.stack(draws.philox(*start.unbind(-1)))
    for word in range(3):
        for flip in flips[word]:
            changed = start.clone()
            changed[:, word] ^= flip
            difference = base ^ torch.stack(draws.philox(*changed.unbind(-1)))
            bits = (difference[..., None] >> torch.arange(32)) & 1
            assert 28 < float(bits.sum(dim=(0, 2)).double().mean()) < 36


# --- counters and streams -------------------------------------------------------------------------


def test_counters_hold_key_update_and_row() -> None:
    made = draws.counters(5, torch.tensor([8, 9]), torch.tensor([3, 4, 5]))
    assert made.shape == (2, 3, 3) and made.dtype == torch.int64
    assert set(made[..., 0].flatten().tolist()) == {key_by_hand(5)}
    assert made[..., 1].tolist() == [[8] * 3, [9] * 3]
    assert made[..., 2].tolist() == [[3, 4, 5]] * 2


@given(
    seed=st.integers(-(2**70), 2**70),
    update=unsigned_words,
    row=unsigned_words,
    draw=st.integers(0, 1000),
    stream=st.one_of(st.none(), st.text(max_size=8), st.integers(0, 2**32)),
    high=st.integers(1, BIG),
)
def test_every_draw_equals_the_oracle(
    seed: int, update: int, row: int, draw: int, stream: str | int | None, high: int
) -> None:
    made = draws.counters(seed, torch.tensor([update]), torch.tensor([row]))
    key = key_by_hand(seed)
    if stream is not None:
        made = draws.fork(made, stream)
        number = name_by_hand(stream) if isinstance(stream, str) else stream
        key = mix_by_hand((key + WEYL * (number + 1)) & MASK)
    first, second = words_by_hand(key, update, row, draw)
    radius = math.sqrt(-2 * math.log(((first >> 8) + 0.5) / 2**24))
    angle = 2 * math.pi * (second >> 8) / 2**24

    assert made.tolist() == [[[key, update, row]]]
    assert draws.uniform(made, draw).item() == (first >> 8) / 2**24
    assert draws.fine_uniform(made, draw).item() == ((first << 32) + second >> 11) / 2**53
    assert draws.integers(made, high, draw).item() == (((first << 32) + second) * high) >> 64
    assert draws.normal(made, draw).item() == pytest.approx(radius * math.cos(angle), abs=2e-6)


@pytest.mark.parametrize("high", [3, 2**30, 3 * 2**29, BIG])
def test_integers_use_all_64_bits_of_their_words(high: int) -> None:
    """The exact product of 64 bits and the end, shifted: here half the carries matter."""
    numbers = draws.integers(counter(5, rows=400)[0], high).tolist()
    for row, number in enumerate(numbers):
        first, second = words_by_hand(key_by_hand(5), 0, row)
        assert number == (((first << 32) + second) * high) >> 64


def test_the_first_draw_is_draw_zero() -> None:
    made = counter(5, updates=2, rows=3)
    assert torch.equal(draws.uniform(made), draws.uniform(made, 0))
    assert torch.equal(draws.integers(made, 99), draws.integers(made, 99, 0))
    assert torch.equal(draws.normal(made), draws.normal(made, 0))


def test_seeds_that_differ_give_keys_that_differ() -> None:
    """Small, negative and large seeds, those around multiples of 2**32 included."""
    centres = [0, 2**31, 2**32, 2**33, 3 * 2**32, 2**40, 2**63, -(2**32), -(2**40), WEYL]
    seeds = {(centre + offset) % 2**64 for centre in centres for offset in range(-40, 41)}
    keys = {
        int(draws.counters(seed, torch.tensor([0]), torch.tensor([0]))[0, 0, 0]) for seed in seeds
    }
    assert len(keys) == len(seeds)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32 - 1, 2**40])
def test_a_seed_counts_modulo_two_to_the_64(seed: int) -> None:
    assert torch.equal(counter(seed), counter(seed + 2**64))
    assert torch.equal(counter(seed), counter(seed - 2**64))


def test_fork_depends_on_the_name_only() -> None:
    base = counter(3, updates=2, rows=4)
    before = base.clone()
    one, same, other = (draws.fork(base, name) for name in ("goals", "goals", "rows"))
    assert torch.equal(one, same) and torch.equal(base, before)
    assert torch.equal(one[..., 1:], base[..., 1:])
    assert not bool((one[..., 0] == other[..., 0]).any())
    assert not bool((one[..., 0] == base[..., 0]).any())


@pytest.mark.parametrize(
    ("name", "number"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)]
)
def test_a_named_stream_is_the_stream_of_its_hash(name: str, number: int) -> None:
    """Published FNV-1a vectors (draft-eastlake-fnv, appendix C)."""
    assert name_by_hand(name) == number
    assert torch.equal(draws.fork(counter(3), name), draws.fork(counter(3), number))


def test_forks_of_forks_and_draws_do_not_meet() -> None:
    """Keys after no, one or two forks with small numbers, and all draws below 50: all different."""
    base = counter(0)
    ones = [draws.fork(base, number) for number in range(50)]
    twos = [draws.fork(one, number) for one in ones for number in range(50)]
    keys = [int(made[0, 0, 0]) for made in (base, *ones, *twos)]
    assert len(set(keys)) == len(keys)
    values = [float(draws.uniform(made, draw)) for made in (base, *ones) for draw in range(50)]
    # 2,550 numbers on a grid of 2**24: 0.2 chance meetings expected.
    assert len(values) - len(set(values)) <= 3


@given(
    updates=st.integers(1, 6),
    rows=st.integers(1, 6),
    cut=st.integers(0, 6),
    first=st.integers(0, 2**31),
)
def test_slices_of_rows_and_other_chunkings_equal_the_whole(
    updates: int, rows: int, cut: int, first: int
) -> None:
    """A rank that owns a slice of the rows, or a chunk of other length, draws the same numbers."""

    def numbers(update: Tensor, row: Tensor) -> Tensor:
        return draws.normal(draws.fork(draws.counters(11, update, row), "x"), draw=2)

    update, row = torch.arange(first, first + updates), torch.arange(rows)
    whole = numbers(update, row)
    ranks = [numbers(update, part) for part in (row[:cut], row[cut:])]
    chunks = [numbers(part, row) for part in (update[:cut], update[cut:])]
    assert torch.equal(torch.cat(ranks, dim=1), whole)
    assert torch.equal(torch.cat(chunks, dim=0), whole)


# --- statistics -----------------------------------------------------------------------------------


def axis(kind: str) -> Tensor:
    """Return ``[256, 256]`` uniform numbers; the first axis varies what ``kind`` names."""
    base = counter(7, rows=256)[0]
    if kind == "row":
        return draws.uniform(counter(7, rows=256 * 256)[0]).view(256, 256).T
    if kind == "update":
        return draws.uniform(counter(7, updates=256, rows=256))
    made = {
        "draw": lambda n: draws.uniform(base, draw=n),
        "stream": lambda n: draws.uniform(draws.fork(base, n)),
        "named stream": lambda n: draws.uniform(draws.fork(base, f"stream {n}")),
        "seed": lambda n: draws.uniform(counter(n, rows=256)[0]),
        "high seed": lambda n: draws.uniform(counter(n << 32, rows=256)[0]),
    }[kind]
    return torch.stack([made(n) for n in range(256)])


AXES = ["row", "update", "draw", "stream", "named stream", "seed", "high seed"]


def deviation(bins: Tensor, count: int) -> float:
    """Return chi-square of equally likely bins in standard deviations from its mean."""
    expected = bins.numel() / count
    seen = torch.bincount(bins.flatten(), minlength=count).double()
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    return (chi_square - (count - 1)) / math.sqrt(2 * (count - 1))


@pytest.mark.parametrize("kind", AXES)
def test_uniform_numbers_are_uniform_and_neighbours_independent(kind: str) -> None:
    """Chi-square within 4.5 sd of its mean (numbers that are too even fail as well).

    256 bins for single numbers; 16 x 16 cells for pairs one and two apart along each axis.
    """
    numbers = axis(kind)
    assert abs(deviation((numbers * 256).long(), 256)) < 4.5
    cells = (numbers * 16).long()
    for apart in (1, 2):
        assert abs(deviation(cells[:-apart] * 16 + cells[apart:], 256)) < 4.5
        assert abs(deviation(cells[:, :-apart] * 16 + cells[:, apart:], 256)) < 4.5
    assert len(torch.unique(numbers)) > 65_000  # 65,536 numbers on 2**24 points: about 128 meet


def test_all_bits_of_a_uniform_number_are_fair() -> None:
    """Each of 24 bits is set in half of 65,536 numbers (sd 128)."""
    grid = (axis("row") * 2**24).long()
    assert torch.equal(grid.double() / 2**24, axis("row").double())
    ones = ((grid[..., None] >> torch.arange(24)) & 1).sum(dim=(0, 1))
    assert int((ones - 2**15).abs().max()) < 5 * 128


def test_normal_numbers_are_normal() -> None:
    """The distribution function of the numbers is uniform; moments 1 to 4 are 0, 1, 0, 3."""
    numbers = draws.normal(counter(7, rows=2**16)[0])
    assert numbers.dtype == torch.float32 and numbers.shape == (2**16,)
    bins = (torch.special.ndtr(numbers.double()) * 256).long()
    assert abs(deviation(bins, 256)) < 4.5
    for power, moment, spread in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        mean = float((numbers.double() ** power).mean())
        assert abs(mean - moment) < 5 * math.sqrt(spread / 2**16)


@pytest.mark.parametrize("high", [1, 2, 3, 10, 255, 2**30 + 1, 3 * 2**29, BIG])
def test_integers_are_uniform_below_their_end(high: int) -> None:
    numbers = draws.integers(counter(7, rows=2**16)[0], high)
    assert numbers.dtype == torch.int64
    assert 0 <= int(numbers.min()) and int(numbers.max()) < high
    bins = min(high, 255)
    if high <= 255:
        assert len(torch.unique(numbers)) == high
    if high > 1:
        edges = numbers if high <= 255 else numbers * bins // high
        assert abs(deviation(edges, bins)) < 4.5


def test_large_ends_are_filled_without_favoured_residues() -> None:
    """32 bits spread over 3 * 2**29 values favour every third one; 64 bits do not."""
    numbers = draws.integers(counter(1, rows=2**16)[0], 3 * 2**29)
    for modulus in (2, 3, 4, 7):
        assert abs(deviation(numbers % modulus, modulus)) < 4.5


def test_integers_take_an_end_per_row() -> None:
    made = counter(2, updates=3, rows=5)
    high = torch.tensor([1, 2, 10, 1000, BIG])
    numbers = draws.integers(made, high)
    assert numbers.shape == (3, 5)
    for row, end in enumerate(high.tolist()):
        assert torch.equal(numbers[:, row], draws.integers(made[:, row], end))


def test_extreme_words_stay_inside_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """All-zero and all-one words, which chance would show once in 2**64 draws."""

    def fixed(word: int) -> None:
        pair = torch.tensor([word]), torch.tensor([word])
        monkeypatch.setattr(draws, "philox", lambda low, high, key: pair)

    fixed(0)
    assert float(draws.uniform(counter()[0])) == 0.0
    assert int(draws.integers(counter()[0], BIG)) == 0
    assert float(draws.normal(counter()[0])) == pytest.approx(math.sqrt(50 * math.log(2)), rel=1e-6)
    fixed(MASK)
    assert float(draws.uniform(counter()[0])) == 1.0 - 2.0**-24
    assert int(draws.integers(counter()[0], BIG)) == BIG - 1
    assert abs(float(draws.normal(counter()[0]))) < 1e-3


# --- compiled -------------------------------------------------------------------------------------


def everything(updates: Tensor, rows: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    made = draws.fork(draws.counters(2**40 - 1, updates, rows), "compiled")
    return draws.uniform(made), draws.integers(made, high, draw=1), draws.normal(made, draw=2)


@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif(
                not (shutil.which("g++") or shutil.which("clang++")),
                reason="torch.compile needs a C++ compiler",
            ),
        ),
    ],
)
def test_compiled_draws_equal_eager_ones(backend: str) -> None:
    """One graph, no breaks; integer results to the bit, the normal ones to the last digits."""
    updates, rows, high = torch.arange(64, 66), torch.arange(33), torch.arange(1, 34) * 2**26 - 1
    expected = everything(updates, rows, high)
    torch._dynamo.reset()
    compiled = torch.compile(everything, fullgraph=True, backend=backend)(updates, rows, high)
    assert torch.equal(compiled[0], expected[0])
    assert torch.equal(compiled[1], expected[1])
    torch.testing.assert_close(compiled[2], expected[2], rtol=1e-5, atol=1e-6)


def test_no_generator_is_used() -> None:
    """Draws depend on their counter alone: torch's own random state is neither read nor moved."""
    made = counter(5, rows=8)
    state = torch.get_rng_state()
    first = draws.normal(made)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(draws.normal(made), first)
    assert "Generator" not in inspect.getsource(draws)
