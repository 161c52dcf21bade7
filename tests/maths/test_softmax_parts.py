"""The soft-max weight of a batch that several ranks share, each with its own rows."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.weights import softmax_weight

T4 = torch.tensor([1.0, -1, 2, 0], dtype=torch.float64)


def mean_of_two() -> Callable[[Tensor], Tensor]:
    """Return a mean over two threads that each call it with a scalar, as ranks do."""
    barrier, given = threading.Barrier(2, timeout=120), []

    def mean(value: Tensor) -> Tensor:
        given.append(value)
        barrier.wait()
        found = torch.stack(given[-2:]).mean()
        barrier.wait()
        return found

    return mean


@pytest.mark.parametrize("apart", [0.0, 3.0, 500.0])
def test_a_softmax_weight_of_two_parts_is_that_of_the_whole(apart: float) -> None:
    """T4 and four more rows, all better by ``apart``; each part sees its own rows only."""
    first, second = T4, torch.tensor([0.5, 2, -1, 1], dtype=torch.float64) + apart
    mean = mean_of_two()
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda part: softmax_weight(part, mean=mean), (first, second))
        found = torch.cat(list(parts))
    torch.testing.assert_close(found, softmax_weight(torch.cat([first, second])))
    assert found.sum().item() == pytest.approx(8.0)


def test_a_softmax_weight_of_one_part_is_the_same_to_the_bit() -> None:
    assert torch.equal(softmax_weight(T4, mean=torch.mean), softmax_weight(T4))
