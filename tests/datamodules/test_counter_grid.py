"""A grid draws bit for bit what its counters, spread out, draw."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from hindsight_rl.datamodules.counter_grid import CounterGrid
from hindsight_rl.maths import draws


@given(
    seeds=st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=3),
    first=st.integers(0, 2**33),
    updates=st.integers(1, 4),
    rows=st.integers(1, 4),
    stream=st.one_of(st.text(max_size=8), st.integers(0, 2**32)),
    draw=st.integers(0, 1000),
    high=st.integers(1, 2**31 - 1),
)
def test_a_grid_draws_what_its_counters_draw(
    seeds: list[int],
    first: int,
    updates: int,
    rows: int,
    stream: str | int,
    draw: int,
    high: int,
) -> None:
    update, row = torch.arange(first, first + updates), torch.arange(7, 7 + rows)
    grid = CounterGrid(seeds, update, row).fork(stream)
    each = [draws.fork(draws.counters(seed, update, row), stream) for seed in seeds]
    spread = torch.stack(each, dim=1)
    ends = torch.randint(1, high + 1, spread.shape[:-1])
    assert torch.equal(grid.counters(), spread)
    assert torch.equal(grid.uniform(draw), draws.uniform(spread, draw))
    assert torch.equal(grid.fine_uniform(draw), draws.fine_uniform(spread, draw))
    assert torch.equal(grid.integers(high, draw), draws.integers(spread, high, draw))
    assert torch.equal(grid.integers(ends, draw), draws.integers(spread, ends, draw))
