"""Two fits of one run folder: the second one ends with a line that names the first."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_fits import checkpoints, fit, fit_words, hindsight, refused, start

from hindsight_rl.cli import run_lock
from hindsight_rl.cli.run_lock import LOCK, locked


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run has a checkpoint; where none comes, kill the process and show its output.

    Older checkpoints are removed while newer ones come, so which one it is does not matter.
    """
    end = time.monotonic() + 120
    while not any((run / "checkpoints").glob("step=*.ckpt")):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"no checkpoint in {run}: {process.communicate()}")
        time.sleep(0.01)


@contextmanager
def killed(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Kill a process at the end, so that a test that fails does not wait for it."""
    try:
        yield
    finally:
        process.kill()


def test_the_second_fit_of_a_run_folder_names_the_first(place: Path) -> None:
    run, words = place / "run", fit_words("--run", "run", updates=10_000_000)
    with start(*words, folder=place) as first, killed(first):
        wait_for_checkpoint(run, first)
        written = {path: path.stat().st_mtime_ns for path in (run / "config.yaml", run / LOCK)}
        with start("fit", "--resume", "--run", "run", folder=place) as second:
            out, told = second.communicate()
        assert second.returncode == 2 and out == ""
        assert told.splitlines()[-1] == (
            f"error: run is in use: process {first.pid} runs 'fit' in it. Choose another --run, or "
            f"wait until it has ended, or stop it with 'kill {first.pid}'"
        )
        assert "Traceback" not in told
        assert first.poll() is None  # which was not disturbed
        assert {path: path.stat().st_mtime_ns for path in written} == written
        first.send_signal(signal.SIGKILL)
        first.communicate()
    # The system has ended the lock with the process, whatever the file says.
    assert (run / LOCK).read_text() == f"{first.pid}@{socket.gethostname()}"
    newest = max(checkpoints(run).values())
    done = hindsight("fit", "--resume", "--run", run, "--trainer.max_steps", newest + 8)
    assert done.code == 0 and checkpoints(run)["last.ckpt"] == newest + 8


def test_a_run_that_goes_on_is_said_to_be_in_use_before_its_checkpoints_are_read(
    place: Path,
) -> None:
    """They come and go while it runs: here there is none that can be read."""
    run = place / "run"
    assert fit("--run", "run").code == 0
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"half")
    with locked(run):
        assert f"run is in use: process {os.getpid()}" in refused(fit("--resume", "--run", "run"))
    free = fit("--resume", "--run", "run")
    assert free.code == 2 and "run: no readable checkpoint" in free.err.splitlines()[-1]


def test_a_new_run_folder_is_held_too_and_free_afterwards(place: Path) -> None:
    with locked(place / "run") as new:
        assert new
        told = refused(fit("--run", "run"))
        assert f"run is in use: process {os.getpid()} runs 'fit' in it" in told
    assert not (place / "run").exists()
    assert fit("--run", "run").code == 0
    with locked(place / "run") as new:
        assert not new
    assert (place / "run" / LOCK).read_text() == "" and checkpoints(place / "run")


def test_a_fit_that_never_starts_leaves_no_folder(place: Path) -> None:
    assert "not a valid duration" in refused(fit("--run", "a/run", "--trainer.max_time", "soon"))
    assert "checkpoint_every" in refused(fit("--run", "a/run", "--checkpoint_every", 0))
    assert not (place / "a" / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_without_locks_of_the_system_the_named_process_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    path, here = tmp_path / LOCK, socket.gethostname()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        path.write_text(f"{other.pid}@{here}")
        with pytest.raises(ValueError, match=f"process {other.pid} runs 'fit'"), locked(tmp_path):
            pass
        path.write_text(f"{other.pid}@another-machine")  # nothing is known of that one
        with locked(tmp_path):
            assert path.read_text() == f"{os.getpid()}@{here}"
        other.kill()
    path.write_text(f"{other.pid}@{here}")
    for _ in range(2):
        with locked(tmp_path):
            pass


def test_a_lock_of_another_machine_is_named_with_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / LOCK).write_text("12@robot")
        with (
            pytest.raises(ValueError, match=r"process 12 on robot runs 'fit' in it\. .*ended$"),
            locked(tmp_path),
        ):
            pass
        (tmp_path / LOCK).write_text("nonsense")
        with pytest.raises(ValueError, match="another process runs 'fit'"), locked(tmp_path):
            pass


def test_a_file_that_was_removed_while_it_was_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, path = run_lock._lock, tmp_path / LOCK
    turns = [1]

    def late(handle: int) -> None:
        own(handle)
        if turns:
            turns.pop()
            path.unlink()

    monkeypatch.setattr(run_lock, "_lock", late)
    with locked(tmp_path), pytest.raises(ValueError, match="is in use"), locked(tmp_path):
        pass
