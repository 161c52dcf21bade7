"""Who does which operation: what must wait for what, and how work is shared."""

import math
from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Any

import pytest

from hindsight_rl.training.update import operations as operations_module
from hindsight_rl.training.update.operations import Operation, Place, Step, lanes, predecessors
from hindsight_rl.training.update.writing import _Room, write


def operation(
    reads: Sequence[str] = "",
    writes: Sequence[str] = "",
    seconds: float = 1e-3,
    at: tuple[int, int] = (0, 4),
) -> Operation:
    """Return an operation on whole blocks; ``at``: bytes of what it writes."""
    places = [Place(name, 0, 4) for name in reads] + [Place(name, *at) for name in writes]
    written = frozenset(range(len(reads), len(places)))
    return Operation("run{alone}({threads});", tuple(places), written, seconds)


def test_an_operation_waits_for_what_it_reads_and_for_who_reads_what_it_writes() -> None:
    found = predecessors(
        [
            operation(writes="a"),
            operation(reads="a", writes="b"),
            operation(reads="c", writes="d"),
            operation(writes="a"),
            operation(writes="c"),
        ]
    )
    assert found == [set(), {0}, set(), {0, 1}, {2}]


def test_parts_of_a_block_are_independent() -> None:
    found = predecessors(
        [
            operation(writes="a", at=(0, 4)),
            operation(writes="a", at=(4, 8)),
            operation(writes="a", at=(3, 5)),
        ]
    )
    assert found == [set(), set(), {0, 1}]


def test_two_chains_run_beside_each_other_and_what_joins_them_is_shared() -> None:
    chains = [
        *(operation(writes="a"), operation(writes="b")),
        *(operation(reads="a", writes="c"), operation(reads="b", writes="d")),
        operation(reads="cd", writes="e", seconds=2e-4),
    ]
    found = lanes(chains, 2)
    assert found.each == [[Step(0, ()), Step(2, ())], [Step(1, ()), Step(3, ())]]
    assert found.shared == [4]


def test_a_lane_waits_where_it_needs_the_others_result() -> None:
    crossed = [
        *(operation(writes="a"), operation(writes="b")),
        *(operation(reads="ab", writes="c"), operation(reads="ab", writes="d")),
        operation(reads="cd", writes="e", seconds=2e-4),
    ]
    found = lanes(crossed, 2)
    assert [step.after for each in found.each for step in each] == [(), (1,), (), (0,)]


def test_a_single_chain_is_shared_as_it_is() -> None:
    chain = [
        operation(writes="a"),
        operation(reads="a", writes="b"),
        operation(reads="b", writes="c"),
    ]
    assert lanes(chain, 2) == ([], [0, 1, 2])
    assert lanes(chain, 1) == ([], [0, 1, 2])


def test_memory_is_used_again_within_a_lane_only() -> None:
    """Block a is free when c is written; what both lanes touch keeps its place."""
    chain = [
        operation(writes="a"),
        operation(reads="a", writes="b"),
        operation(reads="b", writes="c"),
    ]
    blocks = dict.fromkeys("abc", 64)
    given: Any = {"packed": 0, "moved": 1, "inputs": 1, "products": "float32"}
    _, room = write(chain, blocks, {"run": "{{}} {name}"}, **given, threads=1)
    flags = packed = 64
    assert room == flags + packed + 2 * 64
    crossed = [
        *(operation(writes="a"), operation(writes="b")),
        *(operation(reads="ab", writes="c"), operation(reads="ab", writes="d")),
        operation(reads="cd", writes="e", seconds=2e-4),
    ]
    source, room = write(
        *(crossed, dict.fromkeys("abcde", 64), {"run": "{{}} {name}"}),
        **given,
        threads=2,
    )
    assert room == flags + 2 * packed + 5 * 64
    assert "until(done[1], now);" in source and "run_alone" in source


def test_what_another_lane_writes_lies_where_nothing_else_does() -> None:
    """Lane 0 reads b late, lane 1 writes it early: it must not lie where lane 0 is done with a."""
    operations = [
        *(operation(writes="a"), operation(writes="b")),
        *(operation(reads="a", writes="c"), operation(reads="bc", writes="d")),
    ]
    steps = [[Step(0, ()), Step(2, ()), Step(3, (1,))], [Step(1, ())], []]
    room = _Room(operations, dict.fromkeys("abcd", 64), steps, start=0)
    assert room.at["b"] not in {room.at[name] for name in "acd"}
    assert room.at["d"] == room.at["a"]  # of lane 0 alone, and done with


@pytest.mark.parametrize("seed", range(20))
def test_blocks_in_one_place_are_never_needed_at_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two blocks in one place all that touches the one has ended before the other is touched."""
    monkeypatch.setattr(operations_module, "_WORTH", math.inf)  # lanes, whether they pay or not
    random = Random(seed)
    names = [f"block{number}" for number in range(40)]
    operations = [
        operation(random.sample(names[:n], min(n, 2)), [name], random.uniform(1e-4, 3e-3))
        for n, name in enumerate(names)
    ]
    plan = lanes(operations, 2)
    assert len(plan.each) == 2
    steps = [*plan.each, [Step(number, ()) for number in plan.shared]]
    room = _Room(operations, dict.fromkeys(names, 64), steps, start=0)
    ended = ended_before(steps)
    users = {
        name: {n for n, one in enumerate(operations) if any(p.block == name for p in one.places)}
        for name in names
    }
    for one, other in combinations(names, 2):
        if room.at[one] == room.at[other]:
            assert any(
                all(before in ended[after] for before in users[x] for after in users[y])
                for x, y in ((one, other), (other, one))
            )


def ended_before(steps: list[list[Step]]) -> dict[int, set[int]]:
    """Return what has ended when an operation begins, by lanes and waiting alone."""
    *lanes_of, shared = steps
    direct: dict[int, set[int]] = {}
    for lane in lanes_of:
        for before, step in zip([None, *lane], lane, strict=False):
            direct[step.number] = {*step.after, *([] if before is None else [before.number])}
    alone = set(direct)
    for before, step in zip([None, *shared], shared, strict=False):
        direct[step.number] = alone | (set() if before is None else {before.number})
    found: dict[int, set[int]] = {}

    def of(number: int) -> set[int]:
        if number not in found:
            found[number] = direct[number].union(*map(of, direct[number]))
        return found[number]

    return {number: of(number) for number in direct}
