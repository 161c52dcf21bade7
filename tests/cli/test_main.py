"""The entry of the command: help, version, slips, the robot's install, interruptions."""

import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from hindsight_rl.cli import main as entry

ROOT = Path(__file__).resolve().parents[2]


def serve(monkeypatch: pytest.MonkeyPatch, body) -> None:
    """Let every subcommand be served by a function of its words."""
    monkeypatch.setattr(entry, "import_module", lambda name: SimpleNamespace(main=body))


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in entry.COMMANDS)
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_without_words_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 0
    assert capsys.readouterr().out == entry.help_text()


def test_help_imports_nothing_heavy() -> None:
    # A count of seconds would test the machine; what makes the help slow is what it imports.
    script = (
        "import sys; from hindsight_rl.cli.main import main; main(['--help']); "
        "print({'torch', 'lightning', 'numpy', 'gymnasium', 'difflib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    sorted(name for name, command in entry.COMMANDS.items() if command.module != "lightning"),
)
def test_help_of_a_command_waits_for_no_training_install(name: str) -> None:
    script = (
        "import contextlib, io, sys; from hindsight_rl.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main([{name!r}, '--help'])\n"
        "print({'torch', 'lightning', 'minari', 'onnx', 'matplotlib', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_version_is_the_one_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hindsight {project['version']}\n"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("exporrt", "no command 'exporrt'. Did you mean 'hindsight export'?"),
        ("zzz", "no command 'zzz'. Commands: inspect, collect, relabel, convert, compare, fit,"),
    ],
)
def test_unknown_command(word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([word]) == 2
    assert told in capsys.readouterr().err


def test_every_command_has_its_module() -> None:
    for command in entry.COMMANDS.values():
        path = ROOT / "cli" / f"{command.module}.py"
        assert "def main(argv: Sequence[str]" in path.read_text(), path


def test_words_reach_the_subcommand(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    serve(monkeypatch, lambda words: seen.append(words) or 3)
    assert entry.main(["run", "policy.onnx", "--json"]) == 3
    assert entry.main(["fit", "--help"]) == 3
    assert seen == [["policy.onnx", "--json"], ["fit", "--help"]]


@pytest.mark.parametrize("missing", ["torch", "lightning.pytorch", "h5py"])
def test_missing_training_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(words: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    serve(monkeypatch, body)
    assert entry.main(["fit"]) == 2
    told = capsys.readouterr().err
    assert told == 'hindsight fit needs the training install: pip install "hindsight-rl[train]"\n'


def test_another_missing_module_is_not_explained_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(words: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'my_learner'", name="my_learner")

    serve(monkeypatch, body)
    with pytest.raises(ModuleNotFoundError, match="my_learner"):
        entry.main(["fit"])


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def body(words: list[str]) -> int:
        raise KeyboardInterrupt

    serve(monkeypatch, body)
    assert entry.main(["run"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_reader_that_goes_away() -> None:
    script = "import sys; from hindsight_rl.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
