"""Ours against d3rlpy's learner of the same name, on the same log, in the same run.

    python benchmarks/against_d3rlpy.py [--data FOLDER] [--only iql,awac] [--updates 8000]

Two layers of 256 units, batches of 256, one thread, five seeds (CQL three), 50 test episodes with
the same starts; for each seed theirs and ours are fitted one after the other. d3rlpy keeps its own
defaults otherwise; it pins an old gymnasium, so it gets a Python of its own in build/d3rlpy. Our
settings were chosen with other seeds: those of IQL and AWAC on the replay log, the others on this
one. BCQ and CQL are compared at 2,000 updates: d3rlpy's make three and eight a second. Fits done
are kept in build/against; docs/results.md gets the table.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import BUILD, ROOT, STUDENT, fit, replace_part, source_hash
from rows import FARTHER, GREEDIER, MEDIUM, SOFT, SQUASHED, Method, Row
from shared import python_of_d3rlpy

from hindsight_rl.files import write_text
from hindsight_rl.nets.network import LatentNetwork, Network

SEEDS = (0, 1, 2, 3, 4)
# IQL is the one that is to reach -180. Its rate was chosen on the replay log after seeds 0 to 4 of
# this one had been seen with another rate, so it is judged with seeds that were not. CQL is slow on
# both sides.
SEEDS_OF = {"iql": (10, 11, 12, 13, 14), "cql": (0, 1, 2)}
NETWORK = {"network": Network(), "lr": 3e-4}
OURS = {
    "iql": Method("IQL", "iql.IQL", model=NETWORK | SQUASHED | {"lr": 1e-3}),
    "awac": Method("AWAC", "awac.AWAC", model=NETWORK | SQUASHED),
    "crr": Method("CRR", "crr.CRR", model=NETWORK | SOFT),
    "td3_bc": Method("TD3+BC", "td3_bc.TD3BC", model=NETWORK | GREEDIER),
    "bcq": Method(
        "BCQ",
        "bcq.BCQ",
        model=NETWORK | FARTHER | {"lr": 1e-3, "behavior": LatentNetwork()},
    ),
    "cql": Method("CQL", "cql.CQL", model=NETWORK),
}
# Theirs make eight and three updates a second.
UPDATES = {"cql": 2000, "bcq": 2000}


def kept_theirs(name: str, seed: int, updates: int) -> Path:
    """Return where what came of one of their fits is kept."""
    return BUILD / "against" / f"d3rlpy_{name}_{updates}_{seed}.json"


def kept_ours(name: str, seed: int, updates: int) -> Path:
    """Return where what came of one of our fits is kept, as long as code and settings are equal."""
    row = Row(replace(MEDIUM, updates=updates), OURS[name])
    settings = json.dumps(asdict(row), sort_keys=True)
    key = hashlib.sha256(f"{settings}{seed}{source_hash()}".encode()).hexdigest()[:16]
    return BUILD / "against" / f"ours_{name}_{key}.json"


def theirs(name: str, seed: int, updates: int, log: Path) -> dict[str, Any]:
    """Return the score and the seconds of d3rlpy's learner with one seed."""
    path = kept_theirs(name, seed, updates)
    if not path.exists():
        script = ROOT / "benchmarks" / "peers_d3rlpy.py"
        command = [python_of_d3rlpy(), script, log, name, seed, updates, path]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [str(part) for part in command],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    found = json.loads(path.read_text())
    return {"score": statistics.fmean(found["returns"]), "seconds": found["seconds"]}


def ours(name: str, seed: int, updates: int, data: Path) -> dict[str, Any]:
    """Return the score and the seconds of our learner with one seed."""
    path = kept_ours(name, seed, updates)
    if not path.exists():
        code = f"import against_d3rlpy as a; a.work({name!r}, {seed}, {updates}, {str(data)!r}, "
        code += f"{str(path)!r})"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        here = ROOT / "benchmarks"
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=here)
    found = json.loads(path.read_text())
    return {"score": found["scores"][0], "seconds": found["seconds"]}


def work(name: str, seed: int, updates: int, data: str, path: str) -> None:
    """Fit ours in this process, and write what came of it."""
    row = Row(replace(MEDIUM, updates=updates), OURS[name])
    write_text(Path(path), json.dumps(fit(row, (seed,), Path(data), choose=False)))


def is_finished(name: str, updates: int) -> bool:
    """Return whether all fits of both sides are there."""
    return all(
        kept(name, seed, updates).exists()
        for kept in (kept_theirs, kept_ours)
        for seed in SEEDS_OF.get(name, SEEDS)
    )


class Difference(NamedTuple):
    """A difference of means over seeds, with two 95 % intervals."""

    gap: float
    bootstrap: tuple[float, float]
    """Percentiles of 20,000 draws of the seeds of each side."""
    welch: tuple[float, float]
    """Student's t with Welch's degrees of freedom: it takes both sides to be normal."""


def difference(one: list[float], two: list[float]) -> Difference:
    """Return by how much the mean of ``one`` is above that of ``two``."""
    gap = statistics.fmean(one) - statistics.fmean(two)
    generator = np.random.default_rng(0)
    drawn = [generator.choice(scores, (20_000, len(scores))).mean(1) for scores in (one, two)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    parts = [statistics.variance(scores) / len(scores) for scores in (one, two)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part in parts)
    half = STUDENT[int(freedom) + 1] * sum(parts) ** 0.5
    return Difference(gap, (float(low), float(high)), (gap - half, gap + half))


def compare(name: str, updates: int, data: Path) -> dict[str, Any]:
    """Return the line of one learner."""
    pairs = []
    for seed in SEEDS_OF.get(name, SEEDS):
        pair = theirs(name, seed, updates, data / MEDIUM.file), ours(name, seed, updates, data)
        pairs.append(pair)
        sys.stdout.write(
            f"{name} seed {seed}: theirs {pair[0]['score']:.1f} in {pair[0]['seconds']:.0f} s, "
            f"ours {pair[1]['score']:.1f} in {pair[1]['seconds']:.0f} s\n"
        )
        sys.stdout.flush()
    their, own = ([pair[side]["score"] for pair in pairs] for side in (0, 1))
    seconds = [statistics.median(pair[side]["seconds"] for pair in pairs) for side in (0, 1)]
    return {
        "name": OURS[name].name,
        "updates": updates,
        "theirs": their,
        "ours": own,
        "difference": difference(own, their),
        "seconds": seconds,
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return the table of docs/results.md."""
    gaps = ["difference [95 % bootstrap]", "[95 % Welch]"]
    head = ["learner", "updates", "d3rlpy", "ours", *gaps, "d3rlpy s", "ours s"]
    rows = [head, ["---"] * len(head)]
    for line in lines:
        found = line["difference"]
        scores = [
            f"{statistics.fmean(line[side]):.0f} ({', '.join(f'{x:.0f}' for x in line[side])})"
            for side in ("theirs", "ours")
        ]
        seconds = [f"{each:.0f}" for each in line["seconds"]]
        gaps = [f"{found.gap:+.0f} [{found.bootstrap[0]:+.0f}, {found.bootstrap[1]:+.0f}]"]
        gaps.append(f"[{found.welch[0]:+.0f}, {found.welch[1]:+.0f}]")
        rows.append([line["name"], f"{line['updates']:,}", *scores, *gaps, *seconds])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Compare, and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--only", default=",".join(OURS), help="names, separated by commas")
    parser.add_argument("--updates", type=int, default=8000)
    parser.add_argument("--finished", action="store_true", help="write what is there, fit nothing")
    options = parser.parse_args()
    (BUILD / "against").mkdir(parents=True, exist_ok=True)
    updates = {
        name: min(options.updates, UPDATES.get(name, options.updates))
        for name in options.only.split(",")
    }
    if options.finished:
        updates = {name: count for name, count in updates.items() if is_finished(name, count)}
    lines = [compare(name, count, options.data) for name, count in updates.items()]
    sys.stdout.write(table(lines) + "\n")
    if options.updates == 8000 and (options.finished or list(updates) == list(OURS)):
        replace_part(ROOT / "docs" / "results.md", "against", table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
