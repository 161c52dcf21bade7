"""The runner in C++, compiled once for a run of tests, and what it answers.

Imported as ``cpp_player`` (``tests`` is on pytest's path).
"""

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Answer = Callable[..., list[Any]]
"""From cases to what C++ answers: the fixture ``answers``."""
SOURCE = Path(__file__).resolve().parent / "export" / "play_cpp"
_OPENVINO = importlib.util.find_spec("openvino")
_TOOLS = all(shutil.which(name) for name in ("cmake", "c++"))
needs_cpp = pytest.mark.skipif(
    _OPENVINO is None or not _TOOLS, reason="this machine has no CMake, C++ compiler or OpenVINO"
)


def build(folder: Path) -> Path:
    """Return the folder of the programs, which the first of several processes compiles."""
    assert _OPENVINO is not None and _OPENVINO.origin is not None
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            place = Path(_OPENVINO.origin).parent / "cmake"
            words = ["cmake", "-S", str(SOURCE), "-B", str(folder), f"-DOpenVINO_DIR={place}"]
            _run(words)
            _run(["cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1)])
            (folder / "done").touch()
    return folder


def played(folder: Path, *cases: dict[str, Any]) -> list[Any]:
    """Return what C++ answers to each case, or the text of its error."""
    done = subprocess.run(
        [str(folder / "play")], input=json.dumps(cases), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [each.get("value", each.get("error")) for each in json.loads(done.stdout)]


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def seen(count: int = 20, width: int = 2) -> NDArray[np.float32]:
    """Return observations ``[count, width]``."""
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


def given(rows: NDArray[Any], kind: str = "float") -> list[dict[str, Any]]:
    """Return observations as cases have them: numbers by their type."""
    return [{kind: row.tolist()} for row in rows]
