"""Updates of a chunk as one call of C++: the same numbers as one by one, for every learner."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from native_runs import factors, is_native, products, run
from small_fits import data_for, equal, learner_of, weights
from torch import Tensor
from variants import EVERY, able
from whole_fits import SWEPT, UPDATES, assert_close, fitted, trained

from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.sac import SAC
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner
from hindsight_rl.training.update import lowering, native
from hindsight_rl.training.update.engine import Engine
from hindsight_rl.training.update.lowering import UnknownError, lower
from hindsight_rl.training.update.native import Native, loaded
from hindsight_rl.training.update.programs import Built, Program, keep, read
from hindsight_rl.training.update.recording import record
from hindsight_rl.training.update.state import SeedStates

# Convolutions and tables of embeddings are the compiler's own calls: those go another way.
ELSEWHERE = {"TrajectoryTransformer"}
# A limit of 1e-6 on a divergence is near the rounding of that divergence.
ROUGH = {"MPO": ("penalty.moved", 5e-3)}
NATIVE = {
    name: variant
    for name, variant in (able("update") | SWEPT).items()
    if not variant.images and name not in ELSEWHERE
}


@pytest.mark.parametrize("name", NATIVE)
def test_every_learner_ends_where_single_updates_end(name: str, alone: Any, tmp_path: Path) -> None:
    compiled = fitted(NATIVE[name], tmp_path, compile="update")
    assert is_native(compiled)
    ends, expected = weights(compiled), alone(name, 0)
    for rough, tolerance in [ROUGH[name]] if name in ROUGH else []:
        torch.testing.assert_close(ends.pop(rough), expected[rough], rtol=0, atol=tolerance)
        expected = {key: value for key, value in expected.items() if key != rough}
    assert_close(ends, expected)


def test_images_go_another_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "hindsight_rl"):
        compiled = fitted(EVERY["BC images"], tmp_path, compile="update")
    assert not is_native(compiled)
    assert "not written as C++: UnknownError: ExternKernelAllocLine" in caplog.text


@pytest.mark.parametrize("kind", [IQL, SAC])
def test_two_threads_come_to_the_bits_of_one(kind: type[Learner], tmp_path: Path) -> None:
    """They take a product each and share none, so nothing is added in another order."""
    ends = [
        trained(
            *(kind, tmp_path, 0, 30),
            compile="update",
            threads=threads,
            network=Network(hidden=(64, 64)),
        )
        for threads in (1, 2)
    ]
    assert all(map(is_native, ends))
    assert equal(*map(weights, ends))


def test_seeds_in_threads_come_to_the_bits_of_one_thread(tmp_path: Path) -> None:
    ends = [
        trained(IQL, tmp_path, 0, 30, compile="update", seeds=4, threads=threads)
        for threads in (1, 2)
    ]
    for one, two in zip(*[end.seed_states.state for end in ends], strict=True):
        assert torch.equal(one, two)


def test_chunks_of_any_length_come_to_the_same_bits(tmp_path: Path) -> None:
    """One program serves every K, odd ones too."""
    ends = [
        weights(trained(IQL, tmp_path, 0, UPDATES, compile="update", updates_per_step=chunk))
        for chunk in (1, 7, 64)
    ]
    assert equal(ends[0], ends[1]) and equal(ends[0], ends[2])


def test_tensors_that_stay_are_looked_up_anew() -> None:
    """Statistics that are replaced between two chunks are those that the next one reads."""
    data, ends = data_for(IQL), []
    for compiled in (False, True):
        learner = learner_of(IQL, data.spec)
        optimizer = learner.configure_optimizers()
        states = SeedStates.of(learner, 1, optimizer)
        states.adopt(optimizer)
        networks = {name: list(n.parameters()) for name, n in learner.networks().items()}
        updates = Engine(learner, optimizer, states, networks, compiled=compiled)
        for first in (0, 8):
            chunk = data.relabel(data._sampler().chunk(first, 8))
            updates.run(chunk, None, first)
            statistics = learner.get_submodule("actor.inputs.observation")
            statistics.mean = statistics.mean + 1.0
        ends.append(states.state)
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- single functions


SIZES = [(1, 5, 3), (2, 17, 1), (7, 13, 64), (33, 64, 130), (70, 200, 90), (256, 6, 48)]


@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_any_shape_and_order(threads: int) -> None:
    """Rows, columns and depth that are no whole tiles, and either matrix transposed."""
    lefts, rights = factors(SIZES)
    found = run(products, *lefts, *rights, threads=threads)
    exact = products(*[x.double() for x in (*lefts, *rights)])
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-4)


def test_products_of_batches_and_of_slices() -> None:
    left, right = torch.randn(3, 9, 20), torch.randn(3, 20, 18)

    def function(left: Tensor, right: Tensor) -> Tensor:
        inner = torch.bmm(left[:, 2:8, 4:], right[:, 4:, :17])
        return torch.bmm(inner.mT, torch.relu(inner))

    torch.testing.assert_close(run(function, left, right), function(left, right).reshape(-1))


def test_results_that_are_views_or_come_twice() -> None:
    value = torch.randn(6, 4)

    def function(value: Tensor) -> Tensor:
        moved = value * 2
        return torch.cat([moved[2:4], moved.T.reshape(6, 4)[:1], moved[:1]])

    torch.testing.assert_close(run(function, value), function(value).reshape(-1))


def test_entries_with_other_strides_are_laid_out() -> None:
    """The program reads a column as the first chunk had it; a later one may lie differently."""
    state, wide = torch.zeros(1, 3), torch.randn(5, 1, 4, 6)

    def step(rows: Any, columns: Any, given: Any) -> Any:
        return (rows[0] + columns[0].sum((1, 2)),), columns[0].sum().reshape(1)

    with torch.no_grad():
        program = Native(step, (state,), (wide[..., :3],), tuple, 1)
        for column in (wide[..., :3], wide[..., :3].contiguous(), torch.randn(7, 1, 3, 4).mT):
            seen = program((state,), column)
            torch.testing.assert_close(seen[:, 0], column.sum((1, 2, 3)))


def test_batches_of_another_size_are_another_program() -> None:
    """The last batch of a pass may be smaller; nothing is read beyond it."""
    state = torch.zeros(1)

    def step(rows: Any, columns: Any, given: Any) -> Any:
        return (rows[0] + columns[0].sum().reshape(1),), columns[0].sum().reshape(1)

    with torch.no_grad():
        program = Native(step, (state,), (torch.ones(3, 8),), tuple, 1)
        for size in (8, 5, 11, 8):
            state.zero_()
            seen = program((state,), torch.ones(2, 8 + 8)[:, :size])
            assert seen.tolist() == [[size], [size]] and float(state) == 2 * size
    assert len(program._loaded) == 3


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (torch.rand_like, "draws from a generator"),
        (lambda x: x.cumsum(0), "Line"),
        (lambda x: (x.double() @ x.double().T).float(), "a product of torch.float64"),
    ],
)
def test_what_is_not_known_is_refused(function: Any, why: str) -> None:
    with pytest.raises(UnknownError, match=why), torch.no_grad():
        lower(lambda row, x: (row, function(x)), [torch.zeros(1), torch.randn(40, 40)], 1, 1)


def test_without_the_compilers_inner_parts_there_is_the_scan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(*_: Any) -> Any:
        raise AttributeError("module 'torch._inductor' has no attribute 'x'")

    compile_, seen = torch.compile, []

    def captured(function: Any, **_: Any) -> Any:
        seen.append(True)
        return compile_(function, fullgraph=True, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", captured)
    monkeypatch.setattr(native, "read", lambda *_: None)
    monkeypatch.setattr(lowering, "lower", missing)
    learner = trained(IQL, tmp_path, 0, 10, compile="update")
    assert seen == [True] and learner.plan is not None and learner.plan.compile == "update"


# ---------------------------------------------------------------------- programs of earlier runs


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return tmp_path / "hindsight"


def built(scale: Tensor, size: int = 3) -> Built:
    inputs = (torch.zeros(2), torch.ones(size))
    with torch.no_grad():
        return loaded(lambda row, x: (row + 1, x * scale), inputs, 1, 1)[1]


def never(*_: Any) -> Any:
    raise AssertionError("it was built before")


def test_a_program_is_built_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = torch.arange(20.0)  # few numbers are written into the loops
    first = built(scale, 20)
    assert len(list(cache.glob("*.json"))) == len(list(cache.glob("*.so"))) == 1
    monkeypatch.setattr(lowering, "lower", never)
    again = built(scale, 20)
    assert (again.room, again.seen) == (first.room, first.seen)
    for one in (first, again):
        (held,) = one.constants
        assert torch.equal(held, scale)


def test_a_program_of_an_earlier_run_comes_to_its_bits_without_the_compiler(
    cache: Path, tmp_path: Path
) -> None:
    """In processes of their own; the second one never imports what writes programs."""
    code = (
        "import sys\n"
        "import torch\n"
        "from hindsight_rl.training.update.native import Native\n"
        "def step(rows, columns, given):\n"
        "    moved = rows[0] + columns[0] @ given[0] * torch.tensor([0.5, 2.0, 0.25])\n"
        "    return (moved,), moved.sum().reshape(1)\n"
        "torch.manual_seed(0)\n"
        "state, columns, fixed = torch.zeros(1, 3), torch.randn(5, 1, 4), torch.randn(4, 3)\n"
        "with torch.no_grad():\n"
        "    seen = Native(step, (state,), (columns,), lambda: (fixed,), 1)((state,), columns)\n"
        "print([x.hex() for x in [*state.flatten().tolist(), *seen.flatten().tolist()]])\n"
        "print('hindsight_rl.training.update.lowering' in sys.modules)\n"
        "print('torch._inductor.compile_fx' in sys.modules)\n"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert first[0] == second[0]
    assert (first[1:], second[1:]) == (["True", "True"], ["False", "False"])


@pytest.mark.parametrize("arguments", [([1.0, 2.0, 4.0], 3), ([1.0], 3), ([1.0, 2.0, 3.0, 4.0], 4)])
def test_other_values_or_shapes_are_another_program(cache: Path, arguments: Any) -> None:
    built(torch.tensor([1.0, 2.0, 3.0]))
    scale, size = arguments
    built(torch.tensor(scale), size)
    assert len(list(cache.glob("*.json"))) == 2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def other_bytes(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def other_room(path: Path) -> None:
    said, digest = json.loads(path.read_text())
    path.write_text(json.dumps([said | {"room": said["room"] + 64}, digest]))


DAMAGES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "an empty description": ("*.json", lambda path: path.write_text("")),
    "a cut description": ("*.json", cut),
    "another layout": ("*.json", lambda path: path.write_text('{"source": 1}')),
    "another number": ("*.json", other_room),
    "no description": ("*.json", Path.unlink),
    "a cut library": ("*.so", cut),
    "an empty library": ("*.so", lambda path: path.write_bytes(b"")),
    "another library": ("*.so", other_bytes),
    "no library": ("*.so", Path.unlink),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_not_as_it_was_built_is_built_anew(name: str, cache: Path) -> None:
    pattern, damage = DAMAGES[name]
    first = built(torch.ones(3))
    (path,) = cache.glob(pattern)
    damage(path)
    again = built(torch.ones(3))
    assert again.library != first.library and (again.room, again.seen) == (first.room, first.seen)
    third = built(torch.ones(3))
    assert third.library.parent == cache


def test_a_folder_that_cannot_be_written_is_no_obstacle(cache: Path) -> None:
    cache.write_text("a file")
    assert built(torch.ones(3)).room


def test_a_constant_that_the_update_does_not_read_is_not_kept(cache: Path) -> None:
    """The compiler has made it: a later run would not have it."""
    known = record(lambda x: (x + 1,), (torch.zeros(2),))
    keep("key", known, Program("", 64, (1,)), b"library", [torch.ones(2)])
    assert not cache.exists() and read("key", known) is None
