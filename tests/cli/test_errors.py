"""Mistakes of the caller become one line and exit code 2; everything else stays as it is."""

import errno
import warnings
from collections.abc import Sequence

import pytest

from hindsight_rl.cli.errors import command_parser, run


def raising(error: Exception):
    def body(words: Sequence[str]) -> int:
        raise error

    return body


def test_the_code_and_the_words_are_passed_on() -> None:
    seen: list[Sequence[str]] = []
    assert run(lambda words: seen.append(words) or 3, ["a", "--b"]) == 3
    assert seen == [["a", "--b"]]


@pytest.mark.parametrize(
    "error", [ValueError("the log\nis empty."), FileNotFoundError("the log is empty.")]
)
def test_a_mistake_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(error), []) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: the log is empty.\n" and shown.out == ""


def test_a_full_disk_has_a_mend(capsys: pytest.CaptureFixture[str]) -> None:
    """Loggers, whose errors name no file, write there too."""
    assert run(raising(OSError(errno.ENOSPC, "No space left on device")), []) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: [Errno 28] No space left on device. Make room on the disk")
    assert told.count("\n") == 1


def test_traceback_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        run(raising(ValueError("empty")), ["--traceback"])
    assert run(lambda words: len(words), ["--traceback", "a"]) == 1


@pytest.mark.parametrize(
    ("package", "told"),
    [
        ("torch", 'needs the training install: pip install "hindsight-rl[train]"'),
        ("pyarrow.parquet", 'needs the training install: pip install "hindsight-rl[train]"'),
        ("matplotlib.figure", 'Plots need matplotlib: pip install "hindsight-rl[report]"'),
    ],
)
def test_a_missing_extra_is_named(
    package: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(ModuleNotFoundError(f"No module named '{package}'", name=package)), []) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("error", [ModuleNotFoundError("m", name="mine"), BrokenPipeError()])
def test_other_errors_are_not_explained_away(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(raising(error), [])


def test_the_parser_knows_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("inspect", "Look.", "examples:\n  one")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: hindsight inspect") and "--traceback" in shown
    assert "examples:\n  one" in shown


@pytest.mark.parametrize(
    ("category", "told"),
    [
        (UserWarning, "warning: the weights are small.\n"),
        (DeprecationWarning, ".py:9: DeprecationWarning: the weights\nare small.\n"),
    ],
)
def test_a_warning_for_users_is_a_line(
    category: type[Warning], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = warnings.showwarning

    def body(words: Sequence[str]) -> int:
        warnings.simplefilter("always")
        warnings.warn_explicit("the weights\nare small.", category, "some.py", 9)
        return 0

    assert run(body, []) == 0
    assert capsys.readouterr().err.endswith(told)
    assert warnings.showwarning is before
