"""The fuzz target: ``make fuzz SECONDS=600``.

Whole files of every kind are damaged in one to three ways, byte by byte or by what they mean, and
read by a process of its own. The outcome must be an error of the product or an answer that does not
contradict itself, within 10 s and 1 GiB, and nothing of the file may have been executed. What was
found before (``kept.jsonl``) comes first; what is found now is written to ``build/fuzz``.
"""

import argparse
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from fuzz.cases import CASES
from fuzz.mutations import SENTINEL, Mutation, mutate

LONGEST = 10.0
"""Seconds of computing that reading may take."""

PATIENCE = 40.0
"""Seconds after which a process that computes little is taken to wait for ever."""

KEPT = Path(__file__).with_name("kept.jsonl")
FOUND = Path(__file__).parents[2] / "build" / "fuzz" / "found.jsonl"

_NUMBER = st.integers(0, 65_535)
EXAMPLES = st.tuples(
    st.sampled_from(sorted(CASES)),
    st.lists(st.builds(Mutation, _NUMBER, _NUMBER, _NUMBER, _NUMBER), min_size=1, max_size=3),
)
Example = tuple[str, list[Mutation]]


class Reader:
    """A process that reads damaged folders, started again whenever it ends."""

    def __init__(self, place: Path) -> None:
        self._environment = os.environ | {
            SENTINEL: os.environ[SENTINEL],
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "2",
            "MINARI_DATASETS_PATH": str(place / "minari"),
        }
        self._log = (place / "stderr.txt").open("w")
        self._process: subprocess.Popen[str] | None = None

    def read(self, case: str, folder: Path) -> dict[str, Any]:
        """Return the outcome of reading a folder."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.write(json.dumps({"case": case, "folder": str(folder)}) + "\n")
        process.stdin.flush()
        began, computed = time.monotonic(), _computed(process.pid)
        while not self._answered(1.0):
            if process.poll() is not None:
                return {"outcome": "fault", "detail": f"the process ended: {process.returncode}"}
            took = _computed(process.pid) - computed
            if took > LONGEST or time.monotonic() - began > PATIENCE:
                self.close()
                return {"outcome": "fault", "detail": f"no answer, {took:.0f} s of computing"}
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            return {"outcome": "fault", "detail": f"the process ended: {process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has imported what it needs: no part of reading

    def _answered(self, seconds: float) -> bool:
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            return bool(waiting.select(seconds))


def _computed(pid: int) -> float:
    """Return the seconds that a process has computed."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Fuzz:
    """Damages files and counts what comes of it.

    Args:
        place: An empty folder.
    """

    def __init__(self, place: Path) -> None:
        os.environ[SENTINEL] = str(place / "executed")
        self.place, self.counts, self.found = place, Counter[str](), list[Example]()
        self._reader = Reader(place)
        for name, case in CASES.items():
            (place / "whole" / name).mkdir(parents=True)
            case.make(place / "whole" / name)

    def whole(self) -> None:
        """Read every file as it was written.

        Raises:
            SystemExit: One cannot be read.
        """
        for name in CASES:
            answer = self._reader.read(name, self.place / "whole" / name)
            if answer["outcome"] != "answer":
                raise SystemExit(f"{name} is not read whole: {answer['detail']}")

    def attempt(self, example: Example) -> str:
        """Return what is wrong with the outcome of an example, or nothing."""
        case, changes = example
        folder = self.place / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.place / "whole" / case, folder)
        for change in changes:
            mutate(folder, change)
        answer = self._reader.read(case, folder)
        self.counts[f"{case}: {answer['outcome']}"] += 1
        return str(answer["detail"]) if answer["outcome"] == "fault" else ""

    def judge(self, example: Example) -> None:
        """Attempt an example; say what is wrong, and keep what is needed for it."""
        problem = self.attempt(example)
        if not problem:
            return
        case, changes = example
        for change in list(changes):
            fewer = [other for other in changes if other is not change]
            if fewer and self.attempt((case, fewer)):
                changes = fewer
        self.found.append((case, changes))
        FOUND.parent.mkdir(parents=True, exist_ok=True)
        with FOUND.open("a") as file:
            file.write(json.dumps([case, changes]) + "\n")
        sys.stdout.write(f"FOUND {json.dumps([case, changes])}\n{problem}\n")
        sys.stdout.flush()

    def close(self) -> None:
        """End the process that reads."""
        self._reader.close()


def kept() -> list[Example]:
    """Return what was found before."""
    lines = [json.loads(line) for line in KEPT.read_text().splitlines() if line]
    return [(case, [Mutation(*change) for change in changes]) for case, changes in lines]


def search(fuzz: Fuzz, seconds: float, first: int) -> None:
    """Try examples until time is over.

    Args:
        fuzz: What tries them.
        seconds: For how long.
        first: First seed; each one gives a hundred examples.
    """
    end, number = time.monotonic() + seconds, first
    while time.monotonic() < end:

        @hypothesis.seed(number)
        @hypothesis.settings(
            max_examples=100,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(EXAMPLES)
        def try_one(example: Example) -> None:
            if time.monotonic() < end:
                fuzz.judge(example)

        try_one()
        number += 1
    sys.stdout.write(f"seeds {first} to {number - 1}\n")


def main() -> int:
    """Return 1 where something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--kept", action="store_true", help="what was found before, no more")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    fuzz = Fuzz(place)
    try:
        fuzz.whole()
        for example in kept():
            fuzz.judge(example)
        if not given.kept:
            search(fuzz, given.seconds, given.seed)
    finally:
        fuzz.close()
        shutil.rmtree(place, ignore_errors=True)
    for name, count in sorted(fuzz.counts.items()):
        sys.stdout.write(f"{count:6}  {name}\n")
    return 1 if fuzz.found else 0


if __name__ == "__main__":
    sys.exit(main())
