"""Programs: updates in C++ as an earlier run wrote them, so that a later one need not.

They lie in the compiler's own cache (``TORCHINDUCTOR_CACHE_DIR``), beside what was built of them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir

from hindsight_rl.files import write_text


@dataclass(frozen=True)
class Program:
    """An update in C++.

    Args:
        source: One translation unit, see :func:`hindsight_rl.training.update.writing.write`.
        room: Bytes of memory that it needs, all 0 at first.
        seen: Shape of the tensor that an update returns beside the state, float32.
        constants: Names of the tensors that it reads and that no one gives it.
    """

    source: str
    room: int
    seen: tuple[int, ...]
    constants: tuple[str, ...]


def key_of(description: Any, values: Sequence[bytes]) -> str:
    """Return the name of a program: what it is written from, by whom, for which processor.

    Args:
        description: Whatever has a ``repr`` that says all.
        values: Bytes that it depends on.

    Returns:
        Hexadecimal digits.
    """
    own = [path.read_bytes() for path in _sources()]
    there = torch.__version__, torch.backends.cpu.get_cpu_capability()
    said = repr((description, there, config.save_config_portable())).encode()
    return hashlib.sha256(b"\0".join([said, *values, *own])).hexdigest()


def _sources() -> list[Any]:
    folder = files(__package__)
    return sorted(
        (path for path in folder.iterdir() if path.name.endswith((".py", ".h"))),
        key=lambda path: path.name,
    )


def read(key: str) -> Program | None:
    """Return a program that was kept, ``None`` if there is none that can be read."""
    try:
        kept = json.loads(_path(key).read_text(encoding="utf-8"))
        seen, constants = tuple(kept["seen"]), tuple(kept["constants"])
        return Program(kept["source"], int(kept["room"]), seen, constants)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(key: str, program: Program) -> None:
    """Keep a program; where nothing can be written, later runs write it again."""
    try:
        _path(key).parent.mkdir(parents=True, exist_ok=True)
        write_text(_path(key), json.dumps(asdict(program)))
    except OSError:
        return


def _path(key: str) -> Path:
    return Path(cache_dir()) / "hindsight" / f"{key}.json"
