"""Hypothesis strategies: batches of scalars, episodes laid end to end, columns of a small log.

Imported as ``strategies`` (``tests`` is on pytest's path).
"""

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

__all__ = [
    "Episodes",
    "episodes",
    "log_columns",
    "permutations",
    "scalars",
    "signed_words",
    "unsigned_words",
]

unsigned_words = st.integers(0, 2**32 - 1)
signed_words = st.integers(-(2**31), 2**31 - 1)


def scalars(
    rows: int | st.SearchStrategy[int] | None = None, low: float = -10.0, high: float = 10.0
) -> st.SearchStrategy[Tensor]:
    """Return batches ``[B]`` float64 of moderate numbers; B is 1 to 24 unless given."""
    sizes = st.integers(1, 24) if rows is None else rows
    sizes = st.just(sizes) if isinstance(sizes, int) else sizes
    number = st.floats(low, high, width=32)
    batch = sizes.flatmap(lambda size: st.lists(number, min_size=size, max_size=size))
    return batch.map(lambda values: torch.tensor(values, dtype=torch.float64))


def permutations(rows: int) -> st.SearchStrategy[Tensor]:
    """Return orders ``[rows]`` int64 of the rows."""
    return st.permutations(range(rows)).map(torch.tensor)


class Episodes(NamedTuple):
    """Whole episodes laid end to end, N rows."""

    lengths: list[int]
    reward: Tensor  # [N] float64
    next_value: Tensor  # [N] float64
    terminated: Tensor  # [N] bool, only ever on a last row
    last: Tensor  # [N] bool
    end: Tensor  # [N] int64, row number of the last step of the row's episode


@st.composite
def episodes(draw: st.DrawFn, max_episodes: int = 5, max_length: int = 12) -> Episodes:
    """Return 1 to 5 episodes of 1 to 12 steps, each terminated or truncated."""
    lengths = draw(st.lists(st.integers(1, max_length), min_size=1, max_size=max_episodes))
    count = sum(lengths)
    size = torch.tensor(lengths)
    stop = size.cumsum(0)
    last = torch.zeros(count, dtype=torch.bool)
    last[stop - 1] = True
    terminated = torch.zeros(count, dtype=torch.bool)
    ended = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    terminated[stop - 1] = torch.tensor(ended)
    return Episodes(
        lengths,
        draw(scalars(count)),
        draw(scalars(count)),
        terminated,
        last,
        (stop - 1).repeat_interleave(size),
    )


@st.composite
def log_columns(draw: st.DrawFn) -> dict[str | tuple[str, ...], Tensor]:
    """Return columns that ``Log.from_columns`` takes: real, integer and boolean, random shapes."""
    parts = draw(episodes(max_episodes=4, max_length=6))
    count = len(parts.reward)
    generator = torch.Generator().manual_seed(draw(unsigned_words))

    def real(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    discrete = draw(st.booleans())
    integers = st.lists(signed_words, min_size=count, max_size=count)
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    sizes = torch.tensor(parts.lengths)
    return {
        "observation": real(*shape),
        "action": torch.randint(5, (count,), generator=generator) if discrete else real(2),
        ("next", "observation"): real(*shape),
        ("next", "reward"): parts.reward.float(),
        ("next", "terminated"): parts.terminated,
        ("next", "truncated"): parts.last & ~parts.terminated,
        "episode": torch.arange(len(parts.lengths)).repeat_interleave(sizes) * 7 + 3,
        "tag": torch.tensor(draw(integers)),
        "flag": torch.tensor(draw(flags)),
    }
