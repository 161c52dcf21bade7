"""The hash of a log: moves with every bit that was read, and with nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_logs import Columns, five, pictures, small
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
    Key,
)
from hindsight_rl.logs.log import Log

ADDED: Columns = {"return_to_go": torch.arange(5.0), "rank": torch.tensor([4, 3, 2, 1, 0])}


def moved(key: Key, row: int, change: Callable[[Tensor], Tensor]) -> Columns:
    columns = five()
    columns[key] = columns[key].clone()
    columns[key][row] = change(columns[key][row])
    return columns


@pytest.mark.parametrize(
    "columns",
    [
        moved(OBSERVATION, 4, lambda x: torch.nextafter(x, torch.tensor(1e9))),
        moved(ACTION, 0, lambda x: x + 1e-6),
        moved(REWARD, 2, lambda x: x + 1e-6),
        moved(TERMINATED, 0, lambda x: ~x),
        moved(EPISODE, 2, lambda x: x + 2),
        {key: value.flip(0) for key, value in five().items()},
        {key: value[:4] for key, value in five().items()},
        five(extra=torch.zeros(5)),
        five() | {ACTION: torch.zeros(5, dtype=torch.int64)},
        {**five(), OBSERVATION: five()[NEXT_OBSERVATION], NEXT_OBSERVATION: five()[OBSERVATION]},
    ],
    ids=[
        *("observation", "action", "reward", "flag", "episode", "order", "length", "column"),
        *("dtype", "swap"),
    ],
)
def test_the_hash_moves_with_the_data(columns: Columns) -> None:
    assert Log.from_columns(columns).hash() != small().hash()


def test_the_hash_tells_names_dtypes_and_images_apart() -> None:
    """The same words under another name, as another dtype; one pixel; picture against none."""
    one, zero = pictures(), torch.zeros(5)
    other = one.clone()
    other[4, 1, 1, 2] ^= 1
    logs = [
        small(a=zero),
        small(b=zero),
        small(a=zero.long()),
        small(a=zero.bool()),
        small(a=one),
        small(b=one),
        small(a=other),
        small(a=one.view(5, 12)),
        small(),
    ]
    assert len({log.hash() for log in logs}) == len(logs)


def test_the_hash_ignores_what_follows_from_the_configuration(tmp_path: Path) -> None:
    """Relabelers' columns (new or replacing), chosen rows, facts, weights, packing, the place."""
    log = small(flag=torch.tensor([True] * 5))
    expected = log.hash()
    assert len(expected) == 16 and int(expected, 16) >= 0
    more = log.with_columns(ADDED).with_columns({REWARD: torch.zeros(5), "rank": torch.ones(5)})
    log.save(tmp_path / "log")
    others = [
        Log.from_columns(five(flag=torch.tensor([True] * 5))),
        more,
        more.packed(),
        more.packed().with_columns({"advantage": torch.zeros(5)}).packed(),
        log.with_rows(torch.tensor([1])),
        Log.load(tmp_path / "log"),
        Log.load(tmp_path / "log", memory_map=False),
        Log.load(tmp_path / "log").with_columns(ADDED),
    ]
    assert [other.hash() for other in others] == [expected] * len(others)


def test_the_hash_of_many_rows_reads_all_of_them() -> None:
    """More rows than one step of the hash takes (2**22 words): the last row counts."""
    rows = 2**19 + 1
    columns = {
        key: torch.zeros(rows, dtype=value.dtype) if value.ndim == 1 else torch.zeros(rows, 2)
        for key, value in five().items()
    }
    log = Log.from_columns(columns)
    assert len(log) * log.blocks[0].matrix.shape[1] > 2**22
    before = log.hash()
    log.column(REWARD)[-1] = 1.0
    assert log.hash() != before
