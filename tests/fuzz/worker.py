"""Reads damaged folders, one a line, under a limit of memory; started by ``run.py``.

A line in: ``{"case": ..., "folder": ...}``. A line out: ``{"outcome": ..., "detail": ...}``, the
outcome ``answer``, ``error`` (one of the product's own) or ``fault``.
"""

import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from fuzz.cases import CASES
from fuzz.mutations import SENTINEL

ROOM = 1 << 30
"""Bytes that reading may take beside what the libraries take."""

_ROOT = str(Path(__file__).parents[2])


def attempt(case: str, folder: Path) -> dict[str, Any]:
    """Return what came of reading a folder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            CASES[case].read(folder)
    except (Exception, RecursionError, MemoryError) as error:
        told = f"{type(error).__name__}: {str(error)[:300]}"
        fault = _fault(error)
        if fault:
            where = "".join(traceback.format_exception(error)[-4:])
            return {"outcome": "fault", "detail": f"{fault}. {told}\n{where}"}
        return {"outcome": "error", "detail": told}
    return {"outcome": "answer", "detail": ""}


def _fault(error: BaseException) -> str:
    """Return why an error is not one of the product's own, or nothing."""
    seen: BaseException | None = error
    while seen is not None:
        memory = isinstance(seen, MemoryError) or "not enough memory" in str(seen)
        if memory or "llocate memory" in str(seen):
            return "more than the memory allowed"
        seen = seen.__cause__ or seen.__context__
    if not isinstance(error, (ValueError, OSError)):
        return "no error of the product"
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = last.startswith(_ROOT) and "/.venv/" not in last and "/tests/" not in last
    return "" if ours else f"an error that others raise ({last})"


def main() -> None:
    """Answer lines until there are no more."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = attempt(asked["case"], Path(asked["folder"]))
        if os.path.exists(os.environ[SENTINEL]):
            answer = {"outcome": "fault", "detail": "something of the file was executed"}
            os.rmdir(os.environ[SENTINEL])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
