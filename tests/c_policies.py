"""Policies that were written as C, compiled and called from Python.

Imported as ``c_policies`` (``tests`` is on pytest's path).
"""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hindsight_rl.export.c.compiler import FLAGS, compiler, write_source
from hindsight_rl.export.c.source import Source, c_source

CC = compiler()
needs_compiler = pytest.mark.skipif(CC is None, reason="this machine has no C compiler")


class CPolicy:
    """A policy in C, with the functions of its header.

    Args:
        path: The ONNX file.
        folder: Where it is compiled.
        define: Macros that are defined.
    """

    def __init__(self, path: Path, folder: Path, *define: str) -> None:
        self.source: Source = c_source(path.read_bytes(), str(path), "policy")
        write_source(self.source, folder)
        macros = [f"-D{name}" for name in define]
        words = [str(CC), *FLAGS, "-fPIC", "-shared", *macros, "policy.c", "-o", "policy.so", "-lm"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(folder / "policy.so"))
        # The struct is the header's alone: no test needs more of it than its place.
        self._state = ctypes.create_string_buffer(self.source.memory + (1 << 20))

    def reset(self, *numbers: int) -> None:
        """Begin an episode; (seed, episode) where there is noise."""
        types = (ctypes.c_uint64, ctypes.c_uint32)
        given = [kind(number) for kind, number in zip(types, numbers, strict=False)]
        self._library.policy_reset(self._state, *given)

    def act(self, action: np.ndarray, *given: np.ndarray | None) -> int:
        """Write an action; return what the function returned."""
        pointers = [None if each is None else np.ascontiguousarray(each) for each in given]
        words = [None if each is None else _pointer(each) for each in pointers]
        code: int = self._library.policy_act(self._state, *words, _pointer(action))
        return code

    def executed(self, action: np.ndarray) -> None:
        """Say what was executed."""
        self._library.policy_executed(self._state, _pointer(action))

    def numbers(self, name: str, count: int) -> np.ndarray:
        """Return an array of floats that the header declares."""
        return np.array((ctypes.c_float * count).in_dll(self._library, name))

    def texts(self, name: str, count: int) -> list[str]:
        """Return an array of texts that the header declares."""
        return [each.decode() for each in (ctypes.c_char_p * count).in_dll(self._library, name)]


def self_test(path: Path, folder: Path, *flags: str) -> tuple[int, str]:
    """Return exit code and output of the self test of a file, compiled without a warning."""
    source = c_source(path.read_bytes(), str(path), "policy")
    write_source(source, folder)
    return run_self_test(folder, *flags)


def run_self_test(folder: Path, *flags: str) -> tuple[int, str]:
    """Return exit code and output of the self test of ``policy.c`` in a folder."""
    words = [str(CC), *FLAGS, *flags, "-DPOLICY_SELF_TEST", "policy.c", "-o", "self_test", "-lm"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([str(folder / "self_test")], capture_output=True, text=True)
    return done.returncode, done.stdout


def _pointer(values: np.ndarray) -> Any:
    return values.ctypes.data_as(ctypes.c_void_p)
