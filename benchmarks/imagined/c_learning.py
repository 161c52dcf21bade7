"""Goals in four rooms from a log of wandering: C-learning beside HER and cloning.

    python benchmarks/imagined/c_learning.py [--seeds 5] [--choose] [--document]

``Hindsight/FourRooms-v0``, 2,000 episodes of uniformly random actions without goals or rewards.
Each method has the same network, batch and number of updates; five training seeds on one log are
fitted at once, and each is played on 200 fresh goals. Writes build/imagined_c_learning.json and the
table of docs/learners/c_learning.md; ``--document`` writes the table alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from results import replace_part
from shared import BUILD, CHOICE_SEEDS, ROOT, interval, quiet, say, silent_trainer, table

from hindsight_rl import (
    BC,
    SAC,
    CLearning,
    FutureGoal,
    GoalReaching,
    Learner,
    OfflineDataModule,
    RandomTask,
    Relabeler,
)
from hindsight_rl.cli.collect import main as collect
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.files import write_text
from hindsight_rl.nets.network import Network

ENV, EPISODES, TESTED, TEST_SEED = "Hindsight/FourRooms-v0", 2000, 200, 5000
UPDATES, BATCH, RATE, DISCOUNT, TAU = 8000, 128, 1e-3, 0.98, 0.02
FOLDER = BUILD / "imagined_c_learning"


class Method(NamedTuple):
    """A learner and the data step before it."""

    kind: type[Learner]
    relabel: Callable[[], list[Relabeler]]
    arguments: dict[str, Any]


def goals(**more: Any) -> GoalReaching:
    """Return goals as the environment judges them."""
    return GoalReaching(radius=1.0, **more)


VALUES = {"discount": DISCOUNT, "tau": TAU}
METHODS = {
    "CLearning": Method(CLearning, lambda: [RandomTask(goals(ends=False))], VALUES),
    "CLearning, goals end": Method(CLearning, lambda: [RandomTask(goals())], VALUES),
    "SAC, HER": Method(
        SAC,
        lambda: [RandomTask(goals()), FutureGoal(goals(), fraction=0.5)],
        VALUES | {"value_range": (-1 / (1 - DISCOUNT), 0.0)},
    ),
    "BC, GCBC": Method(BC, lambda: [FutureGoal(goals())], {"head": "mixture"}),
}


def wandering(seed: int) -> str:
    """Return the folder of a log, made where it is missing."""
    folder = FOLDER / f"log-{seed}"
    words = ["--env", ENV, "--env_kwargs", '{"ends": false}', "--seed", str(10_000 + seed)]
    if not folder.exists() and collect(
        [*words, "--episodes", str(EPISODES), "--output", str(folder)]
    ):
        raise SystemExit(f"no log in {folder}")
    return str(folder)


def run(name: str, seeds: range) -> list[dict[str, Any]]:
    """Return what one method reaches, one row for each seed."""
    method, begun = METHODS[name], time.perf_counter()
    torch.manual_seed(seeds[0])
    data = OfflineDataModule(
        wandering(seeds[0]), method.relabel(), batch_size=BATCH, seed=seeds[0], updates_per_step=64
    )
    learner = method.kind(
        data.spec,
        network=Network(hidden=(128, 128), frequencies=3),
        optimizer=partial(torch.optim.Adam, lr=RATE, fused=True),
        seeds=len(seeds),
        compile="update",
        threads=1,
        **method.arguments,
    )
    silent_trainer(UPDATES).fit(learner, data)
    seconds, rows = (time.perf_counter() - begun) / len(seeds), []
    for number in learner.eval().each_seed():
        seed = seeds[number]
        found = rollout(learner.player(), ENV, episodes=TESTED, seed=TEST_SEED + 1000 * seed)
        success = float(np.mean(found.successes))
        rows.append({"name": name, "seed": seed, "success": success, "seconds": seconds})
        say(f"{name}, seed {seed}: {success:.3f}, {seconds:.0f} s a seed")
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of a summary."""
    lines = [
        [r["name"], f"{r['mean']:.3f} [{r['low']:.3f}, {r['high']:.3f}]", f"{r['seconds']:.0f}"]
        for r in rows
    ]
    return table(["method", "success", "seconds of a seed"], lines)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds on which settings are chosen")
    parser.add_argument("--document", action="store_true", help="write the table of the page alone")
    given = parser.parse_args()
    quiet()
    place, page = BUILD / "imagined_c_learning.json", ROOT / "docs/learners/c_learning.md"
    if given.document:
        replace_part(page, "goals", shown(json.loads(place.read_text())))
        return 0
    seeds = range(CHOICE_SEEDS[0], CHOICE_SEEDS[-1] + 1) if given.choose else range(given.seeds)
    rows = []
    for name in METHODS:
        each = run(name, seeds)
        mean, low, high = interval([row["success"] for row in each])
        rows.append({"name": name, "mean": mean, "low": low, "high": high, "seeds": list(seeds)})
        rows[-1]["seconds"] = each[0]["seconds"]
        if not given.choose:
            write_text(place, json.dumps(rows, indent=1))
            replace_part(page, "goals", shown(rows))
    say(shown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
