"""Draws made ahead are those of their counters, to the bit, whatever is asked in which order."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hindsight_rl.maths import ahead
from hindsight_rl.maths.ahead import Ahead
from hindsight_rl.maths.draws import fork, normals, uniform, uniforms

DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "normals": lambda counter: normals(counter, 3),
    "one normal": lambda counter: normals(counter, 1),
    "uniforms": lambda counter: uniforms(counter, 2),
    "one number": lambda counter: uniform(fork(counter, "explore")),
}


def lockstep(lengths: list[int], slots: int) -> list[list[list[int]]]:
    """Return the counters of each step where episodes of these lengths take turns in slots."""
    waiting, playing, steps = list(enumerate(lengths)), list[list[int]](), []
    while waiting or playing:
        while waiting and len(playing) < slots:
            playing.append([waiting.pop(0)[0], 0])
        steps.append([[77, number, step] for number, step in playing])
        playing = [[n, step + 1] for n, step in playing if step + 1 < lengths[n]]
    return steps


@pytest.mark.parametrize("name", DRAWS)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 9))
def test_the_bits_of_single_steps(name: str, lengths: list[int], slots: int) -> None:
    made = Ahead(DRAWS[name])
    for step in lockstep(lengths, slots):
        counter = torch.tensor(step)
        assert torch.equal(made.of(counter), DRAWS[name](counter))


def test_any_order_of_steps_and_keys() -> None:
    made = Ahead(DRAWS["normals"])
    for step in ([[5, 2, 9], [5, 0, 300]], [[5, 2, 8], [6, 0, 1]], [[5, 2, 9], [5, 0, 301]]):
        counter = torch.tensor(step)
        assert torch.equal(made.of(counter), DRAWS["normals"](counter))


def test_it_is_rarely_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 episodes of 200 steps: 64 of theirs and of the next 8, then 128, then the last 8."""
    calls: list[tuple[int, ...]] = []

    def counted(counter: Tensor) -> Tensor:
        calls.append(tuple(counter.shape))
        return uniforms(counter, 1)

    made = Ahead(counted)
    for step in lockstep([200] * 8, 8):
        made.of(torch.tensor(step))
    assert calls == [(64, 16, 3), (128, 8, 3), (128, 8, 3)]
    calls.clear()
    made.of(torch.zeros(ahead.MANY, 3, dtype=torch.int64))
    assert calls == [(ahead.MANY, 3)]


def test_no_rows() -> None:
    empty: Any = Ahead(DRAWS["normals"]).of(torch.zeros(0, 3, dtype=torch.int64))
    assert empty.shape == (0, 3)
