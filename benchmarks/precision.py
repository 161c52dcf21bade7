"""Compare every learner trained in bf16-mixed with itself in 32-true, on a Pendulum log.

    python benchmarks/precision.py [--updates 3000] [--seeds 3] [--learners IQL,AWR] [--data FOLDER]

Same seeds, so same first weights and same batches: what differs is rounding only. Prints for each
learner the mean return over training seeds with its 95 % interval (Student's t) in both precisions,
whether the mean in bf16 lies within the interval of float32, and the paired difference. The test
episodes are other ones than those of benchmarks/results.py. Writes build/precision.json.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from results import BUILD, ROOT, STUDENT, load

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.files import write_text
from hindsight_rl.training.checkpoints.load import learner_classes

LOG, COLUMNS = "rllib_pendulum/pendulum_medium_sac_50eps.npz", "rllib_pendulum_sac"
PRECISIONS = ("32-true", "bf16-mixed")
FIRST_SEED, TEST_SEED, EPISODES = 200, 3_000_000, 20
# Which relabeler of relabel/returns.py writes what a learner needs beside the log.
WRITERS = {"return_to_go": "ReturnToGo", "weight": "ReturnWeight", "discount": "NStep"}
# Of the learners whose defaults fit other logs: as in benchmarks/results.py.
SETTINGS: dict[str, dict[str, Any]] = {"MARWIL": {"lambda_": 0.95, "norm": "batch_std"}}


def fit_and_test(
    kind: type, seed: int, precision: str, updates: int, data: Path
) -> tuple[float, float]:
    """Return the mean return of the test episodes and the seconds of fitting."""
    seed_everything(seed, verbose=False)
    arguments = SETTINGS.get(kind.__name__, {})
    options = {"columns": COLUMNS, "batch_size": 128, "seed": seed}
    module = OfflineDataModule(str(data / LOG), **options)
    missing = [key for key in kind(module.spec, **arguments).in_keys if key in WRITERS]
    if missing:
        relabel = [load(f"returns.{WRITERS[key]}", "relabel")() for key in missing]
        module = OfflineDataModule(str(data / LOG), relabel, **options)
    seed_everything(seed, verbose=False)
    learner = kind(
        module.spec,
        evaluation=Evaluation(env="Pendulum-v1", test_episodes=EPISODES, test_seed=TEST_SEED),
        **arguments,
    )
    trainer = Trainer(
        max_steps=updates,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(learner, module)
    seconds = time.perf_counter() - start
    trainer.test(learner, verbose=False)
    return learner.test_report["return"], seconds


def interval(scores: list[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval."""
    half = STUDENT[len(scores)] * statistics.stdev(scores) / len(scores) ** 0.5
    return statistics.fmean(scores), half


def compare(kind: type, seeds: range, updates: int, data: Path) -> dict[str, Any]:
    """Return the line of one learner."""
    found = {p: [fit_and_test(kind, seed, p, updates, data) for seed in seeds] for p in PRECISIONS}
    scores = {p: [score for score, _ in runs] for p, runs in found.items()}
    full, half = (interval(scores[p]) for p in PRECISIONS)
    differences = [b - a for a, b in zip(*scores.values(), strict=True)]
    return {
        "learner": kind.__name__,
        "scores": scores,
        "intervals": {"32-true": full, "bf16-mixed": half},
        "difference": interval(differences),
        "within": abs(half[0] - full[0]) <= full[1],
        "overlap": abs(half[0] - full[0]) <= full[1] + half[1],
        "seconds": {p: statistics.median(s for _, s in runs) for p, runs in found.items()},
    }


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3, choices=sorted(STUDENT))
    parser.add_argument("--learners", default="", help="names, comma-separated; all if left out")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.stderr.write(f"error: no folder {options.data}: set HINDSIGHT_DATA\n")
        return 2
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    chosen = [name for name in options.learners.split(",") if name]
    kinds = [
        kind
        for path, kind in sorted(learner_classes().items())
        if path.startswith("hindsight_rl.") and (not chosen or kind.__name__ in chosen)
    ]
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    lines = []
    for kind in kinds:
        line = compare(kind, seeds, options.updates, options.data)
        lines.append(line)
        (full, full_half), (half, half_half) = (line["intervals"][p] for p in PRECISIONS)
        sys.stdout.write(
            f"{line['learner']:<8} 32-true {full:8.1f} +- {full_half:6.1f}   bf16-mixed "
            f"{half:8.1f} +- {half_half:6.1f}   within: {'yes' if line['within'] else 'NO'}   "
            f"overlap: {'yes' if line['overlap'] else 'NO'}   difference "
            f"{line['difference'][0]:+.1f} +- {line['difference'][1]:.1f}   "
            f"{line['seconds']['32-true']:.0f} s against {line['seconds']['bf16-mixed']:.0f} s\n"
        )
        sys.stdout.flush()
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "precision.json", json.dumps(lines, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
