"""Programs: updates in C++ as an earlier run built them, so that a later one need not.

They lie in the compiler's own cache (``TORCHINDUCTOR_CACHE_DIR``), each as a shared library and a
description beside it, which holds its hash: one that is not what was built is built anew.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir

from hindsight_rl.files import write_text, write_whole
from hindsight_rl.training.update.recording import Record, bytes_of, same


@dataclass(frozen=True)
class Program:
    """An update in C++.

    Args:
        source: One translation unit, see :func:`hindsight_rl.training.update.writing.write`.
        room: Bytes of memory that it needs, all 0 at first.
        seen: Shape of the tensor that an update returns beside the state, float32.
    """

    source: str
    room: int
    seen: tuple[int, ...]


@dataclass(frozen=True)
class Built:
    """A program that an earlier run built.

    Args:
        library: Its shared library.
        room: As of the program.
        seen: As of the program.
        constants: Tensors that are its inputs after those of the function.
    """

    library: Path
    room: int
    seen: tuple[int, ...]
    constants: tuple[Tensor, ...]


def key_of(record: Record, description: Any) -> str:
    """Return the name of a program: what it is written from, by whom, for which processor.

    Args:
        record: Of the update.
        description: What else it depends on; its ``repr`` says all.

    Returns:
        Hexadecimal digits.
    """
    there = torch.__version__, torch.backends.cpu.get_cpu_capability(), _processor()
    said = repr((description, there, config.save_config_portable()))
    digest = hashlib.sha256()
    # The compiler may write values of constants into its loops.
    for part in (said.encode(), record.text.encode(), *map(bytes_of, record.constants)):
        digest.update(len(part).to_bytes(8, "big") + part)
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> list[Any]:
    folder = files(__package__)
    return sorted(
        (path for path in folder.iterdir() if path.name.endswith((".py", ".h"))),
        key=lambda path: path.name,
    )


def _processor() -> list[str]:
    """Return what says which instructions this processor has: it is built for no other."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return sorted({line for line in lines if line.startswith(("model name", "flags", "Feat"))})
    return [platform.machine(), platform.processor()]


def read(key: str, record: Record) -> Built | None:
    """Return a program that was kept, ``None`` if there is none or not as it was built."""
    library, description = _library(key), _description(key)
    try:
        kept, digest = json.loads(description.read_text(encoding="utf-8"))
        if digest != _digest(kept, library.read_bytes()):
            return None
    except (OSError, ValueError, TypeError):
        return None
    constants = tuple(record.constants[number] for number in kept["constants"])
    return Built(library, kept["room"], tuple(kept["seen"]), constants)


def keep(
    key: str, record: Record, program: Program, library: bytes, constants: Sequence[Tensor]
) -> None:
    """Keep a program; where nothing can be written, later runs build it again.

    Args:
        key: Its name.
        record: Of the update.
        program: The program.
        library: The shared library that was built of it.
        constants: Its inputs after those of the function. One that the update does not read, which
            the compiler has made, cannot be found again: then nothing is kept.
    """
    found = [
        next((n for n, known in enumerate(record.constants) if same(known, constant)), None)
        for constant in constants
    ]
    if None in found:
        return
    said = {"room": program.room, "seen": program.seen, "constants": found}
    with suppress(OSError):
        write_whole(_library(key), lambda file: file.write(library))
        write_text(_description(key), json.dumps([said, _digest(said, library)]))


def _digest(said: dict[str, Any], library: bytes) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode() + library).hexdigest()


def _library(key: str) -> Path:
    return _folder() / f"{key}.so"


def _description(key: str) -> Path:
    return _folder() / f"{key}.json"


def _folder() -> Path:
    return Path(cache_dir()) / "hindsight"
