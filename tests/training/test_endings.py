"""A signal during a fit: the chunk is finished and saved, and going on ends with the same bits."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import differences
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from small_fits import data_for, fit, learner_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.endings import Ended
from hindsight_rl.training.checkpoints.callbacks import Checkpoints
from hindsight_rl.training.checkpoints.endings import SaveOnSignal


class Send(Callback):
    """Sends this process signals, each once, when so many updates are done."""

    def __init__(self, *numbers: signal.Signals, update: int) -> None:
        self._numbers, self._update = list(numbers), update

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step >= self._update:
            while self._numbers:
                signal.raise_signal(self._numbers.pop(0))


def run(folder: Path, updates: int, *callbacks: Callback, resume: Path | None = None) -> Any:
    """Fit a small learner, with validations, in chunks of 4."""
    data = data_for(BC, validation=0.2, updates_per_step=4)
    learner = learner_of(BC, data.spec)
    options = {"callbacks": list(callbacks), "enable_checkpointing": True, "val_check_interval": 8}
    return fit(learner, data, folder, updates, ckpt_path=resume, **options)


def saved(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(("update", "after"), [(12, "no validation"), (16, "a validation")])
def test_the_chunk_is_saved_and_going_on_ends_with_the_same_bits(
    number: signal.Signals, update: int, after: str, tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    last = tmp_path / "a" / "last.ckpt"
    watched = {"every": 8, "monitor": "validation/action_error", "mode": "min"}
    callbacks = [Send(number, update=update), Checkpoints(tmp_path / "a", **watched)]
    with pytest.raises(
        Ended, match=rf"{number.name} at update {update}, saved as .*last\.ckpt"
    ) as e:
        run(tmp_path, 32, *callbacks, SaveOnSignal(last))
    assert e.value.code == 128 + number
    assert saved(last)["global_step"] == update
    assert (tmp_path / "a" / f"step={update // 8 * 8}.ckpt").exists()
    run(tmp_path, 32, Checkpoints(tmp_path / "a", **watched), resume=last)
    run(tmp_path, 32, Checkpoints(tmp_path / "b", **watched))
    for name in ("step=32.ckpt", "best.ckpt"):
        one, two = saved(tmp_path / "a" / name), saved(tmp_path / "b" / name)
        for key in ("state_dict", "optimizer_states", "global_step", "callbacks"):
            assert differences(one[key], two[key], key) == []
    signal.signal(number, before)


def test_before_the_first_chunk_there_is_nothing_to_save(tmp_path: Path) -> None:
    class Early(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Ended, match="stopped by SIGTERM before the first updates were made"):
        run(tmp_path, 32, Early(), SaveOnSignal(tmp_path / "last.ckpt"))
    assert not (tmp_path / "last.ckpt").exists()


def test_a_signal_after_the_last_update_changes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, 16, Send(signal.SIGTERM, update=16), SaveOnSignal(tmp_path / "last.ckpt"))
    assert done.global_step == 16 and not (tmp_path / "last.ckpt").exists()


def test_after_a_warning_the_end_itself_is_the_reason(tmp_path: Path) -> None:
    both = Send(signal.SIGUSR1, signal.SIGTERM, update=12)
    with pytest.raises(Ended, match="SIGTERM at update 12") as stop:
        run(tmp_path, 32, both, SaveOnSignal(tmp_path / "last.ckpt"))
    assert stop.value.code == 143


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    child = os.fork() if hasattr(os, "fork") else pytest.skip("no fork here")
    if not child:
        twice = Send(signal.SIGTERM, signal.SIGTERM, update=12)
        run(tmp_path, 32, twice, SaveOnSignal(tmp_path / "last.ckpt"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert not (tmp_path / "last.ckpt").exists()


def test_signals_that_were_ignored_stay_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run(
            tmp_path, 16, Send(signal.SIGINT, update=12), SaveOnSignal(tmp_path / "last.ckpt")
        )
        assert done.global_step == 16
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
