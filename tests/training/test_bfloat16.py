"""Products of compiled updates in bfloat16, summed in float32."""

from pathlib import Path

import pytest
import torch
from native_runs import factors, products, run
from small_fits import equal, weights
from whole_fits import trained

from hindsight_rl.agents.iql import IQL
from hindsight_rl.nets.network import Network
from hindsight_rl.training.update.operations import Place
from hindsight_rl.training.update.plan import no_bfloat16
from hindsight_rl.training.update.products import Matrix, written

SIZES = [(32, 32, 32), (33, 35, 37), (64, 64, 64), (37, 255, 129), (70, 200, 90)]
in_bfloat16 = pytest.mark.skipif(
    bool(no_bfloat16("update", "32-true")), reason=no_bfloat16("update", "32-true")
)


@in_bfloat16
@pytest.mark.parametrize("threads", [1, 2])
def test_products_in_bfloat16_are_those_of_rounded_numbers(threads: int) -> None:
    lefts, rights = factors(SIZES)
    found = run(products, *lefts, *rights, threads=threads, products="bfloat16")
    exact = products(*[x.bfloat16().double() for x in (*lefts, *rights)])
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-4)


@in_bfloat16
def test_small_products_stay_as_they_are() -> None:
    lefts, rights = factors([(31, 64, 64), (64, 31, 64), (64, 64, 31)])
    found = [run(products, *lefts, *rights, products=kind) for kind in ("float32", "bfloat16")]
    assert torch.equal(*found)


def test_matrices_without_neighbours_in_memory_are_not_rounded() -> None:
    """Neither rows nor columns lie one behind the other: there are no pairs to read at once."""
    place, side = Place("in[0]", 0, 1), 64
    plain = Matrix(place, 1, side, side, 0, side, 1)
    strided = Matrix(place, 1, side, side, 0, 2 * side, 2)
    for left, right, name in (
        (plain, plain, "_bfloat16"),
        (strided, plain, ""),
        (plain, strided, ""),
    ):
        call, _, _ = written(left, right, plain, "bfloat16")
        assert f"hindsight::product{name}<" in call


@in_bfloat16
def test_updates_in_bfloat16_end_near_those_in_float32(tmp_path: Path) -> None:
    """Near, not equal: their products do round; and two threads come to the bits of one."""
    ends = [
        weights(
            trained(
                *(IQL, tmp_path, 0, 30),
                compile="update",
                threads=threads,
                network=Network(hidden=(64, 64)),
                batch_size=48,
                matmul_precision=precision,
            )
        )
        for precision, threads in (("highest", 1), ("bfloat16", 1), ("bfloat16", 2))
    ]
    assert equal(*ends[1:]) and not equal(*ends[:2])
    for name, end in ends[1].items():
        torch.testing.assert_close(end, ends[0][name], rtol=0, atol=3e-3, msg=name)
