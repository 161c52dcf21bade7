"""Compiles a policy's C here, and runs its self test."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from hindsight_rl.export.c.graph import CodeError
from hindsight_rl.export.c.source import Source

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2")
_NAMES = ("cc", "gcc", "clang")
_SECONDS = 600


def compiler() -> str | None:
    """Return the C compiler of this machine, ``None`` if it has none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def tested(source: Source, found: str) -> str:
    """Return what the self test of a policy's C says.

    Args:
        source: The C.
        found: The compiler.

    Returns:
        One line.

    Raises:
        CodeError: It does not compile without a warning, or the test does not pass.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_source(source, Path(folder))
        program = Path(folder) / "self_test"
        test = f"-D{source.name.upper()}_SELF_TEST"
        code = str(Path(folder) / f"{source.name}.c")
        _run([found, *FLAGS, test, code, "-o", str(program), "-lm"], "does not compile")
        return _run([str(program)], "fails its self test").strip()


def write_source(source: Source, folder: Path) -> None:
    """Write header and code into a folder that nobody else reads."""
    (folder / f"{source.name}.h").write_text(source.header, encoding="ascii")
    (folder / f"{source.name}.c").write_text(source.code, encoding="ascii")


def _run(words: list[str], fault: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CodeError(f"the C {fault}: {words[0]} did not end in {_SECONDS} s") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:500]
        raise CodeError(f"the C {fault} (nothing was written): {said}")
    return done.stdout
