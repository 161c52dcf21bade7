"""Killed at a random moment and resumed: the same bits, with one process and with two.

``benchmarks/kill.py`` does the same twenty times.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill.py"


@pytest.mark.slow
@pytest.mark.parametrize(("points", "ranks"), [(2, 1), (1, 2)])
def test_killed_and_resumed_ends_as_left_alone(points: int, ranks: int) -> None:
    words = ["--points", str(points), "--ranks", str(ranks), "--seed", "1"]
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{ranks} rank(s): {points} of {points} identical" in ended.stdout
