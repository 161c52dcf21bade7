"""The whole way at small scale: from a cut bag to a policy in a loop, and its recording."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

for _library in ("rosbags", "mcap", "zstandard", "lz4"):
    pytest.importorskip(_library, reason="needs the extra 'ros'")

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "bag_to_robot.py"


@pytest.mark.slow
def test_from_a_cut_bag_to_a_recording(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--fast", "--folder", str(tmp_path / "robot")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "robot" / "found.json").read_text())
    # 4,000 rows were recorded; the last 7 % of the file are gone, and a chunk with them.
    assert 3000 < found["rows"] < 4000 and "is cut" in found["lost"][0]
    assert found["self_test"] is None or "passed" in found["self_test"]
    assert found["reason"] == "done" and found["steps"] + found["skipped"] >= 2000
    assert found["recorded"] == found["steps"]
    # A busy machine skips ticks: the arm is where the operator had it after as many commands.
    assert abs(found["distance"] - found["operators_distance"]) < 0.15
