"""A chunk of updates of IQL, made ready to be timed without the loop around it."""

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from bench import UPDATES_PER_STEP
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from shared import silent_trainer
from sizes import Size, as_log, make_log
from torch import Tensor

from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network

_WARM = 4  # chunks before the clock starts: the first compiles


class Built(NamedTuple):
    """A learner that has made some chunks.

    Args:
        run: Makes the updates of a chunk.
        read: Reads the rows of a chunk.
        program: Seconds that ``run`` has spent in the program of an update until now.
        fitted: Seconds of a chunk through ``Trainer.fit``; 0 if there was none after the first.
        held: Returns what the program moves and needs: the state, twice, and its room.
    """

    run: Callable[[], None]
    read: Callable[[], Any]
    program: Callable[[], float]
    fitted: float
    held: Callable[[], list[Tensor]]


class _Stop(Callback):
    """Ends the fit after so many chunks, and leaves the learner ready for further updates."""

    def __init__(self, chunks: int) -> None:
        self._chunks, self._done, self._start, self.seconds = chunks, 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Count the chunk."""
        self._done += 1
        if self._done == _WARM:
            self._start = time.perf_counter()
        if self._done >= self._chunks:
            if self._done > _WARM:
                self.seconds = (time.perf_counter() - self._start) / (self._done - _WARM)
            trainer.should_stop = True


def module_of(size: Size) -> OfflineDataModule:
    """Return the datamodule of random rows; nothing is read in the background."""
    return OfflineDataModule(
        as_log(make_log(size)),
        batch_size=size.batch_size,
        updates_per_step=UPDATES_PER_STEP,
        prefetch=False,
    )


def rows_of(size: Size) -> Callable[[int], Any]:
    """Return a function that reads the rows of a chunk, by the number of its first update."""
    sampler = module_of(size)._sampler()
    return lambda number: sampler.chunk(number, UPDATES_PER_STEP)


def built(
    size: Size,
    compiled: str,
    *,
    chunks: int = 1,
    accelerator: str = "cpu",
    precision: Any = "32-true",
    **own: Any,
) -> Built:
    """Return a learner that has made some chunks.

    Args:
        size: Of networks and batches.
        compiled: What is compiled.
        chunks: How many it makes through ``Trainer.fit``.
        accelerator: The trainer's.
        precision: The trainer's.
        **own: Arguments of the learner, where one thread and exact products are not meant.
    """
    module = module_of(size)
    learner = IQL(
        module.spec,
        network=Network(hidden=size.hidden),
        compile=compiled,
        **{"threads": 1, "matmul_precision": "highest"} | own,
    )
    stop = _Stop(chunks)
    with tempfile.TemporaryDirectory() as folder:
        options = {"accelerator": accelerator, "precision": precision, "callbacks": [stop]}
        silent_trainer(10**6, default_root_dir=folder, **options).fit(learner, module)
    torch.set_num_threads(1)
    sampler = module._sampler(seeds=learner.seeds)

    def read() -> Any:
        return module.relabel(sampler.chunk(0, UPDATES_PER_STEP))

    chunk = learner.read(read()).to(learner.device)

    def run() -> None:
        learner.runner.run(chunk, 0)

    engine = learner.runner.engine
    return Built(run, read, _timed(engine), stop.seconds, lambda: _held(engine))


def _programs(engine: Any) -> list[Any]:
    """Return the programs of an engine, one for each shape of batches; none of uncompiled ones."""
    return list(engine._program._loaded.values()) if engine and engine._program else []


def _held(engine: Any) -> list[Tensor]:
    memory = [each for loaded in _programs(engine) for each in loaded._memory.values()]
    return [*engine._states.state, *(t for rows, room in memory for t in (*rows, room))]


def _timed(engine: Any) -> Callable[[], float]:
    """Put a clock around the program of an engine, if it has one; return how to read it."""
    spent = [0.0]
    for loaded in _programs(engine):

        def updates(*given: Any, inner: Any = loaded._updates) -> int:
            start = time.perf_counter()
            failed: int = inner(*given)
            spent[0] += time.perf_counter() - start
            return failed

        loaded._updates = updates
    return lambda: spent[0]


def chunk_of(size: Size, compiled: str, **own: Any) -> Callable[[], None]:
    """Return a function that makes the updates of a chunk; arguments as of :func:`built`."""
    return built(size, compiled, **own).run


def microseconds(
    run: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median time of an update, from chunks that take a tenth of a second at least."""
    for _ in range(2):
        run()
    start = clock()
    run()
    count = max(1, int(0.1 / (clock() - start)))
    times = []
    for _ in range(repeats):
        start = clock()
        for _ in range(count):
            run()
        times.append((clock() - start) / count / UPDATES_PER_STEP)
    return 1e6 * statistics.median(times)
