"""What inverse RL of transitions costs beside HER, and how far its savings are from the posterior.

    OMP_NUM_THREADS=1 python benchmarks/heart.py [cost] [distance] [success] [--sizes S L]

``cost``: whole updates of SAC through ``Trainer.fit``, compiled, one thread, half of the rows
relabeled, 32 candidates; the fits take turns, and ratios to HER are paired. ``distance``: a SAC
that was trained on wandering in four rooms judges 256 rows; total variation of each saving's law
of tasks from the exact posterior's. ``success``: SAC from scratch in four rooms, settings of
benchmarks/hipi/online.py, states reached as candidates. Rows go to build/heart.json.
"""

import argparse
import ctypes
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heart_fits import ARMS, CANDIDATES, HER, Arm, cost
from sizes import SIZES
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.sac import SAC
from hindsight_rl.envs.statistics import bootstrap_interval
from hindsight_rl.files import write_text
from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.posterior import log_partition
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.soft_scores import SoftScores

sys.path.append(str(Path(__file__).with_name("hipi")))
OUTPUT = Path(__file__).resolve().parents[1] / "build" / "heart.json"

# --- how far it is from the posterior -------------------------------------------------------------


def distance(updates: int = 3000, seeds: int = 3, draws: int = 16) -> list[dict[str, Any]]:
    """Print total variation from the exact posterior, and what the tasks that are drawn are worth.

    A saving that draws candidates is judged by its law over those draws. ``excess``: mean of score
    minus log Z, exact ones, of the tasks that rows get.

    Args:
        updates: Of the SAC that judges.
        seeds: SACs, each with rows of its own.
        draws: Of the candidates that a row scores.

    Returns:
        One row per arm.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    start = time.perf_counter()
    for seed in range(100, 100 + seeds):
        for name, pair in _distances(seed, updates, draws).items():
            found.setdefault(name, []).append(pair)
    took = time.perf_counter() - start
    print("\n| tasks of rows | total variation from exact | excess score, nats |\n|---|---|---|")
    rows = []
    for name, pairs in found.items():
        for kind, values in zip(
            ("total variation", "excess"), zip(*pairs, strict=True), strict=True
        ):
            low, high = bootstrap_interval(values)
            mean = float(np.mean(values))
            rows.append(
                {"name": f"{kind}: {name}", "mean": mean, "low": low, "high": high, "seeds": seeds}
                | {"seconds": took}
            )
        one, two = rows[-2:]
        print(f"| {name} | {_interval(one)} | {two['mean']:.2f} |")
    return rows


def _interval(row: dict[str, Any]) -> str:
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _distances(seed: int, updates: int, draws: int) -> dict[str, tuple[float, float]]:
    """Return total variation and excess of every arm, by one SAC on one batch."""
    from options import GOALS, ROOMS, fitted
    from wandering import rooms_log

    trained: list[Relabeler] = [
        RandomTask(GOALS),
        TransitionInverseRL(GOALS, candidates=16, fraction=0.5, entropy_scale=0.0),
    ]
    sac, data, _ = fitted(rooms_log(), trained, updates, seed, **ROOMS)
    data.batch_size = 256
    chunk = data._sampler().chunk(updates, 1)
    chunk["task"] = data.relabel.relabelers[0](chunk)["task"]
    found = {}
    for propose in ("log", "reached"):
        plain: dict[str, Any] = {"candidates": CANDIDATES, "propose": propose}

        def judged(arm: Arm, number: int = 0, plain: Any = plain) -> Any:
            relabeler = TransitionInverseRL(
                GOALS, **plain, entropy_scale=arm.entropy_scale, scoring=arm.scoring
            ).prepare(data.log)
            relabeler.use(sac.soft_values)
            rows = chunk[DRAWS].clone()
            rows[:, 1:, 2] += number << 20  # other draws of rows: candidates stay
            return relabeler.judge(chunk.copy().set(DRAWS, rows))

        exact = judged(ARMS["step"])
        scores = _scores(sac, chunk, exact.tasks)
        over = scores - log_partition(scores).unsqueeze(-2)
        laws = {
            "step, other next actions": judged(ARMS["step"], 1).posterior,
            "random": torch.full_like(exact.posterior, 1 / CANDIDATES),
        }
        for name, arm in ARMS.items():
            count = 1 if arm.scoring.candidates is None else draws
            laws[name] = torch.stack([judged(arm, n).posterior for n in range(count)]).mean(0)
        for name, law in laws.items():
            apart = 0.5 * (law - exact.posterior).abs().sum(-1).mean()
            found[f"{name}, {propose}"] = (float(apart), float((law * over).sum(-1).mean()))
    return found


def _scores(sac: SAC, chunk: TensorDict, tasks: Tensor) -> Tensor:
    """Return the exact scores ``[1, B, N]``."""
    from options import GOALS

    soft = SoftScores(GOALS, sac.soft_values, 0.0)
    with torch.no_grad():
        group = torch.zeros(chunk.shape[1], dtype=torch.int64)
        return soft(soft.rows(chunk)[0], tasks, group).unsqueeze(0)


# --- what it is worth -----------------------------------------------------------------------------

# Data step of benchmarks/hipi/online.py, and how it scores.
REACHED = "inverse RL, states reached"
LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    HER: ("future", {}),
    "step": (REACHED, {}),
    "step, 8 of 32, bfloat16": (REACHED, {"candidates": 8, "precision": "bfloat16"}),
    "critic, 4 refined, bfloat16": (
        REACHED,
        {"by": "critic", "refined": 4, "precision": "bfloat16"},
    ),
    "critic, bfloat16": (REACHED, {"by": "critic", "precision": "bfloat16"}),
    "critic, 8 of 32": (REACHED, {"by": "critic", "candidates": 8}),
}


def success(
    domains: Sequence[str], learners: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Print success and seconds of SAC from scratch, by the tasks its batches get.

    Args:
        domains: Of benchmarks/hipi/online.py.
        learners: Some of ``LEARNERS``.
        seeds: Of weights, episodes and draws.

    Returns:
        One row per domain and arm: mean over the curve of ten evaluations, and at its end.
    """
    import common
    import online

    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in seeds:
        for domain in domains:
            for name in learners:
                step, scoring = LEARNERS[name]
                settings = online.SETTINGS | ({"scoring": scoring} if scoring else {})
                asked = (domain, online.DOMAINS[domain], step, seed, settings)
                one = online.job(asked)
                found.setdefault((domain, name), []).append(one)
    print("\n| environment | tasks of batches | at the end | mean over the curve | CPU |")
    print("|---|---|---|---|---|")
    rows = []
    for (domain, name), runs in found.items():
        last = common.summary([one["final"] for one in runs])
        area = common.summary([float(np.mean(one["scores"])) for one in runs])
        took = statistics.mean(one["cpu_seconds"] for one in runs)
        print(f"| {domain} | {name} | {last} | {area} | {took:.0f} s |", flush=True)
        for kind, number in (("end", last), ("curve", area)):
            row = {"name": f"success, {kind}: {domain}, {name}", "mean": number.iqm}
            row |= {"low": number.low, "high": number.high, "seeds": len(runs), "seconds": took}
            rows.append(row)
    return rows


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "cost": lambda: cost(options.sizes, options.arms, options.repeats, options.seconds),
        "distance": lambda: distance(options.updates),
        "success": lambda: success(options.domains, options.learners, options.seeds),
    }
    parser.add_argument("parts", nargs="*", default=list(parts), metavar="PART")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one turn")
    parser.add_argument("--updates", type=int, default=3000, help="of the SAC that judges")
    parser.add_argument("--domains", nargs="+", default=["four_rooms"])
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=list(LEARNERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102], help="of success")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Threads share the main thread's heap: their own give memory back, and ask for it anew.
    ctypes.CDLL(None).mallopt(-8, 1)
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for part in options.parts:
        new = parts[part]()
        rows = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else []
        names = {row["name"] for row in new}
        rows = [row for row in rows if row["name"] not in names] + new
        write_text(OUTPUT, json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
