"""Drafts as killed processes leave them. Imported as ``drafts`` (``tests`` is on pytest's path)."""

import socket
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def dead_process() -> int:
    """Return the number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def left_draft(path: Path, *, process: int | None = None, host: str = "", kind: str = "") -> Path:
    """Leave half of a file as a process of this machine does that is killed.

    Args:
        path: The file that was being written.
        process: Number of the process, one that has ended unless given.
        host: Another machine.
        kind: Ending of the name, ``draft`` unless given.

    Returns:
        The draft.
    """
    number = dead_process() if process is None else process
    name = f".{path.name}.{number}@{host or socket.gethostname()}.{kind or 'draft'}"
    draft = path.with_name(name)
    draft.write_text("half")
    return draft
