"""Single functions as C++, and products of matrices of many shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.training.learner import Learner
from hindsight_rl.training.update.native import Native
from hindsight_rl.training.update.products import Products


def is_native(learner: Learner) -> bool:
    assert learner.runner is not None and learner.runner.engine is not None
    return isinstance(learner.runner.engine._run, Native)


def run(
    function: Callable[..., Tensor],
    *inputs: Tensor,
    threads: int = 1,
    updates: int = 1,
    products: Products = "float32",
) -> Tensor:
    """Return what a function of tensors that stay comes to as C++, ``[n]``."""
    state, table = torch.zeros(1), torch.zeros(updates, 1)

    def step(rows: Any, columns: Any, given: Sequence[Tensor]) -> Any:
        return (rows[0] + 1,), function(*given).reshape(-1)

    with torch.no_grad():
        program = Native(step, (state,), (table,), lambda: inputs, threads, products)
        seen = program((state,), table)
    assert float(state) == updates
    return seen[-1]


def factors(sizes: list[tuple[int, int, int]]) -> tuple[list[Tensor], list[Tensor]]:
    """Return matrices to multiply, each as it is and transposed."""
    generator = torch.Generator().manual_seed(0)
    lefts, rights = [], []
    for m, k, n in sizes:
        for flip in range(4):
            left = torch.randn((k, m) if flip & 1 else (m, k), generator=generator)
            right = torch.randn((n, k) if flip & 2 else (k, n), generator=generator)
            lefts.append(left.T if flip & 1 else left)
            rights.append(right.T if flip & 2 else right)
    return lefts, rights


def products(*given: Tensor) -> Tensor:
    """Return the products of the first half of some matrices and the second, in a row."""
    half = len(given) // 2
    pairs = zip(given[:half], given[half:], strict=True)
    return torch.cat([(left @ right).reshape(-1) for left, right in pairs])
