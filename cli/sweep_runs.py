"""The runs of a sweep: each a ``hindsight fit`` and a ``test`` in processes of their own."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

from hindsight_rl.cli.run_lock import check_free
from hindsight_rl.cli.runs import CHECKPOINTS, CONFIG
from hindsight_rl.cli.sweep_values import Setting, name_of, words_of
from hindsight_rl.files import write_text

_THREADS = "OMP_NUM_THREADS"
_NO_NUMBERS = {"run", "updates"}  # what a fit reports that had nothing left to do
_PATIENCE = 60.0  # seconds that a run has to save its last checkpoint


class Fit(NamedTuple):
    """One run: a setting, a seed, and what all runs share."""

    folder: str
    """Folder of the sweep, absolute."""
    words: tuple[str, ...]
    """Words of ``fit`` that all runs share."""
    setting: Setting
    """Options that differ between settings."""
    seed: int
    """Of weights (``--seed_everything``) and of draws (``--data.seed``)."""
    place: str
    """Folder that paths in the words are relative to."""

    @property
    def name(self) -> str:
        """The run in words that a file can be named by."""
        return f"{name_of(self.setting)}/seed-{self.seed}"

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return Path(self.folder, "runs", self.name)

    @property
    def log(self) -> Path:
        """What the run wrote to its terminal."""
        return Path(self.folder, "logs", f"{self.name}.txt")

    @property
    def result(self) -> Path:
        """The run's reports, written when it is finished."""
        return Path(self.folder, "results", f"{self.name}.json")


class RunError(RuntimeError):
    """A run ended with another exit code than 0; the message is its last line."""


class Call(Protocol):
    """Runs a ``hindsight`` command."""

    def __call__(self, words: Sequence[str], fit: Fit) -> bytes:
        """Return its output; what it says beside goes into the log of the run."""


class Pool(Protocol):
    """Where runs are executed."""

    def submit(self, fit: Fit) -> "Future[dict[str, Any]]":
        """Start a run as soon as there is room for it."""

    def close(self) -> None:
        """Stop what still runs; its newest checkpoint stays, to go on from."""


class Processes:
    """Runs on this machine, so many at a time.

    Args:
        jobs: How many at a time.
    """

    def __init__(self, jobs: int) -> None:
        self._threads = ThreadPoolExecutor(jobs)
        self._living: set[subprocess.Popen[bytes]] = set()
        self._lock, self._closed = threading.Lock(), False
        self._environment = _environment(jobs)

    def submit(self, fit: Fit) -> "Future[dict[str, Any]]":
        """Start a run as soon as one of the places is free."""
        return self._threads.submit(execute, fit, self._call)

    def close(self) -> None:
        """Ask running fits to save and end, and wait for them."""
        with self._lock:
            self._closed = True
            for process in self._living:
                process.terminate()
            living = list(self._living)
        latest = time.monotonic() + _PATIENCE
        while any(process.poll() is None for process in living) and time.monotonic() < latest:
            time.sleep(0.05)
        for process in living:
            process.kill()  # nothing where it has ended
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _call(self, words: Sequence[str], fit: Fit) -> bytes:
        with ExitStack() as stack:
            with self._lock:
                if self._closed:
                    raise RunError("the sweep was ended")
                process = stack.enter_context(_started(words, fit, self._environment))
                self._living.add(process)
            try:
                return _finished(process, fit.log)
            finally:
                with self._lock:
                    self._living.discard(process)


def execute(fit: Fit, call: "Call | None" = None) -> dict[str, Any]:
    """Fit and test, going on from a checkpoint where there is one.

    Args:
        fit: The run. One whose result is there already is only read.
        call: Runs words of ``hindsight`` and returns their output; a process by default.

    Returns:
        ``setting``, ``seed``, ``seconds``, and the reports ``fit`` and, with an environment,
        ``test``.

    Raises:
        RunError: A command ended with another exit code than 0.
    """
    if fit.result.exists():
        found: dict[str, Any] = json.loads(fit.result.read_text())
        return found
    call = call or _alone
    fit.log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    result = {"setting": fit.setting, "seed": fit.seed, "fit": _fitted(fit, call)}
    if _names_environment(fit.run):
        result["test"] = json.loads(call(["test", "--run", str(fit.run), "--json"], fit))
    result["seconds"] = time.monotonic() - begun
    write_text(fit.result, json.dumps(result, indent=1) + "\n")
    return result


def _fitted(fit: Fit, call: Call) -> dict[str, Any]:
    """Return the report of ``fit``, which is kept: a later start may only have to test."""
    kept = fit.run / "fit.json"
    if not kept.exists():
        _wait_until_free(fit.run)
        seeds = [f"--seed_everything={fit.seed}", f"--data.seed={fit.seed}"]
        words = ["fit", *fit.words, *words_of(fit.setting), *seeds, "--run", str(fit.run), "--json"]
        found = b""
        if any((fit.run / CHECKPOINTS).glob("*.ckpt")):
            found = call(["fit", "--resume", "--run", str(fit.run), "--json"], fit)
            if json.loads(found).keys() <= _NO_NUMBERS:
                # It was killed behind its last update: its numbers are gone, and are made again.
                shutil.rmtree(fit.run)
                found = b""
        write_text(kept, (found or call(words, fit)).decode())
    report: dict[str, Any] = json.loads(kept.read_text())
    return report


def _wait_until_free(run: Path) -> None:
    """Wait for the process of a sweep that was killed: it saves what it has done, and ends."""
    latest = time.monotonic() + _PATIENCE
    while run.exists() and time.monotonic() < latest:
        try:
            return check_free(run)
        except ValueError:
            time.sleep(0.1)


def _names_environment(run: Path) -> bool:
    """Return whether a run has an environment to be tested in."""
    config = yaml.safe_load((run / CONFIG).read_text())
    return bool(config.get("env"))


def _alone(words: Sequence[str], fit: Fit) -> bytes:
    with _started(words, fit, os.environ) as process:
        try:
            return _finished(process, fit.log)
        finally:
            if process.poll() is None:  # whoever waits for it was ended
                process.terminate()
                process.wait(_PATIENCE)


@contextmanager
def _started(
    words: Sequence[str], fit: Fit, environment: Mapping[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    """Give the process of a command, which ends by itself should this one be killed."""
    reader, writer = os.pipe()
    try:
        with fit.log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "hindsight_rl.cli.led", *words],
                stdout=subprocess.PIPE,
                stderr=file,
                stdin=reader,
                cwd=fit.place,
                env=environment,
                # A Ctrl-C of the terminal reaches the sweep alone, which asks its runs to end.
                start_new_session=True,
            )
        yield process
    finally:
        os.close(reader)
        os.close(writer)


def _finished(process: "subprocess.Popen[bytes]", log: Path) -> bytes:
    """Return the output of a process, once it has ended well."""
    out, _ = process.communicate()
    if process.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise RunError(lines[-1] if lines else f"exit code {process.returncode}")
    return out


def _environment(jobs: int) -> dict[str, str]:
    """Return the variables of the runs: several at a time share the cores."""
    found = dict(os.environ)
    if jobs > 1 and _THREADS not in found:
        found[_THREADS] = str(max(1, (os.cpu_count() or 1) // jobs))
    return found
