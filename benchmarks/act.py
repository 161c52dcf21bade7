"""What a checked action costs: ``OnnxPolicy.act`` against the bare ``InferenceSession.run``.

Both answer the same single observations with the same file and one thread. Calls are timed one by
one, in blocks that alternate between the two, so that a disturbance of the machine meets both.

    python benchmarks/act.py [policy.onnx]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.spec import WHOLE, ActionSpec, Probe, Spec, Vector

REPEATS = 7
CALLS = 3000
OBSERVATION, ACTION, WIDTH = 17, 6, 256


def measure(path: str | Path | None = None) -> dict[str, Any]:
    """Return medians over repeats, in microseconds, and the median of the paired ratios.

    Args:
        path: A policy file; ``None`` exports an untrained one with two layers of 256 units, 17
            observations and 6 actions (which needs the training install).

    Returns:
        ``name``, ``threads``, ``repeats``, ``calls``, ``ratio``, and for ``act`` and ``bare`` the
        median ``_us`` and ``_p99_us``.
    """
    if path is not None:
        return _measure(path)
    with tempfile.TemporaryDirectory() as folder:
        return _measure(exported(Path(folder) / "policy.onnx")) | {"name": "policy 2x256"}


def _measure(path: str | Path) -> dict[str, Any]:
    policy = OnnxPolicy(path)
    probe = policy.contract["probe"]
    rows = np.array(probe["observation"], dtype=np.float32)
    tasks = None if policy.contract["task"] is None else np.array(probe["task"], dtype=np.float32)
    act, bare = _calls(policy, _session(path), rows, tasks)
    for call in (act, bare):
        _time(call, len(rows), CALLS)
    pairs = [(_time(act, len(rows), CALLS), _time(bare, len(rows), CALLS)) for _ in range(REPEATS)]
    report = {
        "name": str(path),
        "threads": 1,
        "repeats": REPEATS,
        "calls": CALLS,
        "ratio": statistics.median(np.median(a) / np.median(b) for a, b in pairs),
    }
    for name, side in (("act", 0), ("bare", 1)):
        report[f"{name}_us"] = statistics.median(float(np.median(pair[side])) for pair in pairs)
        report[f"{name}_p99_us"] = statistics.median(
            float(np.percentile(pair[side], 99)) for pair in pairs
        )
    return report


def _session(path: str | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
    )


def _calls(
    policy: OnnxPolicy,
    session: onnxruntime.InferenceSession,
    rows: np.ndarray,
    tasks: np.ndarray | None,
) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """Return the two calls on one probe row; everything that can be prepared is."""
    if tasks is None:
        feeds = [{"observation": row[None]} for row in rows]
        singles: list[tuple[np.ndarray, ...]] = [(row,) for row in rows]
    else:
        both = list(zip(rows, tasks, strict=True))
        feeds = [{"observation": row[None], "task": task[None]} for row, task in both]
        singles = list(both)
    act, run, names = policy.act, session.run, ["action"]
    return lambda i: act(*singles[i]), lambda i: run(names, feeds[i])


def _time(call: Callable[[int], Any], rows: int, calls: int) -> np.ndarray:
    """Return the microseconds of each call ``[calls]``."""
    clock = time.perf_counter_ns
    ticks = np.empty(calls)
    for i in range(calls):
        row = i % rows
        start = clock()
        call(row)
        ticks[i] = clock() - start
    return ticks / 1000.0


def exported(path: Path) -> Path:
    """Write an untrained policy of the size that the targets are stated for."""
    # Only the default needs torch: a given file is measured on a robot's install too.
    import torch
    from torch import nn

    from hindsight_rl.export.onnx import export_policy

    class Untrained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            draw = np.random.default_rng(0)
            probe = draw.normal(size=(256, OBSERVATION)).astype(np.float32)
            self.spec = Spec(
                {WHOLE: Vector((OBSERVATION,))},
                ActionSpec("continuous", (ACTION,), (-1.0,) * ACTION, (1.0,) * ACTION),
                probe=Probe({WHOLE: probe}),
            )
            self.net = nn.Sequential(
                nn.Linear(OBSERVATION, WIDTH),
                nn.ReLU(),
                nn.Linear(WIDTH, WIDTH),
                nn.ReLU(),
                nn.Linear(WIDTH, ACTION),
            )
            self.mean = nn.Buffer(torch.full((OBSERVATION,), 0.1))
            self.std = nn.Buffer(torch.full((OBSERVATION,), 2.0))

        def forward(self, observation: torch.Tensor, task: None = None) -> torch.Tensor:
            action = torch.tanh(self.net((observation - self.mean) / self.std))
            return action.clamp(-1.0, 1.0)

    export_policy(Untrained(), path)
    return path


def main() -> None:
    """Print one measurement."""
    report = measure(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"{report['name']}, one row, one thread, median of {REPEATS} x {CALLS} calls")
    print(f"  InferenceSession.run  {report['bare_us']:6.2f} us   p99 {report['bare_p99_us']:6.2f}")
    print(f"  OnnxPolicy.act        {report['act_us']:6.2f} us   p99 {report['act_p99_us']:6.2f}")
    print(f"  ratio                 {report['ratio']:6.2f}")


if __name__ == "__main__":
    main()
