"""Files: size, opset, difference and latency of every kind of policy (``make policies``).

    python benchmarks/policies/kinds.py [--only NAME]

Weights after one update: observation 17, action 6, layers of 256; images of 64 x 64. The difference
is the largest between file and learner over a thousand steps of their own answers, with a reset in
the middle, as a share of the range of actions. Latency is that of ``act`` with one row and one
thread, so let nothing else run. Writes build/kinds.json.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import numpy as np
from common import Case

from hindsight_rl.files import write_text

CALLS, WIDTH, ACTIONS, SIDE = 2000, 17, 6, 64
WIDE = {"hidden": [256, 256]}


def cases() -> list[Case]:
    """Return every kind."""
    flow = {"network": WIDE, "chunk": 1, "execute": 1}
    gru: dict[str, Any] = {"network": {"hidden": [256]}, "units": 256}
    return [
        Case("cloning", "BC", {"network": WIDE}),
        Case("mixture", "BC", {"network": WIDE, "head": "mixture"}),
        Case("autoregressive", "BC", {"network": WIDE, "head": "autoregressive"}),
        Case("latent", "LatentBC", {"network": WIDE}),
        Case("history of 4", "BC", {"network": WIDE, "history": 4}),
        Case("GRU of 256", "RecurrentBC", gru),
        Case("LSTM of 256", "RecurrentBC", gru | {"cell": "lstm"}),
        Case("transformer of 8", "BC", {"network": WIDE, "history": {"steps": 8, "attention": {}}}),
        Case("ACT, chunks of 16", "ACT", {}),
        Case("Decision Transformer of 20", "DecisionTransformer", {}),
        Case("flow, 4 steps", "FlowBC", flow | {"steps": 4}),
        Case("flow, 10 steps", "FlowBC", flow | {"steps": 10}),
        Case("diffusion, 10 steps", "DiffusionBC", flow),
        Case("one-step flow", "OneStepFlow", flow),
        Case("IDQL, best of 64", "IDQL", {"network": WIDE, "critic_network": WIDE}),
        Case("FQL", "FQL", {"network": WIDE, "critic_network": WIDE}),
        Case("two images", "BC", {"network": WIDE}, log="images"),
    ]


def log(images: bool) -> Any:
    """Return a log of noise, 300 rows in three episodes."""
    from hindsight_rl import Log

    random, rows = np.random.default_rng(0), 300
    columns: dict[Any, Any] = {
        "action": random.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        "episode": np.repeat(np.arange(3), rows // 3),
        ("next", "reward"): np.zeros(rows, np.float32),
        ("next", "terminated"): np.zeros(rows, bool),
        ("next", "truncated"): np.arange(rows) % (rows // 3) == rows // 3 - 1,
    }
    if images:
        for name in ("front", "wrist"):
            frames = random.integers(0, 256, (rows + 3, SIDE, SIDE, 3), np.uint8)
            columns = {("observation", name): frames} | columns
    else:
        for key in ("observation", ("next", "observation")):
            columns[key] = random.normal(size=(rows, WIDTH)).astype(np.float32)
    bounds = {"low": [-1.0] * ACTIONS, "high": [1.0] * ACTIONS}
    return Log.from_columns(columns, {"source": "noise", "action": bounds})


def latency(policy: Any, seen: Any, calls: int = CALLS) -> tuple[float, float]:
    """Return the median and the 99th percentile of ``act``, microseconds."""
    for _ in range(100):
        policy.act(seen)
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        policy.act(seen)
        taken.append(1e6 * (time.perf_counter() - start))
    middle, high = np.percentile(taken, [50, 99])
    return float(middle), float(high)


def row(case: Case) -> dict[str, Any]:
    """Return the facts of one kind."""
    from hindsight_rl import OnnxPolicy

    images = case.log == "images"
    learner = common.fitted(replace(case, updates=1, batch=8), log(images), 0)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.onnx")
        facts = common.exported(learner, path)
        seconds = time.perf_counter() - start
        policy = OnnxPolicy(path)
    seen: Any = np.zeros(WIDTH, np.float32)
    if images:
        seen = {name: np.zeros((SIDE, SIDE, 3), np.uint8) for name in ("front", "wrist")}
    middle, high = latency(policy, seen)
    if not images:
        facts["difference"] = common.self_fed(learner) / 2.0
    point = {"name": case.name, "mean": middle, "low": middle, "high": high, "seeds": [0]}
    return point | facts | {"p50": middle, "p99": high, "seconds": seconds}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of the names of the kinds to measure")
    asked = parser.parse_args()
    rows = [row(case) for case in cases() if asked.only in case.name]
    from document import files

    common.say(files(rows))
    write_text(common.BUILD / "kinds.json", json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
