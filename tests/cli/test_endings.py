"""What a command says and returns when a signal ends it."""

import shutil
import signal
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from command_fits import checkpoints, fit, hindsight, start

from hindsight_rl.cli.progress import UpdateProgress
from hindsight_rl.endings import ENDING, Ended, ended, handled

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}


def send_at(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, update: int) -> None:
    """Have a fit in this process sent a signal when so many updates are done."""
    own = UpdateProgress.on_train_batch_end

    def sending(self: Any, trainer: Any, *arguments: Any) -> None:
        own(self, trainer, *arguments)
        if trainer.global_step == update:
            signal.raise_signal(number)

    monkeypatch.setattr(UpdateProgress, "on_train_batch_end", sending)


@pytest.mark.parametrize("number", CODES)
def test_fit_saves_and_says_how_to_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    with monkeypatch.context() as patched:
        send_at(patched, number, 41)
        stopped = fit("--run", "my run")
    assert stopped.code == CODES[number] and stopped.out == ""
    assert stopped.err.splitlines()[-1] == (
        f"stopped by {number.name} at update 41, saved as my run/checkpoints/last.ckpt; "
        "go on with: hindsight fit --resume --run 'my run'"
    )
    assert checkpoints(place / "my run") == {"last.ckpt": 41, "step=25.ckpt": 25}
    done = hindsight("fit", "--resume", "--run", "my run")
    assert done.code == 0 and "resuming my run/checkpoints/last.ckpt" in done.err
    assert checkpoints(place / "my run")["last.ckpt"] == 60


def test_a_run_that_is_stopped_before_it_began_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hindsight_rl.training.update.runner.make_plan",
        lambda *_: signal.raise_signal(signal.SIGTERM),
    )
    stopped = fit("--run", "run")
    assert stopped.code == 143 and stopped.err.splitlines()[-1] == "stopped by SIGTERM"
    assert not (place / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_collect_that_is_stopped_leaves_nothing(place: Path, number: signal.Signals) -> None:
    words = ("collect", "--env", "CartPole-v1", "--output", "wander", "--episodes", 100_000)
    with start(*words, folder=place) as process:
        while process.poll() is None and not list(place.glob(".wander.*/data/main_data.hdf5")):
            pass
        process.send_signal(number)
        _, told = process.communicate()
    assert process.returncode == CODES[number], told
    assert told.splitlines()[-1] == f"stopped by {number.name}" and "Traceback" not in told
    assert {path.name for path in place.iterdir()} == {"log.npz"}


def test_handlers_are_those_of_before(place: Path) -> None:
    before = {number: signal.getsignal(number) for number in CODES}
    assert hindsight("inspect", "log.npz").code == 0
    assert fit("--run", "run").code == 0
    assert {number: signal.getsignal(number) for number in CODES} == before


@pytest.mark.parametrize(("free", "after"), [(1 << 20, "no"), (6 << 20, "some")])
def test_collect_on_a_full_disk_says_so_in_a_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, free: int, after: str
) -> None:
    """HDF5 ends the process where its last write fails: room is asked for before."""
    left = iter([free] + [free - (1 << 20) * n for n in range(1000)])
    total = shutil.disk_usage(place)
    monkeypatch.setattr(
        "hindsight_rl.files.shutil.disk_usage", lambda _: total._replace(free=next(left))
    )
    told = hindsight("collect", "--env", "CartPole-v1", "--output", "own", "--episodes", 50)
    assert told.code == 2 and told.out == "" and len(told.err.splitlines()) == 1
    assert told.err.startswith("error: own cannot be written: No space left on device; ")
    assert {path.name for path in place.iterdir()} == {"log.npz"}


def test_an_ending_that_comes_while_an_object_is_freed_is_not_lost() -> None:
    """Exceptions of weak references' callbacks are dropped, with a line on the screen."""

    class Freed:
        """Something to free."""

    before, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(Ended) as ending, handled(ENDING, ended):
        one = Freed()
        reference = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGTERM))
        del one
        assert reference() is None
        threading.Event().wait(60)
    assert ending.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before and sys.unraisablehook is hook
