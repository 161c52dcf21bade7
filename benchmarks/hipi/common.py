"""What the scripts of this folder share: quiet fits, kept results, tables with intervals.

Results lie in build/hipi/. Settings are chosen on ``CHOICE_SEEDS`` and reported on others.
"""

import argparse
import functools
import hashlib
import json
import logging
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

sys.path.append(str(Path(__file__).resolve().parents[1]))
from shared import silent_trainer as silent_trainer  # noqa: E402

from hindsight_rl.envs.statistics import bootstrap_interval, interquartile_mean
from hindsight_rl.files import write_text

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "hipi"
TEN_SEEDS, FIVE_SEEDS = tuple(range(10)), tuple(range(5))
CHOICE_SEEDS = (100, 101, 102)


class Summary(NamedTuple):
    """Interquartile mean over seeds, and its 95 % bootstrap interval."""

    iqm: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.iqm:.2f} [{self.low:.2f}, {self.high:.2f}]"


def summary(values: ArrayLike) -> Summary:
    """Return what one number per seed says, ``[S]``."""
    low, high = bootstrap_interval(values)
    return Summary(float(interquartile_mean(values)), low, high)


def curve(steps: Sequence[float], values: Sequence[float], grid: ArrayLike) -> list[float]:
    """Return values at the points of a grid, each the newest at or before it.

    Args:
        steps: ``[M]``, in order.
        values: ``[M]``.
        grid: ``[G]``, none before the first step.

    Returns:
        ``[G]``.
    """
    at = np.searchsorted(np.asarray(steps), np.asarray(grid), side="right") - 1
    return np.asarray(values, np.float64)[at.clip(0)].tolist()


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown, columns aligned."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(r, widths, strict=True)] for r in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def write_json(name: str, report: Any) -> Path:
    """Write build/hipi/NAME.json whole or not at all, and return its path."""
    path = BUILD / f"{name}.json"
    write_text(path, json.dumps(report, indent=1))
    return path


def read_json(name: str) -> Any:
    """Return what build/hipi/NAME.json holds."""
    return json.loads((BUILD / f"{name}.json").read_text())


def kept(name: str, settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result for some settings, from build/hipi/ where it was made before.

    Args:
        name: Folder of the results.
        settings: What the result depends on, plain values; another seed is another setting.
        make: Makes it.

    Returns:
        The result with its ``seconds``.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = BUILD / name / f"{key}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    start = time.perf_counter()
    found = make()
    found |= {"seconds": time.perf_counter() - start, "settings": settings}
    write_json(f"{name}/{key}", found)
    say(f"{name} {settings}: {found['seconds']:.0f} s")
    return found


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def quiet(seed: int) -> None:
    """Seed the networks' first weights, take one thread, and have Lightning say nothing."""
    import torch
    from lightning.pytorch import seed_everything

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    seed_everything(seed, verbose=False)


class Curve:
    """Collects the score of every evaluation beside the steps and seconds taken by then."""

    def __init__(self, data: Any, key: str) -> None:
        self.data, self.key, self._begun = data, key, 0.0
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.scores: list[float] = []

    def callback(self) -> Any:
        """Return the callback for a trainer.

        Seconds are those of the processor from here on, evaluations included: with one thread on an
        idle machine those of the clock.
        """
        from lightning.pytorch.callbacks import LambdaCallback

        self._begun = time.process_time()
        return LambdaCallback(on_train_batch_end=self._look)

    def _look(self, trainer: Any, learner: Any, *_: Any) -> None:
        if learner.updates % learner.evaluation.every == 0:
            self.steps.append(self.data.history[-1].env_steps)
            self.seconds.append(time.process_time() - self._begun)
            self.scores.append(learner.latest[self.key])


Run = Callable[[int, dict[str, Any]], dict[str, Any]]


def from_scratch(name: str, title: str, settings: dict[str, Any], run: Run) -> int:
    """Run one learner over seeds, print success over environment steps, write build/hipi/NAME.json.

    Args:
        name: Of the results.
        title: Printed above the table.
        settings: The same for all seeds.
        run: Returns ``env_steps`` and ``scores`` of a seed; a function of a module.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS))
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = CHOICE_SEEDS if options.choose else range(options.seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        found = list(pool.map(functools.partial(_seed, name, settings, run), seeds))
    rows = [
        (f"{step:,.0f}", summary([one["scores"][at] for one in found]))
        for at, step in enumerate(np.mean([one["env_steps"] for one in found], axis=0))
    ]
    say(f"\n{title}, {len(found)} seeds\n")
    say(table(("environment steps, mean", "success"), rows))
    if not options.choose:
        curve = {key: [one[key] for one in found] for key in ("env_steps", "scores")}
        write_json(name, {"settings": settings, "curves": {title: curve}})
    return 0


def _seed(name: str, settings: dict[str, Any], run: Run, seed: int) -> dict[str, Any]:
    return kept(name, {"seed": seed, **settings}, lambda: run(seed, settings))
