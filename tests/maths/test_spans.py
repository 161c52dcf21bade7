"""Sums over spans of rows: against sums that are written out."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.spans import next_true, span_stops, span_sums

END = torch.tensor([2, 2, 2, 3, 7, 7, 7, 7])
INF = math.inf


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers).unsqueeze(1)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (None, [3, 3, 3, 4, 8, 8, 8, 8]),
        (1, [1, 2, 3, 4, 5, 6, 7, 8]),
        (2, [2, 3, 3, 4, 6, 7, 8, 8]),
        (3, [3, 3, 3, 4, 7, 8, 8, 8]),
        (100, [3, 3, 3, 4, 8, 8, 8, 8]),
    ],
)
def test_spans_stop_with_their_episode(steps: int | None, expected: list[int]) -> None:
    assert span_stops(END, steps).tolist() == expected


def test_next_true_is_the_row_itself_or_a_later_one() -> None:
    flags = torch.tensor([[0, 1], [1, 0], [0, 0], [1, 0]]).bool()
    assert next_true(flags).tolist() == [[1, 0], [1, 4], [3, 4], [3, 4]]


@pytest.mark.parametrize("steps", [None, 1, 2, 3])
def test_sums_are_those_that_are_written_out(steps: int | None) -> None:
    values = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    stop = span_stops(END, steps)
    expected = torch.stack([values[row : int(stop[row])].double().sum(0) for row in range(8)])
    torch.testing.assert_close(span_sums(values, stop.unsqueeze(1)), expected)


def test_every_task_may_have_a_stop_of_its_own() -> None:
    values = torch.tensor([[1.0, 10], [2, 20], [4, 40]])
    stop = torch.tensor([[1, 3], [3, 2], [3, 3]])
    assert span_sums(values, stop).tolist() == [[1, 70], [6, 20], [4, 40]]


def test_impossible_rows_make_only_the_sums_over_them_impossible() -> None:
    values = column(1, -INF, 2, 4, 8, 16, -INF, 32)
    found = span_sums(values, span_stops(END).unsqueeze(1)).squeeze(1)
    assert found.tolist() == [-INF, -INF, 2, 4, -INF, -INF, -INF, 32]
    found = span_sums(values, span_stops(END, 2).unsqueeze(1)).squeeze(1)
    assert found.tolist() == [-INF, -INF, 2, 4, 24, -INF, -INF, 32]
