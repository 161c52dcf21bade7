"""Records of what a function does: equal where a program can be used again, else not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hindsight_rl.training.update.recording import Record, record, same

X = torch.arange(6.0).reshape(2, 3)


def of(function: Callable[..., Any], *inputs: Tensor) -> Record:
    return record(lambda *given: (function(*given),), inputs or (X,))


def test_other_numbers_are_the_same_record() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.func.grad(lambda x: (x.relu() ** 2).mean())(x) + torch.vmap(torch.sum)(x)[0]

    assert of(function, X) == of(function, X + 1)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: (x * 2.0 + 1.0).T.sum(0),
        lambda x: (x * 2.0 + 1.0).sum(1),
        lambda x: (x * 2.0 + 1.0000001).sum(0),
        lambda x: (x * 2.0 - 1.0).sum(0),
        lambda x: (x + 2.0 * x).sum(0),
        lambda x: (x * 2.0 + 1.0).sum(0)[None],
        lambda x: (x * 2.0 + 1.0, (x * 2.0 + 1.0).sum(0))[1],
    ],
)
def test_another_operation_argument_or_result_is_another_record(other: Any) -> None:
    assert of(other) != of(lambda x: (x * 2.0 + 1.0).sum(0))


@pytest.mark.parametrize("other", [X.double(), X.T.contiguous(), X.T.contiguous().T, X[:1]])
def test_another_dtype_layout_or_shape_is_another_record(other: Tensor) -> None:
    assert of(torch.relu, other).text != of(torch.relu).text


def test_which_tensor_is_read_matters() -> None:
    one, other = X, X.clone()
    assert of(lambda a, b: a - b, one, other).text != of(lambda a, b: b - a, one, other).text


def test_which_tensor_is_returned_matters() -> None:
    def pair(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2

    first, second = (record(lambda x, n=n: (pair(x)[n],), (X,)) for n in (0, 1))
    assert first.text != second.text


def test_what_nobody_gave_is_a_constant_by_its_bytes() -> None:
    held = torch.tensor([1.0, 2.0, 3.0])
    found = of(lambda x: x * held + torch.tensor([4.0, 5.0, 6.0]) + held)
    assert [constant.tolist() for constant in found.constants] == [[1, 2, 3], [4, 5, 6]]
    assert found.constants[0] is held


def test_operations_in_place_keep_the_tensor() -> None:
    def written(x: Tensor) -> Tensor:
        room = torch.zeros(3)
        room.add_(x[0])
        return room

    def read_before(x: Tensor) -> Tensor:
        room = torch.zeros(3)
        room.add(x[0])
        return room

    assert of(written).text != of(read_before).text


def test_tensors_that_are_gone_leave_their_numbers_to_nobody() -> None:
    """Memory of short-lived tensors is used again; a number never is."""

    def function(x: Tensor) -> Tensor:
        for _ in range(50):
            x = x + 1
        return x

    text = of(function).text
    numbers = [line.rpartition(" %")[2].partition(":")[0] for line in text.splitlines()[1:-1]]
    assert numbers == [str(number) for number in range(1, 51)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (torch.tensor([0.0, -1.0]), True),
        (torch.tensor([-0.0, -1.0]), False),
        (torch.tensor([0.0, -1.0]).double(), False),
        (torch.tensor([[0.0, -1.0]]), False),
        (torch.tensor([0.0, 5.0, -1.0])[::2], False),
    ],
)
def test_alike_to_the_bit(other: Tensor, expected: bool) -> None:
    assert same(torch.tensor([0.0, -1.0]), other) is expected
    assert same(torch.tensor([torch.nan]), torch.tensor([torch.nan]))
