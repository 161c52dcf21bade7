"""Our fitted Q evaluation against d3rlpy's: same log, policies and updates (``make judging``).

    python benchmarks/judging/against_d3rlpy.py [--seeds 3] [--choose]

Pendulum-v1, discount 0.95, every third of the exported policies of policies.py and its logs of the
question ``all``. Both have two layers of 64 units and batches of 256 on one thread, and see actions
as shares of the torque or normalised; d3rlpy keeps its own defaults otherwise (one critic, Adam at
1e-4, a target that is copied every 100 updates). Ours fits five critics, since they give the
interval. A second row gives d3rlpy five times the updates. For each policy theirs and ours are
fitted one after the other; seconds are those of the fit. d3rlpy gets a Python of its own in
build/d3rlpy, and the policies as TorchScript. Writes build/judging/against_d3rlpy.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import worlds
from shared import D3RLPY, python_of_d3rlpy
from torch import Tensor, nn

import policies

WORLD = worlds.WORLDS["pendulum"]
FITTING = policies.SHORT["all"]
TORQUE, BATCH, LONGER = 2.0, 256, 5
EVERY_THIRD = slice(0, None, 3)


class Exported(nn.Module):
    """What a policy does, as a share of the torque, without the rest of the learner."""

    def __init__(self, learner: Any) -> None:
        super().__init__()
        self.actor = learner.actor

    def forward(self, observation: Tensor) -> Tensor:
        """Return actions ``[N, 1]`` in [-1, 1]."""
        action: Tensor = self.actor.mode(observation, None)
        return action / TORQUE


def theirs(learner: Any, log: Any, seed: int, updates: int) -> dict[str, float]:
    """Return value and seconds of d3rlpy's evaluation of a policy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = log.column("observation")
        torch.jit.trace(Exported(learner).eval(), here[:2]).save(str(folder / "policy.pt"))
        np.savez(
            folder / "log.npz",
            observation=here.numpy(),
            action=log.column("action").numpy() / TORQUE,
            reward=log.column(("next", "reward")).numpy(),
            last=log.column(("next", "truncated")).numpy(),
        )
        script = Path(__file__).with_name("peers_d3rlpy.py")
        asked = json.dumps(
            {
                "hidden": list(FITTING["hidden"]),
                "batch": BATCH,
                "discount": WORLD.discount,
                "updates": updates,
                "seed": seed,
            }
        )
        words = [python_of_d3rlpy(), script, folder, asked]
        subprocess.run(
            [str(word) for word in words],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        return json.loads((folder / "found.json").read_text())


def ours(learner: Any, log: Any, seed: int) -> dict[str, float]:
    """Return value, interval and seconds of our evaluation of a policy."""
    from hindsight_rl.diagnostics.ope import estimates, values
    from hindsight_rl.diagnostics.ope.episodes import episodes_of
    from hindsight_rl.diagnostics.ope.fitting import data_of
    from hindsight_rl.training.given import GivenPolicy

    fitting = common.fitting(FITTING | {"batch_size": BATCH}, seed)
    policy = GivenPolicy(learner, data_of(log, fitting).spec)
    start = time.perf_counter()
    answers = policy.answers(log)
    held = values.with_answers(log, answers, False)
    found = values.fitted_values(held, fitting, discount=WORLD.discount, horizon=None)
    row = estimates.by_values(values.start_values(found, log, episodes_of(log), answers))
    seconds = time.perf_counter() - start
    return {"value": row.value, "low": row.interval.low, "high": row.interval.high, "took": seconds}


def both(target: worlds.Target, seed: int) -> dict[str, Any]:
    """Return what all sides say of a policy."""
    common.quiet()
    learner, log = target.learner(), worlds.log_of(WORLD, "all", seed)
    updates = int(FITTING["updates"])
    return {
        f"d3rlpy, {updates:,} updates": theirs(learner, log, seed, updates),
        f"d3rlpy, {LONGER * updates:,} updates": theirs(learner, log, seed, LONGER * updates),
        f"hindsight, {updates:,} updates": ours(learner, log, seed),
    }


def rows_of(
    found: Sequence[dict[str, Any]], true: dict[str, float], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a row of each side."""
    rows = []
    for side in [name for name in found[0][next(iter(true))] if name != "seconds"]:
        said = [{name: one[name][side] for name in true} for one in found]
        errors = [one[name]["value"] - true[name] for one in said for name in true]
        mean, low, high = common.root_mean_square(errors)
        values = list(true.values())
        numbers = [[one[name]["value"] for name in true] for one in said]
        ranks = [common.rank_correlation(each, values) for each in numbers]
        regrets = [common.regret(each.index(max(each)), values) for each in numbers]
        took = statistics.median(one[name]["took"] for one in said for name in true)
        row = {"name": side, "mean": mean, "low": low, "high": high, "seeds": list(seeds)}
        row |= {"rank": statistics.fmean(ranks), "regret": statistics.fmean(regrets)}
        rows.append(row | {"seconds": took, "policies": len(true)})
    return rows


def text_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table."""
    lines = [
        (
            row["name"],
            f"{row['rank']:.2f}",
            f"{row['regret']:.2f}",
            f"{row['mean']:.3g} [{row['low']:.3g}, {row['high']:.3g}]",
            f"{row['seconds']:.1f}",
        )
        for row in rows
    ]
    header = ("fitted Q evaluation", "rank", "regret@1", "error [95 %]", "seconds a policy")
    return common.table(header, lines)


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    asked = parser.parse_args()
    seeds = (100,) if asked.choose else common.FIVE_SEEDS[: asked.seeds]
    chosen = worlds.targets(WORLD)[EVERY_THIRD]
    true = {one.name: worlds.truth(WORLD, one, "all")["value"] for one in chosen}
    python_of_d3rlpy()
    found = []
    for seed in seeds:
        said = {}
        for target in chosen:
            settings = {"policy": target.name, "seed": seed, "fitting": FITTING, "peer": D3RLPY}
            settings |= {"longer": LONGER, "log": [WORLD.recorder, *WORLD.lengths]}
            said[target.name] = common.kept(
                "against", settings, lambda target=target, seed=seed: both(target, seed)
            )
        found.append(said)
    rows = rows_of(found, true, seeds)
    common.show("Beside d3rlpy", text_of(rows))
    if not asked.choose:
        common.write_rows("against_d3rlpy", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
