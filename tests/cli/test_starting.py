"""What a fit imports where an earlier run has built its updates, and where nothing is compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_fits import cart_log, fit_words

# What writes programs, and what no fit needs.
COMPILER = {"torch._inductor.compile_fx", "torch._inductor.lowering", "torch._inductor.codecache"}
OTHERS = {"torchrl", "torchvision", "onnx", "onnxscript", "minari", "pandas", "pyarrow", "h5py"}


def fitted(folder: Path, run: str, compile: str) -> tuple[set[str], dict[str, Any]]:
    """Return the modules of a process that fits, and its report."""
    script = (
        "import sys\n"
        "from hindsight_rl.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(*sys.modules)\n"
        "sys.exit(code)\n"
    )
    words = fit_words("--run", folder / run, "--model.compile", compile, "--json")
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report, modules = done.stdout.splitlines()
    return set(modules.split()), {k: v for k, v in json.loads(report).items() if k != "run"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cart_log(tmp_path / "log.npz").parent


def test_updates_that_were_built_are_used_again_without_the_compiler(folder: Path) -> None:
    first, expected = fitted(folder, "first", "update")
    assert first >= COMPILER and not first & OTHERS
    (library,) = (folder / "hindsight").glob("*.so")
    built = library.stat().st_mtime_ns
    second, report = fitted(folder, "second", "update")
    assert not second & (COMPILER | OTHERS)
    assert report == expected and library.stat().st_mtime_ns == built


def test_a_damaged_library_is_built_anew_without_a_word(folder: Path) -> None:
    _, expected = fitted(folder, "first", "update")
    (library,) = (folder / "hindsight").glob("*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    modules, report = fitted(folder, "second", "update")
    assert modules >= COMPILER and report == expected
    assert len(library.read_bytes()) == len(whole)


def test_without_compiling_nothing_of_the_compiler_is_imported(folder: Path) -> None:
    modules, _ = fitted(folder, "run", "off")
    assert not modules & (COMPILER | OTHERS)
