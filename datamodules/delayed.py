"""The round that is collected while updates on the rounds before it run.

It is collected by the policy as it is when it begins, and added when it is due. So it is the same
whether updates wait for it or not: what it holds does not depend on how fast either goes.

In the background it is collected by a fork of this process, whose memory is that of the moment: the
policy, the rows collected before and the environments are copies that no update moves. A thread
would need no copies and gains nothing: it holds Python's lock for most of a step.
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.episodes import Collected
from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.keys import key_name, key_of
from hindsight_rl.ports import Actor, LearnerView

Collect = Callable[[], Collected]


class NextRound:
    """Collects one round ahead.

    Args:
        collector: Plays the episodes; what its expert keeps is handed back to it.
        background: Whether updates go on meanwhile. Where a process cannot be forked they wait.
    """

    def __init__(self, collector: Collector, background: bool) -> None:
        self._collector = collector
        self._background = background and hasattr(os, "fork")
        self._copy: LearnerView | None = None
        self._process: ForkProcess | None = None
        self._answer: Connection | None = None
        self._found: Collected | None = None
        self._failed: Exception | None = None
        self._warned: set[Any] = set()

    @property
    def begun(self) -> bool:
        """Whether there is a round that was begun and not taken, however it went."""
        return any(each is not None for each in (self._process, self._found, self._failed))

    def policy(self, learner: LearnerView, sample: bool) -> Actor:
        """Return what collects: a learner on the CPU, or its copy there."""
        if learner.device.type == "cpu":
            return learner.collecting(sample)
        if self._copy is None:
            self._copy = learner.fresh(0).train(learner.training)
        self._copy.load_state_dict(learner.state_dict())
        return self._copy.collecting(sample)

    def begin(self, collect: Collect) -> None:
        """Begin a round.

        Args:
            collect: Collects it, by what is in memory now.
        """
        if not self._background:
            with _one_thread():
                self._found = collect()
            return
        context = multiprocessing.get_context("fork")
        self._answer, answer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_answered, args=(collect, self._collector, answer), daemon=True
        )
        with warnings.catch_warnings():
            # The fork computes with one thread, and no other thread does anything meanwhile.
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            self._process.start()
        answer.close()

    def check(self) -> None:
        """Take over a round, or raise what it failed with, as soon as it is known."""
        if self._answer is not None and self._answer.poll():
            self.finish()
        if self._failed is not None:
            raise self._failed

    def take(self) -> Collected | None:
        """Wait for the round and take it over.

        Returns:
            The round; ``None`` where none was begun.

        Raises:
            RolloutError: The process ended without an answer.
        """
        self.finish()
        self.check()
        found, self._found = self._found, None
        return found

    def _wait(self) -> None:
        """Take over what the process answers."""
        if self._answer is None or self._process is None:
            return
        try:
            answer = self._answer.recv()
        except EOFError:
            answer = None
        self._process.join()
        code = self._process.exitcode
        self._process = self._answer = None
        if answer is None:
            raise RolloutError(
                f"{self._collector.name}: the process that collects in the background ended with "
                f"code {code}. Set collection.background to false to see where"
            )
        for message, category, file, line in answer["warnings"]:
            known = str(message), category, file, line
            if known not in self._warned:  # every fork says it for the first time
                warnings.warn_explicit(message, category, file, line)
            self._warned.add(known)
        if "error" in answer:
            raise answer["error"]
        self._found = _read(answer)
        self._collector.collected_apart(answer["expert"])

    def finish(self) -> None:
        """Wait for the round, which is kept, or what it failed with."""
        try:
            self._wait()
        except Exception as error:
            self._failed = error

    def close(self) -> None:
        """End a round that is under way, and forget it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._answer = self._found = self._failed = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return the round, after it ended; ``None`` where none was begun, or it failed."""
        self.finish()
        if self._found is None:
            return None
        written = _written(self._found)
        columns = {name: torch.from_numpy(each) for name, each in written.pop("columns").items()}
        arrays = {
            n: torch.from_numpy(each) for n, each in written.items() if isinstance(each, np.ndarray)
        }
        return {"columns": columns, "queries": self._found.queries, **arrays}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take over the round of a checkpoint.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.close()
        if state is None:
            return
        arrays = {name: each.numpy() for name, each in state.items() if isinstance(each, Tensor)}
        columns = {name: column.numpy() for name, column in state["columns"].items()}
        self._found = _read({"queries": state["queries"], "columns": columns, **arrays})


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: a policy of few rows does best so, and a fork can have no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _answered(collect: Collect, collector: Collector, answer: Connection) -> None:
    """Collect a round in a process of its own, and send it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever began it ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # what was there is not looked through again, or it would be copied
    with warnings.catch_warnings(record=True) as warned, _one_thread():
        warnings.simplefilter("always")
        try:
            found = _written(collect()) | {"expert": collector.state_dict()}
        except Exception as error:
            found = {"error": _sendable(error)}
    found["warnings"] = [(w.message, w.category, w.filename, w.lineno) for w in warned]
    answer.send(found)
    answer.close()


def _sendable(error: Exception) -> Exception:
    """Return an error that another process can raise, and that says where it is from."""
    told = "".join(traceback.format_exception(error))
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # made with other arguments than it keeps
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In the process that collects:\n{told}")
    return error


def _written(found: Collected) -> dict[str, Any]:
    """Return a round in arrays."""
    columns = {key_name(key): column.numpy() for key, column in found.columns.items()}
    return found._asdict() | {"columns": columns, "lengths": found.lengths.numpy()}


def _read(written: Mapping[str, Any]) -> Collected:
    """Return a round of arrays."""
    return Collected(
        {key_of(name): torch.from_numpy(each) for name, each in written["columns"].items()},
        torch.from_numpy(written["lengths"]),
        written["returns"],
        written.get("successes"),
        written["queries"],
    )
