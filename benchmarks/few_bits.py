"""Exported files in fewer bits: size, difference and time of an answer beside float32.

    python benchmarks/few_bits.py [--calls 400] [--rounds 5] [--no_document]

Policies after one update on noise, as in policies/kinds.py: a small network, a large one, a flow
and one of two cameras. The difference is that of the export's gate, a share of the range of
actions. Times are of ``act`` with one row and one thread, medians of rounds that take turns, so let
nothing else run. Writes the table of docs/export.md and build/few_bits.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "policies"))

import common
import numpy as np
from kinds import SIDE, WIDE, WIDTH, latency, log
from results import replace_part
from shared import BUILD, ROOT, say, table

from hindsight_rl import OnnxPolicy, export_policy
from hindsight_rl.files import write_text

KINDS = (None, "float16", "int8")
BUDGET = 0.1


def cases() -> list[common.Case]:
    """Return the policies."""
    large = {"network": {"hidden": [1024, 1024, 1024]}}
    flow = {"network": WIDE, "chunk": 1, "execute": 1, "steps": 4}
    return [
        common.Case("cloning, 2 x 256", "BC", {"network": WIDE}),
        common.Case("cloning, 3 x 1024", "BC", large),
        common.Case("flow, 4 steps", "FlowBC", flow),
        common.Case("two cameras", "BC", {"network": WIDE}, log="images"),
    ]


def measured(case: common.Case, calls: int, rounds: int) -> list[dict[str, Any]]:
    """Return the facts of a policy in every precision."""
    images = case.log == "images"
    learner = common.fitted(replace(case, updates=1, batch=8), log(images), 0)
    seen: Any = np.zeros(WIDTH, np.float32)
    if images:
        seen = {name: np.zeros((SIDE, SIDE, 3), np.uint8) for name in ("front", "wrist")}
    with tempfile.TemporaryDirectory() as folder:
        reports, policies = [], []
        for number, kind in enumerate(KINDS):
            path = Path(folder, f"{number}.onnx")
            reports.append(export_policy(learner, path, precision=kind, budget=BUDGET))
            policies.append(OnnxPolicy(path))
    times: list[list[float]] = [[] for _ in KINDS]
    for _ in range(rounds):
        for policy, found in zip(policies, times, strict=True):
            found.append(latency(policy, seen, calls)[0])
    return [
        {
            "name": f"{case.name}, {kind or 'float32'}",
            "bytes": report["bytes"],
            "difference": report["parity"]["max_difference"],
            "mean": statistics.median(found),
            "low": min(found),
            "high": max(found),
            "seeds": [0],
            "seconds": 1e-6 * sum(found) * calls,
        }
        for kind, report, found in zip(KINDS, reports, times, strict=True)
    ]


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=400, help="answers of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each file")
    parser.add_argument("--no_document", action="store_true", help="write no page")
    asked = parser.parse_args()
    rows = [row for case in cases() for row in measured(case, asked.calls, asked.rounds)]
    cells = [
        (
            row["name"],
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['difference']:.1e}",
            f"{row['mean']:.0f}",
            f"{row['mean'] / rows[number - number % len(KINDS)]['mean']:.2f}",
        )
        for number, row in enumerate(rows)
    ]
    header = ("policy", "kB", "difference, of the range", "act, us", "of float32's")
    text = table(header, cells)
    say(text)
    write_text(BUILD / "few_bits.json", json.dumps(rows, indent=1))
    if not asked.no_document:
        replace_part(ROOT / "docs" / "export.md", "few_bits", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
