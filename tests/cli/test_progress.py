"""Progress: lines with updates per second and loss terms off a terminal, a bar on one."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_fits import fit, hindsight

from hindsight_rl.cli import progress
from hindsight_rl.cli.progress import UpdateProgress

LINE = re.compile(r"(\w+): update ([\d,]+) of ([\d,]+), ([\d,]+) updates/s(?:, (.*))?")


def lines(text: str) -> list[tuple[str, int, int, int, str | None]]:
    """Return learner, update, of how many, rate and terms of every line of progress."""
    found = [match for line in text.splitlines() if (match := LINE.fullmatch(line))]
    numbers = [[int(m[place].replace(",", "")) for place in (2, 3, 4)] for m in found]
    return [(m[1], *three, m[5]) for m, three in zip(found, numbers, strict=True)]


def test_a_line_every_tenth_with_rate_and_terms(place: Path) -> None:
    shown = lines(fit("--run", "a", "--trainer.log_every_n_steps", 8, updates=200).err)
    assert len(shown) == 10
    assert [update * 10 // 200 for _, update, _, _, _ in shown] == list(range(1, 11))
    for learner, _, total, rate, terms in shown:
        assert (learner, total) == ("IQL", 200) and rate > 0
        number = r"-?[\d.]+(e[+-]\d+)?"
        assert re.fullmatch(rf"value {number}, critic {number}, actor {number}", terms or "")


def test_evaluations_and_held_out_numbers_are_shown(place: Path) -> None:
    words = ("--data.validation", 0.3, "--trainer.val_check_interval", 30, "--env", "CartPole-v1")
    shown = lines(fit("--run", "a", *words, "--model.init_args.evaluation.every", 30).err)
    before = [terms for _, update, _, _, terms in shown if update < 30]
    after = [terms for _, update, _, _, terms in shown if 30 < update < 60]
    assert before and not any(before)
    assert after and all("eval/return " in (terms or "") for terms in after)
    assert all("validation/action_error " in (terms or "") for terms in after)


def test_nothing_is_shown_on_request(place: Path) -> None:
    assert fit("--run", "a", "--trainer.enable_progress_bar", "false").err == ""


def test_after_a_resume_the_line_goes_on(place: Path) -> None:
    assert fit("--run", "a", updates=60).code == 0
    shown = lines(hindsight("fit", "--resume", "--run", "a", "--trainer.max_steps", 100).err)
    assert [(update // 10, total) for _, update, total, _, _ in shown] == [
        *((7, 100), (8, 100), (9, 100), (10, 100))
    ]


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def monotonic(self) -> float:
        """Return the time in s."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the progress."""
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def learner() -> Any:
    """Return what progress reads of a learner."""
    return SimpleNamespace(latest={"train/actor": 0.123456, "train/actor/weight": 7.0, "eval/x": 2})


def test_the_rate_counts_updates_since_the_resume(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer: Any = SimpleNamespace(global_step=9_000, max_steps=10_000)
    shown = UpdateProgress()
    clock.now = 50.0
    shown.on_train_start(trainer, learner())
    clock.now, trainer.global_step = 52.0, 9_500
    shown.on_train_batch_end(trainer, learner(), None, None, 0)
    assert capsys.readouterr().err == ""  # a tenth is not full
    clock.now, trainer.global_step = 54.0, 10_000
    shown.on_train_batch_end(trainer, learner(), None, None, 0)
    shown.on_train_end(trainer, learner())
    told = "SimpleNamespace: update 10,000 of 10,000, 250 updates/s, actor 0.1235, eval/x 2\n"
    assert capsys.readouterr().err == told


def test_a_line_before_the_first_terms_are_known(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer: Any = SimpleNamespace(global_step=0, max_steps=10)
    shown = UpdateProgress()
    empty: Any = SimpleNamespace(latest={})
    shown.on_train_start(trainer, empty)
    clock.now, trainer.global_step = 2.0, 10
    shown.on_train_batch_end(trainer, empty, None, None, 0)
    assert capsys.readouterr().err == "SimpleNamespace: update 10 of 10, 5 updates/s\n"


def test_other_ranks_show_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(global_step=0, max_steps=10)
    shown = UpdateProgress()
    shown.disable()
    shown.on_train_start(trainer, learner())
    trainer.global_step = 10
    shown.on_train_batch_end(trainer, learner(), None, None, 0)
    assert capsys.readouterr().err == ""
    shown.enable()
    shown.on_train_batch_end(trainer, learner(), None, None, 0)
    assert capsys.readouterr().err.startswith("SimpleNamespace: update 10 of 10, ")


@pytest.mark.parametrize("most", [100, -1], ids=["updates", "time"])
def test_a_bar_on_a_terminal(
    most: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    trainer: Any = SimpleNamespace(global_step=40, max_steps=most)
    shown = UpdateProgress()
    shown.on_train_start(trainer, learner())
    trainer.global_step = 100
    shown.on_train_batch_end(trainer, learner(), None, None, 0)
    shown.on_train_end(trainer, learner())
    told = capsys.readouterr().err.rpartition("\r")[2]
    assert told.startswith("SimpleNamespace: ")
    assert ("100/100 [" in told) == (most > 0)
    assert "actor 0.1235, eval/x 2" in told and "updates" in told
