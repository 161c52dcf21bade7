"""A function of many parts, in several processes: of this machine, or of a Ray cluster.

    with closing(Processes(4)) as workers:
        for found in each(workers, function, parts):
            ...

Function, parts and what comes back travel between processes, so the function is one of a module.
Each process computes with one thread.
"""

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

Part = TypeVar("Part")
Found = TypeVar("Found")

_EXTRA = '--ray needs Ray: pip install "hindsight-rl[ray]"'
_THREADS = "OMP_NUM_THREADS"
_AHEAD = 2  # parts that wait for each process


class WorkerError(OSError):
    """A part was not finished: its process ended without an answer."""


class _Answer(NamedTuple):
    """What a process says of a part: errors as text, since not all of them can be sent."""

    found: Any
    error: str | None = None


class Workers(Protocol):
    """Where parts are computed.

    Attributes:
        count: How many at a time.
    """

    count: int

    def submit(self, function: Callable[[Any], Any], part: Any) -> "Future[Any]":
        """Compute a part as soon as there is room for it.

        ``WorkerError`` in the future says that its process ended without an answer.
        """

    def close(self) -> None:
        """Stop what still runs."""


class Processes:
    """Processes of this machine; they end with this one, however that ends.

    Args:
        count: How many at most, at least 1; there are no more than cores.
    """

    def __init__(self, count: int) -> None:
        self.count = count = min(count, _cores())
        self._threads = ThreadPoolExecutor(count)
        context = multiprocessing.get_context("spawn")
        # One process each: whose process ended is then known.
        self._pools = [
            ProcessPoolExecutor(1, mp_context=context, initializer=_begin) for _ in range(count)
        ]
        self._numbers = [pool.submit(os.getpid) for pool in self._pools]
        self._free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for pool in self._pools:
            self._free.put(pool)

    def submit(self, function: Callable[[Any], Any], part: Any) -> "Future[Any]":
        """Compute a part as soon as one of the processes is free."""
        return self._threads.submit(self._computed, function, part)

    def _computed(self, function: Callable[[Any], Any], part: Any) -> Any:
        pool = self._free.get()
        try:
            return pool.submit(function, part).result()
        except BrokenProcessPool as error:
            raise WorkerError("its process was killed, or memory ran out") from error
        finally:
            self._free.put(pool)

    def close(self) -> None:
        """Drop what waits, and end the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for pool, number in zip(self._pools, self._numbers, strict=True):
            if number.cancel() or number.exception() is not None:
                continue  # it never began
            with suppress(ProcessLookupError):  # it was killed before
                os.kill(number.result(), signal.SIGTERM)
            pool.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True)


class Cluster:
    """Tasks of a Ray cluster; each takes one core unless the cluster says otherwise.

    Files that parts name must be the same on all machines.

    Args:
        address: Of the cluster (``auto``, ``ray://head:10001``), or ``local`` for one on this
            machine.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        self._ray = connected(address)
        self.count = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._applied = self._ray.remote(num_cpus=1, max_retries=0)(_applied)
        self._tasks: list[Any] = []

    def submit(self, function: Callable[[Any], Any], part: Any) -> "Future[Any]":
        """Compute a part as soon as the cluster has room for it."""
        task = self._applied.remote(function, part)
        self._tasks.append(task)
        answer: Future[Any] = Future()
        task.future().add_done_callback(functools.partial(self._passed, answer))
        return answer

    def _passed(self, answer: "Future[Any]", done: "Future[Any]") -> None:
        """Pass an answer on, with the errors of this module."""
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            answer.set_exception(error)
        else:
            why = " ".join(str(error).split())[:200]
            answer.set_exception(WorkerError(f"Ray lost it ({why})"))

    def close(self) -> None:
        """End what still runs, and leave the cluster."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


def connected(address: str) -> Any:
    """Return Ray, connected to a cluster.

    Args:
        address: Of the cluster, or ``local`` for one on this machine.

    Returns:
        The module.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(_EXTRA) from error
    # Modules of the user's own folders are found there too.
    own = [path for path in sys.path if not path.startswith((sys.prefix, sys.base_prefix))]
    there = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in own)}
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": there},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"--ray {address}: no cluster answers there ({error})") from error
    return ray


def each(
    workers: Workers,
    function: Callable[[Part], Found],
    parts: Iterable[Part],
    *,
    name: Callable[[int], str] = "part {}".format,
) -> Iterator[Found]:
    """Yield what a function gives for parts, in their order.

    Args:
        workers: Where it is computed; some parts are sent ahead.
        function: Of a module.
        parts: What it is given.
        name: Names a part by its number, for messages.

    Yields:
        One answer a part.

    Raises:
        ValueError: The function raised it, an OSError or a MemoryError; names the part.
        WorkerError: A process ended without an answer; names the part.
    """
    ahead: deque[tuple[int, Future[_Answer]]] = deque()
    for number, part in enumerate(parts):
        ahead.append((number, workers.submit(functools.partial(_told, function), part)))
        if len(ahead) >= _AHEAD * workers.count:
            yield _found(*ahead.popleft(), name)
    while ahead:
        yield _found(*ahead.popleft(), name)


def _applied(function: Callable[[Any], Any], part: Any) -> Any:
    """Apply a function: Ray takes no others than functions of a module."""
    return function(part)


def _told(function: Callable[[Any], Any], part: Any) -> _Answer:
    """Return what a function says of a part, in the process that computes it."""
    try:
        return _Answer(function(part))
    except MemoryError:
        return _Answer(None, "memory ran out")
    except (ValueError, OSError) as error:
        return _Answer(None, str(error))


def _found(number: int, future: "Future[_Answer]", name: Callable[[int], str]) -> Any:
    try:
        answer = future.result()
    except WorkerError as error:
        raise WorkerError(f"{name(number)}: {error}") from error
    if answer.error is not None:
        raise ValueError(f"{name(number)}: {answer.error}")
    return answer.found


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # of Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin() -> None:
    """Set up a process: one thread, no Ctrl-C of its own, and an end with its parent."""
    os.environ[_THREADS] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End this process when its parent has ended, killed or not."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
